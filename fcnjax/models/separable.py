"""Depthwise convolutions, and the separable ones that are made of them.

See blocks.py for the names of parameters and for precision.
"""

from collections.abc import Callable

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.models import blocks
from fcnjax.ops import depthwise


class DepthwiseConv(nn.Module):
  """Convolution of each channel with its own 3x3 kernel, without a bias.

  Attributes:
    stride: pixels from one output to the next.
    dilation: pixels from one tap of the kernel to the next.
    kernel_init: how the kernel [3, 3, c] starts.
    dtype: compute dtype.
  """

  stride: int = 1
  dilation: int = 1
  kernel_init: Callable = blocks.HE_NORMAL
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array | np.ndarray, "b h w c"]
  ) -> Float[Array, "b h2 w2 c"]:
    kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1]))
    x, kernel = jnp.asarray(x, self.dtype), jnp.asarray(kernel, self.dtype)
    return depthwise.depthwise_conv(
      x, kernel, stride=self.stride, dilation=self.dilation
    )


class SeparableConv(nn.Module):
  """Depthwise 3x3 and pointwise 1x1, each with normalisation.

  Attributes:
    features: number of output channels.
    norm: the normalisation f(x, name=...).
    stride: of the depthwise convolution.
    dilation: of the depthwise convolution.
    activation: "before": one ReLU, in front; "inside": one after each
      normalisation.
    depthwise_init: how the depthwise kernel starts.
    pointwise_init: how the pointwise kernel starts.
    dtype: compute dtype.
  """

  features: int
  norm: Callable[..., Array]
  stride: int = 1
  dilation: int = 1
  activation: str = "inside"
  depthwise_init: Callable = blocks.HE_NORMAL
  pointwise_init: Callable = blocks.HE_NORMAL
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
    blocks.check_choice("activation", self.activation, ("before", "inside"))
    inside = self.activation == "inside"
    x = x if inside else nn.relu(x)
    spatial = DepthwiseConv(
      self.stride,
      self.dilation,
      self.depthwise_init,
      self.dtype,
      name="depthwise",
    )
    x = self.norm(spatial(x), name="depthwise_bn")
    x = nn.relu(x) if inside else x
    pointwise = blocks.conv(
      self.features,
      1,
      bias=False,
      kernel_init=self.pointwise_init,
      name="pointwise",
      dtype=self.dtype,
    )
    x = self.norm(pointwise(x), name="pointwise_bn")
    return nn.relu(x) if inside else x
