"""The frame: what all its parts share, and when the auxiliary head runs."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import pytest

from fcnjax.models import blocks, segmenter


class _Backbone(nn.Module):
  dtype: str
  bn_momentum: float

  @nn.compact
  def __call__(self, image, *, train):
    x = blocks.conv(4, 3, name="conv", dtype=self.dtype)(image)
    norm = blocks.norm(
      "batch",
      train=train,
      momentum=self.bn_momentum,
      epsilon=1e-5,
      dtype=self.dtype,
    )
    return {"stage1": norm(x, name="bn")}


class _Head(nn.Module):
  num_classes: int
  dtype: str
  bn_momentum: float
  scale: float = 1.0

  @nn.compact
  def __call__(self, features, *, size, train):
    assert features["stage1"].shape[1:3] == size
    assert features["stage1"].dtype == self.dtype
    x = blocks.conv(self.num_classes, 1, name="score", dtype=self.dtype)(
      features["stage1"]
    )
    return self.scale * x.astype(jnp.float32)


@pytest.fixture
def model():
  return segmenter.Segmenter(
    num_classes=3,
    backbone=_Backbone,
    head=_Head,
    aux_head=functools.partial(_Head, scale=2.0),
    in_channels=2,
    dtype="bfloat16",
  )


IMAGE = jnp.ones((2, 5, 7, 2))


def test_the_auxiliary_head_runs_only_while_training(model):
  variables = model.init(jax.random.key(0), IMAGE)
  assert set(variables["params"]) == {"backbone", "head", "aux_head"}
  outputs, _ = model.apply(variables, IMAGE, train=True, mutable=True)
  assert {k: v.shape for k, v in outputs.items()} == {
    "logits": (2, 5, 7, 3),
    "aux_logits": (2, 5, 7, 3),
  }
  assert set(model.apply(variables, IMAGE)) == {"logits"}


def test_a_clone_records_the_statistics_of_one_batch(model):
  variables = model.init(jax.random.key(0), IMAGE)

  def mean(model, image):
    _, after = model.apply(variables, image, train=True, mutable=True)
    return after["batch_stats"]["backbone"]["bn"]["mean"]

  tenth, whole = mean(model, IMAGE), mean(model.clone(bn_momentum=0.0), IMAGE)
  assert jnp.any(whole != 0)
  assert jnp.allclose(tenth, 0.1 * whole, rtol=1e-4)


def test_wrong_channels_are_named(model):
  with pytest.raises(
    ValueError, match="of 2 channels and got 3.*in_channels=3"
  ):
    model.init(jax.random.key(0), jnp.ones((1, 5, 7, 3)))
