"""Backbones: parameters, and one set of variables at every output stride."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.models.backbones import (
  alexnet,
  googlenet,
  resnet,
  vgg,
  xception,
)


@pytest.mark.parametrize(
  ("build", "parameters"),
  [
    (functools.partial(resnet.ResNet, stem="deep"), 42.62e6),
    (functools.partial(xception.Xception, table=xception.BLOCKS[41]), 24.92e6),
    (xception.Xception, 37.87e6),
    (functools.partial(xception.Xception, table=xception.BLOCKS[71]), 40.29e6),
  ],
)
def test_parameters_of_the_backbones(build, parameters):
  image = jax.ShapeDtypeStruct((1, 65, 65, 3), jnp.float32)
  shapes = jax.eval_shape(build().init, jax.random.key(0), image)
  ours = sum(x.size for x in jax.tree.leaves(shapes["params"]))
  assert ours == pytest.approx(parameters, rel=2e-4)


_TABLE = (
  xception.Block("entry_block1", (4, 4, 4), 2),
  xception.Block("entry_block2", (4, 6, 6), 2),
  xception.Block("entry_block3", (8, 8, 8), 2),
  xception.Block("middle_block1", (8, 8, 8), 1, "sum", 2),
  xception.Block("exit_block1", (8, 8, 8), 2),
  xception.Block("exit_block2", (8, 8, 8), 1, "none"),
)


@pytest.mark.parametrize(
  "build",
  [
    functools.partial(xception.Xception, table=_TABLE, stem=(4, 4)),
    functools.partial(
      resnet.ResNet, depths=(2, 2, 2, 3), widths=(2, 2, 3, 4),
      stride_unit="last", stem="deep",
    ),
    functools.partial(
      resnet.ResNet, depths=(2, 2, 2, 3), widths=(2, 2, 3, 4)
    ),
  ],
)  # fmt: skip
def test_a_finer_output_stride_sees_the_same(build):
  """Every second value of the finer map is the coarser one's, where padding
  is out of reach: dilation took the place of the stride, nothing else."""
  rng = np.random.default_rng(0)
  image = rng.normal(size=(1, 577, 577, 3)).astype(np.float32)
  coarse = build(output_stride=32)
  variables = jax.jit(coarse.init)(jax.random.key(0), image)
  maps = {
    stride: np.asarray(
      jax.jit(build(output_stride=stride).apply)(variables, image)["stage5"]
    )[0]
    for stride in (8, 16, 32)
  }
  assert [m.shape[0] for m in maps.values()] == [73, 37, 19]
  for stride in (8, 16):
    step = 32 // stride
    ours = maps[stride][::step, ::step][9:10, 9:10]
    np.testing.assert_allclose(ours, maps[32][9:10, 9:10], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
  ("build", "images"),
  [
    (
      functools.partial(alexnet.AlexNet, widths=(2, 4, 4, 4, 2)),
      [(160, 203), (197, 130)],
    ),
    (
      functools.partial(googlenet.GoogLeNet, width=0.05),
      [(160, 203), (97, 130)],
    ),
    (
      functools.partial(googlenet.GoogLeNet, width=0.05, fourth_pool=2),
      [(96, 65)],
    ),
  ],
)
def test_unpadded_pools_lose_nothing_with_their_stride(build, images):
  """Every second value of the finer map is the coarser one's, to the border."""
  rng = np.random.default_rng(0)
  for size in images:
    image = rng.normal(size=(1, *size, 3)).astype(np.float32)
    variables = jax.jit(build().init)(jax.random.key(0), image)
    coarse = np.asarray(jax.jit(build().apply)(variables, image)["stage5"])
    assert np.ptp(coarse) > 0
    for stride in (8, 16):
      finer = jax.jit(build(output_stride=stride).apply)
      fine = finer(variables, image)["stage5"]
      step = 32 // stride
      fine = np.asarray(fine)[:, ::step, ::step]
      height, width = coarse.shape[1:3]
      np.testing.assert_allclose(
        fine[:, :height, :width], coarse, rtol=1e-3, atol=1e-5
      )


@pytest.mark.parametrize(
  "build", [alexnet.AlexNet, googlenet.GoogLeNet, vgg.VGG16, resnet.ResNet]
)
def test_another_output_stride_is_refused(build):
  image = jax.ShapeDtypeStruct((1, 65, 65, 3), jnp.float32)
  with pytest.raises(ValueError, match="8, 16 or 32"):
    jax.eval_shape(build(output_stride=4).init, jax.random.key(0), image)


def test_valid_alexnet_sees_a_crop_of_its_field_as_in_the_whole():
  # 195 pixels are what a cell of pool5 sees.
  model = alexnet.AlexNet(widths=(2, 4, 4, 4, 2), padding=0)
  image = np.random.default_rng(0).normal(size=(1, 259, 227, 3)).astype("f4")
  whole, variables = model.init_with_output(jax.random.key(0), image)
  crop = model.apply(variables, image[:, 64:, 32:])
  assert whole["stage5"].shape == (1, 3, 2, 2)
  assert crop["stage5"].shape == (1, 1, 1, 2)
  assert np.abs(crop["stage5"]).max() > 1e-3
  np.testing.assert_allclose(
    crop["stage5"], whole["stage5"][:, 2:, 1:], atol=1e-5
  )


def test_alexnet_without_padding_has_a_grid_of_10_by_10():
  """Of 500x500 pixels, where its 227x227 have one (CVPR, section 4.1)."""
  for side, cells in ((500, 10), (227, 1)):
    features, _ = jax.eval_shape(
      lambda x: alexnet.AlexNet().init_with_output(jax.random.key(0), x),
      jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32),
    )
    assert features["stage5"].shape[1] - 6 + 1 == cells


def test_multi_grid_multiplies_the_last_dilations():
  plan = resnet.plan(
    depths=(3, 4, 23, 3),
    output_stride=16,
    stride_unit="last",
    multi_grid=(1, 2, 4),
  )
  assert [rate for _, rate in plan[-1]] == [2, 4, 8]
  assert {rate for _, rate in plan[-2]} == {1}
