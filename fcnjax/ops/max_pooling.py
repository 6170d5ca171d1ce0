"""The largest value of each window, and around each pixel.

Windows may overlap. The gradient goes to the first maximum of a window, whose
number was kept: where windows tile the image as in `pooling`, and else it is
put back by shifts of the whole map (`windows`).
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import (
  implementations,
  indices,
  pooling,
  spatial,
  windows as windows_lib,
)


def max_pool(
  x: Float[Array | np.ndarray, "b h w c"],
  *,
  window: indices.Window = 2,
  stride: indices.Window | None = None,
  padding: indices.Window = 0,
  dilation: int = 1,
  rounding: pooling.Rounding = "floor",
  implementation: str = "auto",
) -> Float[Array, "b ph pw c"]:
  """Returns the maximum of each window; windows may overlap.

  XLA's own form ("native") searches each window again for its maximum in the
  backward pass (select-and-scatter), which is slow, and refused by XLA's
  deterministic mode on GPUs. In "places" the forward pass notes the number of
  each maximum, if a gradient is wanted (reverse mode only): in a byte, or, on a
  CPU, in 2 bits where windows of at most 4 pixels tile the image.

  Args:
    x: any real values.
    window: height and width of the window in pixels, or one number for both.
    stride: pixels from one window to the next; None is the window.
    padding: pixels of minus infinity above and below, left and right, or one
      number for both; fewer than a window covers.
    dilation: pixels from one place of the window to the next.
    rounding: "ceil" (Caffe) pools the last rows and columns that do not fill a
      window, unless they are padding, "floor" drops them.
    implementation: "places", "native" or "auto", which is "places" everywhere.

  Returns:
    The maxima, in the dtype of `x`: round((h + 2 padding - window) / stride)
    + 1 rows, and columns alike.

  Raises:
    ValueError: if window or stride is not positive, the padding negative or as
      large as the window, no window fits, or the implementation is unknown.
  """
  implementations.check(implementation, ("auto", "places", "native"))
  native = implementation == "native"
  window = indices.pair(window, "window", numbered=not native)
  stride = window if stride is None else stride
  stride = indices.pair(stride, "stride", numbered=False)
  padding = (padding, padding) if isinstance(padding, int) else tuple(padding)
  unpadded = padding == (0, 0) and dilation == 1
  if stride == window and unpadded and not native:
    # A GPU would need another kernel to pack.
    packed = window[0] * window[1] <= 4 and jax.default_backend() == "cpu"
    words = {"window": window, "rounding": rounding, "packed": packed}
    return pooling.max_pool_with_argmax(x, **words)[0]
  covered = tuple(dilation * (places - 1) + 1 for places in window)
  if not all(0 <= p < k for p, k in zip(padding, covered, strict=True)):
    raise ValueError(
      f"padding must be at least 0 and less than the {covered} pixels that a "
      f"window of {window} and dilation {dilation} covers, got {padding}."
    )
  x = jnp.asarray(x)
  pads, counts = [], []
  for side, k, s, p in zip(x.shape[1:3], covered, stride, padding):
    rest = side + 2 * p - k
    count = (rest // s if rounding == "floor" else -(-rest // s)) + 1
    if rounding == "ceil" and (count - 1) * s >= side + p:
      count -= 1  # Caffe: no window begins in the padding behind.
    if count < 1:
      raise ValueError(
        f"no window of {window} fits into {x.shape[1:3]} pixels."
      )
    counts.append(count)
    pads.append((p, max(0, (count - 1) * s + k - side - p)))
  if native:
    return lax.reduce_window(
      x,
      -jnp.inf,
      lax.max,
      (1, *window, 1),
      (1, *stride, 1),
      ((0, 0), *pads, (0, 0)),
      window_dilation=(1, dilation, dilation, 1),
    )
  windows = windows_lib.Windows(
    window=window,
    stride=stride,
    dilation=(dilation, dilation),
    padding=padding,
    size=x.shape[1:3],
    count=tuple(counts),
  )
  if halo := windows_lib.halo(windows):
    return spatial.by_rows(
      lambda x: _overlapping_pool(x, windows_lib.part(windows, x)),
      x,
      halo=halo,
      fill=-jnp.inf,
    )
  return spatial.together(lambda x: _overlapping_pool(x, windows), x)


@functools.partial(jax.custom_vjp, nondiff_argnames=("windows",))
def _overlapping_pool(x, windows):
  return functools.reduce(
    jnp.maximum, windows_lib.shifts(x, windows, fill=-jnp.inf)
  )


def _overlapping_pool_fwd(x, windows):
  seen = windows_lib.shifts(x, windows, fill=-jnp.inf)
  return windows_lib.first_maximum(seen, list(range(len(seen))))


def _overlapping_pool_bwd(windows, place, cotangent):
  return (windows_lib.put_back(cotangent, place, windows),)


_overlapping_pool.defvjp(_overlapping_pool_fwd, _overlapping_pool_bwd)


def local_max(
  x: Float[Array | np.ndarray, "b h w c"], size: int
) -> Float[Array, "b h w c"]:
  """Returns the maximum of the square around each pixel, of what is inside.

  The maximum along rows of the maximum along columns: `size` values twice
  instead of its square. Of equal values the first in row order has the
  gradient; reverse mode only, as `max_pool`.

  Args:
    x: any real values.
    size: side of the square in pixels, odd.

  Raises:
    ValueError: if `size` is not a positive odd number.
  """
  if size < 1 or size % 2 == 0:
    raise ValueError(f"size must be a positive odd number, got {size}.")
  side = size // 2
  x = max_pool(x, window=(1, size), stride=1, padding=(0, side))
  return max_pool(x, window=(size, 1), stride=1, padding=(side, 0))
