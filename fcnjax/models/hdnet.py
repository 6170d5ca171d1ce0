"""HDNet: how near a pixel is to its surroundings, and to its class's centre.

Paper: Li, Kang, Zhu, Ye, Feng and Ming, "HDNet: hybrid distance network for
  semantic segmentation", Neurocomputing 447, 2021.
Implements: the authors' code: hybrid distance relations over seven ranges,
  location-aware attention, channel attention (DANet's), two branches that are
  summed, and the loss of high-dimension feature distance to a table of class
  centres, which moves without a gradient.
Differs: the figure has one convolution in front of both branches, the code one
  for each, and so has this. What pools the surroundings is not in the code;
  here a pool averages, or takes the maximum of, what lies inside the map. The
  code draws the table at random; descriptions of the paper start it from the
  classes' means (`centre_init`). Two faults of the file are left out: an
  attribute that does not exist, and a second initialisation that overwrites
  the backbone's pretrained weights.
"""

import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks
from fcnjax.models.backbones import resnet
from fcnjax.ops import attention, averaging, max_pooling, resizing

RANGES = (3, 5, 7, 9, 11, 15, 19)  # pixels, of the feature map
HFD_WEIGHT = 0.1
BN_EPSILON = 1e-5
CENTRE_INITS = ("means", "random")


def surroundings(
  x: Float[Array, "b h w c"], size: int, kind: str
) -> Float[Array, "b h w c"]:
  """Returns each pixel's surroundings: A_k of the paper.

  Args:
    x: features.
    size: side of the square window around the pixel, odd.
    kind: "mean", which is float32, or "max", over what of the window lies
      inside the map.
  """
  if kind == "max":
    return max_pooling.local_max(x, size)
  # The mean of 361 pixels says more than bfloat16 can hold.
  return averaging.local_mean(x.astype(jnp.float32), size)


class LocationAwareAttention(nn.Module):
  """y = x + phi(u x), u from the cosines between pixels and surroundings.

  Attributes:
    reduced: channels in which the cosines are taken.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
    dtype: compute dtype.
  """

  reduced: int = 128
  norm: str = "batch"
  bn_momentum: float = 0.9
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], *, train: bool
  ) -> Float[Array, "b h w c"]:
    norm = blocks.norm_of(self, train=train, epsilon=BN_EPSILON)
    conv = functools.partial(blocks.conv, dtype=self.dtype)
    theta = conv(self.reduced, 1, name="theta")(x)
    relations = [
      attention.cosine_similarity(surroundings(theta, size, kind), theta)
      for kind in ("mean", "max")
      for size in RANGES
    ]
    u = conv(1, 3, name="fuse")(jnp.stack(relations, -1).astype(self.dtype))
    u = nn.relu(norm(u, name="fuse_bn"))
    return x + conv(x.shape[-1], 1, name="phi")(x * u)


