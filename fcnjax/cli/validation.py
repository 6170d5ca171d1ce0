"""The evaluation during training: of all processes, and left when asked."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ml_collections
import numpy as np

from fcnjax import hosts
from fcnjax.cli import build
from fcnjax.data import examples
from fcnjax.report import overlays
from fcnjax.training import evaluation, loop
from fcnjax.typing import PredictFn


def matrix(
  config: ml_collections.ConfigDict,
  predict: PredictFn,
  source: Any,
  *,
  check: Callable[[], None],
) -> np.ndarray:
  """Returns the confusion matrix of all images: int64 [k, k], rows truth.

  Each process counts its share; all must call this.

  Args:
    config: of the run.
    predict: see `evaluation.evaluate`; of arrays that this process holds.
    source: of the images.
    check: called before each; see `loop.fit`.

  Raises:
    Interrupted: on all processes, if one is to end and has left its counting.
  """
  own = examples.evaluation_examples(
    source,
    workers=config.data.workers,
    indices=hosts.share(range(len(source))),
  )
  try:
    counts = evaluation.evaluate(
      predict,
      _checked(own, check),
      num_classes=len(source.classes),
      batch_size=config.evaluation.batch_size,
      multiple=build.bucket(config),
    ).tolist()
  except loop.Interrupted:
    counts = None
  found = hosts.gathered(counts)
  if None in found:
    raise loop.Interrupted
  return np.sum(found, axis=0)


def _checked(items: Iterable[Any], check: Callable[[], None]) -> Iterator[Any]:
  """Yields the items, and calls `check` before each."""
  for item in items:
    check()
    yield item


def panels(
  config: ml_collections.ConfigDict, predict: Any, source: Any
) -> dict[str, np.ndarray]:
  """Returns panels (image, truth, prediction) of evenly chosen examples."""
  count = min(config.evaluation.overlays, len(source))
  found = {}
  for index in np.linspace(0, len(source) - 1, count).astype(int):
    example = source[int(index)]
    image = example["image"]
    prediction = evaluation.predicted(predict(image[None]), image.shape[:2])
    found[example["name"].replace("/", "_")] = overlays.panel(
      image,
      overlays.nearest(example["label"], image.shape[:2]),
      np.asarray(prediction)[0],
      source.colors,
    )
  return found
