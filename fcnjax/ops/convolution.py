"""Grouped, depthwise and transposed convolutions, as XLA runs them fast."""

import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import resizing

# Up to so many groups `grouped_conv` convolves apart.
FEW_GROUPS = 4


def grouped_conv(
  x: Float[Array | np.ndarray, "b h w c"],
  kernel: Float[Array | np.ndarray, "kh kw d e"],
  *arguments: Any,
  feature_group_count: int = 1,
  **words: Any,
) -> Float[Array, "b oh ow e"]:
  """Returns `lax.conv_general_dilated`, channels last, group by group.

  XLA's grouped convolution is many times slower on a CPU than one convolution
  for each group. Where there are many groups it stays in one piece: as many
  convolutions would take longer to compile and to run.

  Args:
    x: features.
    kernel: channels d = c / groups and e as in the grouped convolution.
    *arguments: strides, padding and whatever else the function takes.
    feature_group_count: number of groups.
    **words: as arguments.
  """
  groups = feature_group_count
  if not 1 < groups <= FEW_GROUPS:
    return lax.conv_general_dilated(
      x, kernel, *arguments, feature_group_count=groups, **words
    )
  parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1))
  return jnp.concatenate(
    [lax.conv_general_dilated(*part, *arguments, **words) for part in parts],
    axis=-1,
  )


@functools.partial(jax.jit, static_argnames=("stride", "dilation", "padding"))
def depthwise_conv(
  x: Float[Array | np.ndarray, "b h w c"],
  kernel: Float[Array | np.ndarray, "kh kw d"],
  *,
  stride: int = 1,
  dilation: int = 1,
  padding: int | None = None,
) -> Float[Array, "b oh ow c"]:
  """Returns the convolution of each channel with its own kernel.

  XLA's grouped convolution is slow. Here the padded map is shifted to each tap
  of the kernel, multiplied by its weight and summed, which XLA fuses.

  Args:
    x: features.
    kernel: a filter for each channel.
    stride: pixels from one output to the next.
    dilation: pixels from one tap to the next.
    padding: zeros on each side; None is half of what the kernel covers, which
      with stride 1 and an odd kernel keeps the size.

  Returns:
    (h + 2 padding - dilation (kh - 1) - 1) // stride + 1 rows, and columns
    alike, in the dtype that `x` and `kernel` promote to.

  Raises:
    ValueError: if the kernel has another number of channels, or reaches beyond
      the padded map.
  """
  x, kernel = jnp.asarray(x), jnp.asarray(kernel)
  kh, kw, channels = kernel.shape
  if channels != x.shape[-1]:
    raise ValueError(
      f"the kernel has {channels} channels and the features {x.shape[-1]}."
    )
  pads = [dilation * (k // 2) if padding is None else padding for k in (kh, kw)]
  reach = [dilation * (k - 1) + 1 for k in (kh, kw)]
  size = [
    (n + 2 * pad - r) // stride + 1
    for n, pad, r in zip(x.shape[1:3], pads, reach)
  ]
  if min(size) < 1:
    raise ValueError(
      f"a kernel that covers {reach} pixels reaches beyond features of "
      f"{x.shape[1:3]} padded by {pads}."
    )
  x = jnp.pad(x, ((0, 0), *((pad, pad) for pad in pads), (0, 0)))
  total = 0
  for i in range(kh):
    for j in range(kw):
      rows, columns = (
        slice(tap * dilation, tap * dilation + (n - 1) * stride + 1, stride)
        for tap, n in zip((i, j), size)
      )
      total += x[:, rows, columns] * kernel[i, j].reshape(1, 1, 1, -1)
  return total


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


@functools.partial(jax.jit, static_argnames=("stride", "padding"))
def transposed_conv(
  x: Float[Array | np.ndarray, "b h w ci"],
  kernel: Float[Array | np.ndarray, "kh kw ci co"],
  *,
  stride: int | tuple[int, int],
  padding: int | tuple[int, int] = 0,
) -> Float[Array, "b oh ow co"]:
  """Returns the transposed convolution: y[s i + u - p] += x[i] @ kernel[u].

  Caffe's Deconvolution and torch's `conv_transpose2d`. XLA's own form spreads
  the input with zeros between (`lhs_dilation`) and is slow. Here each of the
  s x s phases of the output is an ordinary convolution of the input with every
  s-th pixel of the kernel; all phases together are one convolution of stride 1,
  which for a kernel as large as its stride is one matrix product.

  Args:
    x: features.
    kernel: weights.
    stride: upsampling factor of rows and columns, or one number for both.
    padding: rows and columns that are cut off at each side of the result.

  Returns:
    (h - 1) stride + kh - 2 padding rows, and columns alike, in the dtype that
    `x` and `kernel` promote to.

  Raises:
    ValueError: if the stride is not positive, the padding is negative, or
      nothing is left of the result.
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
  return resizing.crop(_all_phases(x, kernel, stride), padding, size)


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
    y = jnp.einsum("bhwi,uvio->bhuwvo", x, kernel[0, :, 0])
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


def _pair(value):
  return (value, value) if isinstance(value, int) else tuple(value)
