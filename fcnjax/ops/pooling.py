"""Max pooling that remembers where each maximum was, and its inverse.

The windows tile the image (the stride is the window), so that a maximum has one
place in one window, its number fits in a byte, and both directions are reshapes
and comparisons: nothing is scattered or gathered. SegNet (Badrinarayanan et al.
2017, section 3.1) stores 2 bits for a window of 2x2 for the same reason; so can
we (`packed`). Where no places are wanted, or windows overlap: `max_pooling`.
"""

import functools
from typing import Literal

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8
import numpy as np

from fcnjax.ops import (
  implementations,
  indices,
  spatial,
  windows as windows_lib,
)

# Elsewhere than on a CPU, windows of so many pixels are searched in one loop.
FEW_PLACES = 9

Rounding = Literal["floor", "ceil"]


def max_pool_with_argmax(
  x: Float[Array | np.ndarray, "b h w c"],
  *,
  window: indices.Window = 2,
  stride: indices.Window | None = None,
  rounding: Rounding = "floor",
  packed: bool = False,
) -> tuple[Float[Array, "b ph pw c"], UInt8[Array, "b ph pw d"]]:
  """Returns the maximum of each window and its place in the window.

  Of equal values the first in row order wins. A NaN counts as larger than every
  number; of several NaNs the first wins (in torch the last).

  The derivative has a rule of its own (reverse mode only): automatic
  differentiation would keep the comparisons, or search again for the maxima;
  this keeps the places alone.

  Args:
    x: any real values.
    window: height and width of the window in pixels, or one number for both; at
      most 256 pixels together.
    stride: must equal `window` if given; there to refuse what is not supported.
    rounding: what happens to the last rows and columns that do not fill a
      window: "ceil" (Caffe) pools the part that is there, "floor" (torch's
      default) drops them.
    packed: whether the places are kept in 2 bits each, as in SegNet's paper
      (section 3.1): four channels a byte, d = ceil(c / 4); for windows of at
      most 4 pixels. It is what remains for the backward pass, too.

  Returns:
    The maxima, in the dtype of `x`, and their places: row * width + column
    inside the window; d is c unless packed. Both have round(h / window height)
    rows, and columns alike.

  Raises:
    ValueError: if the window is not positive, too large, overlaps with its
      neighbours, or is larger than the image under "floor".
  """
  window = indices.pair(window, "window")
  stride = window if stride is None else stride
  stride = indices.pair(stride, "stride", numbered=False)
  if stride != window:
    raise ValueError(
      f"stride {stride} differs from window {window}: only windows that tile "
      "the image are supported; leave stride out, or pool without indices by "
      "max_pool."
    )
  x = jnp.asarray(x)
  pooled = _pooled_size(x.shape[1:3], window, rounding)
  indices.check_packed(packed, window)
  if _in_parts(x.shape[1], pooled[0], window):
    return spatial.by_rows(
      lambda x: _max_pool(
        x, window, x.shape[1:3], (x.shape[1] // window[0], pooled[1]), packed
      ),
      x,
    )
  return spatial.together(
    lambda x: _max_pool(x, window, x.shape[1:3], pooled, packed), x
  )


@functools.partial(
  jax.custom_vjp, nondiff_argnames=("window", "size", "pooled", "packed")
)
def _max_pool(x, window, size, pooled, packed):
  del size
  x = _split(x, window, pooled, fill=-jnp.inf)
  if window[0] * window[1] <= FEW_PLACES and jax.default_backend() != "cpu":
    # Where XLA makes one loop of all places; of two steps it makes three.
    each = [(i, j) for i in range(window[0]) for j in range(window[1])]
    seen = [x[:, :, i, :, j] for i, j in each]
    values, index = windows_lib.first_maximum(seen, list(range(len(seen))))
    return values, indices.pack(index) if packed else index
  # Columns first, rows second: the first maximum in row order survives.
  columns = [x[:, :, :, :, j] for j in range(window[1])]
  values, column = windows_lib.first_maximum(columns, list(range(window[1])))
  rows = [values[:, :, i] for i in range(window[0])]
  places = [column[:, :, i] + np.uint8(i * window[1]) for i in range(window[0])]
  values, index = windows_lib.first_maximum(rows, places)
  return values, indices.pack(index) if packed else index


def _max_pool_fwd(x, window, size, pooled, packed):
  values, index = _max_pool(x, window, size, pooled, packed)
  return (values, index), index


def _max_pool_bwd(window, size, pooled, packed, index, cotangents):
  del pooled
  return (_max_unpool(cotangents[0], index, window, size, packed),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def max_unpool(
  x: Float[Array | np.ndarray, "b ph pw c"],
  index: UInt8[Array | np.ndarray, "b ph pw d"],
  *,
  window: indices.Window = 2,
  size: tuple[int, int],
  packed: bool = False,
  implementation: str = "auto",
) -> Float[Array, "b h w c"]:
  """Puts each value at its place in its window, and zeros everywhere else.

  The inverse of `max_pool_with_argmax` for the maxima (SegNet's upsampling).
  "compare" asks of every pixel whether it is the place of its window, which is
  one loop; "native" is a scatter. The derivative of the former has a rule of
  its own (reverse mode only), which keeps only `index`: it reads each cotangent
  from where its value went.

  Args:
    x: one value for each window.
    index: its place, row * width + column inside the window.
    window: height and width of the window in pixels, or one number for both.
    size: height and width of the result in pixels. Where windows stick out
      ("ceil") they are cut and values whose place is outside are lost; rows and
      columns that no window covers ("floor") are zero.
    packed: whether `index` was packed by `max_pool_with_argmax`.
    implementation: "compare", "native" or "auto", which is "compare"
      everywhere.

  Returns:
    An image of `size`, in the dtype of `x`.

  Raises:
    ValueError: if the window is not positive or too large, if `x` and `index`
      differ in shape, if `index` is not uint8, if an image of `size` is not
      pooled to the size of `x` by either rounding, or if the implementation is
      unknown.
  """
  window = indices.pair(window, "window")
  size = (int(size[0]), int(size[1]))
  x, index = jnp.asarray(x), jnp.asarray(index)
  indices.check_packed(packed, window)
  shape = (*x.shape[:3], -(-x.shape[3] // 4)) if packed else x.shape
  if index.shape != shape or index.dtype != jnp.uint8:
    raise ValueError(
      f"index must be uint8 of shape {shape}, got {index.dtype} of shape "
      f"{index.shape}; convert flat indices by indices.window_indices."
    )
  indices.check_size(x.shape[1:3], window, size)
  implementations.check(implementation, ("auto", "compare", "native"))
  if implementation == "native":
    index = indices.unpack(index, x.shape[3]) if packed else index
    return max_unpool_reference(x, index, window=window, size=size)
  if _in_parts(size[0], x.shape[1], window):
    return spatial.by_rows(
      lambda x, index: _max_unpool(
        x, index, window, (x.shape[1] * window[0], size[1]), packed
      ),
      x,
      index,
    )
  return spatial.together(
    lambda x: _max_unpool(x, index, window, size, packed), x
  )


@functools.partial(
  jax.custom_vjp, nondiff_argnames=("window", "size", "packed")
)
def _max_unpool(x, index, window, size, packed):
  chosen = _chosen(
    indices.unpack(index, x.shape[3]) if packed else index, window
  )
  windows = jnp.where(chosen, x[:, :, None, :, None], jnp.zeros((), x.dtype))
  b, ph, kh, pw, kw, c = windows.shape
  return _cut_or_fill(windows.reshape(b, ph * kh, pw * kw, c), size, fill=0)


def _max_unpool_fwd(x, index, window, size, packed):
  return _max_unpool(x, index, window, size, packed), index


def _max_unpool_bwd(window, size, packed, index, cotangent):
  windows = windows_lib.Windows(
    window=window,
    stride=window,
    dilation=(1, 1),
    padding=(0, 0),
    size=size,
    count=index.shape[1:3],
  )
  index = indices.unpack(index, cotangent.shape[3]) if packed else index
  return windows_lib.take(cotangent, index, windows), None


_max_unpool.defvjp(_max_unpool_fwd, _max_unpool_bwd)


def max_pool_with_argmax_reference(x, *, window=2, rounding="floor"):
  """`max_pool_with_argmax` in the plainest form: patches, argmax, gather."""
  window = indices.pair(window, "window")
  x = jnp.asarray(x)
  pooled = _pooled_size(x.shape[1:3], window, rounding)
  patches = _split(x, window, pooled, fill=-jnp.inf).transpose(0, 1, 3, 5, 2, 4)
  patches = patches.reshape(*patches.shape[:4], window[0] * window[1])
  index = jnp.argmax(patches, -1)
  values = jnp.take_along_axis(patches, index[..., None], -1)[..., 0]
  return values, index.astype(jnp.uint8)


def max_unpool_reference(x, index, *, window=2, size):
  """`max_unpool` in the plainest form: a scatter."""
  window = indices.pair(window, "window")
  batch, y, column, channel = np.indices(x.shape, np.int32)
  y = y * window[0] + index // np.uint8(window[1])
  column = column * window[1] + index % np.uint8(window[1])
  image = jnp.zeros((x.shape[0], *size, x.shape[3]), x.dtype)
  return image.at[batch, y, column, channel].set(x, mode="drop")


def _in_parts(rows, pooled, window):
  """Whether rows are spread over devices, and each has whole windows."""
  return spatial.divides(pooled) and pooled * window[0] == rows


def _split(x, window, pooled, *, fill):
  """Cuts or fills [b h w c] to whole windows: [b ph kh pw kw c]."""
  (kh, kw), (ph, pw) = window, pooled
  x = _cut_or_fill(x, (ph * kh, pw * kw), fill)
  return x.reshape(x.shape[0], ph, kh, pw, kw, x.shape[3])


def _cut_or_fill(x, size, fill):
  """Moves the bottom and the right edge."""
  (h, w), fill = x.shape[1:3], jnp.array(fill, x.dtype)
  edges = ((0, 0), (0, size[0] - h), (0, size[1] - w), (0, 0))
  return lax.pad(x, fill, [(*edge, 0) for edge in edges])


def _chosen(index, window):
  """Whether a pixel is the one of its window's index: [b ph kh pw kw c]."""
  places = np.arange(window[0] * window[1], dtype=np.uint8)
  places = places.reshape(1, 1, window[0], 1, window[1], 1)
  return index[:, :, None, :, None] == places


def _pooled_size(size, window, rounding):
  if rounding not in ("floor", "ceil"):
    raise ValueError(f'rounding must be "floor" or "ceil", got {rounding!r}.')
  up = rounding == "ceil"
  pooled = tuple((n + up * (k - 1)) // k for n, k in zip(size, window))
  if min(pooled) < 1:
    raise ValueError(
      f"window {window} is larger than the image {tuple(size)}: use a smaller "
      'window, or rounding="ceil", which pools the part that is there.'
    )
  return pooled
