"""SegNet: a decoder that puts maxima back to where the encoder found them.

Paper: Badrinarayanan, Kendall and Cipolla, "SegNet: a deep convolutional
  encoder-decoder architecture for image segmentation", PAMI 2017.
  Kendall, Badrinarayanan and Cipolla, "Bayesian SegNet", BMVC 2017.
Implements: the released Caffe networks, SegNet on VGG16 and SegNet-Basic, with
  Caffe's pooling, which rounds odd sizes up; the unpooling is told the size.
  Bayesian SegNet as released, with dropout around the three deepest stages. The
  decoder variants of Table 1, which were not released.
Differs: the paper's SegNet-Basic has no biases (`bias=False`), the release
  has. The paper says of the decoder of SegNet-Basic that it has no ReLU; that
  of the released full SegNet has batch norm and ReLU after every convolution
  but the last. Caffe's batch norm here keeps no running average (a pass over
  the training set computes the statistics afterwards), adds 1e-9 to the
  variance and starts its offset from 0.001; Flax's keeps a running average too
  (`bn_momentum`), which such a pass may replace. The paper starts the kernels
  of 8x8 of FCN-Basic's decoders from bilinear interpolation, which at stride 2
  would multiply the maps by 4; here they are divided by that.
"""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks, segmenter
from fcnjax.models.backbones import vgg
from fcnjax.ops import normalization, pooling, resizing, transposed

BN_EPSILON = 1e-9
BN_SHIFT = 0.001

DECODERS = ("unpool", "single_channel", "bilinear", "deconv", "deconv_wide")


def basic_layers(
  kernel: int = 7, depth: int = 4
) -> tuple[tuple[int, int], ...]:
  """Returns (kernel, stride) of SegNet-Basic's layers from image to pool4."""
  return ((kernel, 1), (2, 2)) * depth