class Head(nn.Module):
  """Two branches, summed: returns (scores, the sum), at the features' size."""

  num_classes: int
  channels: int = 512
  norm: str = "batch"
  bn_momentum: float = 0.9
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], *, train: bool
  ) -> tuple[Float[Array, "b h w k"], Float[Array, "b h w d"]]:
    norm = blocks.norm_of(self, train=train, epsilon=BN_EPSILON)

    def conv(x, name):
      module = blocks.conv(
        self.channels, 3, bias=False, name=name, dtype=self.dtype
      )
      return nn.relu(norm(module(x), name=f"{name}_bn"))

    location = LocationAwareAttention(
      max(1, self.channels // 4),
      self.norm,
      self.bn_momentum,
      self.dtype,
      name="location",
    )(conv(x, "conv5a"), train=train)
    channel = conv(x, "conv5c")
    gamma = self.param("gamma", nn.initializers.zeros, (1,), jnp.float32)
    attended = attention.channel_attention(channel)
    channel += gamma.astype(self.dtype).reshape(1, 1, 1, 1) * attended
    total = conv(location, "conv51") + conv(channel, "conv52")
    total = blocks.kept(total)
    dropped = blocks.dropout(self, 0.1, total, train=train, maps=True)
    score = blocks.conv(self.num_classes, 1, name="score", dtype=self.dtype)
    return score(dropped).astype(jnp.float32), total.astype(jnp.float32)


class ClassCentres(nn.Module):
  """The loss of feature distance, and the table of centres it looks up.

  The collection "centres" holds `table` [k, d], of unit vectors once a class
  was seen, and `seen` [k]. Where the collection is mutable, the centre of each
  class of the batch moves: mu * centre + (1 - mu) * mean of its features, then
  to length 1.

  Attributes:
    num_classes: k.
    mu: share of the old centre, in [0, 1].
    start: "means": a class's first mean is its centre; "random": a uniform
      distribution, as in the code.
  """

  num_classes: int
  mu: float = 0.5
  start: str = "means"

  @nn.compact
  def __call__(
    self,
    features: Float[Array | np.ndarray, "b h w d"],
    label: Int[Array | np.ndarray, "b h2 w2"] | None,
  ) -> Float[Array, ""] | None:
    """Returns the mean loss over the pixels that count, if labels are given."""
    blocks.check_choice("centre_init", self.start, CENTRE_INITS)
    width = features.shape[-1]

    def draw():
      key = self.make_rng("params")
      bound = width**-0.5  # kaiming_uniform_(a=sqrt(5))
      shape = (self.num_classes, width)
      return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    table = self.variable("centres", "table", draw)
    seen = self.variable("centres", "seen", jnp.zeros, (self.num_classes,))
    if label is None:
      return None
    features = jnp.asarray(features)
    label = resizing.resize_nearest(label, features.shape[1:3])
    # Ignored pixels are of no class.
    chosen = label[..., None] == jnp.arange(self.num_classes)[None, None, None]
    chosen = chosen.astype(jnp.float32)
    logits = jnp.einsum("bhwd,kd->bhwk", features, table.value)
    scores = (chosen * jax.nn.log_softmax(logits)).sum()
    loss = -scores / jnp.maximum(chosen.sum(), 1)
    if self.is_mutable_collection("centres") and not self.is_initializing():
      self._move(lax.stop_gradient(features), chosen, table, seen)
    return loss

  def _move(self, features, chosen, table, seen):
    count = chosen.sum(axis=(0, 1, 2))
    total = jnp.einsum("bhwk,bhwd->kd", chosen, features)
    mean = total / jnp.maximum(count, 1)[:, None]
    mu = jnp.full_like(seen.value, self.mu)
    if self.start == "means":
      mu = jnp.where(seen.value > 0, mu, 0)
    moved = mu[:, None] * table.value + (1 - mu)[:, None] * mean
    length = jnp.sqrt((moved**2).sum(-1, keepdims=True))
    moved = moved / jnp.maximum(length, 1e-12)
    present = count > 0
    table.value = jnp.where(present[:, None], moved, table.value)
    seen.value = jnp.maximum(seen.value, present.astype(jnp.float32))


class HDNet(nn.Module):
  """HDNet on a dilated ResNet of output stride 8.

  Attributes:
    num_classes: number of classes.
    in_channels: channels of the image.
    dtype: compute dtype; parameters and logits are float32.
    depths: units of ResNet's four stages.
    widths: of the units' 3x3 convolutions, by stage.
    output_stride: 8, 16 or 32; the variables are the same.
    multi_grid: factors of the last stage's dilations.
    channels: of the head.
    hfd_weight: of the loss of feature distance; 0 for none.
    centre_mu: see `ClassCentres`.
    centre_init: see `ClassCentres`.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
  """

  num_classes: int
  in_channels: int = 3
  dtype: str = "float32"
  depths: tuple[int, ...] = resnet.DEPTHS[50]
  widths: tuple[int, ...] = resnet.WIDTHS
  output_stride: int = 8
  multi_grid: tuple[int, ...] = (1, 1, 1)
  channels: int = 512
  hfd_weight: float = HFD_WEIGHT
  centre_mu: float = 0.5
  centre_init: str = "means"
  norm: str = "batch"
  bn_momentum: float = 0.9

  takes_label = True

  @nn.compact
  def __call__(
    self,
    image: Float[Array | np.ndarray, "b h w c"],
    *,
    train: bool = False,
    label: Int[Array | np.ndarray, "b h w"] | None = None,
  ) -> typing.Outputs:
    """Returns "logits", "features" and, with labels, "loss" of the centres.

    The logits are interpolated from the "coarse_logits".

    Raises:
      ValueError: if the image has not `in_channels` channels.
    """
    blocks.check_channels(image, self.in_channels)
    words = {
      "norm": self.norm,
      "bn_momentum": self.bn_momentum,
      "dtype": self.dtype,
    }
    backbone = resnet.ResNet(
      self.depths,
      self.widths,
      stem="deep",
      output_stride=self.output_stride,
      multi_grid=self.multi_grid,
      name="backbone",
      **words,
    )
    head = Head(self.num_classes, self.channels, name="head", **words)
    scores, features = head(backbone(image, train=train)["stage5"], train=train)
    coarse = typing.Coarse(scores, image.shape[1:3], "align_corners")
    outputs = blocks.interpolated("logits", coarse) | {"features": features}
    if self.hfd_weight:
      centres = ClassCentres(
        self.num_classes, self.centre_mu, self.centre_init, name="centres"
      )
      loss = centres(features, None if label is None else jnp.asarray(label))
      if loss is not None:
        outputs["loss"] = self.hfd_weight * loss
    return outputs
