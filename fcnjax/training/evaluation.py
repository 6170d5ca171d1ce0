"""One confusion matrix over a data set, at the labels' own resolution."""

import collections
from collections.abc import Callable, Iterable, Iterator
import functools
import itertools
from typing import Any

import jax
from jax import Array
from jaxtyping import Float, Int
import numpy as np

from fcnjax.metrics import confusion
from fcnjax.ops import resizing, upsampled
from fcnjax.typing import IGNORE, Coarse, Example


def _shapes(example: Example) -> tuple[tuple[int, ...], tuple[int, ...]]:
  return np.shape(example["image"]), np.shape(example["label"])


def _padded(example: Example, multiple: int) -> Example:
  """Returns the example with sides that are a multiple, where that is exact.

  The image is mirrored at the bottom and the right, and what is new is
  ignored. An image of another size than its label stays as it is: a ratio of
  sizes would change.
  """
  image, label = example["image"], example["label"]
  below, right = (-side % multiple for side in np.shape(label))
  if np.shape(image)[:2] != np.shape(label) or not (below or right):
    return example
  edges = ((0, below), (0, right))
  return {
    **example,
    "image": np.pad(image, (*edges, (0, 0)), mode="reflect"),
    "label": np.pad(label, edges, constant_values=IGNORE),
  }


def batches(
  examples: Iterable[Example], *, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
  """Yields (images, labels, count) of consecutive examples of equal size.

  Every batch has `batch_size` examples, so that each size compiles once; what
  is missing is filled with copies of the first that are ignored throughout.

  Args:
    examples: with "image" [h, w, c] and "label" [h', w'].
    batch_size: number of examples in a batch.
  """
  for _, group in itertools.groupby(examples, key=_shapes):
    while chunk := list(itertools.islice(group, batch_size)):
      missing = batch_size - len(chunk)
      images = [e["image"] for e in chunk] + [chunk[0]["image"]] * missing
      nothing = np.full_like(chunk[0]["label"], IGNORE)
      labels = [e["label"] for e in chunk] + [nothing] * missing
      yield np.stack(images), np.stack(labels), len(chunk)


@functools.partial(jax.jit, static_argnames="size")
def predicted(
  logits: Float[Array | np.ndarray, "b h w k"] | Coarse,
  size: tuple[int, int],
) -> Int[Array, "b h2 w2"]:
  """Returns the classes at `size` (h2, w2): logits interpolated, then arg max.

  Where the network saw a resized image, its logits are brought to the label's
  size by bilinear interpolation; labels are never resized. Of coarse scores
  whose logits have this size, these are not computed as a whole.
  """
  if isinstance(logits, Coarse):
    if logits.size == tuple(size):
      return upsampled.upsampled_argmax(
        logits.scores, logits.size, convention=logits.convention
      )
    logits = resizing.resize_bilinear(
      logits.scores, logits.size, convention=logits.convention
    )
  if tuple(logits.shape[1:3]) != tuple(size):
    logits = resizing.resize_bilinear(logits, size)
  return jax.numpy.argmax(logits, axis=-1)


def evaluate(
  predict: Callable[[Any], Any],
  examples: Iterable[Example],
  *,
  num_classes: int,
  batch_size: int = 1,
  multiple: int = 1,
  visit: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> np.ndarray:
  """Returns the confusion matrix over all examples: int64 [k, k], rows truth.

  Only k × k counts leave the device, unless the predictions are visited.

  Args:
    predict: a `typing.PredictFn`, image [b, h, w, c] -> logits f32
      [b, h, w, k], or one that gives `typing.Coarse` scores of them.
    examples: with "image" [h, w, c], as `predict` takes it, and "label"
      [h', w'] in [0, k) or 255.
    num_classes: k.
    batch_size: how many examples of equal size go through at once.
    multiple: pixels; sides are extended to multiples of this, as by
      `whole.whole_image`, so that images of many sizes compile a few programs.
    visit: called with (label, prediction), both [h', w'], of each example.
  """
  total = np.zeros((num_classes, num_classes), np.int64)
  pending: Any = None
  sizes: collections.deque[tuple[int, ...]] = collections.deque()

  def padded():
    for example in examples:
      sizes.append(np.shape(example["label"]))
      yield _padded(example, multiple)

  for images, labels, valid in batches(padded(), batch_size=batch_size):
    matrix, prediction = _count(
      predict(images),
      labels.astype(np.int32),
      num_classes=num_classes,
      mapped=visit is not None,
    )
    # One batch late: the device works while the host waits for the one before.
    if pending is not None:
      total += np.asarray(pending, np.int64)
    pending = matrix
    own = [sizes.popleft() for _ in range(valid)]
    if visit is not None:
      maps = np.asarray(prediction)
      for (height, width), label, map_ in zip(own, labels, maps):
        visit(label[:height, :width], map_[:height, :width])
  if pending is not None:
    total += np.asarray(pending, np.int64)
  return total


@functools.partial(jax.jit, static_argnames=("num_classes", "mapped"))
def _count(logits, label, *, num_classes, mapped):
  """Returns the matrix of a batch and, if it is to be mapped, the classes."""
  count = functools.partial(confusion.confusion_matrix, num_classes=num_classes)
  size = label.shape[1:3]
  if mapped or not _by_tiles(logits, size):
    prediction = predicted(logits, size)
    return count(label, prediction), prediction if mapped else None

  def of_tile(scores, inside, label):
    label = jax.numpy.where(inside, label, IGNORE)
    return count(label, jax.numpy.argmax(scores, axis=2))

  matrix = upsampled.sum_tiles(
    of_tile, logits.scores, label, size=size, convention=logits.convention
  )
  return matrix, None


def _by_tiles(logits, size):
  """Whether nothing of the image's size need exist but the label."""
  return (
    isinstance(logits, Coarse)
    and logits.size == tuple(size)
    and upsampled.uses_tiles(
      logits.scores.shape, size, "auto", least=upsampled.ARGMAX_BYTES
    )
  )
