"""Convolutions as XLA runs them fast: plain, dilated, depthwise, transposed.

Each has an `implementation`: "native" is what XLA makes of it, the other words
are said in the function, and "auto" chooses by platform and shape. The
measurements behind the choices are made by benchmarks/ops.py and stand in
docs/performance.md.
"""

from collections.abc import Iterator, Sequence
import contextlib
import contextvars
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import resizing, windows as windows_lib, winograd

LAYOUT = ("NHWC", "HWIO", "NHWC")

# Up to so many groups `conv` convolves apart.
FEW_GROUPS = 4

# On a CPU, in pixels of a batch: so few go by patches, forward and backward.
SMALL_MAP = 256
SMALL_MAP_GRADIENT = 512
# Row blocks are for kernels of so many places and images of so many channels.
SMALL_KERNEL = 9
FEW_CHANNELS = 8
# Bytes of the shifted rows of a block: what a core's cache holds.
BLOCK_BYTES = 2**20
# Winograd's form pays for so many pixels and channels, until a map does not fit
# into the cache beside its mixtures, or, forward, a kernel beside its own; and
# where tiles have at most so many columns for one of the map.
WINOGRAD_PIXELS = 256
WINOGRAD_CHANNELS = 32
WINOGRAD_MAP_BYTES = 12 * 2**20
WINOGRAD_KERNEL_BYTES = 2**25
WINOGRAD_WASTE = 1.5

# On a GPU, dilations from here on are split; see `conv`.
LARGE_RATE = 4


_ONE_OPERATION = contextvars.ContextVar("one operation", default=False)


@contextlib.contextmanager
def as_one_operation() -> Iterator[None]:
  """Within it, "auto" of `conv` is "native", whatever platform and shape.

  A program that is traced then shows the network's convolutions, not how they
  are computed: for counting.
  """
  token = _ONE_OPERATION.set(True)
  try:
    yield
  finally:
    _ONE_OPERATION.reset(token)


