"""Fully convolutional networks without skips: AlexNet, GoogLeNet, ResNet.

Paper: Long, Shelhamer and Darrell, "Fully convolutional networks for semantic
  segmentation", CVPR 2015, Table 1.
Implements: FCN-AlexNet as released. FCN-GoogLeNet, which was not, is made from
  the paper's words in the same way; its final average pool is left out, as the
  paper found better. torchvision's FCN on ResNet, which is not of the paper but
  the baseline that later papers compare with.
Differs: see `fcn`.
"""

import functools

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from fcnjax import typing
from fcnjax.models import blocks, segmenter, upsampling as upsampling_lib
from fcnjax.models.backbones import alexnet, googlenet, resnet
from fcnjax.ops import activation, resizing

# (kernel, stride) from the image to the scores.
ALEXNET_LAYERS = (*alexnet.LAYERS, (6, 1), (1, 1), (1, 1))
# The paper counts the average pool of 7x7, which it leaves out: 907, not 715.
GOOGLENET_LAYERS = (*googlenet.LAYERS, (7, 1), (1, 1))

# AlexNet's cell j lies on pixel 32 j + 13, GoogLeNet's on 32 j - 67 (its conv1
# is padded by 97 more); the deconvolution of kernel 63 puts it on 32 j + 31.
ALEXNET_OFFSET, GOOGLENET_OFFSET = 18, 98


def fcn_alexnet(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  upsampling: str = "fixed",
  widths: tuple[int, ...] = alexnet.WIDTHS,
  fc_channels: int = 4096,
  dropout: float = 0.5,
) -> segmenter.Segmenter:
  """Returns FCN-32s on AlexNet (CaffeNet).

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype, up to the scores.
    upsampling: "fixed" or "learned".
    widths: channels of the five convolutions.
    fc_channels: channels of fc6 and fc7.
    dropout: rate after fc6 and fc7, in [0, 1).
  """
  blocks.check_choice("upsampling", upsampling, upsampling_lib.UPSAMPLINGS)
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      alexnet.AlexNet, widths=widths, first_padding=100
    ),
    head=functools.partial(
      CoarseHead,
      kernels=(6, 1),
      offset=ALEXNET_OFFSET,
      upsampling=upsampling,
      fc_channels=fc_channels,
      dropout=dropout,
    ),
    in_channels=in_channels,
    dtype=dtype,
  )


def fcn_googlenet(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  upsampling: str = "fixed",
  width: float = 1.0,
  dropout: float = 0.4,
  norm: str = "none",
  bn_momentum: float = 0.9,
) -> segmenter.Segmenter:
  """Returns FCN-32s on GoogLeNet.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype, up to the scores.
    upsampling: "fixed" or "learned".
    width: factor of all channels.
    dropout: rate before the scores, in [0, 1).
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """
  blocks.check_choice("upsampling", upsampling, upsampling_lib.UPSAMPLINGS)
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      googlenet.GoogLeNet, width=width, first_padding=100, norm=norm
    ),
    head=functools.partial(
      CoarseHead,
      offset=GOOGLENET_OFFSET,
      upsampling=upsampling,
      dropout=dropout,
    ),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


def fcn_resnet(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  depths: tuple[int, ...] = resnet.DEPTHS[50],
  widths: tuple[int, ...] = resnet.WIDTHS,
  output_stride: int = 8,
  channels: int = 512,
  norm: str = "batch",
  bn_momentum: float = 0.9,
) -> segmenter.Segmenter:
  """Returns torchvision's FCN: a dilated ResNet, 3x3 convolution, scores.

  Not of the paper: the baseline that later papers compare with.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype, up to the scores.
    depths: units of the four stages.
    widths: of the units' 3x3 convolutions, by stage.
    output_stride: 8, 16 or 32; the variables are the same.
    channels: of the head's 3x3 convolution.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      resnet.ResNet,
      depths=depths,
      widths=widths,
      output_stride=output_stride,
      norm=norm,
    ),
    head=functools.partial(blocks.FCNHead, channels=channels, norm=norm),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


class CoarseHead(nn.Module):
  """Scores at stride 32, upsampled by a deconvolution of kernel 63.

  Attributes:
    num_classes: number of classes.
    offset: where the upsampled scores are cropped.
    kernels: of the fully connected layers made convolutions, may be none.
    fc_channels: their channels.
    upsampling: see `fcn_vgg16`; the only one here is the last one.
    dropout: rate after them, or else before the scores, in [0, 1).
    dtype: compute dtype, up to the scores.
    bn_momentum: not used.
  """

  num_classes: int
  offset: int
  kernels: tuple[int, ...] = ()
  fc_channels: int = 4096
  upsampling: str = "fixed"
  dropout: float = 0.5
  dtype: str = "float32"
  bn_momentum: float = 0.9

  @nn.compact
  def __call__(
    self, features: typing.Features, *, size: tuple[int, int], train: bool
  ) -> Float[Array, "b h w k"]:
    drop = functools.partial(blocks.dropout, self, self.dropout, train=train)
    x = features["stage5"]
    x = x if self.kernels else drop(x)
    for i, kernel in enumerate(self.kernels, 6):
      fc = blocks.conv(
        self.fc_channels, kernel, padding=0, name=f"fc{i}", dtype=self.dtype
      )
      x = drop(activation.relu(fc(x)))
    score = blocks.conv(
      self.num_classes,
      1,
      name="score_fr",
      dtype=self.dtype,
      kernel_init=nn.initializers.zeros,
    )
    x = score(x).astype(jnp.float32)
    learned = self.upsampling == "learned"
    x = upsampling_lib.Upscore(32, learned, kernel=63, name="upscore")(x)
    return resizing.crop(x, self.offset, size)
