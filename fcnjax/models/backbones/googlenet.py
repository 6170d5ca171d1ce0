"""GoogLeNet as a backbone.

Paper: Szegedy et al., "Going deeper with convolutions", CVPR 2015, Table 1.
Implements: BVLC's GoogLeNet, which FCN-GoogLeNet is made from: local response
  normalisation, pools that round up, biases that start from 0.2.
Differs: the classifiers are left out, the average pool of 7x7 as well (FCN's
  authors found it better without). With batch norm, 3x3 in the place of 5x5 and
  a window of 2 in the fourth pool it is torchvision's GoogLeNet.
"""

from typing import NamedTuple

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks
from fcnjax.ops import max_pooling, normalization


class Row(NamedTuple):
  """Channels of an inception module (Table 1)."""

  name: str
  one: int
  three_reduce: int
  three: int
  five_reduce: int
  five: int
  pool: int


ROWS = (
  Row("3a", 64, 96, 128, 16, 32, 32),
  Row("3b", 128, 128, 192, 32, 96, 64),
  Row("4a", 192, 96, 208, 16, 48, 64),
  Row("4b", 160, 112, 224, 24, 64, 64),
  Row("4c", 128, 128, 256, 24, 64, 64),
  Row("4d", 112, 144, 288, 32, 64, 64),
  Row("4e", 256, 160, 320, 32, 128, 128),
  Row("5a", 256, 160, 320, 32, 128, 128),
  Row("5b", 384, 192, 384, 48, 128, 128),
)

# (kernel, stride) of the layers with the largest windows, to 5b.
LAYERS = (
  *((7, 2), (3, 2), (1, 1), (3, 1), (3, 2)),
  *((5, 1), (5, 1), (3, 2)),
  *((5, 1),) * 5,
  *((3, 2), (5, 1), (5, 1)),
)


class Conv(nn.Module):
  """Convolution and ReLU; with batch norm between, or a bias of 0.2."""

  features: int
  kernel: int
  stride: int
  padding: int | None
  dilation: int
  norm: str
  bn_momentum: float
  dtype: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], *, train: bool
  ) -> Float[Array, "b h2 w2 d"]:
    norm = blocks.norm_of(self, train=train, epsilon=1e-3)
    x = blocks.conv(
      self.features,
      self.kernel,
      stride=self.stride,
      padding=self.padding,
      dilation=self.dilation,
      bias=self.norm == "none",
      # Caffe's xavier filler: by the incoming connections alone.
      kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
      bias_init=nn.initializers.constant(0.2),
      name="conv",
      dtype=self.dtype,
    )(x)
    return nn.relu(norm(x, name="bn"))


class GoogLeNet(nn.Module):
  """image -> stage1 (conv1) ... stage5 (5b), of strides 2 to 32.

  Attributes:
    output_stride: 8, 16 or 32; the variables are the same: a pool that does not
      stride is followed by dilated layers.
    width: factor of all channels; 1 as published.
    first_padding: zeros around the image.
    lrn: whether there are local response normalisations.
    five: kernel of the branch of 5x5.
    fourth_pool: window of the pool before 5a.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
    dtype: compute dtype.
  """

  output_stride: int = 32
  width: float = 1.0
  first_padding: int = 3
  lrn: bool = True
  five: int = 5
  fourth_pool: int = 3
  norm: str = "none"
  bn_momentum: float = 0.9
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Features:
    blocks.check_output_stride(self.output_stride)
    reached, rate = 2, 1

    def pool(x, window):
      nonlocal reached, rate
      strides = reached < self.output_stride
      x = blocks.strided_pool(
        x, window, strides=strides, dilation=rate, rounding="ceil"
      )
      reached, rate = (2 * reached, rate) if strides else (reached, 2 * rate)
      return x

    def conv(x, features, kernel, name, stride=1, padding=None):
      module = Conv(
        max(1, round(features * self.width)),
        kernel,
        stride,
        padding,
        rate,
        self.norm,
        self.bn_momentum,
        self.dtype,
        name=name,
      )
      return module(x, train=train)

    def lrn(x):
      if not self.lrn:
        return x
      return normalization.local_response_norm(x, size=5, alpha=1e-4, beta=0.75)

    image = jnp.asarray(image, self.dtype)
    x = conv(image, 64, 7, "conv1", stride=2, padding=self.first_padding)
    features = {"stage1": (x := blocks.kept(x))}
    x = lrn(pool(x, 3))
    x = conv(conv(x, 64, 1, "conv2_reduce"), 192, 3, "conv2")
    features["stage2"] = x = blocks.kept(lrn(x))
    x = pool(x, 3)
    for row in ROWS:
      if row.name == "4a":
        x = pool(x, 3)
      if row.name == "5a":
        x = pool(x, self.fourth_pool)
      x = self._inception(x, row, conv, rate)
      features[f"stage{row.name[0]}"] = x = blocks.kept(x)
    return features

  def _inception(self, x: Array, row: Row, conv, rate: int) -> Array:
    name = f"inception_{row.name}"
    three = conv(x, row.three_reduce, 1, f"{name}_3x3_reduce")
    five = conv(x, row.five_reduce, 1, f"{name}_5x5_reduce")
    pooled = max_pooling.max_pool(
      x, window=3, stride=1, padding=rate, dilation=rate
    )
    branches = (
      conv(x, row.one, 1, f"{name}_1x1"),
      conv(three, row.three, 3, f"{name}_3x3"),
      conv(five, row.five, self.five, f"{name}_5x5"),
      conv(pooled, row.pool, 1, f"{name}_pool_proj"),
    )
    return jnp.concatenate(branches, axis=-1)