def segnet_vgg16(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  widths: tuple[int, ...] = vgg.WIDTHS,
  dropout: float = 0.0,
  pack_indices: bool = True,
  norm: str = "batch",
  bn_momentum: float = 0.9,
) -> segmenter.Segmenter:
  """Returns SegNet on VGG16 (Section 3), or Bayesian SegNet.

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype.
    widths: channels of the five stages of encoder and decoder.
    dropout: rate after the pools and decoders of stages 3 to 5, 0.5 in Bayesian
      SegNet. It is applied in training, and in evaluation whenever a key
      "dropout" is given: to draw Monte-Carlo samples.
    pack_indices: whether an index takes the paper's 2 bits between encoder and
      decoder, instead of a byte.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      vgg.VGG16,
      widths=widths,
      dropout=dropout,
      pack_indices=pack_indices,
      norm=norm,
      bn_epsilon=BN_EPSILON,
      bn_shift=BN_SHIFT,
    ),
    head=functools.partial(
      VGGDecoder,
      widths=widths,
      dropout=dropout,
      pack_indices=pack_indices,
      norm=norm,
    ),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


def segnet_basic(
  *,
  num_classes: int,
  in_channels: int,
  dtype: str,
  width: int = 64,
  kernel: int = 7,
  depth: int = 4,
  bias: bool = True,
  decoder: str = "unpool",
  addition: bool = False,
  input_norm: str = "lrn",
  pack_indices: bool = True,
  norm: str = "batch",
  bn_momentum: float = 0.9,
) -> segmenter.Segmenter:
  """Returns SegNet-Basic (Section 3.1) or one of its variants (Section 3.2).

  Args:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype.
    decoder: "unpool"; "single_channel", unpooling and depthwise convolutions;
      "bilinear", scores upsampled at once; "deconv", FCN-Basic's learned
      upsampling of scores; "deconv_wide", the same of all channels.
    addition: whether the encoder's maps are added to the decoder's of the same
      size.
    width: channels of every layer but the last.
    kernel: side of the kernels, pixels, odd.
    depth: number of pools.
    bias: whether the convolutions have biases: yes in the release, no in the
      paper.
    input_norm: "lrn", local response normalisation as in the release; "lcn",
      local contrast normalisation as in the paper; or "none". LRN with the
      released alpha of 1e-4 presumes images in [0, 255]: to images normalised
      to about [-2, 2] it does next to nothing. Give the pipeline mean 0 and
      std 1 to have it as released.
    pack_indices: see `segnet_vgg16`.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """
  shape = {"width": width, "kernel": kernel, "depth": depth}
  settings = {**shape, "bias": bias, "norm": norm}
  blocks.check_choice("decoder", decoder, DECODERS)
  return segmenter.Segmenter(
    num_classes=num_classes,
    backbone=functools.partial(
      BasicEncoder,
      input_norm=input_norm,
      pack_indices=pack_indices,
      **settings,
    ),
    head=functools.partial(
      DeconvDecoder, decoder=decoder, addition=addition, **settings
    )
    if decoder.startswith("deconv")
    else functools.partial(
      BasicDecoder,
      decoder=decoder,
      addition=addition,
      pack_indices=pack_indices,
      **settings,
    ),
    in_channels=in_channels,
    dtype=dtype,
    bn_momentum=bn_momentum,
  )


def storage_multiplier(
  *, num_classes: int, width: int = 64, decoder: str, addition: bool
) -> int:
  """Returns the maps that are kept of each encoder for its decoder (Table 1).

  One for the indices of a pool, which are 2 bits a window each; or as many as
  are added. (Of FCN-Basic-NoAddition the table says "n/a": nothing is kept.)

  Args:
    num_classes: number of classes.
    width: see `segnet_basic`.
    decoder: see `segnet_basic`.
    addition: see `segnet_basic`.
  """
  if addition:
    return num_classes if decoder == "deconv" else width
  return int(decoder in ("unpool", "single_channel"))


def _norm(module: nn.Module, *, train: bool) -> Callable[..., Array]:
  return blocks.norm_of(module, train=train, epsilon=BN_EPSILON, shift=BN_SHIFT)


def _sizes(size: tuple[int, int], depth: int) -> list[tuple[int, int]]:
  """Returns the sizes before each of `depth` pools that round up."""
  sizes = [size]
  while len(sizes) < depth:
    sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
  return sizes


class VGGDecoder(nn.Module):
  """The mirror of VGG16: unpool, convolve, normalise, rectify."""

  num_classes: int
  widths: tuple[int, ...]
  dropout: float
  pack_indices: bool
  norm: str
  bn_momentum: float
  dtype: str

  @nn.compact
  def __call__(
    self, features: typing.Features, *, size: tuple[int, int], train: bool
  ) -> Float[Array, "b h w k"]:
    norm = _norm(self, train=train)
    sizes = _sizes(size, len(vgg.DEPTHS))
    # A stage's last convolution has the channels of the stage before it.
    widths = (self.num_classes, *self.widths)
    x = features["stage5"]
    for stage in (5, 4, 3, 2, 1):
      x = pooling.max_unpool(
        x,
        features[f"index{stage}"],
        size=sizes[stage - 1],
        packed=self.pack_indices,
      )
      for i in range(vgg.DEPTHS[stage - 1], 0, -1):
        name = f"conv{stage}_{i}_D"
        width = widths[stage] if i > 1 else widths[stage - 1]
        x = blocks.conv(width, 3, name=name, dtype=self.dtype)(x)
        if name != "conv1_1_D":
          x = nn.relu(norm(x, name=f"{name}_bn"))
      if stage >= 3:
        x = blocks.dropout(self, self.dropout, x, train=train)
      x = blocks.kept(x)
    return x.astype(jnp.float32)


class BasicEncoder(nn.Module):
  """conv, batch norm, ReLU, pool.

  Gives the pools' "stage1" ... and "index1" ..., and what they pooled,
  "conv1" ...
  """

  width: int
  kernel: int
  depth: int
  bias: bool
  norm: str
  input_norm: str
  pack_indices: bool
  bn_momentum: float
  dtype: str

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool
  ) -> typing.Features:
    blocks.check_choice("input_norm", self.input_norm, ("lrn", "lcn", "none"))
    norm = _norm(self, train=train)
    x = jnp.asarray(image, jnp.float32)
    if self.input_norm == "lrn":
      x = normalization.local_response_norm(x, size=5, alpha=1e-4, beta=0.75)
    elif self.input_norm == "lcn":
      x = normalization.local_contrast_norm(x)
    features = {}
    x = x.astype(self.dtype)
    for stage in range(1, self.depth + 1):
      x = blocks.conv(
        self.width,
        self.kernel,
        bias=self.bias,
        name=f"conv{stage}",
        dtype=self.dtype,
      )(x)
      x = nn.relu(norm(x, name=f"conv{stage}_bn"))
      features[f"conv{stage}"] = x
      x, index = pooling.max_pool_with_argmax(
        x, rounding="ceil", packed=self.pack_indices
      )
      features[f"stage{stage}"] = x = blocks.kept(x)
      features[f"index{stage}"] = index
    return features


class BasicDecoder(nn.Module):
  """unpool, conv, batch norm, without ReLU; then a 1x1 classifier."""

  num_classes: int
  width: int
  kernel: int
  depth: int
  bias: bool
  decoder: str
  addition: bool
  pack_indices: bool
  norm: str
  bn_momentum: float
  dtype: str

  @nn.compact
  def __call__(
    self, features: typing.Features, *, size: tuple[int, int], train: bool
  ) -> Float[Array, "b h w k"] | typing.Coarse:
    norm = _norm(self, train=train)
    classify = blocks.conv(
      self.num_classes,
      1,
      bias=self.bias,
      name="conv_classifier",
      dtype=self.dtype,
    )
    x = features[f"stage{self.depth}"]
    if self.decoder == "bilinear":
      scores = classify(x).astype(jnp.float32)
      return typing.Coarse(scores, size)
    sizes = _sizes(size, self.depth)
    for stage in range(self.depth, 0, -1):
      x = pooling.max_unpool(
        x,
        features[f"index{stage}"],
        size=sizes[stage - 1],
        packed=self.pack_indices,
      )
      x = blocks.conv(
        self.width,
        self.kernel,
        groups=self.width if self.decoder == "single_channel" else 1,
        bias=self.bias,
        name=f"conv_decode{stage}",
        dtype=self.dtype,
      )(x)
      x = norm(x, name=f"conv_decode{stage}_bn")
      if self.addition:
        x = x + features[f"conv{stage}"]
      x = blocks.kept(x)
    return classify(x).astype(jnp.float32)


class DeconvDecoder(nn.Module):
  """FCN-Basic: scores of each pool, upsampled by 2 and added.

  With "deconv_wide" there is no reduction to scores before the end.
  """

  num_classes: int
  width: int
  kernel: int
  depth: int
  bias: bool
  decoder: str
  addition: bool
  norm: str
  bn_momentum: float
  dtype: str

  @nn.compact
  def __call__(
    self, features: typing.Features, *, size: tuple[int, int], train: bool
  ) -> Float[Array, "b h w k"]:
    wide = self.decoder == "deconv_wide"
    sizes = _sizes(size, self.depth)

    def reduced(stage, name):
      if wide:
        return features[f"stage{stage}"]
      return self._score(name)(features[f"stage{stage}"])

    x = reduced(self.depth, f"score{self.depth}")
    for stage in range(self.depth, 0, -1):
      x = self._double(x, f"deconv{stage}", sizes[stage - 1])
      if self.addition and stage > 1:
        x = x + reduced(stage - 1, f"score{stage - 1}")
    x = self._score("conv_classifier")(x) if wide else x
    return x.astype(jnp.float32)

  def _score(self, name: str) -> nn.Conv:
    return blocks.conv(
      self.num_classes, 1, bias=self.bias, name=name, dtype=self.dtype
    )

  def _double(self, x: Array, name: str, size: tuple[int, int]) -> Array:
    start = resizing.bilinear_kernel(8, x.shape[-1]) / 4
    kernel = self.param(
      f"{name}_kernel", lambda _: jnp.asarray(start, jnp.float32)
    )
    y = transposed.transposed_conv(
      x, kernel.astype(self.dtype), stride=2, padding=3
    )
    return resizing.crop(y, 0, size)
