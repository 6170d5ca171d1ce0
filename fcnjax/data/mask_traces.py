"""What a mask's pixels tell of how it was saved.

A mask that was resized with smoothing, or compressed as JPEG, has values that
nobody drew. They are rare, and they stand where hardly a drawn one does:
between a smaller neighbour on one side and a greater on the other. In smoothed
masks nearly all do, in compressed ones a third; none of CamVid's 701 masks
comes near the fifth that counts here.
"""

from collections.abc import Sequence
import pathlib

from jaxtyping import Integer
import numpy as np

from fcnjax.data import images as images_lib

_RARE = 0.02  # share of the pixels below which a value is rare
_FEWEST = 3  # rare values; borders that were drawn are one
_PASSING = 0.2  # share of the rare pixels between their neighbours
_PHOTOGRAPH = 64  # values, of which rare ones make 0.4 of all pixels


def blended(raw: Integer[np.ndarray, "h w"]) -> str | None:
  """Says whether values were blended.

  Args:
    raw: the values in the file.

  Returns:
    "photograph", "jpeg" (rare values are near the common ones), "smoothed"
    (they are anywhere between), or None: nothing looks blended. Where common
    values are less than 64 apart, it is "smoothed" that stands for both.
  """
  if raw.dtype not in (np.uint8, np.uint16) or not raw.size:
    return None
  counts = np.bincount(raw.ravel())
  common = np.flatnonzero(counts >= _RARE * raw.size)
  rare = (counts > 0) & (counts < _RARE * raw.size)
  values = np.flatnonzero(rare)
  if len(values) < _FEWEST:
    return None
  pixels = int(counts[values].sum())
  rows, columns = np.nonzero(rare[raw])
  padded = np.pad(raw, 1, mode="edge")
  centre = raw[rows, columns]
  passing = np.zeros(len(rows), bool)
  for down, right in ((1, 0), (0, 1)):
    before = padded[rows + 1 - down, columns + 1 - right]
    after = padded[rows + 1 + down, columns + 1 + right]
    passing |= (before < centre) & (centre < after)
    passing |= (before > centre) & (centre > after)
  if passing.mean() < _PASSING:
    return None
  if len(values) >= _PHOTOGRAPH and pixels > 0.4 * raw.size:
    return "photograph"
  # Only where common values are far apart it is clear which one is near.
  if len(common) > 1 and np.diff(common).min() >= 64:
    distance = np.abs(values[:, None] - common).min(axis=1)
    near = counts[values] @ (distance <= 16) / pixels
    if near > 0.6:
      return "jpeg"
  return "smoothed"


def colours(
  path: str | pathlib.Path,
) -> dict[tuple[int, int, int], int]:
  """Returns how many pixels of a colour file have which colour.

  Raises:
    InputError: if it cannot be read.
  """
  pixels = images_lib.read_image(path, channels=3).astype(np.int32)
  codes, counts = np.unique(
    pixels @ np.asarray([65536, 256, 1], np.int32), return_counts=True
  )
  return {
    (code >> 16, code >> 8 & 255, code & 255): count
    for code, count in zip(codes.tolist(), counts.tolist())
  }


def table_of(
  found: Sequence[Sequence[int]], *, num_classes: int
) -> tuple[tuple[int, int, int], ...] | None:
  """Returns the colour table that colours are probably from.

  Args:
    found: the colours of the masks.
    num_classes: k.

  Returns:
    VOC's palette of k colours, and its void where that was found; None if they
    are not from it.
  """
  palette = images_lib.palette(num_classes)
  known = (*palette, images_lib.VOID)
  seen = {tuple(color) for color in found}
  if not seen or not seen <= set(known):
    return None
  return known if images_lib.VOID in seen else palette
