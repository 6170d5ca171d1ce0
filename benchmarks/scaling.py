"""The cost of many devices: the model of docs/scaling.md, and what is measured.

  python benchmarks/scaling.py bytes      of all-reduces, in compiled programs
  python benchmarks/scaling.py steps      their times, on this machine
  python benchmarks/scaling.py predict    the table of the prediction

Bytes: what the compiled train step reduces over 2 and 8 devices, against the
formula. Seconds: the train step in 1, 2 and 4 processes that share the cores,
against its computing and its reductions, each timed by itself; and reductions
of some bytes to many megabytes, against the formula.
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


# Of a step's timing; the second has two reductions more for each batch norm.
STEPPED = tuple(
  ("unet_same", {"width": 16, "depth": 3, "norm": norm}, (96, 96))
  for norm in ("none", "batch")
)
# Bytes of a reduction's timing.
SIZES = (2**8, 2**16, 2**20, 2**22, 2**24, 2**26)


def _seconds(process: int, processes: int, address: str) -> None:
  """One process of several: prints what its steps and reductions take.

  All do the same at the same time, so that what they take from each other as
  neighbours on one machine is in each figure.
  """
  # One core each, as if it were an accelerator; before JAX has threads.
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, {cores[process % len(cores)]})
  if processes > 1:
    hosts.initialize(coordinator=address, processes=processes, process=process)
  mesh = sharding.create_mesh(data=processes, batch_size=4 * processes)
  found = {
    "steps": [_times_of_steps(network, mesh) for network in STEPPED],
    "reductions": [],
  }
  if processes > 1:
    calls = {size: _reduction(mesh, [(size // 4,)]) for size in SIZES}
    times = _medians(calls)
    found["reductions"] = [[size, times[size]] for size in SIZES]
  if hosts.is_first():
    print(json.dumps(found))


def _times_of_steps(network, mesh) -> dict[str, float]:
  """Returns medians of a step and of what it should be made of, in seconds.

  A step of the process's own four images, without the others; a step of all
  images; a reduction of as many arrays and bytes as the gradient has; one of as
  few numbers as a batch norm's.
  """
  steps = {}
  for name, where in (("compute", mesh.local_mesh), ("step", mesh)):
    compiled, state, data = _train_step(*network, where, 4)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    shapes = [x.shape for x in jax.tree.leaves(state.params)]
    stats = state.collections.get("batch_stats", {})
    norms = len(jax.tree.leaves(stats)) // 2
    steps[name] = _Stepping(compiled, state, data)
  steps["reduction"] = _reduction(mesh, shapes)
  steps["small"] = _reduction(mesh, [(64,)])
  return {**_medians(steps), "gradient": 4 * count, "norms": norms}


class _Stepping:
  """A train step that goes on with its own state."""

  def __init__(self, compiled, state, data):
    self._compiled, self._state, self._data = compiled, state, data

  def __call__(self):
    self._state, done = self._compiled(self._state, self._data)
    return done


def _reduction(mesh, shapes):
  """Returns a function that sums arrays of these shapes over the processes."""
  values = [
    hosts.spread(np.ones((1, *x), np.float32), sharding.by_example(mesh))
    for x in shapes
  ]
  total = jax.jit(
    lambda tree: jax.tree.map(lambda x: jnp.sum(x, axis=0), tree),
    out_shardings=sharding.replicated(mesh),
  )
  return functools.partial(total, values)


def _medians(calls) -> dict:
  """Returns seconds of each, taken in turns, all processes at once."""
  times = {name: [] for name in calls}
  for _ in range(12):
    for name, call in calls.items():
      hosts.wait(str(name))
      began = time.perf_counter()
      jax.block_until_ready(call())
      times[name].append(time.perf_counter() - began)
  return {name: float(np.median(kept[2:])) for name, kept in times.items()}


def measure_seconds() -> None:
  """Times 1, 2 and 4 processes that share the cores of this machine."""
  results, sums = measure.Results("processes"), measure.Results("reductions")
  cores = len(os.sched_getaffinity(0))
  machine = None
  for processes in (1, 2, 4):
    found = _in_processes(processes)
    for times in found["steps"]:
      several = processes > 1
      norms = several * OF_A_NORM * times["norms"] * times["small"]
      predicted = times["compute"] + several * times["reduction"] + norms
      results.add(
        {
          "processes": processes,
          "cores": min(processes, cores),
          "gradient": times["gradient"],
          "norms": times["norms"],
          "compute": 1000 * times["compute"],
          "reduction": several * 1000 * times["reduction"],
          "of_norms": 1000 * norms,
          "predicted": 1000 * predicted,
          "step": 1000 * times["step"],
          "ratio": times["step"] / predicted,
          "efficiency": times["compute"] / times["step"],
        }
      )
      print(results.record["rows"][-1], flush=True)
    for size, seconds in found["reductions"]:
      if (
        machine is None
      ):  # What the formula needs, of the smallest and largest.
        small, large = found["reductions"][0][1], found["reductions"][-1][1]
        machine = {"each": 4, "outside": math.inf, "stage": small / 2}
        machine["inside"] = SIZES[-1] / (large - small)
      predicted = reduction_seconds(size, processes, **machine)
      sums.add(
        {
          "processes": processes,
          "bytes": size,
          "predicted": 1000 * predicted,
          "reduction": 1000 * seconds,
          "ratio": seconds / predicted,
        }
      )
      print(sums.record["rows"][-1], flush=True)


def _in_processes(count: int) -> dict:
  """Returns what the first of so many processes prints."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  started = [
    subprocess.Popen(
      [sys.executable, __file__, "process", str(i), str(count), address],
      env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in range(count)
  ]
  said = [process.communicate()[0] for process in started]
  return json.loads(said[0].splitlines()[-1])


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