def conv(
  x: Float[Array | np.ndarray, "b h w c"],
  kernel: Float[Array | np.ndarray, "kh kw d e"],
  window_strides: Sequence[int] = (1, 1),
  padding: Any = ((0, 0), (0, 0)),
  *,
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: Any = LAYOUT,
  feature_group_count: int = 1,
  precision: Any = None,
  implementation: str = "auto",
) -> Float[Array, "b oh ow e"]:
  """Returns `lax.conv_general_dilated`, channels last.

  It takes that function's words, so that `flax.linen.Conv` can be given it.
  What differs is how it is computed (and that "row_blocks" and "winograd" have
  a rule of their own for the derivative: reverse mode only):

  "matrix": a 1x1 kernel is one matrix product. XLA's convolution reaches a
    third to two thirds of the product's rate on a CPU.
  "patches": all patches beside each other are one matrix product, and so are
    both gradients; for maps smaller than the kernel, whose gradients XLA
    computes many times slower (FCN's fc6).
  "row_blocks": the filter gradient is summed over blocks of rows that stay in
    the cache, by matrix products; for stride 1.
  "winograd": 3x3 kernels with half of the multiplications, forward and both
    gradients (see `winograd`); for stride 1 and float32.
  "space_to_batch": a dilated convolution is a dense one of r x r interleaved
    maps (see `split`); for stride 1 and one rate. XLA has padded the kernels
    of dilated convolutions with zeros on GPUs (openxla/xla#32231).
  "auto": up to `FEW_GROUPS` groups are convolved apart, since XLA's grouped
    convolution is many times slower on a CPU; one channel a group is
    `depthwise_conv`; others stay in one piece. Then, on a CPU, "matrix", or
    for each of the three passes by itself the first that fits of "winograd"
    (maps of `WINOGRAD_PIXELS` in a batch to `WINOGRAD_MAP_BYTES`, from
    `WINOGRAD_CHANNELS` on), "patches" (up to `SMALL_MAP` pixels for each pixel
    of a stride) and, of the filter gradient, "row_blocks"; on a GPU
    "space_to_batch" for rates of `LARGE_RATE` and more, which no measurement of
    ours supports yet; else "native".

  Args:
    x: features.
    kernel: d = c / groups channels; both dilations may be given by the words.
    window_strides: pixels from one output to the next.
    padding: zeros at both ends of rows and columns.
    lhs_dilation: pixels from one input to the next.
    rhs_dilation: pixels from one tap of the kernel to the next.
    dimension_numbers: of NHWC, HWIO, NHWC; anything else raises.
    feature_group_count: number of groups.
    precision: as JAX has it.
    implementation: one of these words.

  Raises:
    ValueError: if the implementation is unknown, or cannot do what is asked.
  """
  words = {
    "lhs_dilation": lhs_dilation,
    "rhs_dilation": rhs_dilation,
    "precision": precision,
  }
  if lax.conv_dimension_numbers(
    x.shape, kernel.shape, dimension_numbers
  ) != lax.conv_dimension_numbers(x.shape, kernel.shape, LAYOUT):
    raise ValueError(f"conv needs {LAYOUT}, got {dimension_numbers}.")
  groups = feature_group_count
  if groups > 1:
    _check(implementation, ("auto", "native"))
    whole = implementation == "native" or _ONE_OPERATION.get()
    stride, rate = tuple(window_strides), tuple(rhs_dilation or (1, 1))
    if not whole and groups <= FEW_GROUPS:
      parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1))
      return jnp.concatenate(
        [conv(*part, window_strides, padding, **words) for part in parts],
        axis=-1,
      )
    if (
      not whole
      and groups == x.shape[-1] == kernel.shape[-1]
      and set(lhs_dilation or (1, 1)) == {1}
      and len(set(stride)) == len(set(rate)) == 1
      and not isinstance(padding, str)
      and len({n for pair in padding for n in pair}) == 1
    ):
      return depthwise_conv(
        x,
        kernel[:, :, 0],
        stride=stride[0],
        dilation=rate[0],
        padding=padding[0][0],
      )
    return _native(x, kernel, window_strides, padding, groups=groups, **words)
  stride = tuple(window_strides)
  rate = tuple(rhs_dilation or (1, 1))
  kh, kw = kernel.shape[:2]
  plain = (
    set(lhs_dilation or (1, 1)) == {1}
    and not isinstance(padding, str)
    and all(
      min(pair) >= 0 and (k - 1) * r < n + sum(pair)
      for pair, k, r, n in zip(padding, (kh, kw), rate, x.shape[1:3])
    )
  )
  dense = plain and stride == (1, 1)
  possible = {
    "matrix": plain and kh == kw == 1 and not np.any(padding),
    "patches": plain,
    "row_blocks": dense,
    "winograd": dense
    and kh == kw == winograd.TAPS
    and x.dtype == kernel.dtype == jnp.float32
    # The image's gradient is such a convolution of the cotangent.
    and all(max(p) <= (winograd.TAPS - 1) * r for p, r in zip(padding, rate)),
    "space_to_batch": dense and rate[0] == rate[1] > 1,
  }
  passes = _PASSES.get(implementation)
  if implementation == "auto":
    edges = padding if plain else ()
    implementation, passes = _fastest(x, kernel, stride, edges, rate, possible)
  _check(implementation, ("native", *possible))
  if implementation == "native":
    return _native(x, kernel, stride, padding, **words)
  if not possible[implementation]:
    raise ValueError(
      f'implementation "{implementation}" cannot do a kernel of {(kh, kw)} '
      f"with stride {stride}, rate {rate}, padding {padding} and {x.dtype}; "
      'use "auto".'
    )
  if implementation == "matrix":
    x = x[:, :: stride[0], :: stride[1]]
    return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0], precision=precision)
  edges = tuple(tuple(int(n) for n in pair) for pair in padding)
  if implementation == "space_to_batch":
    return _split_conv(x, kernel, edges, rate[0], precision)
  geometry = _Geometry(stride, edges, rate, precision)
  x, kernel = jnp.asarray(x), jnp.asarray(kernel)
  return _conv_by_passes(x, kernel, geometry, passes)


