"""Multi-scale context aggregation by dilated convolutions.

Paper: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions",
  ICLR 2016.
Implements: the released networks: the front-end on VGG16, whose convolutions
  are valid and whose last two pools are left out, and the context module in its
  Basic and Large form, of 7 (KITTI), 8 (VOC, CamVid) or 10 layers
  (Cityscapes), with identity initialisation. The image is mirrored at its
  borders as far as the front-end's valid convolutions reach.
Differs: the release cuts an image into tiles and mirrors each by 186 pixels;
  here that is done inside, for any size, so that the logits have the image's.
  The context module is padded by zeros layer by layer, as the release trains
  it; its deployed Large net pads 33 zeros once instead. The Basic module
  starts from the identity alone (eq. 4), where the release adds noise of .01.
  The last upsampling is
  the release's fixed bilinear kernel of 16. To be trained small and from
  scratch, the network can have other widths and normalisation.
"""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks
from fcnjax.models.backbones import vgg
from fcnjax.ops import activation, resizing, transposed

STRIDE = 8
MARGIN = 186  # pixels that are mirrored at each side

# Dilations of the context module's 3x3 layers; a 1x1 layer follows.
DILATIONS = {
  7: (1, 1, 2, 4, 8, 1),
  8: (1, 1, 2, 4, 8, 16, 1),
  10: (1, 1, 2, 4, 8, 16, 32, 64, 1),
}
# Channels in units of the classes, of the 3x3 layers (Table 1); beyond what it
# names, as the release of Dilation10.
BASIC, LARGE = "basic", "large"


def multipliers(depth: int, form: str) -> tuple[int, ...]:
  """Returns the channels of the context module's layers, in classes.

  Args:
    depth: number of layers, 7, 8 or 10.
    form: "basic" or "large" (Table 1).

  Raises:
    ValueError: if depth or form is unknown.
  """
  blocks.check_choice("context", form, (BASIC, LARGE))
  if depth not in DILATIONS:
    raise ValueError(f"depth must be one of {tuple(DILATIONS)}, got {depth}.")
  dilations = DILATIONS[depth]
  if form == BASIC:
    return (1,) * (len(dilations) + 1)
  widest = 2 * max(dilations)
  return (*(2 * d for d in dilations[:-1]), widest, 1)


def frontend_layers() -> tuple[tuple[int, ...], ...]:
  """Returns (kernel, stride, dilation) from the image to the scores."""
  return (*vgg.layers(output_stride=STRIDE), (7, 1, 4), (1, 1), (1, 1))


def layers(depth: int) -> tuple[tuple[int, ...], ...]:
  """Returns (kernel, stride, dilation) from the image to the last layer."""
  return (*frontend_layers(), *((3, 1, d) for d in DILATIONS[depth]), (1, 1))


def identity_kernel(noise: float):
  """Returns the initialisation that passes a map through (eq. 4 and 5).

  With C = gcd(incoming, outgoing channels), channel a of the C groups'
  incoming goes to the outgoing of the same group with weight C / outgoing; all
  other weights are normal noise.

  Args:
    noise: deviation of the noise.
  """

  def init(key, shape, dtype=jnp.float32):
    height, width, incoming, outgoing = shape
    groups = int(np.gcd(incoming, outgoing))
    a = np.arange(incoming) * groups // incoming
    b = np.arange(outgoing) * groups // outgoing
    centre = (a[:, None] == b[None, :]) * (groups / outgoing)
    kernel = noise * jax.random.normal(key, shape, dtype)
    middle = kernel[height // 2, width // 2]
    return kernel.at[height // 2, width // 2].set(
      jnp.where(centre > 0, centre.astype(dtype), middle)
    )

  return init


class Context(nn.Module):
  """Scores -> scores that have seen more around them (section 3).

  Attributes:
    depth: number of layers, 7, 8 or 10.
    form: "basic" or "large".
    start: "identity", or "random" for He et al.'s.
    dtype: compute dtype.
  """

  depth: int = 8
  form: str = BASIC
  start: str = "identity"
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array | np.ndarray, "b h w k"]
  ) -> Float[Array, "b h w k"]:
    blocks.check_choice("context_init", self.start, ("identity", "random"))
    classes = x.shape[-1]
    widths = multipliers(self.depth, self.form)
    for i, (times, dilation) in enumerate(
      zip(widths, (*DILATIONS[self.depth], 1), strict=True), 1
    ):
      last = i == len(widths)
      # The release's noise: .01 over the width in classes.
      noise = 0.0 if self.form == BASIC else 0.01 / times
      x = blocks.conv(
        times * classes,
        1 if last else 3,
        dilation=dilation,
        kernel_init=identity_kernel(noise)
        if self.start == "identity"
        else blocks.HE_NORMAL,
        name=f"ctx_{'final' if last else f'conv{i}'}",
        dtype=self.dtype,
      )(x)
      x = x if last else blocks.kept(activation.relu(x))
    return x


