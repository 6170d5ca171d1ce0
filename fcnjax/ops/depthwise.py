"""The convolution of each channel with a kernel of its own."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import implementations, spatial, windows as windows_lib

# Of the passes "forward", "image" and "kernel" (the gradients), those that are
# left to XLA's convolution on a GPU.
NATIVE_PASSES: tuple[str, ...] = ("kernel",)


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
    implementation: "shifts", "native" or "auto", which is "shifts", except for
      the passes of `NATIVE_PASSES` on a GPU.

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
  implementations.check(implementation, ("auto", "shifts", "native"))
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
  if halo := windows_lib.halo(windows):
    return spatial.by_rows(
      lambda x, kernel: _depthwise(x, kernel, windows_lib.part(windows, x)),
      x,
      shared=(kernel,),
      halo=halo,
    )
  return spatial.together(lambda x: _depthwise(x, kernel, windows), x)


# A convolution, its input gradient and its filter gradient: each is linear in
# two of image, kernel and output, and the other two are its derivatives.


@functools.partial(jax.custom_vjp, nondiff_argnames=("windows",))
def _depthwise(x, kernel, windows):
  if _is_native("forward"):
    return _native(x, kernel, windows)
  seen = windows_lib.shifts(x, windows)
  return sum(_products(seen, _weights(kernel))).astype(x.dtype)


def _depthwise_fwd(x, kernel, windows):
  y = _depthwise(x, kernel, windows)
  if jax.default_backend() != "cpu":
    # Else XLA hands the float32 sums to a batch norm that reads them twice.
    y = lax.optimization_barrier(y)
  return y, (x, kernel)


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
  if _is_native("image"):
    x = jax.ShapeDtypeStruct((y.shape[0], *windows.size, y.shape[3]), y.dtype)
    return jax.linear_transpose(lambda x: _native(x, kernel, windows), x)(y)[0]
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
  if _is_native("kernel"):
    kernel = jax.ShapeDtypeStruct((*windows.window, x.shape[3]), x.dtype)
    return jax.linear_transpose(lambda k: _native(x, k, windows), kernel)(y)[0]
  products = _products(windows_lib.shifts(x, windows), y)
  if jax.default_backend() == "cpu":
    # One loop along the columns makes the sums of all taps; what is left to
    # add is small. For a GPU XLA makes two kernels of one sum over all taps
    # side by side, and more of a sum for each.
    sums = lax.reduce(
      products,
      [jnp.float32(0)] * len(products),
      lambda a, b: [p + q for p, q in zip(a, b)],
      (2,),
    )
    sums = jnp.stack([column.sum((0, 1)) for column in sums])
  else:
    sums = jnp.stack(products).sum((1, 2, 3))
  kernel = sums.reshape(*windows.window, -1)
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


def _is_native(name):
  return jax.default_backend() == "gpu" and name in NATIVE_PASSES


def _native(x, kernel, windows):
  """XLA's convolution; `windows.padding` is that of both sides."""
  return lax.conv_general_dilated(
    x,
    kernel[:, :, None],
    window_strides=windows.stride,
    padding=[(pad, pad) for pad in windows.padding],
    rhs_dilation=windows.dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=kernel.shape[-1],
  )


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
  return _native(
    x,
    kernel,
    windows_lib.Windows(
      window=kernel.shape[:2],
      stride=(stride, stride),
      dilation=(dilation, dilation),
      padding=tuple(
        dilation * (k // 2) if padding is None else padding
        for k in kernel.shape[:2]
      ),
      size=x.shape[1:3],
      count=(0, 0),  # Not needed.
    ),
  )
