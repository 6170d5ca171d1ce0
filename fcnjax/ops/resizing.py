"""Bilinear and nearest resizing, bilinear kernels and crops.

Two conventions say where pixels are. "half_pixel": a pixel is a square, and the
squares of both images cover the same area (torch's `align_corners=False`).
"align_corners": a pixel is a point, and the corner points of both images
coincide (Caffe's Interp layer, DeepLab).
"""

import functools
from typing import Literal

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped
import numpy as np

from fcnjax.ops import implementations, spatial, windows as windows_lib

Convention = Literal["half_pixel", "align_corners"]


def bilinear_filter(size: int) -> Float[np.ndarray, "size size"]:
  """Returns the tent that a deconvolution needs to interpolate bilinearly.

  The filter of FCN's release (Long et al. 2015): w(y, x) =
  (1 - |y - c| / f) (1 - |x - c| / f), f = (size + 1) // 2, and c the centre of
  the tent: f - 1 for an odd size, f - 0.5 for an even one.

  Args:
    size: side of the filter in pixels; 2 f - f % 2 for upsampling by f.

  Returns:
    float32 values in (0, 1].

  Raises:
    ValueError: if `size` is not positive.
  """
  if size < 1:
    raise ValueError(f"size must be positive, got {size}.")
  factor = (size + 1) // 2
  center = factor - 1 if size % 2 else factor - 0.5
  tent = 1 - np.abs(np.arange(size) - center) / factor
  return np.outer(tent, tent).astype(np.float32)


def bilinear_kernel(
  size: int, channels: int
) -> Float[np.ndarray, "size size {channels} {channels}"]:
  """Returns `bilinear_filter` as a kernel that keeps channels apart.

  Args:
    size: side of the filter in pixels.
    channels: number of input and of output channels.

  Returns:
    A kernel for `transposed.transposed_conv`: the filter where input and
    output channel are the same, zero elsewhere.
  """
  eye = np.eye(channels, dtype=np.float32)
  return bilinear_filter(size)[:, :, None, None] * eye


def resize_bilinear(
  x: Float[Array | np.ndarray, "b h w c"],
  size: tuple[int, int],
  *,
  convention: Convention = "half_pixel",
  implementation: str = "auto",
) -> Float[Array, "b oh ow c"]:
  """Resizes by linear interpolation along rows and columns.

  Nothing is smoothed before shrinking, as in torch's `interpolate`. Growing by
  a whole factor is done by "phases": the image mixed with itself shifted by a
  pixel, several times faster than the interpolation matrices ("matrices") that
  other sizes need; its derivative has a rule of its own (reverse mode only).
  Under "align_corners" the factor is that of the distances
  between pixels: 33 to 513 grows sixteen times.

  Args:
    x: any real values.
    size: height and width of the result in pixels.
    convention: where the pixels are; see the module.
    implementation: "phases" or "matrices"; or "auto", phases along each axis
      that grows by a whole factor and matrices along others. Rows that are
      spread over devices, and divide, always go by a matrix for each device.

  Returns:
    The image at `size`, computed in float32, in the dtype of `x`.

  Raises:
    ValueError: if `size` is not positive, the convention or implementation is
      unknown, or the factor is not whole where phases are asked for.
  """
  implementations.check(implementation, ("auto", "phases", "matrices"))
  _check_convention(convention)
  _check_size(size)
  x = jnp.asarray(x)
  y = x.astype(jnp.float32)
  spread = size[0] != x.shape[1] and spatial.divides(x.shape[1], size[0])
  if spread:
    y = _rows_by_parts(y, size[0], convention)
  # Columns last, and so first in the backward pass: what rows then add is a
  # factor smaller, and rows of a power of two would fight for the cache.
  for axis in (1, 2):
    resize = functools.partial(
      _resize_axis,
      axis=axis,
      size=size[axis - 1],
      convention=convention,
      implementation=implementation,
    )
    if axis == 1 and 1 < y.shape[1] != size[0]:  # One row is only repeated.
      y = spatial.together(resize, y)
    else:
      y = resize(y)
  return y.astype(x.dtype)


def source_positions(
  n: int, size: int, convention: Convention = "half_pixel"
) -> Float[np.ndarray, "{size}"]:
  """Returns where in `n` pixels each of `size` pixels takes its value.

  Args:
    n: pixels along one side of the image that is resized.
    size: pixels along that side of the result.
    convention: where the pixels are; see the module.

  Returns:
    float64 positions in [0, n - 1]; a fraction is the share of the next pixel.

  Raises:
    ValueError: if the convention is unknown.
  """
  _check_convention(convention)
  if convention == "half_pixel":
    source = (np.arange(size) + 0.5) * n / size - 0.5
  else:
    source = np.arange(size) * ((n - 1) / max(size - 1, 1))
  return np.clip(source, 0, n - 1)


