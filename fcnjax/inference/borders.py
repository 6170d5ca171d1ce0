"""Mirrored borders of any width."""

from jax import Array
import jax.numpy as jnp
from jaxtyping import Int, Real
import numpy as np


def mirror(
  image: Real[Array | np.ndarray, "b h w c"],
  *,
  rows: tuple[int, int] = (0, 0),
  columns: tuple[int, int] = (0, 0),
) -> Real[Array | np.ndarray, "b h2 w2 c"]:
  """Extends an image by its reflection, without repeating the edge pixel.

  A border wider than the image is reflected again and again; one pixel is
  repeated. (U-Net, section 2: "the missing context is extrapolated by
  mirroring the input image".)

  Args:
    image: [b, h, w, c] with h, w >= 1; NumPy or JAX, which is kept.
    rows: pixels to add above and below; not negative.
    columns: pixels to add left and right; not negative.

  Returns:
    The image, larger by sum(rows) and sum(columns) pixels.

  Raises:
    ValueError: if a border is negative.
  """
  if min(*rows, *columns) < 0:
    raise ValueError(
      f"borders must not be negative, got rows {rows}, columns {columns}."
    )
  xp = np if isinstance(image, np.ndarray) else jnp
  for axis, border in ((1, rows), (2, columns)):
    if border != (0, 0):
      size = image.shape[axis]
      index = reflected(-border[0], size + border[1], size)
      image = xp.take(image, index, axis=axis)
  return image


def reflected(start: int, stop: int, size: int) -> Int[np.ndarray, " n"]:
  """Returns the positions start, ..., stop - 1, reflected into [0, size).

  Args:
    start: the first position; may be negative.
    stop: one past the last position; may be larger than `size`.
    size: length of the axis; at least 1.

  Returns:
    Indices in [0, size): ... 2 1 0 1 2 ... size - 2, size - 1, size - 2 ...
  """
  if size == 1:
    return np.zeros(stop - start, np.int64)
  period = 2 * (size - 1)
  position = np.arange(start, stop) % period
  return np.minimum(position, period - position)
