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


def blended(
  raw: Integer[np.ndarray, "h w"],
  *,
  values: Integer[np.ndarray, " n"],
  counts: Integer[np.ndarray, " n"],
) -> str | None:
  """Says whether values were blended.

  Args:
    raw: the values in the file.
    values: which there are.
    counts: pixels of each.

  Returns:
    "photograph", "jpeg" (rare values are near the common ones), "smoothed"
    (they are anywhere between), or None: nothing looks blended. Where common
    values are less than 64 apart, "smoothed" stands for both.
  """
  if raw.dtype not in (np.uint8, np.uint16) or not raw.size:
    return None
  values = values.astype(np.int64)  # differences may be negative
  rare = counts < _RARE * raw.size
  common, few = values[~rare], values[rare]
  if len(few) < _FEWEST:
    return None
  chosen = np.zeros(int(values.max()) + 1, bool)
  chosen[few] = True
  padded = np.pad(raw, 1, mode="edge")
  inside = np.zeros(padded.shape, bool)
  inside[1:-1, 1:-1] = chosen[raw]
  places, pixels = np.flatnonzero(inside), padded.ravel()
  centre = pixels[places]
  passing = np.zeros(len(places), bool)
  for step in (1, padded.shape[1]):  # along rows, along columns
    before, after = pixels[places - step], pixels[places + step]
    passing |= (before < centre) & (centre < after)
    passing |= (before > centre) & (centre > after)
  if passing.mean() < _PASSING:
    return None
  if len(few) >= _PHOTOGRAPH and len(places) > 0.4 * raw.size:
    return "photograph"
  # Only where common values, and those that compression makes of them, are far
  # apart, it is clear which one is near.
  gaps = np.diff(common)
  if (gaps >= 64).any() and ((gaps >= 64) | (gaps <= 16)).all():
    distance = np.abs(few[:, None] - common).min(axis=1)
    near = counts[rare] @ (distance <= 16) / len(places)
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
