"""The cost of many devices: the model of docs/scaling.md, and what is measured.

  python benchmarks/scaling.py bytes      of all-reduces, in compiled programs
  python benchmarks/scaling.py steps      their times, on this machine
  python benchmarks/scaling.py predict    the table of the prediction

Bytes: what the compiled train step reduces over 2, 4 and 8 devices, against the
formula. Seconds: the train step in 1, 2 and 4 processes that share the cores,
and what the formula says with the rate at which the same processes reduce.
"""

import argparse
import functools
import json
import math
import os
import pathlib
import socket
import subprocess
import sys
import time

# Of `measure_bytes`; the processes have one device each.
if "process" not in sys.argv:
  os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
# What reads a program's collectives is a test's.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import measure  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import fcnjax  # noqa: E402
from fcnjax import hosts  # noqa: E402
from fcnjax.training import (  # noqa: E402
  sharding,
  state as states,
  step as steps,
)
from tests.training import spreading  # noqa: E402

# What the prediction stands on: float32 parameters, layers of batch norm, and
# the milliseconds that a train step of 8 images in bfloat16 took on an H200
# (docs/performance.md).
MEASURED = {
  "unet": (31_033_045, 0, 16.1),
  "segnet_vgg16": (29_455_125, 25, 16.6),
  "fcn8s_vgg16": (134_362_751, 0, 18.1),
  "deeplabv3p_xception65": (41_055_413, 146, 40.3),
}
# Reductions of a layer: its moments, and what their gradients sum.
OF_A_NORM = 2
# Assumed, of machines with eight accelerators: bytes a second that each sends
# within one and between two, and seconds that one stage of a reduction takes.
MACHINE = {"each": 8, "inside": 400e9, "outside": 45e9, "stage": 5e-6}


def reduction_seconds(
  size: float,
  devices: int,
  *,
  each: int,
  inside: float,
  outside: float,
  stage: float,
) -> float:
  """Returns what summing `size` bytes over the devices takes.

  Rings, first within machines of `each` devices, then between them, where each
  device passes on its part alone.

  Args:
    size: bytes, on each device.
    devices: how many; a multiple of `each`, or less.
    each: devices of a machine.
    inside: bytes a second that a device sends to another of its machine.
    outside: likewise to one of another machine.
    stage: seconds that one message takes besides.
  """
  near = min(devices, each)
  machines = devices // near
  seconds = 2 * (near - 1) / near * size / inside
  seconds += 2 * (machines - 1) / machines * size / near / outside
  stages = 2 * math.ceil(math.log2(near)) + 2 * math.ceil(math.log2(machines))
  return seconds + stages * stage


def predict() -> None:
  """Prints the table of docs/scaling.md."""
  counts = (8, 16, 64, 256, 1024)
  print("| network | gradient, MB | batch norms | step of one, ms |", end="")
  print("".join(f" {count} |" for count in counts))
  print("|---" * (4 + len(counts)) + "|")
  for name, (parameters, norms, ms) in MEASURED.items():
    cells = []
    for count in counts:
      gradient = reduction_seconds(4 * parameters, count, **MACHINE)
      small = reduction_seconds(0, count, **MACHINE)
      lost = 1000 * (gradient + norms * OF_A_NORM * small)
      cells.append(f"{lost:.1f} ms, {100 * ms / (ms + lost):.0f} %")
    row = [f"`{name}`", f"{4 * parameters / 1e6:.0f}", str(norms), f"{ms}"]
    row += cells
    print(f"| {' | '.join(row)} |")


def _train_step(name, options, size, mesh, local):
  """Returns a compiled train step, and its arguments.

  Args:
    name: of the network.
    options: its words.
    size: of the images.
    mesh: where it runs.
    local: images of this process.
  """
  model = fcnjax.create_model(name, num_classes=5, **options)
  optimizer = optax.sgd(0.01, momentum=0.9)

  def create():
    image = np.zeros((1, *size, 3), np.float32)
    return states.create(model.init(jax.random.key(0), image), optimizer)

  data = sharding.to_devices(
    {
      "image": np.ones((local, *size, 3), np.float32),
      "label": np.zeros((local, *size), np.int32),
    },
    mesh,
  )
  placement = sharding.of_state(
    jax.eval_shape(create), mesh, shard_parameters=False
  )
  train = sharding.jitted(
    functools.partial(
      steps.train_step, apply=model.apply, optimizer=optimizer, seed=0
    ),
    mesh,
    placement,
  )
  state = jax.jit(create, out_shardings=placement)()
  return train.lower(state, data).compile(), state, data


