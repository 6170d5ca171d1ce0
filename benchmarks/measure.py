"""What the benchmarks share: fair timing, ceilings, and results that survive.

Nothing here needs TensorFlow or fcnjax; torch only where it is asked for. A
machine with an accelerator may lack jaxtyping, which fcnjax only writes its
shapes in: then a stand-in takes its place, so import this before fcnjax.
"""

from collections.abc import Callable
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import shlex
import statistics
import sys
import time
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Seconds before each turn: the idle threads of another library's pool spin for
# a while before they sleep, and would take a core from the call that follows.
SETTLE = 0.02
# Calls that take less are made once, untimed, at the beginning of a turn: one's
# own threads must wake up first.
SHORT = 0.2

if importlib.util.find_spec("jaxtyping") is None:

  class _AnyShape:
    def __class_getitem__(cls, shape):
      return Any

  class _Jaxtyping(types.ModuleType):
    def __getattr__(self, name):
      if name.startswith("__"):
        raise AttributeError(name)
      return _AnyShape

  sys.modules["jaxtyping"] = _Jaxtyping("jaxtyping")

# PyTorch shares the device; nothing has been asked of JAX's yet.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def interleaved(
  functions: dict[str, Callable[[], Any]],
  *,
  rounds: int = 7,
  least: int = 1,
  budget: float = float("inf"),
) -> dict[str, list[float]]:
  """Returns the seconds of every call: one of each function in each round.

  What slows the machine for a while slows all of them alike, so that the ratio
  of two medians of one run is worth more than either.

  Args:
    functions: each returns what must be ready before the clock stops: JAX
      arrays, or anything that is ready already. Called once beforehand.
    rounds: calls of each.
    least: rounds that run whatever they take.
    budget: seconds after which no further round begins.
  """
  for function in functions.values():
    jax.block_until_ready(function())
  times: dict[str, list[float]] = {name: [] for name in functions}
  began = time.perf_counter()
  turns = list(functions.items())
  for done in range(1, rounds + 1):
    for name, function in turns:
      if jax.default_backend() == "cpu":
        time.sleep(SETTLE)
      if not times[name] or times[name][-1] < SHORT:
        jax.block_until_ready(function())
      start = time.perf_counter()
      jax.block_until_ready(function())
      times[name].append(time.perf_counter() - start)
    turns.reverse()  # Nobody always follows the same one.
    if done >= least and time.perf_counter() - began > budget:
      break
  return times


def median(times: list[float]) -> float:
  """Returns the median, in the unit of `times`."""
  return statistics.median(times)


def peak_memory(compiled: jax.stages.Compiled) -> int:
  """Returns the bytes that a compiled program needs besides its arguments."""
  memory = compiled.memory_analysis()
  return memory.temp_size_in_bytes + memory.output_size_in_bytes


