"""U-Net: a contracting and an expanding path, joined at every level.

Paper: Ronneberger, Fischer and Brox, "U-Net: convolutional networks for
  biomedical image segmentation", MICCAI 2015.
Implements: the paper's valid convolutions (`unet`); the released network as
  its ports have it (`unet_release`); and the paper's with padded convolutions
  for images of any size (`unet_same`).
Differs: the paper puts dropout "at the end of the contracting path"; all three
  have it where the release does, after the last ReLU of the two deepest levels
  with p = 0.5, the upper of them before the skip branches off. The release
  further puts the upsampled map before the skip in the concatenation, has a
  ReLU after each up-convolution, and does not halve the channels in the last
  one. `unet_same` may have normalisation after each convolution, whose bias it
  then replaces, and another base width and depth.
"""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks, upsampling
from fcnjax.ops import activation, max_pooling, resizing


def layers(depth: int = 4) -> tuple[tuple[int, int], ...]:
  """Returns (kernel, stride) of the layers from image to bottleneck."""
  return ((3, 1), (3, 1), (2, 2)) * depth + ((3, 1), (3, 1))


def margin(depth: int = 4) -> int:
  """Returns the pixels that valid convolutions cost on each side; 92."""
  return 6 * 2**depth - 4


def legal_sizes(size: int, *, depth: int = 4) -> tuple[int, int]:
  """Returns the nearest sides of an image that valid convolutions can take.

  Every pool must halve an even side, and at least one pixel must come out:
  with depth 4 those are the sides 16 m + 12 from 188 on.

  Args:
    size: wanted side of the input, pixels.
    depth: number of pools.

  Returns:
    The largest legal side of at most `size` (or the smallest there is) and the
    smallest of at least `size`; equal if `size` is legal.
  """
  step = 2**depth
  smallest = 2 * margin(depth) + min(4, step)
  below = smallest + max(0, size - smallest) // step * step
  return below, below if size <= below else below + step


class DoubleConv(nn.Module):
  """Twice a 3x3 convolution and ReLU."""

  features: int
  padding: int
  norm: str
  bn_momentum: float
  dtype: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], *, train: bool
  ) -> Float[Array, "b h2 w2 d"]:
    norm = blocks.norm_of(self, train=train, epsilon=1e-5)
    relu = activation.relu if self.norm == "none" else nn.relu
    for i in (1, 2):
      x = blocks.conv(
        self.features,
        3,
        padding=self.padding,
        bias=self.norm == "none",
        name=f"conv{i}",
        dtype=self.dtype,
      )(x)
      x = relu(norm(x, name=f"conv{i}_norm"))
    return x


class UNet(nn.Module):
  """U-Net in its three forms.

  Attributes:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype; parameters and logits are float32.
    padding: "valid" as in the paper, where the logits are smaller than the
      image by `margin(depth)` on each side; or "same", where the image is
      padded with zeros to a multiple of 2**depth and the logits are cropped.
    variant: "paper" or "release".
    width: channels of the first level; each level below has twice as many.
    depth: number of pools.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
    dropout: rate of both dropouts, in [0, 1).
  """

  num_classes: int
  in_channels: int = 3
  dtype: str = "float32"
  padding: str = "valid"
  variant: str = "paper"
  width: int = 64
  depth: int = 4
  norm: str = "none"
  bn_momentum: float = 0.9
  dropout: float = 0.5

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Outputs:
    """Returns {"logits": f32 [b, h, w, k]}, smaller if `padding` is "valid".

    Raises:
      ValueError: if the image has not `in_channels` channels, or a size that
        valid convolutions cannot take.
    """
    blocks.check_channels(image, self.in_channels)
    blocks.check_choice("variant", self.variant, ("paper", "release"))
    size = image.shape[1:3]
    x = self._fit(jnp.asarray(image, self.dtype))
    skips = []
    for level in range(self.depth + 1):
      x = max_pooling.max_pool(x) if level else x
      x = self._double_conv(level, f"down{level}")(x, train=train)
      if level >= self.depth - 1:
        x = blocks.dropout(self, self.dropout, x, train=train)
      skips.append(x := blocks.kept(x))
    for level in reversed(range(self.depth)):
      x = self._join(level, x, skips[level])
      x = blocks.kept(self._double_conv(level, f"up{level}")(x, train=train))
    x = blocks.conv(self.num_classes, 1, name="score", dtype=self.dtype)(x)
    if self.padding == "same":
      x = resizing.crop(x, 0, size)
    return {"logits": x.astype(jnp.float32)}

  def _double_conv(self, level: int, name: str) -> DoubleConv:
    return DoubleConv(
      self.width * 2**level,
      padding=1 if self.padding == "same" else 0,
      norm=self.norm,
      bn_momentum=self.bn_momentum,
      dtype=self.dtype,
      name=name,
    )

  def _join(self, level: int, x: Array, skip: Array) -> Array:
    """Returns the upsampled map and the skip of `level`, concatenated."""
    release = self.variant == "release"
    features = self.width * (2 if release and level == 0 else 2**level)
    x = upsampling.UpConv(features, name=f"upconv{level}", dtype=self.dtype)(x)
    skip = resizing.center_crop(skip, x.shape[1:3])
    pair = (nn.relu(x), skip) if release else (skip, x)
    return jnp.concatenate(pair, axis=-1)

  def _fit(self, x: Array) -> Array:
    """Returns `x` at a size that the pools can halve."""
    blocks.check_choice("padding", self.padding, ("valid", "same"))
    if self.padding == "same":
      pad = [(0, -side % 2**self.depth) for side in x.shape[1:3]]
      return jnp.pad(x, ((0, 0), *pad, (0, 0)))
    near = [legal_sizes(side, depth=self.depth) for side in x.shape[1:3]]
    if any(side not in pair for side, pair in zip(x.shape[1:3], near)):
      words = [f"{a} or {b}" if a < b else f"{a}" for a, b in near]
      raise ValueError(
        f"An image of {x.shape[1]} x {x.shape[2]} pixels does not fit this "
        f"U-Net of valid convolutions; the nearest legal size is height "
        f"{words[0]}, width {words[1]}, which gives logits "
        f"{2 * margin(self.depth)} pixels smaller. Pad the image, or predict "
        "by overlap-tile."
      )
    return x
