"""Many devices: do they compute the same, and how large an image do they take?

  python benchmarks/devices.py same [--only unet_same ...] [--devices 2 ...]
                                    [--minutes 60]
  python benchmarks/devices.py processes [--only unet_same ...]
  python benchmarks/devices.py largest [--only unet_same] [--gigabytes 8]

`same` trains narrow networks for three steps on 1, 2, 4 and 8 devices, in
meshes of "data", of "space" and of both, with parameters whole and cut, and
tells the largest relative differences to one device; `processes` does so with
eight devices of 2 and 4 processes. Both do it in float64: in float32 a unit
near zero, or two pixels of a pool that are nearly equal, may fall to the other
side by rounding alone, and one that does moves the gradient of a narrow network
by a part in a hundred (fcn32s_googlenet). A mesh that has a row already is not
computed again.

`largest` looks for the largest square image with which a train step of the
network fits into a given memory, whose rows are spread over 1, 2, 4 and 8
devices; by the analysis of the compiled program, so that no device needs that
memory.

Without accelerators, eight devices are made of the CPU.
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
import tempfile
import time
from typing import Any

# Eight of all processes together; see `_process`. What is only compiled is so
# quickly: memory does not depend on LLVM's work.
os.environ["XLA_FLAGS"] = " ".join(
  [
    f"--xla_force_host_platform_device_count={os.environ.get('DEVICES', 8)}",
    *(["--xla_backend_optimization_level=0"] if "largest" in sys.argv else []),
    os.environ.get("XLA_FLAGS", ""),
  ]
)
# The networks of the tests, which are narrow.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax  # noqa: E402
import measure  # noqa: E402
import numpy as np  # noqa: E402

from fcnjax import hosts, models  # noqa: E402
from fcnjax.training import (  # noqa: E402
  optimizers,
  sharding,
  state as states,
  step,
)

COUNTS = (1, 2, 4, 8)
# data, space, and whether parameters are cut.
MESHES = tuple(
  (count // space, space, cut)
  for count in COUNTS[1:]
  for space in COUNTS
  if space <= count
  for cut in (False, True)
  if not cut or count > space
)
# Of each family; the others differ in numbers of layers.
FAMILIES = (
  "unet_same",
  "segnet_basic",
  "fcn8s_vgg16",
  "deeplabv3p_xception41",
  "dilation8",
  "hdnet_resnet50",
  "unet",
  "deeplab_largefov",
  "fcn32s_alexnet",
  "deeplabv3p_resnet50",
  "segnet_vgg16",
  "deeplabv2_vgg16",
  "fcn32s_googlenet",
  "deeplabv3_resnet50",
  "fcn_resnet50",
)
LARGEST = ("unet_same", "deeplabv3p_resnet50", "deeplabv3p_xception65")
# Rows that eight devices divide, also at stride 32.
SIZE, SIZE_OF_VALID = (256, 32), (64, 44)
STEPS = 3


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("what", choices=("same", "processes", "largest"))
  parser.add_argument("--only", nargs="*", default=())
  parser.add_argument("--process", nargs=3, help=argparse.SUPPRESS)
  parser.add_argument("--devices", nargs="*", type=int, default=COUNTS)
  parser.add_argument("--minutes", type=float, default=60.0)
  parser.add_argument("--gigabytes", type=float, default=8.0, help="of 1e9")
  arguments = parser.parse_args()
  seconds = 60 * arguments.minutes
  if arguments.what == "largest":
    gigabytes = arguments.gigabytes * 1e9
    largest(arguments.only or LARGEST, gigabytes, seconds)
    return
  jax.config.update("jax_enable_x64", True)
  if arguments.what == "same":
    same(arguments.only or FAMILIES, arguments.devices, seconds)
  elif arguments.process:
    _process(*arguments.only, *arguments.process)
  else:
    processes(arguments.only or FAMILIES[:1])


def _train_step(
  model: Any,
  state: states.TrainState,
  optimizer: Any,
  *,
  mesh: jax.sharding.Mesh,
  shard: bool,
) -> tuple[Any, states.TrainState]:
  """Returns the jitted train step, and the shardings of its state."""
  placement = sharding.of_state(state, mesh, shard_parameters=shard, least=1)
  run = sharding.jitted(
    functools.partial(
      step.train_step,
      apply=model.apply,
      optimizer=optimizer,
      seed=0,
      aux_weight=0.4,
      takes_label=getattr(model, "takes_label", False),
    ),
    mesh,
    placement,
  )
  return run, placement


def _shapes(model: Any, size: tuple[int, int]) -> Any:
  """Returns the shapes of the network's variables."""
  image = jax.ShapeDtypeStruct((1, *size, model.in_channels), np.float32)
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return jax.eval_shape(lambda x: model.init(keys, x), image)


