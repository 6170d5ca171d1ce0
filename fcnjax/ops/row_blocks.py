"""The filter gradient of a convolution, over blocks of rows."""

from jax import lax
import jax.numpy as jnp

# Bytes of the shifted rows of a block: what a core's cache holds.
BLOCK_BYTES = 2**20


def filter_gradient(x, cotangent, kernel, padding, rate, precision):
  """The sum over all pixels of what was seen times the cotangent.

  A few rows of the map at a time, which are shifted to each column of the
  kernel; to its rows the cotangent is shifted, whose rows lie together.
  """
  (kh, kw, c, d), (b, h, _, _) = kernel.shape, x.shape
  (top, _), sides = padding
  (_, oh, ow, _) = cotangent.shape
  rows = min(h, max(1, BLOCK_BYTES // (b * ow * kw * c * x.dtype.itemsize)))
  blocks = -(-h // rows)
  behind = blocks * rows - h
  # Channels first, so that a shifted row is a piece of memory.
  x = jnp.pad(x, ((0, 0), (0, behind), sides, (0, 0))).transpose(3, 0, 1, 2)
  # Row r of the map is seen by row r + top - i rate, from the kernel's row i.
  above = (kh - 1) * rate[0] - top
  below = blocks * rows + top - oh
  edges = ((0, 0, 0), (above, below, 0), (0, 0, 0), (0, 0, 0))
  cotangent = lax.pad(cotangent, jnp.zeros((), cotangent.dtype), edges)

  def add_block(total, block):
    first = block * rows
    shifted = [
      lax.dynamic_slice(x, (0, 0, first, j * rate[1]), (c, b, rows, ow))
      for j in range(kw)
    ]
    seen = jnp.concatenate([part.reshape(c, -1) for part in shifted])
    for i in range(kh):
      seeing = lax.dynamic_slice_in_dim(
        cotangent, first + (kh - 1 - i) * rate[0], rows, 1
      )
      total[i] += jnp.matmul(
        seen,
        seeing.reshape(-1, d),
        precision=precision,
        preferred_element_type=jnp.float32,
      )
    return total, None

  start = [jnp.zeros((kw * c, d), jnp.float32)] * kh
  total, _ = lax.scan(add_block, start, jnp.arange(blocks))
  return jnp.stack(total).reshape(kernel.shape).astype(kernel.dtype)
