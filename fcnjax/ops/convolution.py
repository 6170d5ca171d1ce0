"""Convolutions as XLA runs them fast: plain, dilated, grouped.

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
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import (
  convolution_passes,
  depthwise,
  implementations,
  interleaved,
  spatial,
  winograd,
)

# Up to so many groups `conv` convolves apart.
FEW_GROUPS = 4

# On a CPU, in pixels of a batch: so few go by patches; so few where Winograd's
# form would be possible, too, and for the kernel's gradient.
SMALL_MAP = 256
SMALL_MAP_OF_MANY_CHANNELS = 512
# Row blocks are for kernels of so many places and images of so many channels.
SMALL_KERNEL = 9
FEW_CHANNELS = 8
# Winograd's form pays for so many pixels and channels, until its mixtures, six
# times as large as the map, gain too little for their memory, or a kernel does
# not fit into the cache beside its own (which its own gradient does not need);
# and where tiles have at most so many columns for one of the map.
WINOGRAD_PIXELS = 256
WINOGRAD_CHANNELS = 32
WINOGRAD_MAP_BYTES = 48 * 2**20
WINOGRAD_KERNEL_BYTES = 2**25
WINOGRAD_WASTE = 1.5

# On a GPU, larger kernels than 3x3 over so many channels go by patches, while
# all of these fit into so many bytes.
PATCHES_CHANNELS = 256
PATCHES_BYTES = 2**29


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
  dimension_numbers: Any = convolution_passes.LAYOUT,
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
    both gradients; for small maps, of which XLA computes the gradients up to
    many times slower (FCN's fc6).
  "row_blocks": the filter gradient is summed over blocks of rows that stay in
    the cache, by matrix products; for stride 1.
  "winograd": 3x3 kernels with half of the multiplications, forward and both
    gradients (see `winograd`); for stride 1 and float32.
  "space_to_batch": a dilated convolution is a dense one of r x r interleaved
    maps (see `interleaved`); for stride 1 and one rate. XLA has padded the
    kernels of dilated convolutions with zeros on GPUs (openxla/xla#32231).
  "auto": up to `FEW_GROUPS` groups are convolved apart, since XLA's grouped
    convolution is many times slower on a CPU; one channel a group is
    `depthwise_conv`; others stay in one piece. Then, on a CPU, "matrix", or
    for each of the three passes by itself the first that fits of "winograd"
    (maps of `WINOGRAD_PIXELS` in a batch to `WINOGRAD_MAP_BYTES`, from
    `WINOGRAD_CHANNELS` on), "patches" (up to `SMALL_MAP` pixels for each pixel
    of a stride; up to `SMALL_MAP_OF_MANY_CHANNELS` also in place of "winograd"
    for the image's gradient and, at rates above 1, forward) and, of the filter
    gradient, "row_blocks"; on a GPU
    "space_to_batch" if possible, and "patches" for kernels of more places than
    `SMALL_KERNEL` over `PATCHES_CHANNELS` or more channels, all patches within
    `PATCHES_BYTES`; else "native". Maps that are padded by more than the kernel
    reaches are padded first there (docs/decisions.md says why). Where maps are
    spread over devices (see `spatial`), that is chosen for each device's part;
    if rows do not divide, "matrix" or "native".

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
  ) != lax.conv_dimension_numbers(
    x.shape, kernel.shape, convolution_passes.LAYOUT
  ):
    raise ValueError(
      f"conv needs {convolution_passes.LAYOUT}, got {dimension_numbers}."
    )
  groups = feature_group_count
  stride, rate = tuple(window_strides), tuple(rhs_dilation or (1, 1))
  plain = _is_plain(x, kernel, padding, lhs_dilation, rate)
  compute = functools.partial(
    _conv, stride=stride, groups=groups, implementation=implementation, **words
  )
  if plain and (halo := _halo(x, kernel, stride, padding, rate)):
    edges = ((0, 0), tuple(padding[1]))
    return spatial.by_rows(
      lambda x, kernel: compute(x, kernel, padding=edges),
      jnp.asarray(x),
      shared=(jnp.asarray(kernel),),
      halo=halo,
    )
  return spatial.together(lambda x: compute(x, kernel, padding=padding), x)


def _conv(x, kernel, *, stride, padding, groups, implementation, **words):
  """Returns `conv` of rows that are not spread."""
  rate = tuple(words["rhs_dilation"] or (1, 1))
  kh, kw = kernel.shape[:2]
  plain = _is_plain(x, kernel, padding, words["lhs_dilation"], rate)
  if groups > 1:
    implementations.check(implementation, ("auto", "native"))
    whole = implementation == "native" or _ONE_OPERATION.get()
    if not whole and groups <= FEW_GROUPS:
      parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1))
      return jnp.concatenate(
        [
          _conv(
            *part,
            stride=stride,
            padding=padding,
            groups=1,
            implementation=implementation,
            **words,
          )
          for part in parts
        ],
        axis=-1,
      )
    if (
      not whole
      and groups == x.shape[-1] == kernel.shape[-1]
      and set(words["lhs_dilation"] or (1, 1)) == {1}
      and len(set(stride)) == len(set(rate)) == 1
      and not isinstance(padding, str)
      and len({n for pair in padding for n in pair}) == 1
    ):
      return depthwise.depthwise_conv(
        x,
        kernel[:, :, 0],
        stride=stride[0],
        dilation=rate[0],
        padding=padding[0][0],
      )
    return convolution_passes.native(
      x, kernel, stride, padding, groups=groups, **words
    )
  if _pads_far(padding, (kh, kw), rate, plain and implementation == "auto"):
    # By itself: XLA would take the zeros into the convolution again.
    x = lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))
    padding = ((0, 0), (0, 0))
  dense = plain and stride == (1, 1)
  possible = {
    "matrix": plain and kh == kw == 1 and not np.any(padding),
    "patches": plain,
    "row_blocks": dense,
    "winograd": dense
    and kh == kw == winograd.TAPS
    and x.dtype == kernel.dtype == jnp.float32,
    "space_to_batch": dense and rate[0] == rate[1] > 1,
  }
  passes = _PASSES.get(implementation)
  if implementation == "auto":
    edges = padding if plain else ()
    implementation, passes = _fastest(x, kernel, stride, edges, rate, possible)
  implementations.check(implementation, ("native", *possible))
  if implementation == "native":
    return convolution_passes.native(x, kernel, stride, padding, **words)
  if not possible[implementation]:
    raise ValueError(
      f'implementation "{implementation}" cannot do a kernel of {(kh, kw)} '
      f"with stride {stride}, rate {rate}, padding {padding} and {x.dtype}; "
      'use "auto".'
    )
  if implementation == "matrix":
    x = x[:, :: stride[0], :: stride[1]]
    return jnp.einsum(
      "bhwc,cd->bhwd", x, kernel[0, 0], precision=words["precision"]
    )
  edges = tuple(tuple(int(n) for n in pair) for pair in padding)
  if implementation == "space_to_batch":
    return _split_conv(x, kernel, edges, rate[0], words["precision"])
  geometry = convolution_passes.Geometry(
    stride, edges, rate, words["precision"]
  )
  x, kernel = jnp.asarray(x), jnp.asarray(kernel)
  return convolution_passes.conv(x, kernel, geometry, passes)


def _is_plain(x, kernel, padding, lhs_dilation, rate):
  """Whether all is said by numbers that a sliding window has."""
  return (
    set(lhs_dilation or (1, 1)) == {1}
    and not isinstance(padding, str)
    and all(
      min(pair) >= 0 and (k - 1) * r < n + sum(pair)
      for pair, k, r, n in zip(padding, kernel.shape, rate, x.shape[1:3])
    )
  )


def _halo(x, kernel, stride, padding, rate):
  """Returns the rows that a part needs besides its own; see `spatial`."""
  rows, reach = x.shape[1], (kernel.shape[0] - 1) * rate[0] + 1
  return spatial.halo(
    rows,
    (rows + sum(padding[0]) - reach) // stride[0] + 1,
    stride=stride[0],
    reach=reach,
    padding=padding[0][0],
  )


def _pads_far(padding, kernel, rate, possible):
  """Whether a GPU's map should be padded first.

  XLA makes the kernel's gradient of a map that is padded by more than the
  kernel reaches (FCN's first layer, by 100) a convolution whose kernel is as
  large as the map. The copy is made in prediction, too.
  """
  if not possible or _platform() != "gpu":
    return False
  return any(max(p) > (k - 1) * r for p, k, r in zip(padding, kernel, rate))


def _platform():
  return "" if _ONE_OPERATION.get() else jax.default_backend()


_PASSES = {
  "patches": convolution_passes.Passes("patches", "patches", "patches"),
  "row_blocks": convolution_passes.Passes("native", "native", "row_blocks"),
  "winograd": convolution_passes.Passes("winograd", "winograd", "winograd"),
}


def _fastest(x, kernel, stride, padding, rate, possible):
  """The rule of "auto": an implementation, and what its passes are."""
  platform = _platform()
  if platform == "gpu" and possible["space_to_batch"]:
    return "space_to_batch", None
  if platform not in ("cpu", "gpu") or not possible["patches"]:
    return "native", None
  (b, h, w, c), (kh, kw, _, d) = x.shape, kernel.shape
  b = spatial.own_examples(b)
  rows, columns = (
    (n + sum(p) - (k - 1) * r - 1) // s + 1
    for n, p, k, r, s in zip((h, w), padding, (kh, kw), rate, stride)
  )
  if platform == "gpu":
    size = b * rows * columns * kh * kw * c * x.dtype.itemsize
    large = kh * kw > SMALL_KERNEL and c >= PATCHES_CHANNELS
    word = "patches" if large and size <= PATCHES_BYTES else "native"
    return word, _PASSES.get(word)
  if possible["matrix"]:
    return "matrix", None
  few = b * h * w / math.prod(stride)
  cell = winograd.OUTPUTS * rate[1]
  tiles = (
    possible["winograd"]
    and min(c, d) >= WINOGRAD_CHANNELS
    and b * rows * columns >= WINOGRAD_PIXELS
    and 4 * b * max(h * w * c, rows * columns * d) <= WINOGRAD_MAP_BYTES
    and -(-columns // cell) * cell <= WINOGRAD_WASTE * columns
  )
  light = tiles and 4 * kernel.size <= WINOGRAD_KERNEL_BYTES
  small = few <= (SMALL_MAP_OF_MANY_CHANNELS if tiles else SMALL_MAP)
  otherwise = "patches" if small else "native"
  if tiles:
    of_kernel = "winograd"
  elif few <= SMALL_MAP_OF_MANY_CHANNELS:
    of_kernel = "patches"
  else:
    blocks = possible["row_blocks"] and kh * kw <= SMALL_KERNEL
    of_kernel = "row_blocks" if blocks and c >= FEW_CHANNELS else "native"
  passes = convolution_passes.Passes(
    "winograd" if light and (rate[1] == 1 or not small) else otherwise,
    "winograd" if light and not small else otherwise,
    of_kernel,
  )
  if set(passes) == {"native"}:
    return "native", None
  return next(word for word in passes if word != "native"), passes


def _split_conv(x, kernel, padding, rate, precision):
  """A dilated convolution by `interleaved`: padded first, then r x r maps."""
  edges = ((0, 0), *padding, (0, 0))
  x = jnp.pad(x, edges)
  size = [n - (k - 1) * rate for n, k in zip(x.shape[1:3], kernel.shape[:2])]
  y = convolution_passes.native(
    interleaved.split(x, rate),
    kernel,
    (1, 1),
    ((0, 0), (0, 0)),
    precision=precision,
  )
  return interleaved.join(y, rate, size=tuple(size))


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
