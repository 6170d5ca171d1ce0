"""Rows of one image over devices: halos, and no map is gathered."""

import functools

import jax
import numpy as np
import pytest

from fcnjax import models
from fcnjax.models.backbones import xception
from fcnjax.training import sharding
from tests.contracts import test_models as contracts
from tests.training import spreading

CLASSES = 3

# Narrow, but with all strides and dilations of the networks, on an image that
# is tall enough for eight devices.
TALL = {"unet_same": {"width": 4}, "deeplabv3p_xception41": {"channels": 8}}
_BLOCK = xception.Block
_XCEPTION = {
  "stem": (4, 4),
  "table": (
    _BLOCK("entry_block1", (4, 4, 4), 2),
    _BLOCK("entry_block2", (4, 6, 6), 2),
    _BLOCK("entry_block3", (8, 8, 8), 2),
    _BLOCK("exit_block1", (8, 8, 8), 2),
  ),
}


def _tall(name):
  model = models.create_model(name, num_classes=CLASSES, **TALL[name])
  if name != "unet_same":
    backbone = functools.partial(model.backbone, **_XCEPTION)
    model = model.clone(backbone=backbone)
  size = (2048, 64)
  variables = spreading.variables_of(model, size)
  return model, variables, spreading.batch_of(model, variables, size, count=1)


def _difference(a, b):
  """Returns how far two arrays are apart, relative to the first."""
  return np.linalg.norm(a - b) / np.linalg.norm(a)


@pytest.mark.parametrize("name", TALL)
def test_eight_devices_share_one_image(name):
  """Gradients of one device, rows exchanged, a fifth of its memory at most."""
  model, variables, batch = _tall(name)
  one = spreading.Spread(model, variables, batch)
  eight = spreading.Spread(model, variables, batch, space=8)
  assert len(eight.collectives("collective-permute")) > 10
  assert not eight.collectives("all-gather")
  assert not eight.collectives("all-to-all")
  # Gradients of parameters, sums of batch norm and of the loss; no map.
  largest = max(x.nbytes for x in jax.tree.leaves(variables["params"]))
  assert max(eight.collectives("all-reduce")) <= largest
  # All of it; parameters are on each device whole.
  assert eight.memory() <= one.memory() / 5
  (gradients, loss), (others, other) = (
    each.gradients(batch) for each in (one, eight)
  )
  np.testing.assert_allclose(other, loss, rtol=1e-5)
  assert _difference(gradients, others) < 1e-5


@pytest.mark.parametrize("name", TALL)
def test_outputs_of_eight_devices(name):
  model, variables, batch = _tall(name)
  mesh = sharding.create_mesh(space=8, batch_size=1)

  def logits(variables, image):
    return model.apply(variables, image)["logits"]

  one = jax.jit(logits)(variables, batch["image"])
  eight = jax.jit(sharding.spread(logits, mesh))(
    jax.device_put(variables, sharding.replicated(mesh)),
    sharding.placed(batch["image"], mesh),
  )
  assert eight.sharding.shard_shape(eight.shape)[1] == 2048 // 8
  assert _difference(np.asarray(one), np.asarray(eight)) < 1e-5


# The last two have maps whose rows never divide: they are put together.
SMALL = {
  "segnet_basic": (64, 20),
  "deeplab_largefov": (64, 20),
  "hdnet_resnet50": (64, 20),
  "dilation8": (64, 20),
  "unet": (48, 44),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_mixed_mesh(name):
  """In float64: noise through many batch norms amplifies float32's rounding."""
  model, size = contracts._small_model(name), SMALL[name]
  with jax.enable_x64(True):
    model = model.clone(dtype="float64")
    variables = jax.tree.map(np.float64, spreading.variables_of(model, size))
    batch = spreading.batch_of(model, variables, size, count=2)
    batch["image"] = np.float64(batch["image"])
    gradients, loss = spreading.Spread(model, variables, batch).gradients(batch)
    mixed = spreading.Spread(model, variables, batch, data=2, space=4)
    others, other = mixed.gradients(batch)
  # Losses are float32 sums.
  np.testing.assert_allclose(other, loss, rtol=1e-5)
  assert _difference(gradients, others) < 1e-5


def test_a_batch_in_parts_and_stages_computed_again():
  """What else cuts a step goes together with rows over devices."""
  model = contracts._small_model("unet_same")
  size = (32, 12)
  variables = spreading.variables_of(model, size)
  batch = spreading.batch_of(model, variables, size, count=4)
  for words in ({"accumulate": 2}, {"remat": "stage"}):
    one = spreading.Spread(model, variables, batch, **words)
    some = spreading.Spread(model, variables, batch, data=2, space=4, **words)
    (gradients, loss), (others, other) = (
      each.gradients(batch) for each in (one, some)
    )
    np.testing.assert_allclose(other, loss, rtol=1e-5)
    assert _difference(gradients, others) < 1e-5
