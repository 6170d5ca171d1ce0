"""A map as the maps of every r-th pixel: where a dilation of r is none.

The construction by which the FCN paper explains dilated ("a trous") filters:
(Long et al. 2015, section 3.2).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import resizing


def split(
  x: Float[Array | np.ndarray, "b h w c"], rate: int
) -> Float[Array, "b2 h2 w2 c"]:
  """Returns the rate x rate interleaved maps of a map, as more of a batch.

  What is `rate` pixels apart there is adjacent here, so that convolutions of
  that rate are dense ones: consecutive layers can stay split. A side that
  `rate` does not divide is filled with zeros; between layers that pad,
  `clear_outside` makes these pixels zero again.

  Args:
    x: the map.
    rate: pixels from one row, or column, of a part to the next; positive.

  Returns:
    rate^2 b maps of ceil(h / rate) x ceil(w / rate); those of one shift of all
    images follow each other.
  """
  x = jnp.asarray(x)
  b, h, w, c = x.shape
  rows, columns = -(-h // rate), -(-w // rate)
  x = jnp.pad(
    x, ((0, 0), (0, rows * rate - h), (0, columns * rate - w), (0, 0))
  ).reshape(b, rows, rate, columns, rate, c)
  return x.transpose(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, c)


def join(
  x: Float[Array | np.ndarray, "b2 h2 w2 c"],
  rate: int,
  *,
  size: tuple[int, int],
) -> Float[Array, "b h w c"]:
  """Returns the map whose parts these are: the inverse of `split`.

  Args:
    x: the parts.
    rate: as they were split.
    size: height and width of the map; what the parts have beyond is cut.
  """
  x = jnp.asarray(x)
  parts, h, w, c = x.shape
  x = x.reshape(rate, rate, parts // rate**2, h, w, c)
  x = x.transpose(2, 3, 0, 4, 1, 5).reshape(-1, h * rate, w * rate, c)
  return resizing.crop(x, 0, size)


def clear_outside(
  x: Float[Array | np.ndarray, "b2 h2 w2 c"],
  rate: int,
  *,
  size: tuple[int, int],
) -> Float[Array, "b2 h2 w2 c"]:
  """Returns parts with zeros where no pixel of the map is.

  A layer of a split map gives values to the pixels that only fill the parts;
  the next layer must see zeros there, as its padding is.

  Args:
    x: the parts.
    rate: as they were split.
    size: height and width of the map.
  """
  x = jnp.asarray(x)
  parts, h, w, _ = x.shape
  if (h * rate, w * rate) == tuple(size):
    return x
  rows = np.arange(rate)[:, None] + rate * np.arange(h) < size[0]
  columns = np.arange(rate)[:, None] + rate * np.arange(w) < size[1]
  inside = rows[:, None, None, :, None] & columns[None, :, None, None, :]
  shape = (rate, rate, parts // rate**2, h, w)
  inside = np.broadcast_to(inside, shape).reshape(parts, h, w, 1)
  return jnp.where(inside, x, jnp.zeros((), x.dtype))
