"""Means over parts of an image: over n bins a side, or around each pixel."""

import functools

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def adaptive_avg_pool(
  x: Float[Array | np.ndarray, "b h w c"], bins: int | tuple[int, int]
) -> Float[Array, "b ph pw c"]:
  """Returns the means of n bins along each side, whatever the image's size.

  Bin i of n covers the pixels from floor(i h / n) to ceil((i + 1) h / n), the
  last not included, as in torch's `adaptive_avg_pool2d`: bins share pixels
  where n does not divide h, and repeat them where n is larger. Two products
  with averaging matrices do this for every size and number alike, and so does
  the gradient.

  Args:
    x: any real values.
    bins: number of bins along height and width, or one number for both.

  Returns:
    The means, computed in float32, in the dtype of `x`.

  Raises:
    ValueError: if `bins` is not positive.
  """
  bins = (bins, bins) if isinstance(bins, int) else tuple(bins)
  if len(bins) != 2 or min(bins) < 1:
    raise ValueError(f"bins must be one or two positive ints, got {bins}.")
  x = jnp.asarray(x)
  rows, columns = (_averaging(n, m) for n, m in zip(x.shape[1:3], bins))
  product = functools.partial(
    jnp.einsum,
    precision=lax.Precision.HIGHEST,
    preferred_element_type=jnp.float32,
  )
  # An image is one matrix for its rows, and a row one for its columns, so that
  # nothing is transposed; rows first, since they leave little to do.
  b, h, w, c = x.shape
  rows = jnp.broadcast_to(rows, (b, *rows.shape))
  y = product("bph,bhn->bpn", rows, x.astype(jnp.float32).reshape(b, h, w * c))
  columns = jnp.broadcast_to(columns, (b * bins[0], *columns.shape))
  y = product("bqw,bwc->bqc", columns, y.reshape(b * bins[0], w, c))
  return y.reshape(b, *bins, c).astype(x.dtype)


def local_mean(
  x: Float[Array | np.ndarray, "b h w c"], size: int
) -> Float[Array, "b h w c"]:
  """Returns the mean of the square around each pixel, of what is inside.

  The sum along rows of the sums along columns: `size` values twice instead of
  its square.

  Args:
    x: any real values.
    size: side of the square in pixels, odd.

  Returns:
    The means, computed in float32, in the dtype of `x`.

  Raises:
    ValueError: if `size` is not a positive odd number.
  """
  if size < 1 or size % 2 == 0:
    raise ValueError(f"size must be a positive odd number, got {size}.")
  x = jnp.asarray(x)
  total = x.astype(jnp.float32)
  counts = []
  for axis in (2, 1):
    window = [size if a == axis else 1 for a in range(4)]
    total = lax.reduce_window(total, 0.0, lax.add, window, (1,) * 4, "SAME")
    i, n, side = np.arange(x.shape[axis]), x.shape[axis], size // 2
    counts.append(np.minimum(i + side + 1, n) - np.maximum(i - side, 0))
  columns, rows = counts
  count = (rows[:, None] * columns)[None, :, :, None].astype(np.float32)
  return (total / count).astype(x.dtype)


def adaptive_avg_pool_reference(x, bins):
  """`adaptive_avg_pool` in the plainest form: a mean for each bin."""
  bins = (bins, bins) if isinstance(bins, int) else tuple(bins)
  x = jnp.asarray(x)
  rows, columns = (_bin_edges(n, m) for n, m in zip(x.shape[1:3], bins))
  return jnp.stack(
    [
      jnp.stack([x[:, a:b, c:d].mean((1, 2)) for c, d in columns], axis=1)
      for a, b in rows
    ],
    axis=1,
  )


def _bin_edges(n, bins):
  """Returns (first, last + 1) of each bin: [bins, 2]."""
  i = np.arange(bins)
  return np.stack([i * n // bins, -(-(i + 1) * n // bins)], axis=1)


def _averaging(n, bins):
  """Returns the matrix f32 [bins, n] whose rows average a bin each."""
  first, end = _bin_edges(n, bins)[:, :, None].transpose(1, 0, 2)
  # Built on the device from two vectors: no large constant in the program.
  pixel = np.arange(n)[None]
  share = (1 / (end - first)).astype(np.float32)
  return jnp.where((pixel >= first) & (pixel < end), share, 0.0)
