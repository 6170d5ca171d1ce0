"""Who makes the training batches: tf.data, or the device that trains.

Both give the same kind of batches, and each is a function of (seed, step), but
they draw other random numbers. So a run keeps to the path that it began with,
which stands in its config.json ("resolved": "batches").
"""

from collections.abc import Callable, Iterator
import functools
import importlib.util
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
import ml_collections

from fcnjax import errors, typing
from fcnjax.data import device_transforms, recipes, resident
from fcnjax.training import sharding


class Batches(NamedTuple):
  """The training batches of a run.

  Attributes:
    start: a step -> the batches from there on; to be closed.
    names: a step -> the names of the examples of its batch.
  """

  start: Callable[[int], Iterator[typing.Batch]]
  names: Callable[[int], list[str]]


def _tf_data(config, train, words, mesh) -> Batches:
  del mesh
  # Only here: a machine may have no TensorFlow, and its import takes seconds.
  from fcnjax.data import pipeline

  return Batches(
    lambda step: pipeline.training_batches(
      train,
      start_step=step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      **words,
    ),
    functools.partial(
      pipeline.batch_names,
      train,
      batch_size=config.batch_size,
      seed=config.seed,
    ),
  )


def _resident(config, train, words, mesh) -> Batches:
  del config
  held = resident.Resident(
    train,
    replicated=sharding.replicated(mesh),
    by_example=sharding.by_example(mesh),
    **words,
  )
  print(
    f"training set held on the device: {len(train)} images, "
    f"{held.nbytes / 1e6:.1f} MB (data.resident)"
  )
  return Batches(held.batches, held.names)


PATHS = {"tf.data": _tf_data, "resident": _resident}


def check(config: ml_collections.ConfigDict) -> None:
  """Raises InputError if the words of the training batches are wrong."""
  recipes.operations(
    config.data.transforms, device_transforms.TRANSFORMS, config.data.mean
  )
  word = config.data.resident
  if word not in ("auto", "on", "off"):
    raise errors.InputError(
      f"data.resident: {word!r} is unknown; use auto, on or off."
    )
  if word == "off" and not _has_tensorflow():
    raise errors.InputError(
      "data.resident: 'off', but TensorFlow is not installed; install it, or "
      "set --config.data.resident=on."
    )


def path(
  config: ml_collections.ConfigDict, train: Any, begun: str | None
) -> str:
  """Returns which of PATHS makes the batches.

  Args:
    config: the run's; data.resident decides, and where that is "auto", what the
      run began with. A new run uses tf.data on a CPU. On an accelerator, what
      is small enough is held there; and everywhere if TensorFlow is missing.
    train: the training set.
    begun: the path of the run in the workdir, or None.

  Raises:
    InputError: if the run began with tf.data, and TensorFlow is missing.
  """
  data = config.data
  if data.resident != "auto":
    return "resident" if data.resident == "on" else "tf.data"
  if begun == "tf.data" and not _has_tensorflow():
    raise errors.InputError(
      "data.resident: this run began with tf.data, and TensorFlow is not "
      "installed here; install it, or go on with other random numbers by "
      "--config.data.resident=on."
    )
  if begun is not None:
    return begun
  if not _has_tensorflow():
    return "resident"
  if jax.default_backend() == "cpu":
    return "tf.data"
  refused = resident.refusal(
    train, transforms=data.transforms, gigabytes=data.resident_gigabytes
  )
  return "tf.data" if refused else "resident"


def create(
  config: ml_collections.ConfigDict, train: Any, mesh: Mesh, *, path: str
) -> Batches:
  """Returns the training batches; see PATHS."""
  words = {
    "batch_size": config.batch_size,
    "seed": config.seed,
    "transforms": config.data.transforms,
    "mean": config.data.mean,
    "std": config.data.std,
    "workers": config.data.workers,
    "label_margin": config.data.label_margin,
  }
  return PATHS[path](config, train, words, mesh)


def _has_tensorflow() -> bool:
  return importlib.util.find_spec("tensorflow") is not None