def positions_of_parts(
  n: int, size: int, convention: Convention = "half_pixel"
) -> tuple[tuple[int, int], Float[np.ndarray, "parts m"]]:
  """Returns `source_positions` of rows that are spread over devices.

  Args:
    n: see `source_positions`; divides over `spatial.parts()`, as does `size`.
    size: see `source_positions`.
    convention: where the pixels are; see the module.

  Returns:
    The halo of each part, for `spatial.by_rows`, and for the rows of each part
    of the result their positions in the part with its halo.
  """
  parts = spatial.parts()
  source = source_positions(n, size, convention).reshape(parts, -1)
  first = np.arange(parts) * (n // parts)
  above = first - np.floor(source.min(axis=1))
  below = np.ceil(source.max(axis=1)) - first - (n // parts - 1)
  halo = max(0, int(above.max())), max(0, int(below.max()))
  return halo, source - first[:, None] + halo[0]


def resize_nearest(
  labels: Shaped[Array | np.ndarray, "b h w *c"], size: tuple[int, int]
) -> Shaped[Array, "b oh ow *c"]:
  """Resizes by taking the nearest pixel, so that no new value appears.

  Pixels are squares: the result's pixel i takes pixel floor((i + 0.5) n / m) of
  n, computed in integers (torch's "nearest-exact").

  Args:
    labels: any dtype.
    size: height and width of the result in pixels.

  Returns:
    The labels at `size`, in their dtype.

  Raises:
    ValueError: if `size` is not positive.
  """
  _check_size(size)
  labels = jnp.asarray(labels)
  n = labels.shape[1]
  if size[0] != n and spatial.divides(n, size[0]):
    return spatial.by_rows(
      lambda part: resize_nearest(
        part, (part.shape[1] * size[0] // n, size[1])
      ),
      labels,
    )
  rows, columns = (
    (2 * np.arange(m) + 1) * n // (2 * m)
    for n, m in zip(labels.shape[1:3], size)
  )
  return labels[:, rows][:, :, columns]


def crop(
  x: Shaped[Array | np.ndarray, "b h w *c"],
  offset: int | tuple[int, int],
  size: tuple[int, int],
) -> Shaped[Array | np.ndarray, "b oh ow *c"]:
  """Returns the part of `size` that begins at `offset` (Caffe's Crop layer).

  Args:
    x: an image or labels of any dtype.
    offset: first row and column in pixels, or one number for both.
    size: height and width of the part in pixels.

  Raises:
    ValueError: if the part is not inside of `x`.
  """
  top, left = (offset, offset) if isinstance(offset, int) else offset
  height, width = size
  if (
    min(top, left, height, width) < 0
    or top + height > x.shape[1]
    or left + width > x.shape[2]
  ):
    raise ValueError(
      f"a crop of {tuple(size)} at {(top, left)} is not inside of "
      f"{tuple(x.shape[1:3])}."
    )
  return x[:, top : top + height, left : left + width]


def center_crop(
  x: Shaped[Array | np.ndarray, "b h w *c"], size: tuple[int, int]
) -> Shaped[Array | np.ndarray, "b oh ow *c"]:
  """Returns the middle of `x`; of an odd rest, more is cut at the far end.

  Args:
    x: an image or labels of any dtype.
    size: height and width of the part in pixels.

  Raises:
    ValueError: if `size` is larger than `x`.
  """
  top, left = (x.shape[1] - size[0]) // 2, (x.shape[2] - size[1]) // 2
  return crop(x, (top, left), size)


def _resize_axis(x, axis, size, convention, implementation):
  n = x.shape[axis]
  if size == n:
    return x
  between = int(convention == "align_corners")
  grows = size > n > between and (size - between) % (n - between) == 0
  if implementation == "phases" and not grows:
    raise ValueError(f"{n} pixels do not grow to {size} by a whole factor.")
  if implementation != "matrices" and grows:
    factor = (size - between) // (n - between)
    return _upsample_axis(x, axis, factor, convention, n)
  return _mixed(x, axis, *_neighbours(source_positions(n, size, convention)))


def _neighbours(source):
  """Returns the pixel before each position, and the share of that behind."""
  low = np.floor(source)
  return low.astype(np.int32), (source - low).astype(np.float32)


def _mixed(x, axis, low, above):
  # Built on the device from two vectors: no large constant in the program.
  column = np.arange(x.shape[axis])[None, :]
  low, above = low[:, None], above[:, None]
  matrix = jnp.where(column == low, 1 - above, 0.0)
  matrix += jnp.where(column == low + 1, above, 0.0)
  product = "oh,bhwc->bowc" if axis == 1 else "ow,bhwc->bhoc"
  return jnp.einsum(product, matrix, x, precision=lax.Precision.HIGHEST)


def _rows_by_parts(x, size, convention):
  """Resizes the rows, each device its own, of which it needs others' too."""
  halo, source = positions_of_parts(x.shape[1], size, convention)
  low, above = _neighbours(source)

  def part(x):
    return _mixed(x, 1, spatial.place(low), spatial.place(above))

  return spatial.by_rows(part, x, halo=halo)


# Automatic differentiation of the phases sums along an axis of `factor`
# pixels, which XLA does one by one; the rule adds shifted maps instead.
@functools.partial(
  jax.custom_vjp, nondiff_argnames=("axis", "factor", "convention", "n")
)
def _upsample_axis(x, axis, factor, convention, n):
  """Puts `factor` pixels between each two of n, then cuts the ends."""
  edge, start, size = _phases(n, factor, convention)
  edges = [edge if a == axis else (0, 0) for a in range(x.ndim)]
  x = jnp.pad(x, edges, mode="edge")
  count = x.shape[axis] - 1
  before = lax.slice_in_dim(x, 0, count, axis=axis)
  after = lax.slice_in_dim(x, 1, count + 1, axis=axis)
  fraction = _fractions(factor, convention).reshape(
    [factor if a == axis + 1 else 1 for a in range(x.ndim + 1)]
  )
  y = jnp.expand_dims(before, axis + 1) * (1 - fraction)
  y += jnp.expand_dims(after, axis + 1) * fraction
  y = y.reshape(*x.shape[:axis], count * factor, *x.shape[axis + 1 :])
  return lax.slice_in_dim(y, start, start + size, axis=axis)


def _upsample_axis_fwd(x, axis, factor, convention, n):
  return _upsample_axis(x, axis, factor, convention, n), None


def _upsample_axis_bwd(axis, factor, convention, n, kept, cotangent):
  del kept
  return (_gather_axis(cotangent, axis, factor, convention, n),)


_upsample_axis.defvjp(_upsample_axis_fwd, _upsample_axis_bwd)


@functools.partial(
  jax.custom_vjp, nondiff_argnames=("axis", "factor", "convention", "n")
)
def _gather_axis(y, axis, factor, convention, n):
  """The transpose of `_upsample_axis`: the tents around each of n pixels."""
  (before, after), start, size = _phases(n, factor, convention)

  def along(value, other):
    return (value, other) if axis == 1 else (other, value)

  windows = windows_lib.Windows(
    window=along(2 * factor, 1),
    stride=along(factor, 1),
    dilation=(1, 1),
    padding=along(factor + start, 0),
    size=y.shape[1:3],
    count=along(n + before + after, y.shape[3 - axis]),
  )
  fraction = _fractions(factor, convention)
  tent = np.concatenate([fraction, 1 - fraction])
  x = sum(
    seen * weight for seen, weight in zip(windows_lib.shifts(y, windows), tent)
  )
  inner = lax.slice_in_dim(x, before, before + n, axis=axis)
  edges = [(0, 0, 0)] * x.ndim
  for count, place, low in ((before, 0, True), (after, -1, False)):
    if count:  # What was repeated beyond the edge is the edge's.
      edges[axis] = (0, n - 1, 0) if low else (n - 1, 0, 0)
      end = lax.slice_in_dim(
        x, place % x.shape[axis], place % x.shape[axis] + 1, axis=axis
      )
      inner += lax.pad(end, jnp.zeros((), x.dtype), edges)
  return inner


def _gather_axis_fwd(y, axis, factor, convention, n):
  return _gather_axis(y, axis, factor, convention, n), None


def _gather_axis_bwd(axis, factor, convention, n, kept, cotangent):
  del kept
  return (_upsample_axis(cotangent, axis, factor, convention, n),)


_gather_axis.defvjp(_gather_axis_fwd, _gather_axis_bwd)


def _phases(n, factor, convention):
  """Returns pixels repeated at both ends, and which of the phases are kept."""
  if convention == "half_pixel":
    # The first pixel's own phase, or phases, are in the middle of a cell.
    return (1, 1), factor - factor // 2, n * factor
  return (0, 1), 0, (n - 1) * factor + 1


def _fractions(factor, convention):
  """Returns how far each phase is from the pixel before to that after."""
  # An odd factor puts one pixel on the neighbour, an even one around it.
  around = convention == "half_pixel" and factor % 2 == 0
  return ((np.arange(factor) + 0.5 * around) / factor).astype(np.float32)


def _check_convention(convention):
  if convention not in ("half_pixel", "align_corners"):
    raise ValueError(
      f'convention must be "half_pixel" or "align_corners", got {convention!r}.'
    )


def _check_size(size):
  if min(size) < 1:
    raise ValueError(f"size must be positive, got {tuple(size)}.")
