"""The 13 convolutions of VGG16 as a backbone.

Paper: Simonyan and Zisserman, "Very deep convolutional networks for
  large-scale image recognition", ICLR 2015, configuration D.
Implements: the paper, with Caffe's pooling, which rounds sizes up.
Differs: there are no fully connected layers (FCN makes convolutions of them,
  SegNet drops them). Pools may have windows of 3, as DeepLab's. Where the
  output stride is less than 32, the last pools do not stride and what follows
  them is dilated: pools of 3 are kept with stride 1, as in DeepLab; pools of 2,
  which would shift the map by half a pixel, are left out, as in the front-end
  of dilated convolutions. Kernels start from He et al.'s normal distribution,
  with which this depth can be trained from scratch; the paper needed
  pretraining.
"""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks
from fcnjax.ops import activation, max_pooling, pooling

# Convolutions in each stage (Table 1, column D); a pool ends each stage.
DEPTHS = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)


def layers(
  *, pool: int = 2, output_stride: int = 32
) -> tuple[tuple[int, ...], ...]:
  """Returns (kernel, stride, dilation) of every layer from image to pool5."""
  found, stride, rate = [], 1, 1
  for depth in DEPTHS:
    found += [(3, 1, rate)] * depth
    if stride < output_stride:
      found, stride = [*found, (pool, 2, 1)], stride * 2
    else:
      found += [(pool, 1, 1)] if pool == 3 else []
      rate *= 2
  return tuple(found)


LAYERS = layers()


class VGG16(nn.Module):
  """image -> stage1 ... stage5, the five pooled maps.

  Their strides are 2 to 32, or up to `output_stride`.

  Attributes:
    widths: channels of the five stages.
    first_padding: zeros around the image at conv1_1: 1 keeps its size, FCN
      has 100.
    padding: zeros around the maps at all other convolutions: None keeps their
      size, 0 makes them valid.
    pool: window of the pools, 2 or 3.
    output_stride: 8, 16 or 32; the variables are the same. Pools of 3 stay
      where their stride is taken out, pools of 2 are left out (Yu and Koltun).
    rarefied: whether nothing strides at all: pools keep their windows, and
      windows and kernels behind are dilated (Long et al. 2015, section 3.2).
    rounding: how pooling rounds sizes, "ceil" as Caffe or "floor".
    dropout: rate after the pools of stages 3 to 5, see
      `blocks.dropout`.
    pack_indices: whether "index1" ... have 2 bits a window instead of a byte.
    norm: see `blocks.norm`; between convolution and ReLU.
    bn_momentum: see `blocks.norm`.
    bn_epsilon: added to the variance.
    bn_shift: what the learned offset starts from.
    dtype: compute dtype.
  """

  widths: tuple[int, ...] = WIDTHS
  first_padding: int = 1
  padding: int | None = None
  pool: int = 2
  output_stride: int = 32
  rarefied: bool = False
  rounding: str = "ceil"
  dropout: float = 0.0
  pack_indices: bool = False
  norm: str = "none"
  bn_momentum: float = 0.9
  bn_epsilon: float = 1e-5
  bn_shift: float = 0.0
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Features:
    """Returns "stage1" ... and, of pools of 2, "index1" ..., for unpooling.

    Raises:
      ValueError: if `widths` does not have five entries, or `pool` or
        `output_stride` is unknown.
    """
    if len(self.widths) != len(DEPTHS):
      raise ValueError(f"widths must name five stages, got {self.widths}.")
    if self.pool not in (2, 3) or self.output_stride not in (8, 16, 32):
      raise ValueError(
        "pool must be 2 or 3 and output_stride 8, 16 or 32; got "
        f"{self.pool} and {self.output_stride}."
      )
    norm = blocks.norm_of(
      self, train=train, epsilon=self.bn_epsilon, shift=self.bn_shift
    )
    relu = activation.relu if self.norm == "none" else nn.relu
    features = {}
    x = jnp.asarray(image, self.dtype)
    stride, rate = 1, 1
    for stage, (depth, width) in enumerate(zip(DEPTHS, self.widths), 1):
      for i in range(1, depth + 1):
        name = f"conv{stage}_{i}"
        pad = self.first_padding if name == "conv1_1" else self.padding
        x = blocks.conv(
          width, 3, padding=pad, dilation=rate, name=name, dtype=self.dtype
        )(x)
        x = relu(norm(x, name=f"{name}_bn"))
      step = 2 if stride < self.output_stride and not self.rarefied else 1
      before, stride, rate = rate, stride * step, rate * 2 // step
      if self.rarefied:
        x = max_pooling.max_pool(x, window=self.pool, stride=1, dilation=before)
      elif self.pool == 3:
        x = max_pooling.max_pool(
          x, window=3, stride=step, padding=1, rounding=self.rounding
        )
      elif step == 2:
        x, features[f"index{stage}"] = pooling.max_pool_with_argmax(
          x, rounding=self.rounding, packed=self.pack_indices
        )
      if stage >= 3:
        x = blocks.dropout(self, self.dropout, x, train=train)
      features[f"stage{stage}"] = x = blocks.kept(x)
    return features
