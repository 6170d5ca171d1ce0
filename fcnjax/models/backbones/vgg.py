"""The 13 convolutions of VGG16 as a backbone.

Paper: Simonyan and Zisserman, "Very deep convolutional networks for
  large-scale image recognition", ICLR 2015, configuration D.
Implements: the paper, with Caffe's pooling, which rounds sizes up.
Differs: there are no fully connected layers (FCN makes convolutions of them,
  SegNet drops them). Kernels start from He et al.'s normal distribution, with
  which this depth can be trained from scratch; the paper needed pretraining.
"""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks
from fcnjax.ops import pooling

# Convolutions in each stage (Table 1, column D); a pool ends each stage.
DEPTHS = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)

# (kernel, stride) of every layer from the image to pool5.
LAYERS = tuple(
  layer for depth in DEPTHS for layer in ((3, 1),) * depth + ((2, 2),)
)


class VGG16(nn.Module):
  """image -> stage1 ... stage5, the five pooled maps, of strides 2 to 32.

  Attributes:
    widths: channels of the five stages.
    first_padding: zeros around the image at conv1_1: 1 keeps its size, FCN
      has 100.
    rounding: how pooling rounds sizes, "ceil" as Caffe or "floor".
    norm: see `blocks.norm`; between convolution and ReLU.
    bn_momentum: see `blocks.norm`.
    bn_epsilon: added to the variance.
    bn_shift: what the learned offset starts from.
    dtype: compute dtype.
  """

  widths: tuple[int, ...] = WIDTHS
  first_padding: int = 1
  rounding: str = "ceil"
  norm: str = "none"
  bn_momentum: float = 0.9
  bn_epsilon: float = 1e-5
  bn_shift: float = 0.0
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Features:
    """Returns "stage1" ... and the pools' "index1" ..., uint8, for unpooling.

    Raises:
      ValueError: if `widths` does not have five entries.
    """
    if len(self.widths) != len(DEPTHS):
      raise ValueError(f"widths must name five stages, got {self.widths}.")
    norm = blocks.norm(
      self.norm,
      train=train,
      momentum=self.bn_momentum,
      epsilon=self.bn_epsilon,
      shift=self.bn_shift,
      dtype=self.dtype,
    )
    features = {}
    x = jnp.asarray(image, self.dtype)
    for stage, (depth, width) in enumerate(zip(DEPTHS, self.widths), 1):
      for i in range(1, depth + 1):
        name = f"conv{stage}_{i}"
        pad = self.first_padding if name == "conv1_1" else 1
        x = blocks.conv(width, 3, padding=pad, name=name, dtype=self.dtype)(x)
        x = nn.relu(norm(x, name=f"{name}_bn"))
      x, index = pooling.max_pool_with_argmax(x, rounding=self.rounding)
      features[f"stage{stage}"], features[f"index{stage}"] = x, index
    return features
