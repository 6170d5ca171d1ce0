"""The five convolutions of AlexNet as a backbone.

Paper: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep
  convolutional neural networks", NeurIPS 2012.
Implements: CaffeNet, which FCN-AlexNet is made from: two groups in conv2, conv4
  and conv5, pools before the local response normalisations, pools that round
  up.
Differs: there are no fully connected layers. Without groups and normalisation,
  and with other widths, it is torchvision's AlexNet ("One weird trick",
  Krizhevsky 2014).
"""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks
from fcnjax.ops import activation, normalization

WIDTHS = (96, 256, 384, 384, 256)

# (kernel, stride) of every layer from the image to pool5.
LAYERS = (
  (11, 4),
  (3, 2),
  (5, 1),
  (3, 2),
  (3, 1),
  (3, 1),
  (3, 1),
  (3, 2),
)


class AlexNet(nn.Module):
  """image -> stage3 (pool1), stage4 (pool2), stage5 (pool5), strides 8 to 32.

  Attributes:
    output_stride: 8, 16 or 32; the variables are the same: a pool that does not
      stride is followed by dilated layers.
    widths: channels of the five convolutions.
    groups: of conv2, conv4 and conv5.
    lrn: whether pool1 and pool2 are normalised.
    first_padding: zeros around the image; FCN has 100.
    padding: zeros around the maps at all other convolutions: None keeps their
      size, 0 makes them valid.
    rounding: how pooling rounds sizes, "ceil" as Caffe or "floor".
    bn_momentum: not used.
    dtype: compute dtype.
  """

  output_stride: int = 32
  widths: tuple[int, ...] = WIDTHS
  groups: int = 2
  lrn: bool = True
  first_padding: int = 0
  padding: int | None = None
  rounding: str = "ceil"
  bn_momentum: float = 0.9
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Features:
    del train
    blocks.check_output_stride(self.output_stride)
    # kernel, stride, padding, groups, whether a pool follows
    rows = (
      (11, 4, self.first_padding, 1, True),
      (5, 1, self.padding, self.groups, True),
      (3, 1, self.padding, 1, False),
      (3, 1, self.padding, self.groups, False),
      (3, 1, self.padding, self.groups, True),
    )
    features, x = {}, jnp.asarray(image, self.dtype)
    reached, rate = 4, 1
    for i, (width, row) in enumerate(zip(self.widths, rows, strict=True), 1):
      kernel, stride, padding, groups, pool = row
      conv = blocks.conv(
        width,
        kernel,
        stride=stride,
        padding=padding,
        dilation=rate,
        groups=groups,
        name=f"conv{i}",
        dtype=self.dtype,
      )
      x = activation.relu(conv(x))
      if pool:
        strides = reached < self.output_stride
        x = blocks.strided_pool(
          x, 3, strides=strides, dilation=rate, rounding=self.rounding
        )
        reached, rate = (2 * reached, rate) if strides else (reached, 2 * rate)
        features[f"stage{3 + len(features)}"] = x = blocks.kept(x)
      if self.lrn and i <= 2:
        x = normalization.local_response_norm(x, size=5, alpha=1e-4, beta=0.75)
    return features
