"""DeepLab v3 and v3+: a pyramid of dilated convolutions, and a decoder.

Paper: Chen, Papandreou, Schroff and Adam, "Rethinking atrous convolution for
  semantic image segmentation", 2017 (v3); Chen, Zhu, Papandreou, Schroff and
  Adam, "Encoder-decoder with atrous separable convolution for semantic image
  segmentation", ECCV 2018 (v3+).
Implements: the release for TensorFlow: its end points, initialisation and
  batch-norm constants, logits interpolated with corners aligned.
Differs: `variant="torchvision"` of v3 has the form that torchvision publishes
  weights of: another 3x3 convolution behind the pyramid, dropout 0.5 in it, and
  corners not aligned.
"""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from fcnjax import typing
from fcnjax.models import blocks, segmenter, separable
from fcnjax.models.backbones import resnet, xception
from fcnjax.ops import resizing

# Rates of the pyramid at output stride 16 (v3, section 4.1.2), doubled at 8.
RATES = {32: (3, 6, 9), 16: (6, 12, 18), 8: (12, 24, 36)}

# Factors of the last stage's dilations in ResNet (v3, Table 3).
MULTI_GRID = (1, 2, 4)

# Batch norm outside of the backbone.
BN_MOMENTUM = 0.9997
BN_EPSILON = 1e-5

VARIANTS = ("paper", "torchvision")


def deeplabv3(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  depths: tuple[int, ...] = resnet.DEPTHS[101],
  widths: tuple[int, ...] = resnet.WIDTHS,
  variant: str = "paper",
  output_stride: int = 16,
  multi_grid: tuple[int, ...] = MULTI_GRID,
  channels: int = 256,
  auxiliary: bool = False,
  norm: str = "batch",
  bn_momentum: float = BN_MOMENTUM,
) -> segmenter.Segmenter:
  """Returns DeepLab v3 on ResNet.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype.
    depths: units of the four stages.
    widths: of the units' 3x3 convolutions, by stage.
    variant: "paper" (the release, deep stem) or "torchvision".
    output_stride: 8, 16 or 32; the variables are the same.
    multi_grid: factors of the last stage's dilations.
    channels: of the pyramid.
    auxiliary: whether scores of stage4 help training, as in torchvision.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """
  blocks.check_choice("variant", variant, VARIANTS)
  blocks.check_output_stride(output_stride)
  torchvision = variant == "torchvision"
  aux_head = functools.partial(blocks.FCNHead, stage="stage4", channels=256)
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      resnet.ResNet,
      depths=depths,
      widths=widths,
      stem="classic" if torchvision else "deep",
      stride_unit="first" if torchvision else "last",
      output_stride=output_stride,
      multi_grid=multi_grid,
      norm=norm,
    ),
    head=functools.partial(
      Head,
      rates=RATES[output_stride],
      channels=channels,
      dropout=0.5 if torchvision else 0.1,
      last_conv=torchvision,
      convention="half_pixel" if torchvision else "align_corners",
      norm=norm,
    ),
    aux_head=functools.partial(aux_head, norm=norm) if auxiliary else None,
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


def deeplabv3p(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  backbone: functools.partial,
  output_stride: int = 16,
  channels: int = 256,
  low_level_channels: int = 48,
  decoder: bool = True,
  separable: bool | None = None,
  image_pooling: bool = True,
  multi_grid: tuple[int, ...] | None = None,
  norm: str = "batch",
  bn_momentum: float = BN_MOMENTUM,
) -> segmenter.Segmenter:
  """Returns DeepLab v3+.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype.
    backbone: constructor of an `Xception` or a `ResNet`.
    output_stride: 8, 16 or 32; the variables are the same, so that a network
      trained at 16 is evaluated at 8.
    channels: of pyramid and decoder.
    low_level_channels: that the map of stride 4 is reduced to (Table 1).
    decoder: whether there is one; without, this is v3.
    separable: whether pyramid and decoder have separable convolutions; None:
      on Xception, as in the paper's tables.
    image_pooling: whether the pyramid has the image-level feature; Cityscapes
      is better without (Table 7).
    multi_grid: factors of the dilations of ResNet's last stage; None is
      (1, 2, 4).
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """
  blocks.check_output_stride(output_stride)
  is_xception = backbone.func is xception.Xception
  if separable is None:
    separable = is_xception
  if multi_grid is not None:
    if is_xception:
      raise ValueError("multi_grid is for ResNet; Xception has none.")
    backbone = functools.partial(backbone, multi_grid=multi_grid)
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      backbone, output_stride=output_stride, norm=norm
    ),
    head=functools.partial(
      Head,
      rates=RATES[output_stride],
      channels=channels,
      low_level_channels=low_level_channels if decoder else 0,
      separable=separable,
      image_pooling=image_pooling,
      norm=norm,
    ),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


