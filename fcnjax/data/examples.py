"""Examples in order, decoded ahead by threads; without TensorFlow."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from fcnjax import errors, typing


def evaluation_examples(
  source,
  *,
  workers: int = 2,
  indices: Sequence[int] | None = None,
) -> Iterator[typing.Example]:
  """Yields the examples of a source in order, as it gives them.

  At most 2 `workers` + 1 examples are in memory at a time.

  Args:
    source: see `sources`.
    workers: threads that read ahead; at least 1.
    indices: of the examples; None = all.

  Yields:
    `typing.Example`, its image in [0, 255]: `normalization.normalized_image`
    makes of it what a network sees, on the device.

  Raises:
    InputError: where the source does; the examples before come first.
  """
  positions = iter(range(len(source)) if indices is None else indices)
  pending: collections.deque[futures.Future] = collections.deque()
  pool = futures.ThreadPoolExecutor(workers)
  try:
    while True:
      while len(pending) < 2 * workers:
        index = next(positions, None)
        if index is None:
          break
        pending.append(pool.submit(source.__getitem__, index))
      if not pending:
        return
      yield pending.popleft().result()
  finally:  # also when the caller stops half way
    pool.shutdown(wait=False, cancel_futures=True)


def training_maps(
  source: Any, index: int, first: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns the maps of an example, of the same kind as the first one's.

  Args:
    source: see `sources`.
    index: of the example.
    first: what this returns of example 0; empty for that one itself.

  Returns:
    "image" [h, w, c] in [0, 255], uint8 or else float32, as the first one's is;
    "label" uint8 [h, w]; and, if the source has them, "weight" float32 and
    "second_label" uint8.

  Raises:
    InputError: if sizes, channels or kinds of maps do not agree, or the image
      is finer than bytes, and the first one is not.
  """
  example = source[index]
  image = np.asarray(example["image"])
  arrays = {
    "image": image if image.dtype == np.uint8 else image.astype(np.float32),
    "label": np.asarray(example["label"], np.uint8),
  }
  for key, dtype in (("weight", np.float32), ("second_label", np.uint8)):
    if key in example:
      arrays[key] = np.asarray(example[key], dtype)
  size, channels = arrays["image"].shape[:2], arrays["image"].shape[2]
  if any(array.shape[:2] != size for array in arrays.values()):
    sizes = ", ".join(
      f"{key} {array.shape[0]}x{array.shape[1]}"
      for key, array in arrays.items()
    )
    raise errors.InputError(
      f"{source.names[index]}: {sizes} pixels; for training they must be equal."
    )
  if first and first["image"].shape[2] != channels:
    raise errors.InputError(
      f"{source.names[index]} has {channels} channel(s), "
      f"{source.names[0]} has {first['image'].shape[2]}; set data.channels."
    )
  if first and first.keys() != arrays.keys():
    raise errors.InputError(
      f"{source.names[index]} has {', '.join(arrays)}, {source.names[0]} has "
      f"{', '.join(first)}; all examples must have the same."
    )
  if first and first["image"].dtype != arrays["image"].dtype:
    if first["image"].dtype == np.uint8:
      raise errors.InputError(
        f"{source.names[index]} has more than 8 bits a channel, "
        f"{source.names[0]} has 8; save all images with 8 bits, or all with 16."
      )
    arrays["image"] = arrays["image"].astype(np.float32)
  return arrays
