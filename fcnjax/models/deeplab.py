"""DeepLab v1 and v2: dilated convolutions for large fields of view.

Paper: Chen, Papandreou, Kokkinos, Murphy and Yuille, "Semantic image
  segmentation with deep convolutional nets and fully connected CRFs", ICLR 2015
  (v1, LargeFOV); the same, "DeepLab", PAMI 2017 (v2, ASPP).
Implements: both on VGG16 as in the released Caffe networks, v2 on ResNet-101 as
  in its ports.
Differs: the loss is taken on labels shrunk by 8 in the release; here logits are
  interpolated to the label's size first, as v3 found better (its Table 8). The
  copy of v1's files has an average pool behind pool5, which the paper does not
  name and is not here. v2's training on three scales at once, with the maximum
  of their scores, is left out; averages over scales are `evaluation.scales`.
"""

import functools

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from fcnjax import typing
from fcnjax.models import blocks, segmenter
from fcnjax.models.backbones import resnet, vgg
from fcnjax.ops import activation

V1_RATES = (12,)
V2_RATES = (6, 12, 18, 24)  # ASPP-L

_GAUSSIAN = nn.initializers.normal(0.01)


def deeplab_vgg16(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  rates: tuple[int, ...],
  kernel: int = 3,
  widths: tuple[int, ...] = vgg.WIDTHS,
  fc_channels: int = 1024,
  dropout: float = 0.5,
  norm: str = "none",
  bn_momentum: float = 0.9,
) -> segmenter.Segmenter:
  """Returns DeepLab v1 or v2 on VGG16.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype.
    rates: dilations of fc6, one for each branch; the branches' scores are
      summed. One of 12 is LargeFOV, four are ASPP.
    kernel: side of fc6; the table of v1's section 4 has (7, rate 4), (4, 4)
      and (4, 8), too, with 4096 channels.
    widths: channels of the five stages.
    fc_channels: channels of fc6 and fc7.
    dropout: rate after fc6 and fc7, in [0, 1).
    norm: see `blocks.norm`; in the 13 convolutions of VGG16 only.
    bn_momentum: see `blocks.norm`.
  """
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      vgg.VGG16, widths=widths, norm=norm, pool=3, output_stride=8
    ),
    head=functools.partial(
      ScoreSum,
      rates=rates,
      kernel=kernel,
      fc_channels=fc_channels,
      dropout=dropout,
    ),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


def vgg16_layers(
  rate: int = 12, kernel: int = 3
) -> tuple[tuple[int, ...], ...]:
  """Returns (kernel, stride, dilation) of the deepest path."""
  return (*vgg.layers(pool=3, output_stride=8), (kernel, 1, rate), (1, 1))


def deeplabv2_resnet(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  depths: tuple[int, ...] = resnet.DEPTHS[101],
  widths: tuple[int, ...] = resnet.WIDTHS,
  rates: tuple[int, ...] = V2_RATES,
  norm: str = "batch",
  bn_momentum: float = 0.9997,
) -> segmenter.Segmenter:
  """Returns DeepLab v2 on ResNet, output stride 8.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype.
    depths: units of the four stages.
    widths: of the units' 3x3 convolutions, by stage.
    rates: dilations of the score convolutions, which are summed.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      resnet.ResNet, depths=depths, widths=widths, output_stride=8, norm=norm
    ),
    head=functools.partial(ScoreSum, rates=rates, fc_channels=0),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


class ScoreSum(nn.Module):
  """v1 and v2: scores of several dilations, summed.

  Attributes:
    num_classes: number of classes.
    rates: the dilations.
    kernel: side of the dilated kernels.
    fc_channels: of fc6 and fc7; 0 for dilated scores without them.
    dropout: rate after fc6 and fc7, in [0, 1).
    dtype: compute dtype.
    bn_momentum: not used.
  """

  num_classes: int
  rates: tuple[int, ...]
  kernel: int = 3
  fc_channels: int = 1024
  dropout: float = 0.5
  dtype: str = "float32"
  bn_momentum: float = 0.9

  @nn.compact
  def __call__(
    self, features: typing.Features, *, size: tuple[int, int], train: bool
  ) -> typing.Coarse:
    scores = sum(
      self._branch(features["stage5"], rate, train) for rate in self.rates
    )
    return typing.Coarse(scores, size, "align_corners")

  def _branch(self, x: Array, rate: int, train: bool) -> Array:
    conv = functools.partial(blocks.conv, dtype=self.dtype)
    dilated = {"dilation": rate, "padding": rate * (self.kernel - 1) // 2}
    if not self.fc_channels:
      score = conv(
        self.num_classes,
        self.kernel,
        kernel_init=_GAUSSIAN,
        name=f"score_{rate}",
        **dilated,
      )
      return score(x).astype(jnp.float32)
    x = conv(self.fc_channels, self.kernel, name=f"fc6_{rate}", **dilated)(x)
    x = blocks.dropout(self, self.dropout, activation.relu(x), train=train)
    x = conv(self.fc_channels, 1, name=f"fc7_{rate}")(x)
    x = blocks.dropout(self, self.dropout, activation.relu(x), train=train)
    score = conv(self.num_classes, 1, kernel_init=_GAUSSIAN, name=f"fc8_{rate}")
    return score(x).astype(jnp.float32)
