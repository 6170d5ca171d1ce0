"""What can be known to be wrong with a run before its first step."""

from typing import Any

import jax
import ml_collections
import numpy as np

from fcnjax import errors
from fcnjax.data.checking import checks


def check_tasks(config: ml_collections.ConfigDict) -> None:
  """Compares the network's tasks with those of the data.

  Raises:
    InputError: if they are not the same.
  """
  scored = config.model.options.get("second_classes", 0)
  given = config.data.second_classes if config.data.second_masks else 0
  if scored != given:
    raise errors.InputError(
      f"model.options.second_classes: {scored}, but data.second_masks has "
      f"{given} classes (data.second_classes); make them equal."
    )
  if config.evaluation.task != "first":
    raise errors.InputError(
      f"evaluation.task: {config.evaluation.task!r}, but a run is validated on "
      "its first task; score the second with fcnjax evaluate."
    )


def check_masks(
  config: ml_collections.ConfigDict, *, train: Any, val: Any, test: Any | None
) -> None:
  """Prints warnings; of many images only the masks are decoded.

  Args:
    config: of the run.
    train: the training examples, perhaps of several sets.
    val: those of the validation.
    test: those of the test, if there is one.

  Raises:
    InputError: if one could not be trained on; tells of all of its set.
  """
  count, skip = len(train.classes), config.data.on_bad_example == "skip"
  for part in getattr(train, "parts", [train]):
    _check_masks("train", part, count, skip=skip)
  _check_masks("val", val, count)
  if test is not None:
    _check_masks("test", test, count)
  if config.data.second_masks:
    second = train.second
    _check_masks("train, second masks", second, len(second.classes))


def _check_masks(
  name: str, source: Any, num_classes: int, *, skip: bool = False
) -> None:
  report = checks.check(
    source,
    num_classes=num_classes,
    images=len(source) <= 2000,
    skip=skip,
  )
  for warning in report.warnings:
    print(f"{name}: {warning}")
  checks.require(report)


def shapes(model: Any, shape: tuple[int, ...]) -> Any:
  """Returns the variables' shapes.

  Args:
    model: as created.
    shape: of images, [b, h, w, c].

  Raises:
    InputError: says in one line what the model refuses.
  """
  try:
    return jax.eval_shape(
      model.init,
      jax.random.key(0),
      jax.ShapeDtypeStruct(shape, np.float32),
    )
  except (TypeError, ValueError) as error:
    raise errors.InputError(f"model: {error}") from error


def image_size(
  config: ml_collections.ConfigDict, source: Any
) -> tuple[int, int]:
  """Returns the size of a training image, as the transforms leave it."""
  for name, parameters in reversed(list(config.data.transforms)):
    if name in ("random_crop", "center_crop", "resize", "pad_to"):
      return tuple(parameters["size"])
  return first_size(source)


def first_size(source: Any) -> tuple[int, int]:
  """Returns the size of the first image, resized if it is; reads no mask.

  What is wrong with masks is told of all at once.
  """
  first = getattr(source, "parts", [source])[0]
  return getattr(first, "image_size", None) or first.image(0).shape[:2]
