"""Who makes the training batches: tf.data, or the device that trains.

Both give the same kind of batches of the same examples, and each is a function
of (seed, step), but their transforms draw other random numbers. So a run keeps
to the path that it began with, which stands in its config.json ("resolved":
"batches").
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import importlib.util
import pathlib
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
import ml_collections
import numpy as np

from fcnjax import errors, hosts, typing
from fcnjax.data import (
  device_transforms,
  mixing,
  normalization,
  order as orders,
  reading,
  recipes,
  resident,
  weight_maps,
)
from fcnjax.training import sharding


class Batches(NamedTuple):
  """The training batches of a run.

  Attributes:
    start: a step -> the batches from there on, on the devices; to be closed.
    indices: a step -> which examples of the training set its batch has, and
      then those that are pasted into them, as far as is known.
    names: a step -> their names.
    figures: what is to be logged of them, at any time.
  """

  start: Callable[[int], Iterator[typing.Batch]]
  indices: Callable[[int], list[int]]
  names: Callable[[int], list[str]]
  figures: Callable[[], dict[str, int]]


def _tf_data(config, reader, words, mesh) -> Batches:
  # Only here: a machine may have no TensorFlow, and its import takes seconds.
  from fcnjax.data import pipeline

  std, plan = words.pop("std"), mixing.plan(words["mixing"], reader.seed)
  recipes.check_length("std", std, reader.first["image"].shape[-1])
  normalized = jax.jit(
    functools.partial(normalization.normalized, mean=words["mean"], std=std),
    out_shardings=sharding.by_row(mesh),
  )

  def start(step: int) -> Iterator[typing.Batch]:
    made = pipeline.training_batches(
      reader,
      start_step=step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      transfer=config.data.transfer,
      **words,
    )
    # What is wrong with the words is said at once, not with the first batch.
    return _on_devices(made, normalized, mesh)

  def indices(step: int) -> list[int]:
    return reader.indices(step, config.batch_size, plan)

  def names(step: int) -> list[str]:
    return reader.names(step, config.batch_size, plan)

  return Batches(start, indices, names, reader.figures)


def _on_devices(made, normalized, mesh) -> Iterator[typing.Batch]:
  with contextlib.closing(made):
    for batch in made:
      yield normalized(sharding.to_devices(batch, mesh))


def _resident(config, reader, words, mesh) -> Batches:
  del config
  held = resident.Resident(
    reader,
    replicated=sharding.replicated(mesh),
    by_example=sharding.by_example(mesh),
    by_row=sharding.by_row(mesh),
    **words,
  )
  print(
    f"training set held on the device: {held.count} images, "
    f"{held.nbytes / 1e6:.1f} MB (data.resident)"
  )
  return Batches(held.batches, held.indices, held.names, reader.figures)


SAMPLINGS = ("uniform", "class_balanced")
PATHS = {"tf.data": _tf_data, "resident": _resident}


def check(config: ml_collections.ConfigDict) -> None:
  """Raises InputError if the words of the training batches are wrong."""
  recipes.operations(
    config.data.transforms, device_transforms.TRANSFORMS, config.data.mean
  )
  mixing.plan(config.data.mixing, config.seed)
  for key, words in (
    ("sampling", SAMPLINGS),
    ("transfer", ("uint8", "float32")),
    ("on_bad_example", reading.ON_BAD_EXAMPLE),
  ):
    if config.data[key] not in words:
      raise errors.InputError(
        f"data.{key}: {config.data[key]!r} is unknown; use "
        f"{' or '.join(words)}."
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
    InputError: if the run began with tf.data, and TensorFlow is missing; or
      with what is unknown.
  """
  data = config.data
  if begun not in (None, *PATHS):
    raise errors.InputError(
      f"config.json: resolved.batches is {begun!r}, not one of "
      f"{', '.join(PATHS)}: the file was damaged or changed by hand; correct "
      "it."
    )
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
  config: ml_collections.ConfigDict,
  train: Any,
  mesh: Mesh,
  *,
  path: str,
  cache: pathlib.Path | None = None,
) -> Batches:
  """Returns the training batches; see PATHS.

  Args:
    config: the run's.
    train: the training set.
    mesh: where the batches go.
    path: a key of PATHS.
    cache: a folder where what is counted of the labels is kept.
  """
  reader = reading.Reader(
    train,
    order=_order(config, train, cache),
    seed=config.seed,
    on_bad_example=config.data.on_bad_example,
  )
  words = {
    "batch_size": config.batch_size,
    "transforms": config.data.transforms,
    "mixing": config.data.mixing,
    "mean": config.data.mean,
    "std": config.data.std,
    "workers": config.data.workers,
    "label_margin": config.data.label_margin,
  }
  return PATHS[path](config, reader, words, mesh)


def _order(
  config: ml_collections.ConfigDict, train: Any, cache: pathlib.Path | None
) -> orders.Order:
  """Returns which example stands at each position, as the words have it."""
  parts, seed = getattr(train, "parts", [train]), config.seed
  # What is pasted into the examples is read elsewhere in the same order.
  streams = 1 + len(mixing.plan(config.data.mixing, seed)(0))
  if len(parts) == 1:
    return _order_of(config, train, cache, seed, streams)
  return orders.mixed(
    [
      _order_of(config, part, cache, orders.part_seed(seed, number), streams)
      for number, part in enumerate(parts)
    ],
    [len(part) for part in parts],
    [weight for weight, _ in config.data.mix],
    seed,
    streams=streams,
  )


def _order_of(config, source, cache, seed, streams) -> orders.Order:
  if config.data.sampling == "uniform":
    return orders.uniform(len(source), seed, streams=streams)
  counts = hosts.of_first(
    lambda: weight_maps.image_class_counts(
      source,
      cache,
      num_classes=len(source.classes),
      workers=config.data.workers,
      skip=config.data.on_bad_example == "skip",
    ).tolist()
  )
  return orders.class_balanced(
    np.array(counts), seed, least=config.data.sampling_pixels, streams=streams
  )


def _has_tensorflow() -> bool:
  return importlib.util.find_spec("tensorflow") is not None
