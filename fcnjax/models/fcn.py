"""Fully convolutional networks: VGG16 with skips, two networks fused.

Paper: Long, Shelhamer and Darrell, "Fully convolutional networks for semantic
  segmentation", CVPR 2015; Shelhamer, Long and Darrell, PAMI 2017.
Implements: the released Caffe networks: the image padded by 100 pixels, pools
  that round up, crop offsets, zero-initialised score layers, fixed bilinear
  upsampling, and the at-once FCN-8s, whose pools are scaled; the late fusion of
  two networks (NYUDv2) and two tasks on one (SIFT Flow).
Differs: the CVPR paper learns the intermediate upsamplings from a bilinear
  start and fixes the last one (`upsampling="intermediate_learned"`); the
  release fixes all, and its authors found no significant difference. The
  release stores a fixed upsampling as a kernel with zeros off the diagonal;
  here it has no parameters. Scores are float32 from the score layers on. To be
  trained small and from scratch, the network can have other widths,
  normalisation, and no padding by 100 (`first_padding=1`, see `OFFSETS`).
"""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks, segmenter, upsampling as upsampling_lib
from fcnjax.models.backbones import vgg
from fcnjax.ops import activation, resizing

# (kernel, stride) from the image to the scores; the skips do not deepen it.
VGG16_LAYERS = (*vgg.LAYERS, (7, 1), (1, 1), (1, 1))

# Where to crop so that centres coincide, by the padding of conv1_1: for a skip
# the first of its cells that lies on the upsampled scores' first, for the final
# upsampling (by stride) the pixel that is the image's first.
# With padding 100, fc6 is unpadded: its cell j lies on pixel 32 j + 12.5, the
# deconvolution of kernel 64 puts it on 32 j + 31.5, hence 19. With padding 1,
# fc6 is padded by 3 and its cell lies on 32 j + 15.5, hence 16. There the skips
# are the smaller maps: -1 means that the scores are cropped, from cell 1.
OFFSETS = {
  100: {"pool4": 5, "pool3": 9, 32: 19, 16: 27, 8: 31},
  1: {"pool4": -1, "pool3": -1, 32: 16, 16: 8, 8: 4},
}


