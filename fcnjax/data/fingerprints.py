"""Which images are the same, and which are nearly the same.

Equal pixels have equal digests, whatever the files are called and however
they are packed. A copy that was resized, or compressed anew, is found by the
difference hash: one bit for each of 64 pairs of neighbours in a tiny picture,
set where it gets brighter to the right. Near hashes are then compared by the
tiny pictures themselves, so that frames of a video, or slices of a volume,
are not taken for copies.
"""

from collections.abc import Hashable, Iterable, Sequence
import hashlib
from typing import NamedTuple

from jaxtyping import Float, Integer, UInt8
import numpy as np
import PIL.Image

_HASH = (9, 8)  # width and height; 8 comparisons a row
_THUMBNAIL = 24  # pixels on each side
_PLAIN = 4.0  # grey values; the hash of a picture with less contrast is noise
_NEAR = 6  # bits of 64 in which hashes of copies may differ
_BLOCK = 512  # hashes that are compared with all others at once


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
  if image.shape[-1] < 3:
    grey = PIL.Image.fromarray(np.ascontiguousarray(shown[..., 0]))
  else:
    colour = np.ascontiguousarray(shown[..., :3])
    small = PIL.Image.fromarray(colour)
    # Shrunk first, by whole factors, which costs the least.
    factor = min(small.size) // (4 * _THUMBNAIL)
    grey = (small.reduce(factor) if factor > 1 else small).convert("L")
  box = PIL.Image.Resampling.BOX
  thumbnail = grey.resize((_THUMBNAIL, _THUMBNAIL), box)
  tiny = np.asarray(grey.resize(_HASH, box)).astype(np.int16)
  bits = None
  if np.asarray(thumbnail).std() >= _PLAIN:
    rises = tiny[:, 1:] > tiny[:, :-1]
    bits = int.from_bytes(np.packbits(rises).tobytes(), "big")
  return Fingerprint(digest(image), bits, thumbnail.tobytes())


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
  prints: Sequence[Fingerprint | None], *, most: float, limit: int = 10_000
) -> list[Near]:
  """Returns pairs of images that look alike, and have not the same pixels.

  Args:
    prints: of the images; None is like nothing.
    most: greatest difference of the tiny pictures, grey values.
    limit: the search ends with so many pairs.

  Returns:
    The pairs, the most alike first. All pairs of hashes are compared, in
    blocks: 10,000 images take half a second, memory is proportional to them.
  """
  known = [p for p, found in enumerate(prints) if found and found.bits]
  bits = np.asarray([prints[p].bits for p in known], np.uint64)
  found: list[Near] = []
  for begin in range(0, len(known), _BLOCK):
    rows = bits[begin : begin + _BLOCK, None]
    far = np.bitwise_count(rows ^ bits[None, begin:])
    # Above the diagonal only: each pair once, and none with itself.
    first, second = np.nonzero(np.triu(far <= _NEAR, k=1))
    pairs = (
      (known[begin + i], known[begin + j])
      for i, j in zip(first.tolist(), second.tolist())
    )
    found += _alike(prints, pairs, most)
    if len(found) >= limit:
      break
  return sorted(found, key=lambda pair: pair.difference)[:limit]


def _alike(
  prints: Sequence[Fingerprint | None],
  pairs: Iterable[tuple[int, int]],
  most: float,
) -> list[Near]:
  """Compares the tiny pictures of pairs."""
  found = []
  for i, j in pairs:
    one, other = prints[i], prints[j]
    if one.digest == other.digest:
      continue
    difference = _difference(_pixels(one), _pixels(other))
    if difference <= most:
      found.append(Near(i, j, difference))
  return found


def _pixels(print_: Fingerprint) -> Integer[np.ndarray, "n"]:
  return np.frombuffer(print_.thumbnail, np.uint8).astype(np.int16)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
  return float(np.sqrt(np.mean((one - other).astype(np.float64) ** 2)))
