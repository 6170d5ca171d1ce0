"""The frame of most networks: backbone, head, auxiliary head."""

from collections.abc import Callable
import dataclasses

from flax import linen as nn
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks


class Segmenter(nn.Module):
  """image -> backbone -> features -> head -> logits.

  Backbone and heads are given as constructors (a module class, or a
  `functools.partial` of one), and are called with what must be equal in all of
  them: `dtype` and `bn_momentum`, the heads also with `num_classes`. Then

      features = backbone(image, train=train)
      logits = head(features, size=(h, w), train=train)

  where a head returns float32 logits at `size`, the input's size, or the
  `typing.Coarse` scores that they are interpolated from. The parameters lie
  under "backbone", "head" and "aux_head".

  A network of two tasks scores the classes of both, one behind the other. With
  a head that keeps classes apart from its scores on, as by interpolation, these
  are two heads on the same features.

  Attributes:
    num_classes: number of classes, the channels of the logits.
    second_classes: number of classes of a second task; 0 for none.
    backbone: constructor of the module image -> features.
    head: constructor of the module features -> logits.
    aux_head: constructor of the head whose loss only helps training. It is
      run while training and when parameters are made.
    in_channels: channels of the image.
    dtype: compute dtype; parameters and logits are float32.
    bn_momentum: see `blocks.norm`. `clone(bn_momentum=0.0)` gives a network
      that records the statistics of single batches.
  """

  num_classes: int
  backbone: Callable[..., nn.Module]
  head: Callable[..., nn.Module]
  aux_head: Callable[..., nn.Module] | None = None
  in_channels: int = 3
  dtype: str = "float32"
  bn_momentum: float = 0.9
  second_classes: int = 0

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Outputs:
    """Returns {"logits": f32 [b, h, w, k]}, and what else there is.

    "aux_logits" of the auxiliary head, "second_logits" of the second task, and
    of heads that end with an interpolation "coarse_logits" and so on, see
    `typing.Outputs`.

    Raises:
      ValueError: if the image has not `in_channels` channels.
    """
    blocks.check_channels(image, self.in_channels)
    shared = {"dtype": self.dtype, "bn_momentum": self.bn_momentum}
    features = self.backbone(name="backbone", **shared)(image, train=train)

    def scores(head, name):
      classes = self.num_classes + self.second_classes
      module = head(num_classes=classes, name=name, **shared)
      return module(features, size=image.shape[1:3], train=train)

    first = slice(self.num_classes)
    main = scores(self.head, "head")
    outputs = _logits("logits", main, first)
    if self.second_classes:
      outputs |= _logits("second_logits", main, slice(self.num_classes, None))
    if self.aux_head is not None and (train or self.is_initializing()):
      auxiliary = scores(self.aux_head, "aux_head")
      outputs |= _logits("aux_logits", auxiliary, first)
    return outputs


def _logits(
  name: str, scores: Array | typing.Coarse, classes: slice
) -> typing.Outputs:
  """Returns the outputs of a head's classes."""
  if not isinstance(scores, typing.Coarse):
    return {name: scores[..., classes]}
  coarse = dataclasses.replace(scores, scores=scores.scores[..., classes])
  return blocks.interpolated(name, coarse)
