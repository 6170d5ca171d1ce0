"""A convolution whose forward pass and gradients each have a form of their own.

Which form is the fastest, and what each is, is told in convolution.py.
"""

import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcnjax.ops import row_blocks, spatial, windows as windows_lib, winograd

LAYOUT = ("NHWC", "HWIO", "NHWC")


class Passes(NamedTuple):
  """How each pass of a convolution is computed."""

  forward: str
  image_gradient: str
  kernel_gradient: str


class Geometry(NamedTuple):
  """The words of a convolution that are no arrays."""

  stride: tuple[int, int]
  padding: tuple[tuple[int, int], tuple[int, int]]
  rate: tuple[int, int]
  precision: Any


def native(x, kernel, stride, padding, *, groups=1, **words):
  """Returns XLA's own convolution, of channels last."""
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
def conv(
  x: Float[Array, "b h w c"],
  kernel: Float[Array, "kh kw c d"],
  geometry: Geometry,
  passes: Passes,
) -> Float[Array, "b oh ow d"]:
  """Returns a convolution whose passes are computed as they are told to be.

  Args:
    x: features.
    kernel: of one group.
    geometry: stride, padding, rate and precision.
    passes: for each "native", "patches" or "winograd"; of the kernel's gradient
      "row_blocks", too.
  """
  return _forward(x, kernel, geometry, passes.forward)


def _conv_fwd(x, kernel, geometry, passes):
  return conv(x, kernel, geometry, passes), (x, kernel)


def _conv_bwd(geometry, passes, kept, cotangent):
  x, kernel = kept
  like = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
  return (
    _image_gradient(*kept, cotangent, geometry, passes.image_gradient),
    # Added once over devices: not in each block of rows, nor in Winograd's
    # domain, where it is larger.
    spatial.summed(
      lambda x, cotangent: _kernel_gradient(
        x, like, cotangent, geometry, passes.kernel_gradient
      ),
      x,
      cotangent,
    ),
  )


conv.defvjp(_conv_fwd, _conv_bwd)


def _forward(x, kernel, geometry, form):
  stride, padding, rate, precision = geometry
  if form == "winograd":
    return winograd.conv(x, kernel, padding, rate, precision)
  if form == "patches":
    return _patches_conv(x, kernel, *geometry)
  words = {"rhs_dilation": rate, "precision": precision}
  return native(x, kernel, stride, padding, **words)


def _image_gradient(x, kernel, cotangent, geometry, form):
  if form == "winograd":
    size = x.shape[1:3]
    return winograd.image_gradient(size, cotangent, kernel, *geometry[1:])
  given = x
  if form == "patches":  # Whose gradients are added up in float32, at least.
    wide = jnp.promote_types(x.dtype, jnp.float32)
    given = jax.ShapeDtypeStruct(x.shape, wide)
  transposed = jax.linear_transpose(
    lambda x: _forward(x, kernel, geometry, form), given
  )
  return transposed(cotangent)[0].astype(x.dtype)


def _kernel_gradient(x, kernel, cotangent, geometry, form):
  _, padding, rate, precision = geometry
  if form == "winograd":
    return winograd.filter_gradient(x, cotangent, padding, rate, precision)
  if form == "row_blocks":
    return row_blocks.filter_gradient(
      x, cotangent, kernel, padding, rate, precision
    )
  transposed = jax.linear_transpose(
    lambda kernel: _forward(x, kernel, geometry, form), kernel
  )
  return transposed(cotangent)[0]


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
  seen = seen.astype(kernel.dtype)
  y = jnp.matmul(
    seen.reshape(-1, kh * kw * c), kernel.reshape(-1, d), precision=precision
  )
  return y.reshape(x.shape[0], *count, d)