def fcn_vgg16(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  stride: int,
  pool_scales: tuple[float, float] = (1.0, 1.0),
  upsampling: str = "fixed",
  first_padding: int = 100,
  widths: tuple[int, ...] = vgg.WIDTHS,
  fc_channels: int = 4096,
  dropout: float = 0.5,
  second_classes: int = 0,
  norm: str = "none",
  bn_momentum: float = 0.9,
) -> segmenter.Segmenter:
  """Returns FCN-32s, 16s or 8s.

  A finer net that takes the parameters of a coarser one (`init_from`) begins
  with its predictions: score layers are zero at first, so that its scores are
  the coarse net's, upsampled in two or three bilinear steps instead of one.
  Those are equal where the scores are linear. Elsewhere the steps round off
  the corners that the single upsampling has at the cells: 16s differs from 32s
  within a quarter of a cell from a cell's centre, 8s within three eighths,
  along either axis by at most an eighth of the scores' second difference
  there. With `first_padding=1` the borders differ, too: the scores are cropped
  before the last step.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype, up to the scores.
    stride: 32, 16 or 8: of the finest scores.
    pool_scales: what pool4 and pool3 are multiplied by before their scores;
      0.01 and 0.0001 in the at-once network, which is trained in one stage.
    upsampling: "fixed", "intermediate_learned" or "learned"; what is learned
      has dense kernels [k, k, classes, classes] and starts bilinear.
    first_padding: 100 as released, or 1, which computes far less on small
      images.
    widths: channels of the five stages.
    fc_channels: channels of fc6 and fc7.
    dropout: rate after fc6 and fc7, in [0, 1).
    second_classes: classes of a second task, scored and upsampled apart from
      the first's: 3 geometric ones beside SIFT Flow's 33 semantic ones. For
      fixed upsampling only.
    norm: see `blocks.norm`; in the 13 convolutions of VGG16 only.
    bn_momentum: see `blocks.norm`.

  Raises:
    ValueError: if stride, upsampling or first_padding is unknown, or a second
      task is to share learned upsampling.
  """
  if stride not in (32, 16, 8):
    raise ValueError(f"stride must be 32, 16 or 8; got {stride}.")
  if first_padding not in OFFSETS:
    raise ValueError(f"first_padding must be 100 or 1; got {first_padding}.")
  blocks.check_choice("upsampling", upsampling, upsampling_lib.UPSAMPLINGS)
  if second_classes and upsampling != "fixed":
    raise ValueError(
      f"second_classes needs upsampling='fixed', got {upsampling!r}: learned "
      "kernels would mix the classes of both tasks."
    )
  return segmenter.Segmenter(
    num_classes=num_classes,
    second_classes=second_classes,
    backbone=functools.partial(
      vgg.VGG16, widths=widths, first_padding=first_padding, norm=norm
    ),
    head=functools.partial(
      Head,
      stride=stride,
      pool_scales=pool_scales,
      upsampling=upsampling,
      first_padding=first_padding,
      fc_channels=fc_channels,
      dropout=dropout,
    ),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


def fcn_late_fusion(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  stride: int = 32,
  first_padding: int = 100,
  widths: tuple[int, ...] = vgg.WIDTHS,
  fc_channels: int = 4096,
  dropout: float = 0.5,
  norm: str = "none",
  bn_momentum: float = 0.9,
) -> "LateFusion":
  """Returns two FCNs on VGG16 for two kinds of image, RGB and HHA.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image, 6 for RGB-HHA.
    dtype: compute dtype, up to the scores.
    stride: 32, 16 or 8.
    first_padding: see `fcn_vgg16`.
    widths: channels of the five stages.
    fc_channels: channels of fc6 and fc7.
    dropout: rate after fc6 and fc7, in [0, 1).
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """
  one = fcn_vgg16(
    num_classes=num_classes,
    in_channels=in_channels,
    dtype=dtype,
    stride=stride,
    first_padding=first_padding,
    widths=widths,
    fc_channels=fc_channels,
    dropout=dropout,
    norm=norm,
  )
  return LateFusion(
    num_classes=num_classes,
    network=functools.partial(
      segmenter.Segmenter, backbone=one.backbone, head=one.head
    ),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


class LateFusion(nn.Module):
  """Two whole networks, one for each kind of image, whose logits are averaged.

  FCN-32s RGB-HHA on NYUDv2: the first three channels go through the network
  `color`, those behind them through `hha`. The release averages the scores and
  upsamples once, which is the same where the upsampling is fixed.

  Attributes:
    num_classes: number of classes.
    network: constructor of each network, see `segmenter.Segmenter`.
    in_channels: channels of the image, at least 4.
    dtype: compute dtype, up to the scores.
    bn_momentum: see `blocks.norm`.
  """

  num_classes: int
  network: Callable[..., nn.Module]
  in_channels: int = 6
  dtype: str = "float32"
  bn_momentum: float = 0.9

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Outputs:
    """Returns {"logits": f32 [b, h, w, k]}.

    Raises:
      ValueError: if the image has not `in_channels` channels, or too few.
    """
    blocks.check_channels(image, self.in_channels)
    if self.in_channels < 4:
      raise ValueError(
        "Late fusion takes images of three colour channels and others behind "
        f"them (RGB-HHA: 6); got {self.in_channels}."
      )

    def logits(name, part):
      network = self.network(
        num_classes=self.num_classes,
        in_channels=part.shape[-1],
        dtype=self.dtype,
        bn_momentum=self.bn_momentum,
        name=name,
      )
      return network(part, train=train)["logits"]

    color = logits("color", image[..., :3])
    return {"logits": 0.5 * color + 0.5 * logits("hha", image[..., 3:])}


class Head(nn.Module):
  """fc6, fc7, scores at stride 32, and at 16 and 8 if wanted; upsampled."""

  num_classes: int
  stride: int
  pool_scales: tuple[float, float]
  upsampling: str
  first_padding: int
  fc_channels: int
  dropout: float
  dtype: str
  bn_momentum: float

  @nn.compact
  def __call__(
    self, features: typing.Features, *, size: tuple[int, int], train: bool
  ) -> Float[Array, "b h w k"]:
    offsets = OFFSETS[self.first_padding]
    padding = 0 if self.first_padding == 100 else 3
    x = features["stage5"]
    for name, kernel, pad in (("fc6", 7, padding), ("fc7", 1, 0)):
      x = blocks.conv(
        self.fc_channels, kernel, padding=pad, name=name, dtype=self.dtype
      )(x)
      x = blocks.dropout(self, self.dropout, activation.relu(x), train=train)
      x = blocks.kept(x)
    x = self._score(x, "score_fr")
    if self.stride <= 16:
      skip = self._score(
        features["stage4"] * self.pool_scales[0], "score_pool4"
      )
      x = _add(self._upscore(2, "upscore2")(x), skip, offsets["pool4"])
    if self.stride == 8:
      skip = self._score(
        features["stage3"] * self.pool_scales[1], "score_pool3"
      )
      x = _add(self._upscore(2, "upscore_pool4")(x), skip, offsets["pool3"])
    name = "upscore" if self.stride == 32 else f"upscore{self.stride}"
    x = self._upscore(self.stride, name, final=True)(x)
    return resizing.crop(x, offsets[self.stride], size)

  def _score(self, x: Array, name: str) -> Array:
    zeros = nn.initializers.zeros
    score = blocks.conv(
      self.num_classes, 1, name=name, dtype=self.dtype, kernel_init=zeros
    )
    return score(x).astype(jnp.float32)

  def _upscore(
    self, factor: int, name: str, final: bool = False
  ) -> upsampling_lib.Upscore:
    learned = self.upsampling == "learned" or (
      self.upsampling == "intermediate_learned" and not final
    )
    return upsampling_lib.Upscore(factor, learned, name=name)


def _add(scores: Array, skip: Array, offset: int) -> Array:
  """Returns the sum, where the larger map is cropped to the smaller."""
  if offset >= 0:
    return scores + resizing.crop(skip, offset, scores.shape[1:3])
  return resizing.crop(scores, -offset, skip.shape[1:3]) + skip
