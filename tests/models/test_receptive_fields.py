"""What an output sees: the arithmetic against the network itself.

A pixel that is not a number makes every output that sees it one, whatever the
weights are: products with 0, maxima and normalisation pass it on. So the rows
that the output in the middle sees are those whose pixels reach it.
"""

import functools

from flax import linen as nn
import jax
import numpy as np
import pytest

from fcnjax import models, profile
from fcnjax.models import fcn, fcn_coarse
from fcnjax.models.backbones import resnet, xception

_VGG = {"widths": (2,) * 5, "fc_channels": 2}
_ALEXNET = {"widths": (2, 4, 4, 4, 2), "fc_channels": 2}
_TINY = {
  resnet.ResNet: {"widths": (2,) * 4},
  xception.Xception: {"stem": (2, 2)},
}

# Name, options, the module that puts out what `layers` ends with, and how many
# of the layers come after it or are counted, but not there.
CASES = [
  ("fcn32s_vgg16", _VGG, "head/score_fr", 0),
  ("fcn32s_alexnet", _ALEXNET, "head/score_fr", 0),
  # The 7x7 pool is counted in Table 1, and left out of the network.
  ("fcn32s_googlenet", {"width": 0.05}, "head/score_fr", "pool"),
  ("fcn_resnet50", {"channels": 2}, "head/score", 0),
  ("segnet_vgg16", {"widths": (2,) * 5}, "backbone/conv5_3", "pool5"),
  ("dilation_frontend", _VGG, "final", 0),
  ("dilation8", _VGG, "context", 0),
  ("dilation10", _VGG, "context", 0),
  ("deeplab_largefov", _VGG, "head/fc6_12", 0),
  ("deeplabv2_vgg16", _VGG, "head/fc6_24", 0),
  ("deeplabv2_resnet101", {}, "head/score_24", 0),
  ("deeplabv3_resnet50", {"channels": 2}, "head/aspp3", 1),
  ("deeplabv3p_resnet101", {"channels": 2}, "head/aspp3", 0),
  ("deeplabv3p_xception41", {"channels": 2}, "head/aspp3", 0),
  ("deeplabv3p_xception65", {"channels": 2}, "head/aspp3", 0),
  ("hdnet_resnet50", {"channels": 4}, "head/conv51", 0),
]


# Where the cells of the scores lie: cell j on pixel 32 j + this. The
# deconvolution puts it on 32 j + 31.5, or 31 if its kernel is odd, so that the
# crop is the difference.
CENTRES = {
  "fcn32s_vgg16": 31.5 - fcn.OFFSETS[100][32],
  "fcn32s_alexnet": 31 - fcn_coarse.ALEXNET_OFFSET,
  "fcn32s_googlenet": 31 - fcn_coarse.GOOGLENET_OFFSET,
}


def _shrunk(model):
  if hasattr(model, "depths"):  # HDNet
    return model.clone(widths=(2,) * 4)
  kind = getattr(getattr(model, "backbone", None), "func", None)
  if kind is xception.Xception:
    table = tuple(
      block._replace(widths=tuple(2 for _ in block.widths))
      for block in model.backbone.keywords["table"]
    )
    narrow = functools.partial(model.backbone, table=table, stem=(2, 2))
    return model.clone(backbone=narrow)
  if kind is resnet.ResNet:
    narrow = functools.partial(model.backbone, **_TINY[kind])
    return model.clone(backbone=narrow)
  return model


@pytest.mark.parametrize(
  ("name", "options", "where", "after"), CASES, ids=[c[0] for c in CASES]
)
def test_the_rows_that_reach_an_output(name, options, where, after):
  model = _shrunk(models.create_model(name, num_classes=2, **options))
  layers = models.MODELS[name].layers
  if after == "pool":
    layers = [layer for layer in layers if layer != (7, 1)]
  elif after == "pool5":
    layers = layers[:-1]
  elif after:
    layers = layers[:-after]
  field, stride = profile.receptive_field(layers)
  length = field + 4 * stride + 64
  variables = jax.eval_shape(
    model.init, jax.random.key(0), np.zeros((1, length, 40, 3), np.float32)
  )
  # Zeros, so that nothing overflows; of batch norm's variances, too.
  variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)

  @jax.jit
  def reached(first, last, next_=0):
    """Whether the middle output, or the next, sees a row in [first, last)."""
    rows = jax.numpy.arange(length)[None, :, None, None]
    image = jax.numpy.where((rows >= first) & (rows < last), np.nan, 0.0)
    image = jax.numpy.broadcast_to(image, (1, length, 40, 3))
    _, state = model.apply(
      variables,
      image,
      capture_intermediates=lambda module, _: _path(module) == where,
      mutable=["intermediates"],
    )
    (found,) = jax.tree.leaves(state["intermediates"])
    output = found[0, found.shape[1] // 2 + next_]
    return jax.numpy.isnan(output).any()

  assert reached(0, length)
  last = _last_true(lambda row: reached(row, length), length)
  first = length - 1 - _last_true(lambda row: reached(0, length - row), length)
  assert 0 < first <= last < length - 1, "the image is too short"
  assert last - first + 1 == field
  after = _last_true(lambda row: reached(row, length, 1), length)
  assert after - last == stride
  if name in CENTRES:
    assert ((first + last) / 2 - CENTRES[name]) % stride == 0


def _path(module: nn.Module) -> str:
  return "/".join(module.scope.path)


def _last_true(condition, end):
  """Returns the last number for which the condition holds; it does for 0."""
  low, high = 0, end
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (middle, high) if condition(middle) else (low, middle)
  return low