NETWORKS = (
  ("unet_same", {"width": 8, "depth": 3}, (64, 64)),
  ("segnet_basic", {}, (64, 96)),
  ("fcn_basic", {}, (64, 96)),
  ("deeplabv3p_resnet50", {}, (65, 65)),
)


def measure_bytes() -> None:
  """Compares what programs reduce with four bytes a parameter."""
  results = measure.Results("reduced_bytes")
  for name, options, size in NETWORKS:
    for devices in (2, 8):
      mesh = sharding.create_mesh(data=devices, batch_size=8)
      compiled, state, _ = _train_step(name, options, size, mesh, 8)
      count = sum(x.size for x in jax.tree.leaves(state.params))
      messages = spreading.collectives(compiled.as_text(), "all-reduce")
      reduced = sum(sum(sizes) for sizes in messages)
      results.add(
        {
          "network": name,
          "devices": devices,
          "gradient": 4 * count,
          "reduced": reduced,
          "ratio": reduced / (4 * count),
          "messages": len(messages),
        }
      )
      print(results.record["rows"][-1], flush=True)


def _seconds(process: int, processes: int, address: str) -> None:
  """One process of several: prints what its steps and a reduction take.

  All do the same at the same time, so that what they take from each other as
  neighbours on one machine is in each figure: a step of its own four images,
  without the others; a step of all images; a reduction of as many arrays and
  bytes as the gradient has.
  """
  # One core each, as if it were an accelerator; before JAX has threads.
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, {cores[process % len(cores)]})
  if processes > 1:
    hosts.initialize(coordinator=address, processes=processes, process=process)
  mesh = sharding.create_mesh(data=processes, batch_size=4 * processes)
  network = ("unet_same", {"width": 16, "depth": 3}, (96, 96))
  alone, own, own_data = _train_step(*network, mesh.local_mesh, 4)
  step, state, data = _train_step(*network, mesh, 4)
  count = sum(x.size for x in jax.tree.leaves(state.params))
  values = jax.tree.map(
    lambda x: hosts.spread(
      np.ones((1, *x.shape), np.float32), sharding.by_example(mesh)
    ),
    state.params,
  )
  total = jax.jit(
    lambda tree: jax.tree.map(lambda x: jnp.sum(x, axis=0), tree),
    out_shardings=sharding.replicated(mesh),
  )
  times: dict[str, list[float]] = {"compute": [], "step": [], "reduction": []}
  for _ in range(12):
    for name, kept in times.items():
      hosts.wait(name)
      began = time.perf_counter()
      if name == "compute":
        own, done = alone(own, own_data)
      elif name == "step":
        state, done = step(state, data)
      else:
        done = total(values)
      jax.block_until_ready(done)
      kept.append(time.perf_counter() - began)
  if hosts.is_first():
    found = {name: float(np.median(kept[2:])) for name, kept in times.items()}
    print(json.dumps({**found, "gradient": 4 * count}))


def measure_seconds() -> None:
  """Times 1, 2 and 4 processes that share the cores of this machine."""
  results = measure.Results("processes")
  cores = len(os.sched_getaffinity(0))
  for processes in (1, 2, 4):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      address = f"localhost:{free.getsockname()[1]}"
    started = [
      subprocess.Popen(
        [sys.executable, __file__, "process", str(i), str(processes), address],
        env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
      )
      for i in range(processes)
    ]
    said = [process.communicate()[0] for process in started]
    found = json.loads(said[0].splitlines()[-1])
    predicted = found["compute"] + (processes > 1) * found["reduction"]
    results.add(
      {
        "processes": processes,
        "cores": min(processes, cores),
        "gradient": found["gradient"],
        "compute": 1000 * found["compute"],
        "reduction": 1000 * (processes > 1) * found["reduction"],
        "predicted": 1000 * predicted,
        "step": 1000 * found["step"],
        "ratio": found["step"] / predicted,
        "efficiency": found["compute"] / found["step"],
      }
    )
    print(results.record["rows"][-1], flush=True)


def main() -> None:
  """Measures, or predicts; see above."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("what", choices=("bytes", "steps", "predict", "process"))
  parser.add_argument("more", nargs="*", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.what == "predict":
    predict()
  elif arguments.what == "process":
    process, processes, address = arguments.more
    _seconds(int(process), int(processes), address)
  elif arguments.what == "steps":
    measure_seconds()
  else:
    measure_bytes()


if __name__ == "__main__":
  main()
