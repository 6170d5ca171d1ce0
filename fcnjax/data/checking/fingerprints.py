"""Which images are the same, and which are nearly the same.

Equal pixels have equal digests, whatever the files are called and however
they are packed. A copy that was resized, or compressed anew, is found by the
difference hash: one bit for each of 64 pairs of neighbours in a tiny picture,
set where it gets brighter to the right. Near hashes are then compared by the
tiny pictures themselves, so that frames of a video, or slices of a volume,
are not taken for copies. Masks of other sizes are compared by sketches.
"""

from collections.abc import Hashable, Sequence
import hashlib
from typing import NamedTuple

from jaxtyping import Float, Integer, UInt8
import numpy as np
import PIL.Image

# Root mean square of the tiny pictures, grey values. CamVid's images and what
# JPEG of quality 75, or half the size, makes of them differ by at most 0.65,
# its most similar frames, of a standing car, by 0.75.
COPY = 0.7

_HASH = (9, 8)  # width and height; 8 comparisons a row
_THUMBNAIL = 24  # pixels on each side
_PLAIN = 4.0  # grey values; the hash of a picture with less contrast is noise
_NEAR = 6  # bits of 64 in which hashes of copies may differ
_BLOCK = 512  # hashes that are compared with all others at once
_CELLS = 24  # of a sketch, on each side
_PLACES = 3  # on each side of a cell
_MIXED = 255  # a cell of several values
_PRIME = 251  # values are kept modulo this
_AGREE = 0.99  # of the cells that are plain in both sketches


class Fingerprint(NamedTuple):
  """What is kept of an image to recognise it by.

  Attributes:
    digest: of shape and pixels; equal for equal images only.
    bits: difference hash, 64 bits; None where the image is nearly plain.
    thumbnail: 24×24 grey values as bytes.
  """

  digest: bytes
  bits: int | None
  thumbnail: bytes


def digest(pixels: np.ndarray) -> bytes:
  """Returns 16 bytes that equal arrays share, and no others."""
  found = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
  found.update(np.ascontiguousarray(pixels))
  return found.digest()[:16]


def fingerprint(
  image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"],
) -> Fingerprint:
  """Returns the fingerprint of an image in [0, 255]; sees the first 3 channels.

  Source: the difference hash is that of N. Krawetz, "Kind of Like That" (2013).
  """
  shown = image
  if image.dtype != np.uint8:
    shown = np.clip(np.nan_to_num(image), 0, 255).astype(np.uint8)
  kept = shown[..., :3] if image.shape[-1] >= 3 else shown[..., 0]
  small = PIL.Image.fromarray(np.ascontiguousarray(kept))
  # Shrunk first, by whole factors, which costs the least. What is left over at
  # the ends is part of a pixel; and the thumbnail's filter is smooth, so that
  # it is the same whatever the image's size.
  factor = max(1, min(small.size) // (4 * _THUMBNAIL))
  grey = small.reduce(factor).convert("L")
  whole = (0, 0, small.width / factor, small.height / factor)
  filters = PIL.Image.Resampling
  thumbnail = grey.resize((_THUMBNAIL, _THUMBNAIL), filters.HAMMING, whole)
  tiny = np.asarray(grey.resize(_HASH, filters.BOX, whole)).astype(np.int16)
  bits = None
  if np.asarray(thumbnail).std() >= _PLAIN:
    rises = tiny[:, 1:] > tiny[:, :-1]
    bits = int.from_bytes(np.packbits(rises).tobytes(), "big")
  return Fingerprint(digest(image), bits, thumbnail.tobytes())


def sketch(mask: Integer[np.ndarray, "h w"]) -> bytes:
  """Returns what a mask looks like in any size.

  Returns:
    One byte for each of 24×24 cells: the value modulo 251 at all of nine places
    in it, or 255 where these differ. A cell on a boundary tells nothing.
  """
  count = _CELLS * _PLACES
  rows, columns = (
    (2 * np.arange(count) + 1) * side // (2 * count) for side in mask.shape
  )
  places = mask[rows[:, None], columns].reshape(
    _CELLS, _PLACES, _CELLS, _PLACES
  )
  least, most = places.min(axis=(1, 3)), places.max(axis=(1, 3))
  cells = np.where(least == most, least % _PRIME, _MIXED)
  return cells.astype(np.uint8).tobytes()


def same_sketch(one: bytes, other: bytes) -> bool:
  """Returns whether two masks may be one in two sizes.

  They are not if the cells that are plain in both have a single value, which
  masks of different images have, too.
  """
  first, second = (np.frombuffer(cells, np.uint8) for cells in (one, other))
  plain = (first != _MIXED) & (second != _MIXED)
  first, second = first[plain], second[plain]
  if len(np.unique(first)) < 2:
    return False
  return bool((first == second).mean() >= _AGREE)


def groups(items: Sequence[Hashable | None]) -> list[list[int]]:
  """Returns the positions of equal items, of those that occur repeatedly.

  None is equal to nothing.
  """
  places: dict[Hashable, list[int]] = {}
  for place, item in enumerate(items):
    if item is not None:
      places.setdefault(item, []).append(place)
  return [found for found in places.values() if len(found) > 1]


class Near(NamedTuple):
  """Two images that look alike.

  Attributes:
    first: position.
    second: position, greater.
    difference: of their tiny pictures, root mean square in grey values.
  """

  first: int
  second: int
  difference: float


def near(
  prints: Sequence[Fingerprint | None],
  *,
  most: float,
  across: int = 0,
  limit: int = 10_000,
) -> list[Near]:
  """Returns pairs of images that look alike, and have not the same pixels.

  Args:
    prints: of the images; None is like nothing.
    most: greatest difference of the tiny pictures, grey values.
    across: if positive, only pairs of one before this position and one from
      there on.
    limit: the search ends with so many pairs.

  Returns:
    The pairs, the most alike first. All pairs of hashes are compared, in
    blocks: 10,000 images take half a second, memory is proportional to them.
    Where very many hashes are near, the nearest of a block are looked at.
  """
  known = [
    p for p, found in enumerate(prints) if found and found.bits is not None
  ]
  places = np.asarray(known, np.int64)
  bits = np.asarray([prints[p].bits for p in known], np.uint64)
  pictures = np.frombuffer(
    b"".join(prints[p].thumbnail for p in known), np.uint8
  ).reshape(len(known), _THUMBNAIL**2)
  found: list[Near] = []
  for begin in range(0, len(known), _BLOCK):
    rows = bits[begin : begin + _BLOCK, None]
    far = np.bitwise_count(rows ^ bits[None, begin:])
    # Above the diagonal only: each pair once, and none with itself.
    first, second = np.nonzero(np.triu(far <= _NEAR, k=1))
    distance = far[first, second]
    first, second = first + begin, second + begin
    if across:
      kept = (places[first] < across) & (places[second] >= across)
      first, second, distance = first[kept], second[kept], distance[kept]
    if len(first) > limit:
      nearest = np.argsort(distance, kind="stable")[:limit]
      first, second = first[nearest], second[nearest]
    apart = pictures[first].astype(np.float32) - pictures[second]
    difference = np.sqrt((apart**2).mean(axis=1))
    found += [
      Near(known[i], known[j], value)
      for i, j, value in zip(
        first.tolist(), second.tolist(), difference.tolist()
      )
      if value <= most and prints[known[i]].digest != prints[known[j]].digest
    ]
    if len(found) >= limit:
      break
  return sorted(found, key=lambda pair: pair.difference)[:limit]