def random_variables(shapes: Any, seed: int = 0) -> Any:
  """Returns variables of a network; nothing is compiled to draw them.

  Args:
    shapes: of the variables, as `jax.eval_shape(model.init, ...)` tells them.
    seed: of the numbers.
  """
  generator = np.random.default_rng(seed)

  def draw(path, leaf):
    size, name = leaf.shape, str(path[-1].key)
    if name in ("scale", "var", "seen"):
      values = generator.uniform(0.5, 1.5, size)
    else:
      fan_in = np.prod(size[:-1]) if len(size) > 2 else 50  # not of kernels
      values = generator.standard_normal(size, np.float32) * (2 / fan_in) ** 0.5
    return jnp.asarray(values, leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def calls() -> int:
  """Returns how many calls are timed at once: a GPU is not waited for each."""
  return 1 if jax.default_backend() == "cpu" else 10


def repeated(function: Callable[[], Any]) -> Callable[[], Any]:
  """Returns a function that makes `calls()` calls in a row."""

  def turn():
    for _ in range(calls()):
      result = function()
    return result

  return turn


def copy_bandwidth() -> float:
  """Returns bytes a second, read and written, of a large copy.

  Into the buffer that was read, so that no page of memory is new.
  """
  megabytes = 256 if jax.default_backend() == "cpu" else 2048
  x = jnp.ones((megabytes * 2**18,), jnp.float32)
  size = x.nbytes
  copy = jax.jit(lambda x: x + 1, donate_argnums=0)

  def turn():
    nonlocal x
    x = copy(x)
    return x

  times = interleaved({"copy": repeated(turn)}, rounds=9)["copy"]
  return 2 * size * calls() / median(times)


def matrix_rate(dtype: str = "float32", side: int | None = None) -> float:
  """Returns floating-point operations a second of a large matrix product."""
  side = side or (2048 if jax.default_backend() == "cpu" else 8192)
  x = jax.random.normal(jax.random.key(0), (side, side), jnp.dtype(dtype))
  product = jax.jit(lambda x: x @ x)
  turn = repeated(lambda: product(x))
  times = interleaved({"product": turn}, rounds=9)["product"]
  return 2 * side**3 * calls() / median(times)


def environment() -> dict[str, Any]:
  """Returns device, versions, date and command, as every result holds them."""
  versions = {"python": platform.python_version()}
  for name in ("jax", "jaxlib", "flax", "numpy", "torch"):
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return {
    "device": _device(),
    "platform": jax.default_backend(),
    "versions": versions,
    "date": datetime.date.today().isoformat(),
    "command": shlex.join(
      ["python", "benchmarks/" + os.path.basename(sys.argv[0])] + sys.argv[1:]
    ),
  }


def kind_of_device(device: str) -> str:
  """Returns whose results share a file: "gpu", or "cpu_" and a maker."""
  if jax.default_backend() != "cpu":
    return jax.default_backend()
  maker = re.search(r"amd|intel", device.lower())
  return f"cpu_{maker[0]}" if maker else "cpu"


class Results:
  """A JSON file that is written anew after every row: a kill loses one row.

  Attributes:
    path: of the file, below benchmarks/results/.
    record: what it holds: the environment, and a list of "rows".
  """

  def __init__(
    self,
    name: str,
    *,
    keep: Callable[[dict[str, Any]], bool] = lambda row: False,
    **more: Any,
  ):
    """Begins {name}_{kind}.json, of `kind_of_device`.

    Args:
      name: of the script.
      keep: which rows stay of a file that is there, if it is of the same device
        and versions; its commands are told, too, and of each ceiling the higher
        one: what else ran can only have lowered it.
      **more: what is written beside the rows.
    """
    self.record = {**environment(), **more, "rows": []}
    kind = kind_of_device(self.record["device"])
    self.path = RESULTS / f"{name}_{kind}.json"
    if not self.path.exists():
      return
    earlier = json.loads(self.path.read_text())
    rows = [row for row in earlier["rows"] if keep(row)]
    same = all(earlier[k] == self.record[k] for k in ("device", "versions"))
    if rows and same:
      self.record["rows"] = rows
      commands = [*earlier["command"].split("; "), self.record["command"]]
      self.record["command"] = "; ".join(dict.fromkeys(commands))
      for ceiling in {"matrix_rate", "copy_bandwidth"} & self.record.keys():
        best = max(self.record[ceiling], earlier.get(ceiling, 0))
        self.record[ceiling] = best

  def drop(self, which: Callable[[dict[str, Any]], bool]) -> None:
    """Forgets rows, which are about to be measured again."""
    self.record["rows"] = [r for r in self.record["rows"] if not which(r)]

  def add(self, row: dict[str, Any]) -> None:
    """Adds a row and writes the file."""
    self.record["rows"].append(row)
    RESULTS.mkdir(exist_ok=True)
    partial = self.path.with_suffix(".partial")
    partial.write_text(json.dumps(self.record, indent=1, default=_plain) + "\n")
    partial.replace(self.path)


def _device() -> str:
  device = jax.devices()[0]
  if device.platform != "cpu":
    return f"{jax.device_count()} x {device.device_kind}"
  model = platform.processor() or platform.machine()
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next(x.split(": ")[1] for x in lines if x.startswith("model name"))
  except (OSError, StopIteration):
    pass
  return f"{len(os.sched_getaffinity(0))} cores of {model}"


def _plain(value: Any) -> Any:
  """Rounds NumPy numbers for JSON."""
  return value.item() if isinstance(value, np.generic) else str(value)
