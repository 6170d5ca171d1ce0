"""Whether a step fits a device's memory, and what to change where not."""

from collections.abc import Callable, Iterator
import contextlib
import math
from typing import Any

import jax
import ml_collections

from fcnjax import errors, profile
from fcnjax.training import sharding


def estimate(
  config: ml_collections.ConfigDict,
  model: Any,
  size: tuple[int, int],
  params: Any,
  state: Any,
  *,
  mesh: jax.sharding.Mesh,
) -> tuple[int, int]:
  """Returns bytes of a device that a step takes: state, activations.

  Both are from above: XLA computes some of what autodiff keeps again, and
  `remat` and bfloat16 take less (docs/performance.md has measurements).

  Args:
    config: of the run.
    model: as created.
    size: of a training image, pixels.
    params: shapes of the parameters, of which there are gradients.
    state: shapes of the state, with their shardings.
    mesh: over which the batch, and the rows of its images, are spread.
  """
  data, space = (mesh.shape[axis] for axis in sharding.AXES)
  images = math.ceil(config.batch_size / data / config.accumulate)
  activations = images * sum(profile.training_memory(model, size))
  return _bytes((state, params)), math.ceil(activations / space)


def limit() -> int | None:
  """Returns the bytes that a device lets a program have, if it tells."""
  figures = jax.local_devices()[0].memory_stats() or {}
  return figures.get("bytes_limit")


def warning(needed: Callable[[], tuple[int, int]]) -> str:
  """Returns a line if `estimate` is above what a device has, else ""."""
  most = limit()
  if most is None or sum(found := needed()) <= most:
    return ""
  return (
    f"memory: a step may need {_words(found)} on a device, which has "
    f"{most / 1e9:.1f} GB; should it not fit, {_REMEDY}"
  )


_REMEDY = (
  "set --config.remat=stage, --config.precision=bfloat16, a larger "
  "--config.accumulate or a smaller --config.batch_size; take smaller crops "
  "(data.transforms), or more devices; and see that no other program uses the "
  "device."
)


def of_training(
  needed: Callable[[], tuple[int, int]],
) -> contextlib.AbstractContextManager[None]:
  """Turns a device's want of memory into one line.

  Args:
    needed: `estimate` of a step.

  Raises:
    Stopped: says what a step was estimated to need, and what to change.
  """
  return _told(
    lambda: (
      f"a step is estimated to need at most {_words(needed())}. To make it "
      f"fit, {_REMEDY} The same command then resumes from the last checkpoint."
    )
  )


def of_prediction() -> contextlib.AbstractContextManager[None]:
  """As `of_training`, where images are predicted."""
  return _told(
    lambda: (
      "set --config.evaluation.batch_size=1, --config.precision=bfloat16, or "
      "--config.evaluation.strategy=sliding_window, which sees a part of an "
      "image at a time; and see that no other program uses the device."
    ),
  )


@contextlib.contextmanager
def _told(words: Callable[[], str]) -> Iterator[None]:
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    most = limit()
    has = "" if most is None else f", which has {most / 1e9:.1f} GB"
    raise errors.Stopped(
      f"out of memory on a device{has}; {words()}"
    ) from error


def _words(found: tuple[int, int]) -> str:
  state, activations = found
  both, state, activations = (
    f"{count / 1e9:.1f}" for count in (state + activations, state, activations)
  )
  return (
    f"{both} GB (parameters, gradients and optimizer {state}, intermediate "
    f"results {activations})"
  )


def _bytes(tree: Any) -> int:
  def of_a_device(x):
    own = getattr(x, "sharding", None)
    shape = x.shape if own is None else own.shard_shape(x.shape)
    return math.prod(shape) * x.dtype.itemsize

  return sum(of_a_device(x) for x in jax.tree.leaves(tree))