def xception_backbone(depth: int = 65) -> functools.partial:
  """Returns the constructor of an Xception for `deeplabv3p`."""
  return functools.partial(xception.Xception, table=xception.BLOCKS[depth])


def resnet_backbone(depth: int = 101) -> functools.partial:
  """Returns the constructor of the release's ResNet for `deeplabv3p`."""
  return functools.partial(
    resnet.ResNet,
    depths=resnet.DEPTHS[depth],
    stem="deep",
    stride_unit="last",
    multi_grid=MULTI_GRID,
  )


class Head(nn.Module):
  """v3 and v3+: spatial pyramid, decoder if wanted, logits.

  Attributes:
    num_classes: number of classes.
    rates: dilations of the pyramid's 3x3 convolutions.
    channels: of pyramid and decoder.
    low_level_channels: that the map of stride 4 is reduced to; 0 for no
      decoder.
    separable: whether the 3x3 convolutions are separable.
    image_pooling: whether the pyramid has the mean of the map.
    last_conv: whether a 3x3 convolution precedes the logits of v3.
    dropout: rate after the pyramid, in [0, 1).
    convention: of the interpolations.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
    dtype: compute dtype.
  """

  num_classes: int
  rates: tuple[int, ...]
  channels: int = 256
  low_level_channels: int = 0
  separable: bool = False
  image_pooling: bool = True
  last_conv: bool = False
  dropout: float = 0.1
  convention: str = "align_corners"
  norm: str = "batch"
  bn_momentum: float = BN_MOMENTUM
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, features: typing.Features, *, size: tuple[int, int], train: bool
  ) -> typing.Coarse:
    norm = blocks.norm_of(self, train=train, epsilon=BN_EPSILON)

    def conv(x, width, kernel, name, rate=1):
      if kernel == 3 and self.separable:
        return separable.SeparableConv(
          width,
          norm,
          dilation=rate,
          depthwise_init=nn.initializers.truncated_normal(0.33),
          pointwise_init=nn.initializers.truncated_normal(0.06),
          dtype=self.dtype,
          name=name,
        )(x)
      module = blocks.conv(
        width,
        kernel,
        dilation=rate,
        bias=False,
        kernel_init=nn.initializers.xavier_uniform(),  # slim's default
        name=name,
        dtype=self.dtype,
      )
      return nn.relu(norm(module(x), name=f"{name}_bn"))

    resize = functools.partial(
      resizing.resize_bilinear, convention=self.convention
    )
    x = self._pyramid(features["stage5"], conv, resize)
    x = blocks.dropout(self, self.dropout, x, train=train)
    if self.last_conv:
      x = conv(x, self.channels, 3, "last_conv")
    if self.low_level_channels:
      low = conv(features["low_level"], self.low_level_channels, 1, "low_level")
      x = jnp.concatenate([resize(x, low.shape[1:3]), low], axis=-1)
      for i in (1, 2):
        x = conv(x, self.channels, 3, f"decoder_conv{i}")
    score = blocks.conv(
      self.num_classes,
      1,
      kernel_init=nn.initializers.truncated_normal(0.01),
      name="logits",
      dtype=self.dtype,
    )
    return typing.Coarse(score(x).astype(jnp.float32), size, self.convention)

  def _pyramid(
    self, x: Array, conv: Callable[..., Array], resize: Callable[..., Array]
  ) -> Array:
    """Atrous spatial pyramid pooling, in the release's order."""
    branches = []
    if self.image_pooling:
      mean = jnp.mean(x, axis=(1, 2), keepdims=True)
      pooled = conv(mean, self.channels, 1, "image_pooling")
      branches.append(resize(pooled, x.shape[1:3]))
    branches.append(conv(x, self.channels, 1, "aspp0"))
    branches += [
      conv(x, self.channels, 3, f"aspp{i}", rate)
      for i, rate in enumerate(self.rates, 1)
    ]
    joined = jnp.concatenate(branches, axis=-1)
    return conv(joined, self.channels, 1, "concat_projection")
