"""Transposed convolutions: learned ones, and the bilinear one."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import implementations, resizing, spatial

_LAYOUT = ("NHWC", "HWIO", "NHWC")


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
  implementations.check(implementation, ("auto", "phases", "native"))
  if implementation == "native":
    y = transposed_conv_reference(x, kernel, stride=stride)
  elif kernel.shape[0] == stride[0] and spatial.divides(x.shape[1]):
    y = spatial.by_rows(
      lambda x, kernel: _all_phases(x, kernel, stride), x, shared=(kernel,)
    )
  else:
    y = spatial.together(lambda x: _all_phases(x, kernel, stride), x)
  return resizing.crop(y, padding, size)


def transposed_conv_reference(x, kernel, *, stride):
  """`transposed_conv` as XLA has it, without padding."""
  return lax.conv_general_dilated(
    x,
    kernel[::-1, ::-1],
    window_strides=(1, 1),
    padding=[(k - 1, k - 1) for k in kernel.shape[:2]],
    lhs_dilation=_pair(stride),
    dimension_numbers=_LAYOUT,
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
      dimension_numbers=_LAYOUT,
    )
    y = y.reshape(*y.shape[:3], sh, sw, co).transpose(0, 1, 3, 2, 4, 5)
  b, h, _, w, _, _ = y.shape
  return y.reshape(b, h * sh, w * sw, co)


def _pair(value):
  return (value, value) if isinstance(value, int) else tuple(value)
