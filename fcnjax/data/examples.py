"""Examples in order, decoded ahead by threads; without TensorFlow."""

import collections
from collections.abc import Iterator, Sequence
from concurrent import futures

from jaxtyping import Float, UInt8
import numpy as np

from fcnjax import typing


def evaluation_examples(
  source,
  *,
  mean: float | Sequence[float],
  std: float | Sequence[float],
  workers: int = 2,
  start: int = 0,
  stop: int | None = None,
) -> Iterator[typing.Example]:
  """Yields the examples of a source in order, with normalised images.

  At most 2 `workers` + 1 examples are in memory at a time.

  Args:
    source: see `sources`.
    mean: of the training images, one for all channels or one each, in units
      of [0, 255].
    std: standard deviation, likewise.
    workers: threads that read ahead; at least 1.
    start: position of the first example.
    stop: position after the last one; None = the end.

  Yields:
    "image" float32 [h, w, c], (image - mean) / std; "label" uint8 [h, w] as
    the source gives it; "name"; and whatever else the source gives.

  Raises:
    InputError: where the source does; the examples before come first.
  """

  def read(index: int) -> typing.Example:
    example = source[index]
    image = normalise(example["image"], mean=mean, std=std)
    return {**example, "image": image}

  positions = iter(range(len(source))[start:stop])
  pending: collections.deque[futures.Future] = collections.deque()
  pool = futures.ThreadPoolExecutor(workers)
  try:
    while True:
      while len(pending) < 2 * workers:
        index = next(positions, None)
        if index is None:
          break
        pending.append(pool.submit(read, index))
      if not pending:
        return
      yield pending.popleft().result()
  finally:  # also when the caller stops half way
    pool.shutdown(wait=False, cancel_futures=True)


def normalise(
  image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"],
  *,
  mean: float | Sequence[float],
  std: float | Sequence[float],
) -> Float[np.ndarray, "h w c"]:
  """Returns (image - mean) / std in float32; all in units of [0, 255]."""
  centred = image.astype(np.float32) - np.asarray(mean, np.float32)
  return centred / np.asarray(std, np.float32)