class _Passes(NamedTuple):
  """How each pass of a convolution is computed."""

  forward: str
  image_gradient: str
  kernel_gradient: str


_PASSES = {
  "patches": _Passes("patches", "patches", "patches"),
  "row_blocks": _Passes("native", "native", "row_blocks"),
  "winograd": _Passes("winograd", "winograd", "winograd"),
}


class _Geometry(NamedTuple):
  """The words of a convolution that are no arrays."""

  stride: tuple[int, int]
  padding: tuple[tuple[int, int], tuple[int, int]]
  rate: tuple[int, int]
  precision: Any


def _fastest(x, kernel, stride, padding, rate, possible):
  """The rule of "auto": an implementation, and what its passes are."""
  platform = "" if _ONE_OPERATION.get() else jax.default_backend()
  if platform == "gpu" and possible["space_to_batch"] and rate[0] >= LARGE_RATE:
    return "space_to_batch", None
  if platform != "cpu" or not possible["patches"]:
    return "native", None
  if possible["matrix"]:
    return "matrix", None
  (b, h, w, c), (kh, kw, _, d) = x.shape, kernel.shape
  rows, columns = (
    (n + sum(p) - (k - 1) * r - 1) // s + 1
    for n, p, k, r, s in zip((h, w), padding, (kh, kw), rate, stride)
  )
  few = b * h * w / math.prod(stride)

  def tiles_pay(width):
    cell = winograd.OUTPUTS * rate[1]
    return (
      possible["winograd"]
      and min(c, d) >= WINOGRAD_CHANNELS
      and b * rows * columns >= WINOGRAD_PIXELS
      and 4 * b * max(h * w * c, rows * columns * d) <= WINOGRAD_MAP_BYTES
      and -(-width // cell) * cell <= WINOGRAD_WASTE * width
    )

  def of_maps(width):
    if tiles_pay(width) and 4 * kernel.size <= WINOGRAD_KERNEL_BYTES:
      return "winograd"
    return "patches" if few <= SMALL_MAP else "native"

  def of_kernel():
    if tiles_pay(columns):
      return "winograd"
    if few <= SMALL_MAP_GRADIENT:
      return "patches"
    blocks = possible["row_blocks"] and kh * kw <= SMALL_KERNEL
    return "row_blocks" if blocks and c >= FEW_CHANNELS else "native"

  passes = _Passes(of_maps(columns), of_maps(w), of_kernel())
  if set(passes) == {"native"}:
    return "native", None
  return next(word for word in passes if word != "native"), passes


def _native(x, kernel, stride, padding, *, groups=1, **words):
  return lax.conv_general_dilated(
    x,
    kernel,
    stride,
    padding,
    dimension_numbers=LAYOUT,
    feature_group_count=groups,
    **words,
  )


# Three passes, each linear in two of image, kernel and result, and each in a
# form of its own.
@functools.partial(jax.custom_vjp, nondiff_argnames=("geometry", "passes"))
def _conv_by_passes(x, kernel, geometry, passes):
  return _forward(x, kernel, geometry, passes.forward)


def _conv_by_passes_fwd(x, kernel, geometry, passes):
  return _conv_by_passes(x, kernel, geometry, passes), (x, kernel)


def _conv_by_passes_bwd(geometry, passes, kept, cotangent):
  return (
    _image_gradient(*kept, cotangent, geometry, passes.image_gradient),
    _kernel_gradient(*kept, cotangent, geometry, passes.kernel_gradient),
  )


_conv_by_passes.defvjp(_conv_by_passes_fwd, _conv_by_passes_bwd)


def _forward(x, kernel, geometry, form):
  stride, padding, rate, precision = geometry
  if form == "winograd":
    return winograd.conv(x, kernel, padding, rate, precision)
  if form == "patches":
    return _patches_conv(x, kernel, *geometry)
  words = {"rhs_dilation": rate, "precision": precision}
  return _native(x, kernel, stride, padding, **words)


def _image_gradient(x, kernel, cotangent, geometry, form):
  if form == "winograd":
    return winograd.image_gradient(cotangent, kernel, *geometry[1:])
  transposed = jax.linear_transpose(
    lambda x: _forward(x, kernel, geometry, form), x
  )
  return transposed(cotangent)[0]


def _kernel_gradient(x, kernel, cotangent, geometry, form):
  _, padding, rate, precision = geometry
  if form == "winograd":
    return winograd.filter_gradient(x, cotangent, padding, rate, precision)
  if form == "row_blocks":
    return _filter_gradient(x, cotangent, kernel, padding, rate, precision)
  transposed = jax.linear_transpose(
    lambda kernel: _forward(x, kernel, geometry, form), kernel
  )
  return transposed(cotangent)[0]


def _filter_gradient(x, cotangent, kernel, padding, rate, precision):
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


def _patches_conv(x, kernel, stride, padding, rate, precision):
  """All patches beside each other, in one matrix product."""
  (kh, kw, c, d), size = kernel.shape, x.shape[1:3]
  count = tuple(
    (n + sum(p) - (k - 1) * r - 1) // s + 1
    for n, p, k, r, s in zip(size, padding, (kh, kw), rate, stride)
  )
  windows = windows_lib.Windows(
    window=(kh, kw),
    stride=stride,
    dilation=rate,
    padding=tuple(p[0] for p in padding),
    size=size,
    count=count,
  )
  seen = jnp.concatenate(windows_lib.shifts(x, windows), axis=-1)
  y = jnp.matmul(
    seen.reshape(-1, kh * kw * c), kernel.reshape(-1, d), precision=precision
  )
  return y.reshape(x.shape[0], *count, d)


def _split_conv(x, kernel, padding, rate, precision):
  """A dilated convolution by `split`: the padding first, then r x r maps."""
  edges = ((0, 0), *padding, (0, 0))
  x = jnp.pad(x, edges)
  size = [n - (k - 1) * rate for n, k in zip(x.shape[1:3], kernel.shape[:2])]
  y = _native(
    split(x, rate), kernel, (1, 1), ((0, 0), (0, 0)), precision=precision
  )
  return join(y, rate, size=tuple(size))


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


@functools.partial(
  jax.jit, static_argnames=("stride", "dilation", "padding", "implementation")
)
def depthwise_conv(
  x: Float[Array | np.ndarray, "b h w c"],
  kernel: Float[Array | np.ndarray, "kh kw d"],
  *,
  stride: int = 1,
  dilation: int = 1,
  padding: int | None = None,
  implementation: str = "auto",
) -> Float[Array, "b oh ow c"]:
  """Returns the convolution of each channel with its own kernel.

  XLA's grouped convolution is slow, and its filter gradient slower. "shifts"
  adds the map to itself, shifted to each tap of the kernel and multiplied by
  its weight: one loop. Its derivative has a rule of its own (reverse mode
  only): automatic differentiation would read both maps once for each tap,
  where one pass makes the gradients of all weights.

  Args:
    x: features.
    kernel: a filter for each channel.
    stride: pixels from one output to the next.
    dilation: pixels from one tap to the next.
    padding: zeros on each side; None is half of what the kernel covers, which
      with stride 1 and an odd kernel keeps the size.
    implementation: "shifts", "native" or "auto", which is "shifts" everywhere.

  Returns:
    (h + 2 padding - dilation (kh - 1) - 1) // stride + 1 rows, and columns
    alike, summed in float32, in the dtype that `x` and `kernel` promote to.

  Raises:
    ValueError: if the kernel has another number of channels, or reaches beyond
      the padded map, or the implementation is unknown.
  """
  x, kernel = jnp.asarray(x), jnp.asarray(kernel)
  dtype = jnp.result_type(x, kernel)
  x, kernel = x.astype(dtype), kernel.astype(dtype)
  kh, kw, channels = kernel.shape
  if channels != x.shape[-1]:
    raise ValueError(
      f"the kernel has {channels} channels and the features {x.shape[-1]}."
    )
  _check(implementation, ("auto", "shifts", "native"))
  pads = [dilation * (k // 2) if padding is None else padding for k in (kh, kw)]
  reach = [dilation * (k - 1) + 1 for k in (kh, kw)]
  count = [
    (n + 2 * pad - r) // stride + 1
    for n, pad, r in zip(x.shape[1:3], pads, reach)
  ]
  if min(count) < 1:
    raise ValueError(
      f"a kernel that covers {reach} pixels reaches beyond features of "
      f"{x.shape[1:3]} padded by {pads}."
    )
  if implementation == "native":
    return depthwise_conv_reference(
      x, kernel, stride=stride, dilation=dilation, padding=padding
    )
  windows = windows_lib.Windows(
    window=(kh, kw),
    stride=(stride, stride),
    dilation=(dilation, dilation),
    padding=tuple(pads),
    size=x.shape[1:3],
    count=tuple(count),
  )
  return _depthwise(x, kernel, windows)


# A convolution, its input gradient and its filter gradient: each is linear in
# two of image, kernel and output, and the other two are its derivatives.


@functools.partial(jax.custom_vjp, nondiff_argnames=("windows",))
def _depthwise(x, kernel, windows):
  seen = windows_lib.shifts(x, windows)
  return sum(_products(seen, _weights(kernel))).astype(x.dtype)


def _depthwise_fwd(x, kernel, windows):
  return _depthwise(x, kernel, windows), (x, kernel)


def _depthwise_bwd(windows, kept, cotangent):
  x, kernel = kept
  return (
    _depthwise_image(cotangent, kernel, windows),
    _depthwise_kernel(x, cotangent, windows),
  )


_depthwise.defvjp(_depthwise_fwd, _depthwise_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnames=("windows",))
def _depthwise_image(y, kernel, windows):
  """The gradient with respect to the image, of the gradient `y`."""
  taps = _weights(kernel)

  def product(t, y):
    return y.astype(jnp.float32) * taps[t].astype(jnp.float32)

  return windows_lib.spread(product, y, windows=windows).astype(y.dtype)


def _depthwise_image_fwd(y, kernel, windows):
  return _depthwise_image(y, kernel, windows), (y, kernel)


def _depthwise_image_bwd(windows, kept, cotangent):
  y, kernel = kept
  return (
    _depthwise(cotangent, kernel, windows),
    _depthwise_kernel(cotangent, y, windows),
  )


_depthwise_image.defvjp(_depthwise_image_fwd, _depthwise_image_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnames=("windows",))
def _depthwise_kernel(x, y, windows):
  """The gradient with respect to the kernel, of the gradient `y`."""
  products = _products(windows_lib.shifts(x, windows), y)
  if jax.default_backend() == "cpu":
    # One loop along the columns makes the sums of all taps; what is left to
    # add is small. Elsewhere XLA makes one loop of the sums by itself.
    sums = lax.reduce(
      products,
      [jnp.float32(0)] * len(products),
      lambda a, b: [p + q for p, q in zip(a, b)],
      (2,),
    )
    sums = [column.sum((0, 1)) for column in sums]
  else:
    sums = [product.sum((0, 1, 2)) for product in products]
  kernel = jnp.stack(sums).reshape(*windows.window, -1)
  return kernel.astype(x.dtype)


def _depthwise_kernel_fwd(x, y, windows):
  return _depthwise_kernel(x, y, windows), (x, y)


def _depthwise_kernel_bwd(windows, kept, cotangent):
  x, y = kept
  return (
    _depthwise_image(y, cotangent, windows),
    _depthwise(x, cotangent, windows),
  )


_depthwise_kernel.defvjp(_depthwise_kernel_fwd, _depthwise_kernel_bwd)


def _products(maps, factors):
  """Returns products in float32: of maps and weights, or of maps and a map."""
  if not isinstance(factors, list):
    factors = [factors] * len(maps)
  return [
    m.astype(jnp.float32) * f.astype(jnp.float32)
    for m, f in zip(maps, factors, strict=True)
  ]


def _weights(kernel):
  """Returns the weights of each tap, as they multiply a map."""
  taps = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
  return [taps[t] for t in range(taps.shape[0])]


def depthwise_conv_reference(x, kernel, *, stride=1, dilation=1, padding=None):
  """`depthwise_conv` as XLA has it; for tests and benchmarks."""
  pads = [
    dilation * (k // 2) if padding is None else padding
    for k in kernel.shape[:2]
  ]
  return lax.conv_general_dilated(
    x,
    kernel[:, :, None],
    window_strides=(stride, stride),
    padding=[(pad, pad) for pad in pads],
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=kernel.shape[-1],
  )


@functools.partial(
  jax.jit, static_argnames=("stride", "padding", "implementation")
)
def transposed_conv(
  x: Float[Array | np.ndarray, "b h w ci"],
  kernel: Float[Array | np.ndarray, "kh kw ci co"],
  *,
  stride: int | tuple[int, int],
  padding: int | tuple[int, int] = 0,
  implementation: str = "auto",
) -> Float[Array, "b oh ow co"]:
  """Returns the transposed convolution: y[s i + u - p] += x[i] @ kernel[u].

  Caffe's Deconvolution and torch's `conv_transpose2d`. XLA's own form
  ("native") spreads the input with zeros between (`lhs_dilation`) and is slow.
  In "phases" each of the s x s phases of the output is an ordinary convolution
  of the input with every s-th pixel of the kernel; all phases together are one
  convolution of stride 1, which for a kernel as large as its stride is one
  matrix product.

  Args:
    x: features.
    kernel: weights.
    stride: upsampling factor of rows and columns, or one number for both.
    padding: rows and columns that are cut off at each side of the result.
    implementation: "phases", "native" or "auto", which is "phases" everywhere.

  Returns:
    (h - 1) stride + kh - 2 padding rows, and columns alike, in the dtype that
    `x` and `kernel` promote to.

  Raises:
    ValueError: if the stride is not positive, the padding is negative,
      nothing is left of the result, or the implementation is unknown.
  """
  x, kernel = jnp.asarray(x), jnp.asarray(kernel)
  dtype = jnp.result_type(x, kernel)
  x, kernel = x.astype(dtype), kernel.astype(dtype)
  stride, padding = _pair(stride), _pair(padding)
  if min(stride) < 1 or min(padding) < 0:
    raise ValueError(
      f"stride must be positive and padding not negative, got {stride} and "
      f"{padding}."
    )
  size = tuple(
    (n - 1) * s + k - 2 * p
    for n, s, k, p in zip(x.shape[1:3], stride, kernel.shape, padding)
  )
  if min(size) < 1:
    raise ValueError(
      f"nothing is left of {x.shape[1:3]} after a transposed convolution with "
      f"kernel {kernel.shape[:2]}, stride {stride} and padding {padding}."
    )
  _check(implementation, ("auto", "phases", "native"))
  if implementation == "native":
    y = transposed_conv_reference(x, kernel, stride=stride)
  else:
    y = _all_phases(x, kernel, stride)
  return resizing.crop(y, padding, size)


def transposed_conv_reference(x, kernel, *, stride):
  """`transposed_conv` as XLA has it, without padding."""
  return lax.conv_general_dilated(
    x,
    kernel[::-1, ::-1],
    window_strides=(1, 1),
    padding=[(k - 1, k - 1) for k in kernel.shape[:2]],
    lhs_dilation=_pair(stride),
    dimension_numbers=LAYOUT,
  )


def bilinear_deconv(
  x: Float[Array | np.ndarray, "b h w c"],
  *,
  factor: int,
  kernel: int | None = None,
) -> Float[Array, "b oh ow c"]:
  """Returns the transposed convolution with a fixed bilinear filter.

  Equals `transposed_conv` with `resizing.bilinear_kernel(kernel, c)` and stride
  `factor`, as in FCN's release: bilinear upsampling of an image that is zero
  outside. Computed as such.

  Args:
    x: scores.
    factor: upsampling factor.
    kernel: 2 factor - 1, whose middle lies on a pixel, or 2 factor for an even
      factor, whose middle lies between two; None is the larger that there is.

  Returns:
    (h - 1) factor + kernel rows, and columns alike, computed in float32, in
    the dtype of `x`.

  Raises:
    ValueError: if the factor is not positive, or the kernel is none of these.
  """
  if factor < 1:
    raise ValueError(f"factor must be positive, got {factor}.")
  between = 2 * factor - factor % 2
  if kernel not in (None, 2 * factor - 1, between):
    raise ValueError(
      f"kernel must be {2 * factor - 1} or {between} for factor {factor}, got "
      f"{kernel}."
    )
  x = jnp.pad(jnp.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
  h, w = x.shape[1] * factor, x.shape[2] * factor
  if kernel == 2 * factor - 1 != between:
    h, w = h - factor + 1, w - factor + 1
    upsampled = resizing.resize_bilinear(x, (h, w), convention="align_corners")
    return resizing.crop(upsampled, 1, (h - 2, w - 2))
  margin = (factor + 1) // 2
  upsampled = resizing.resize_bilinear(x, (h, w))
  size = (h - factor - factor % 2, w - factor - factor % 2)
  return resizing.crop(upsampled, margin, size)


def kernel_of_dense(
  weights: Float[Array | np.ndarray, "n d"],
  *,
  window: tuple[int, int],
  layout: str = "torch",
) -> Float[Array, "kh kw c d"]:
  """Returns the convolution that a fully connected layer is.

  A layer over a map of n x m x c is a convolution of n x m: run on a larger
  map it gives what the layer gives at every position (Long et al. 2015,
  section 3.1).

  Args:
    weights: one column for each output; torch's and Caffe's are transposed.
    window: height and width of the map that the layer sees.
    layout: how the map was flattened: "torch" (and Caffe), channels first, or
      "tensorflow", channels last.

  Raises:
    ValueError: if the map does not divide the inputs, or the layout is unknown.
  """
  weights = jnp.asarray(weights)
  inputs, outputs = weights.shape
  height, width = window
  channels, rest = divmod(inputs, height * width)
  if rest or not channels:
    raise ValueError(
      f"{inputs} inputs are no map of {height} x {width} pixels."
    )
  if layout == "tensorflow":
    return weights.reshape(height, width, channels, outputs)
  if layout != "torch":
    raise ValueError(f'layout must be "torch" or "tensorflow", got {layout!r}.')
  kernel = weights.reshape(channels, height, width, outputs)
  return kernel.transpose(1, 2, 0, 3)


def _all_phases(x, kernel, stride):
  """The result without padding, up to stride - 1 rows and columns too large.

  With u = s a + r, output row s q + r is the sum over a of x[q - a] times
  kernel[s a + r]: a convolution over a for each phase r.
  """
  (kh, kw, ci, co), (sh, sw) = kernel.shape, stride
  th, tw = -(-kh // sh), -(-kw // sw)  # taps of each phase
  kernel = jnp.pad(
    kernel, ((0, th * sh - kh), (0, tw * sw - kw), (0, 0), (0, 0))
  ).reshape(th, sh, tw, sw, ci, co)
  if th == tw == 1:
    # Each row of the output is one part of the product's columns.
    y = x.reshape(-1, ci) @ kernel[0, :, 0].transpose(2, 0, 1, 3).reshape(
      ci, -1
    )
    y = y.reshape(*x.shape[:3], sh, sw, co).transpose(0, 1, 3, 2, 4, 5)
  else:
    kernel = kernel[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    y = lax.conv_general_dilated(
      x,
      kernel.reshape(th, tw, ci, sh * sw * co),
      window_strides=(1, 1),
      padding=((th - 1, th - 1), (tw - 1, tw - 1)),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = y.reshape(*y.shape[:3], sh, sw, co).transpose(0, 1, 3, 2, 4, 5)
  b, h, _, w, _, _ = y.shape
  return y.reshape(b, h * sh, w * sw, co)


def _check(implementation, known):
  if implementation not in known:
    raise ValueError(
      f"implementation must be one of {', '.join(known)}; got "
      f"{implementation!r}."
    )


def _pair(value):
  return (value, value) if isinstance(value, int) else tuple(value)