class Dilation(nn.Module):
  """Front-end, and context module if wanted; logits at the image's size.

  Attributes:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype; parameters and logits are float32.
    depth: layers of the context module, 7, 8 or 10; 0 for the front-end alone.
    context: "basic" or "large".
    context_init: "identity" or "random".
    widths: channels of VGG16's five stages.
    fc_channels: channels of fc6 and fc7.
    dropout: rate after fc6 and fc7, in [0, 1).
    norm: see `blocks.norm`; in the 13 convolutions of VGG16 only.
    bn_momentum: see `blocks.norm`.
  """

  num_classes: int
  in_channels: int = 3
  dtype: str = "float32"
  depth: int = 0
  context: str = BASIC
  context_init: str = "identity"
  widths: tuple[int, ...] = vgg.WIDTHS
  fc_channels: int = 4096
  dropout: float = 0.5
  norm: str = "none"
  bn_momentum: float = 0.9

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Outputs:
    """Returns "logits" f32 [b, h, w, k], and the front-end's scores.

    The scores, "features" f32 of stride 8, are what the release trains a
    context module on.

    Raises:
      ValueError: if the image has not `in_channels` channels.
    """
    blocks.check_channels(image, self.in_channels)
    size = image.shape[1:3]
    x = self._frontend(_mirrored(jnp.asarray(image, self.dtype)), train=train)
    features = x.astype(jnp.float32)
    if self.depth:
      context = Context(
        self.depth,
        self.context,
        self.context_init,
        self.dtype,
        name="context",
      )
      x = context(x.astype(self.dtype))
    x = transposed.bilinear_deconv(x.astype(jnp.float32), factor=STRIDE)
    # pad 4 of the release: cell j of the scores becomes pixels 8 j … 8 j + 7.
    logits = resizing.crop(x, STRIDE // 2, size)
    return {"logits": logits, "features": features}

  def _frontend(self, image: Array, *, train: bool) -> Array:
    """Returns the scores [b, h', w', k] of a mirrored image, stride 8."""
    backbone = vgg.VGG16(
      widths=self.widths,
      first_padding=0,
      padding=0,
      output_stride=STRIDE,
      norm=self.norm,
      bn_momentum=self.bn_momentum,
      dtype=self.dtype,
      name="backbone",
    )
    x = backbone(image, train=train)["stage5"]
    conv = functools.partial(blocks.conv, padding=0, dtype=self.dtype)
    for name, kernel, dilation in (("fc6", 7, 4), ("fc7", 1, 1)):
      x = conv(self.fc_channels, kernel, dilation=dilation, name=name)(x)
      x = blocks.dropout(self, self.dropout, activation.relu(x), train=train)
      x = blocks.kept(x)
    init = nn.initializers.normal(0.001)
    return conv(self.num_classes, 1, kernel_init=init, name="final")(x)


def _mirrored(image: Array) -> Array:
  """Returns the image with its margin, at a size that the pools divide.

  The margin is mirrored without repeating the edge (OpenCV's reflect-101), as
  often as an image smaller than it needs.
  """
  pads = []
  for side in image.shape[1:3]:
    cells = -(-side // STRIDE)
    pads.append((MARGIN, MARGIN + cells * STRIDE - side))
  mode = "reflect" if min(image.shape[1:3]) > 1 else "edge"
  return jnp.pad(image, ((0, 0), *pads, (0, 0)), mode=mode)