def same(
  names: tuple[str, ...], devices: tuple[int, ...], seconds: float
) -> None:
  """Trains each network on every mesh and writes the differences."""
  began = time.time()
  results = measure.Results("devices", keep=lambda row: True, steps=STEPS)
  done = {_key(row) for row in results.record["rows"]}
  for name in names:
    task = expected = None
    for data, space, cut in MESHES:
      row = _row(name, 1, data, space, cut)
      if data * space not in devices or _key(row) in done:
        continue
      if time.time() - began > seconds:
        return
      task = task or _task(name)
      if not _divides(task, space):
        continue
      expected = expected or _trained(*task, data=1, space=1, shard=False)
      results.add(row | _differences(task, expected, data, space, cut))
      print(results.record["rows"][-1], flush=True)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
  names = ("network", "processes", "data", "space", "parameters")
  return tuple(row[name] for name in names)


def processes(names: tuple[str, ...]) -> None:
  """Trains each network in 2 and in 4 processes, on every mesh of 8 devices."""
  results = measure.Results("devices", keep=lambda row: True, steps=STEPS)
  for name in names:
    with tempfile.TemporaryDirectory() as folder:
      file = pathlib.Path(folder) / "expected.npz"
      losses, gradient = _trained(*_task(name), data=1, space=1, shard=False)
      np.savez(file, losses=losses, gradient=gradient)
      for count in (2, 4):
        rows = _in_processes(count, name, file)
        keys = {_key(row) for row in rows}
        results.drop(lambda row, keys=keys: _key(row) in keys)
        for row in rows:
          results.add(row)
          print(row, flush=True)


