"""Images of any size, piece by piece, every piece of one compiled shape.

`overlap_tile` is for networks of valid convolutions, whose output is smaller
than their input; `sliding_window` for those that keep the size. Both work on
the host and hold one full-size array of logits and one batch of pieces.
"""

from collections.abc import Iterator
import itertools

from jax import Array
from jaxtyping import Float, Real
import numpy as np

from fcnjax.inference import borders
from fcnjax.typing import PredictFn


def overlap_tile(
  predict: PredictFn,
  image: Real[Array | np.ndarray, "b h w c"],
  *,
  tile: tuple[int, int],
  margin: int = 92,
  stride: int = 1,
  batch: int = 1,
) -> Float[np.ndarray, "b h w k"]:
  """Tiles the output seamlessly; the border of the image is mirrored.

  Source: Ronneberger, Fischer, Brox, "U-Net", section 2 and figure 2.

  Equals one pass over the whole mirrored image when tiles begin at multiples
  of the network's stride: a network that pools by 16 is equivariant to shifts
  of 16 pixels only. With `stride=16` and U-Net's outputs of 16 n + 4 pixels,
  neighbours share 4 pixels, of which the later tile's are kept.

  Args:
    predict: image [n, tile + 2 margin, c] -> logits [n, tile, k].
    image: [b, h, w, c], as `predict` takes it; any size.
    tile: rows and columns of the network's output, in pixels.
    margin: pixels that the network's output is smaller on each side.
    stride: pixels; tiles begin at multiples of it.
    batch: tiles in one call; the last call is filled up with zeros.

  Returns:
    Logits float32 [b, h, w, k].

  Raises:
    ValueError: if a size is out of range, or `predict` returns another size
      than `tile`.
  """
  if min(tile) < max(stride, 1) or margin < 0 or stride < 1 or batch < 1:
    raise ValueError(
      f"got tile {tile}, margin {margin}, stride {stride}, batch {batch};"
      " expected tile >= stride >= 1, margin >= 0, batch >= 1."
    )
  image = np.asarray(image)
  size = image.shape[1:3]
  starts = [
    range(0, n, t // stride * stride) for n, t in zip(size, tile, strict=True)
  ]
  places = list(itertools.product(range(len(image)), *starts))

  def cut(place: tuple[int, int, int]) -> np.ndarray:
    i, *start = place
    piece = image[i]
    for axis in (0, 1):
      index = borders.reflected(
        start[axis] - margin, start[axis] + tile[axis] + margin, size[axis]
      )
      piece = piece.take(index, axis=axis)
    return piece

  logits = None
  for (i, y, x), piece in _predicted(predict, places, cut, tile, batch):
    if logits is None:
      logits = np.zeros((len(image), *size, piece.shape[-1]), np.float32)
    room = logits[i, y : y + tile[0], x : x + tile[1]]
    room[:] = piece[: room.shape[0], : room.shape[1]]
  return logits


def sliding_window(
  predict: PredictFn,
  image: Real[Array | np.ndarray, "b h w c"],
  *,
  window: tuple[int, int],
  overlap: int | float = 0.5,
  margin: int = 0,
  batch: int = 1,
) -> Float[np.ndarray, "b h w k"]:
  """Averages the logits of overlapping windows with Gaussian weights.

  A window's weight falls from its centre with a standard deviation of an
  eighth of its side, so that no seam shows. Equals the whole image for a
  network whose receptive field reaches at most `margin` pixels, and whose
  stride divides the windows' starts.

  Args:
    predict: image [n, window, c] -> logits [n, window, k].
    image: [b, h, w, c], as `predict` takes it; any size. An image smaller than
      the window is mirrored at the bottom and the right, and the logits are
      cropped.
    window: rows and columns, in pixels.
    overlap: share of a window's side in [0, 1) that the next one covers.
    margin: pixels at a window's sides that are not used, except at the image's
      own border; less than half of the window.
    batch: windows in one call; the last call is filled up with zeros.

  Returns:
    Logits float32 [b, h, w, k].

  Raises:
    ValueError: if a size is out of range, or `predict` returns another size
      than `window`.
  """
  if not 0 <= overlap < 1 or not 0 <= 2 * margin < min(window) or batch < 1:
    raise ValueError(
      f"got window {window}, overlap {overlap}, margin {margin}, batch {batch};"
      " expected 0 <= overlap < 1, 0 <= 2 margin < window, batch >= 1."
    )
  image = np.asarray(image)
  height, width = image.shape[1:3]
  image = borders.mirror(
    image,
    rows=(0, max(0, window[0] - height)),
    columns=(0, max(0, window[1] - width)),
  )
  size = image.shape[1:3]
  starts = [
    _starts(n, w, max(1, min(int(w * (1 - overlap)), w - 2 * margin)))
    for n, w in zip(size, window, strict=True)
  ]
  places = list(itertools.product(range(len(image)), *starts))

  def cut(place: tuple[int, int, int]) -> np.ndarray:
    i, y, x = place
    return image[i, y : y + window[0], x : x + window[1]]

  def weight(y: int, x: int) -> np.ndarray:
    rows, columns = (
      _window_weight(window[a], margin, start > 0, start + window[a] < size[a])
      for a, start in ((0, y), (1, x))
    )
    return (rows[:, None] * columns[None, :])[:, :, None]

  total, weights = None, np.zeros((*size, 1), np.float32)
  for y, x in itertools.product(*starts):
    weights[y : y + window[0], x : x + window[1]] += weight(y, x)
  for (i, y, x), piece in _predicted(predict, places, cut, window, batch):
    if total is None:
      total = np.zeros((len(image), *size, piece.shape[-1]), np.float32)
    total[i, y : y + window[0], x : x + window[1]] += weight(y, x) * piece
  total /= weights
  return total[:, :height, :width]


def _predicted(
  predict: PredictFn,
  places: list[tuple[int, int, int]],
  cut,
  expected: tuple[int, int],
  batch: int,
) -> Iterator[tuple[tuple[int, int, int], np.ndarray]]:
  """Yields each place with its logits, predicted `batch` pieces at a time."""
  for first in range(0, len(places), batch):
    group = places[first : first + batch]
    pieces = [cut(place) for place in group]
    pieces += [np.zeros_like(pieces[0])] * (batch - len(group))
    logits = np.asarray(predict(np.stack(pieces)), np.float32)
    if logits.shape[1:3] != tuple(expected):
      raise ValueError(
        f"predict returned {logits.shape[1]}x{logits.shape[2]} for"
        f" {pieces[0].shape[0]}x{pieces[0].shape[1]} pixels, expected"
        f" {expected[0]}x{expected[1]}; change the tile, window or margin."
      )
    yield from zip(group, logits)  # What filled up the batch is dropped.


def _starts(size: int, window: int, step: int) -> list[int]:
  """0, step, ... and size - window; together the windows cover [0, size)."""
  return [*range(0, size - window, step), size - window]


def _window_weight(
  window: int, margin: int, cut_before: bool, cut_after: bool
) -> np.ndarray:
  """A Gaussian over one side of a window, zero in the margins that are cut.

  Outside of them it is at least 1e-3, so that the corners of an image, which
  only one window's corner sees, keep their precision in float32.
  """
  x = (np.arange(window) - (window - 1) / 2) / (window / 8)
  weight = np.maximum(np.exp(-0.5 * x * x), 1e-3).astype(np.float32)
  if cut_before:
    weight[:margin] = 0
  if cut_after:
    weight[window - margin :] = 0
  return weight
