"""Layers that enlarge maps, by a transposed convolution.

See blocks.py for the names of parameters and for precision.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import resizing, transposed

# What FCN's steps of upsampling may be: none learned, all but the last, all.
UPSAMPLINGS = ("fixed", "intermediate_learned", "learned")


class UpConv(nn.Module):
  """Transposed convolution whose kernel is as long as its stride.

  Attributes:
    features: number of output channels.
    factor: kernel and stride; the output is this much larger.
    dtype: compute dtype.
  """

  features: int
  factor: int = 2
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array | np.ndarray, "b h w c"]
  ) -> Float[Array, "b h2 w2 d"]:
    side = self.factor
    # Only one tap of the kernel meets each output pixel, so its incoming
    # connections are the input channels alone.
    init = jax.nn.initializers.variance_scaling(
      2.0 * side**2, "fan_in", "normal"
    )
    shape = (side, side, x.shape[-1], self.features)
    kernel = self.param("kernel", init, shape, jnp.float32)
    bias = self.param(
      "bias", jax.nn.initializers.zeros, (self.features,), jnp.float32
    )
    x, kernel, bias = (jnp.asarray(v, self.dtype) for v in (x, kernel, bias))
    y = transposed.transposed_conv(x, kernel, stride=side)
    return y + bias.reshape(1, 1, 1, -1)


class Upscore(nn.Module):
  """Bilinear upsampling by a deconvolution of stride f.

  Attributes:
    factor: f; even.
    learned: whether the kernel is a parameter, dense over the classes.
    kernel: 2 f, or 2 f - 1.
  """

  factor: int
  learned: bool
  kernel: int | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "b h w k"]) -> Float[Array, "b h2 w2 k"]:
    if not self.learned:
      return transposed.bilinear_deconv(
        x, factor=self.factor, kernel=self.kernel
      )
    side = self.kernel or 2 * self.factor
    start = resizing.bilinear_kernel(side, x.shape[-1])
    kernel = self.param("kernel", lambda _: jnp.asarray(start, jnp.float32))
    return transposed.transposed_conv(x, kernel, stride=self.factor)