def _in_processes(
  count: int, name: str, file: pathlib.Path
) -> list[dict[str, Any]]:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  started = [
    subprocess.Popen(
      [
        *(sys.executable, __file__, "processes", "--only", name),
        *("--process", f"{index}/{count}", address, file),
      ],
      env={
        **{k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
        "DEVICES": str(8 // count),
      },
      stdout=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]
  said = [process.communicate()[0] for process in started]
  if any(process.returncode for process in started):
    sys.exit(f"{count} processes: one ended with an error; see above.")
  return json.loads(said[0].splitlines()[-1])


def _process(name: str, which: str, address: str, file: str) -> None:
  """One of the processes ("0/4" is the first); it prints the rows."""
  index, count = map(int, which.split("/"))
  hosts.initialize(coordinator=address, processes=count, process=index)
  with np.load(file) as saved:
    expected = saved["losses"], saved["gradient"]
  task = _task(name)
  rows = [
    _row(name, count, *mesh) | _differences(task, expected, *mesh)
    for mesh in MESHES
    # A process holds whole images.
    if mesh[0] * mesh[1] == 8 and mesh[1] <= 8 // count
  ]
  if hosts.is_first():
    print(json.dumps(rows))
  hosts.wait("end")


def _task(name: str) -> tuple[Any, Any, list[dict[str, np.ndarray]]]:
  """Returns a narrow network, its variables, and batches; always the same."""
  from tests.contracts import test_models as contracts

  model = contracts._small_model(name).clone(dtype="float64")
  size = SIZE_OF_VALID if name == "unet" else SIZE
  variables = jax.tree.map(
    np.float64, measure.random_variables(_shapes(model, size))
  )
  random = np.random.default_rng(0)
  shape = (8, *size, model.in_channels)
  outputs = jax.eval_shape(
    model.apply, variables, jax.ShapeDtypeStruct(shape, np.float64)
  )
  *area, classes = outputs["logits"].shape
  batches = []
  for _ in range(STEPS):
    label = random.integers(0, classes, area).astype(np.int32)
    label[0, : area[1] // 3] = 255
    batches.append({"image": random.normal(size=shape), "label": label})
  return model, variables, batches


_AXES = {
  (True, False): "data",
  (False, True): "space",
  (True, True): "data x space",
}


def _row(
  name: str, processes: int, data: int, space: int, cut: bool
) -> dict[str, Any]:
  """Returns what tells a mesh from others."""
  return {
    "network": name,
    "processes": processes,
    "data": data,
    "space": space,
    "mesh": _AXES[data > 1, space > 1],
    "parameters": "cut" if cut else "whole",
  }


def _divides(
  task: tuple[Any, Any, list[dict[str, np.ndarray]]], space: int
) -> bool:
  """Whether the rows of images and labels divide over so many devices."""
  batch = task[2][0]
  return not any(x.shape[1] % space for x in batch.values())


def _differences(
  task: tuple[Any, Any, list[dict[str, np.ndarray]]],
  expected: tuple[np.ndarray, np.ndarray],
  data: int,
  space: int,
  cut: bool,
) -> dict[str, float]:
  """Returns how far a mesh is from one device."""
  losses, gradient = _trained(*task, data=data, space=space, shard=cut)
  return {
    "losses": float(np.max(np.abs(losses - expected[0]) / expected[0])),
    "gradient": float(
      np.linalg.norm(gradient - expected[1]) / np.linalg.norm(expected[1])
    ),
  }


def _trained(
  model: Any,
  variables: Any,
  batches: list[dict[str, np.ndarray]],
  *,
  data: int,
  space: int,
  shard: bool,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the losses of the steps, and the first one's gradient, flat."""
  optimizer = optimizers.sgd(0.01, variables["params"], momentum=0.9)
  state = states.create(variables, optimizer)
  count = len(batches[0]["image"])
  mesh = sharding.create_mesh(data=data, space=space, batch_size=count)
  run, placement = _train_step(model, state, optimizer, mesh=mesh, shard=shard)
  # A copy: the step takes what it is given.
  state = jax.device_put(jax.device_get(state), placement)
  losses, gradient = [], None
  for batch in batches:
    own = len(batch["image"]) // hosts.count()
    own = slice(jax.process_index() * own, (jax.process_index() + 1) * own)
    batch = {key: value[own] for key, value in batch.items()}
    batch = sharding.to_devices(batch, mesh)
    state, metrics = run(state, batch)
    losses.append(float(metrics["loss"]))
    if gradient is None:  # What the momentum holds after one step.
      (trace,) = (s.trace for s in state.opt_state if hasattr(s, "trace"))
      whole = sharding.whole(trace, mesh)
      leaves = jax.tree.leaves(jax.device_get(whole))
      gradient = np.concatenate([np.ravel(x) for x in leaves])
  return np.array(losses), gradient


def largest(names: tuple[str, ...], limit: float, seconds: float) -> None:
  """Writes the largest images that fit into `limit` bytes of a device."""
  began = time.time()
  results = measure.Results(
    "largest_image", keep=lambda row: row["network"] not in names
  )
  for name in names:
    one = None
    for space in COUNTS:
      if time.time() - began > seconds:
        return
      side, needed = _largest_side(name, space, limit)
      one = one or side
      results.add(
        {
          "network": name,
          "devices": space,
          "gigabytes": limit / 1e9,
          "side": side,
          "needed_gb": needed / 1e9,
          "pixels": side**2 / one**2,
        }
      )
      print(results.record["rows"][-1], flush=True)


def _largest_side(name: str, space: int, limit: float) -> tuple[int, float]:
  """Returns the side of the image, and the bytes that its step needs.

  Sides are multiples of 128 pixels: eight devices times a stride of 16.
  """
  unit = 128

  @functools.cache
  def needed(count: int) -> int:
    return _bytes(name, count * unit, space)

  # Memory grows as the pixels, from what the state takes on.
  low, high = 1, None
  guess = max(2, math.floor((limit / needed(low)) ** 0.5))
  while high is None or high - low > 1:
    if needed(guess) <= limit:
      low = guess
    else:
      high = guess
    nearer = round(guess * (limit / needed(guess)) ** 0.5)
    guess = max(low + 1, min(nearer, (high or nearer + 2) - 1))
  return low * unit, needed(low)


def _bytes(name: str, side: int, space: int) -> int:
  """Returns the bytes of a device that a step on one image needs."""
  model = models.create_model(name, num_classes=19)
  shapes = _shapes(model, (128, 128))
  optimizer = optimizers.sgd(0.01, shapes["params"], momentum=0.9)
  state = jax.eval_shape(lambda v: states.create(v, optimizer), shapes)
  mesh = sharding.create_mesh(data=1, space=space, batch_size=1)
  run, placement = _train_step(model, state, optimizer, mesh=mesh, shard=False)
  state = jax.tree.map(
    lambda x, own: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own),
    state,
    placement,
  )
  rows = sharding.by_row(mesh)
  batch = {
    "image": jax.ShapeDtypeStruct(
      (1, side, side, model.in_channels), np.float32, sharding=rows
    ),
    "label": jax.ShapeDtypeStruct((1, side, side), np.int32, sharding=rows),
  }
  memory = run.lower(state, batch).compile().memory_analysis()
  found = memory.argument_size_in_bytes + memory.output_size_in_bytes
  found += memory.temp_size_in_bytes - memory.alias_size_in_bytes
  print(f"{name}, {space} devices, {side}x{side}: {found / 1e9:.2f} GB")
  return found


if __name__ == "__main__":
  main()
