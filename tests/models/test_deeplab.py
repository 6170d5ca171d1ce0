"""DeepLab's numbers, and one set of variables at every output stride."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import models, profile
from fcnjax.models import deeplab
from fcnjax.models.backbones import resnet, xception

_V2 = {"separable": False}  # Of the rows without "SC".
_PLAIN = {"separable": False, "decoder": False}

# Tables 3 and 5 of v3+ and the model zoo: options, size, billions.
MULTIPLY_ADDS = [
  ("xception65", {"output_stride": 16, **_PLAIN}, 68.00),
  ("xception65", {"output_stride": 8, **_PLAIN}, 240.85),
  ("xception65", {"output_stride": 16, **_V2}, 89.76),
  ("xception65", {"output_stride": 8, **_V2}, 262.59),
  ("xception65", {"output_stride": 16}, 54.17),
  ("xception65", {"output_stride": 8}, 177.10),
  ("resnet101", {"output_stride": 16, **_PLAIN}, 81.02),
  ("resnet101", {"output_stride": 8, **_PLAIN}, 276.18),
  ("resnet101", {"output_stride": 8}, 297.92),
  ("resnet101", {"output_stride": 32, **_PLAIN}, 52.43),
  ("resnet101", {"output_stride": 32}, 74.20),
]


@pytest.mark.parametrize(("backbone", "options", "billions"), MULTIPLY_ADDS)
def test_multiply_adds_of_the_tables(backbone, options, billions):
  name = f"deeplabv3p_{backbone}"
  model = models.create_model(name, num_classes=21, **options)
  ours = profile.multiply_adds(model, (513, 513), space_to_batch=True)
  assert ours == pytest.approx(billions * 1e9, rel=0.005)


def test_multiply_adds_with_the_other_multi_grid():
  """The row "16/16 D" of ResNet-101, 101.28, is that of (1, 1, 1)."""
  model = models.create_model("deeplabv3p_resnet101", num_classes=21)
  backbone = functools.partial(model.backbone, multi_grid=(1, 1, 1))
  ours = profile.multiply_adds(
    model.clone(backbone=backbone), (513, 513), space_to_batch=True
  )
  assert ours == pytest.approx(101.28e9, rel=0.005)


def test_multiply_adds_of_cityscapes():
  model = models.create_model("deeplabv3p_xception65", num_classes=19)
  ours = profile.multiply_adds(model, (1025, 2049), space_to_batch=True)
  assert ours == pytest.approx(418.64e9, rel=0.005)


@pytest.mark.parametrize(
  ("name", "options", "parameters"),
  [
    ("deeplab_largefov", {}, 20_505_429),
    ("deeplabv3p_xception65", {}, 41.05e6),
    ("deeplabv3p_xception65", _PLAIN, 53.41e6),
    ("deeplabv3p_xception65", _V2, 54.71e6),
    ("deeplabv3p_resnet101", {"decoder": False}, 58.16e6),
    ("deeplabv3p_resnet101", {}, 59.47e6),
    ("deeplabv3_resnet101", {}, 58.16e6),
  ],
)
def test_parameters(name, options, parameters):
  model = models.create_model(name, num_classes=21, **options)
  ours = profile.parameters(model, (65, 65))
  if isinstance(parameters, int):
    assert ours == parameters
  assert ours == pytest.approx(parameters, rel=2e-4)


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


@pytest.mark.parametrize(
  ("kernel", "rate", "channels", "parameters", "field"),
  [
    (7, 4, 4096, 134_346_581, 224),
    (4, 4, 4096, 65_140_565, 128),
    (4, 8, 4096, 65_140_565, 224),
    (3, 12, 1024, 20_505_429, 224),
  ],
)
def test_the_table_of_fields_of_view(kernel, rate, channels, parameters, field):
  """v1, section 4, and its rule 8 ((k - 1) rate + 4) for the field."""
  model = models.create_model(
    "deeplab_largefov", num_classes=21, kernel=kernel, fc_channels=channels
  )
  head = functools.partial(model.head, rates=(rate,))
  ours = profile.parameters(model.clone(head=head), (65, 65))
  assert ours == parameters
  assert 8 * ((kernel - 1) * rate + 4) == field


@pytest.mark.parametrize("name", ["largefov", "v3p_xception65", "v3_resnet50"])
def test_sizes_of_the_paper(name):
  """41 x 41 scores of 321 x 321; 33 and 65 of 513 at strides 16 and 8."""
  size = 321 if name == "largefov" else 513
  strides = {41: 8} if name == "largefov" else {33: 16, 65: 8}
  for side, stride in strides.items():
    options = {} if name == "largefov" else {"output_stride": stride}
    model = (
      models.create_model(f"deeplab{name}", num_classes=21, **options)
      if name != "largefov"
      else models.create_model("deeplab_largefov", num_classes=21)
    )
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    backbone = model.backbone()
    features, _ = jax.eval_shape(
      lambda x, b=backbone: b.init_with_output(jax.random.key(0), x), image
    )
    assert features["stage5"].shape[1:3] == (side, side)
    if "low_level" in features:
      assert features["low_level"].shape[1:] == (129, 129, 256)


def _small(build, **words):
  return build(**words, norm="batch")


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
  variables = coarse.init(jax.random.key(0), image)
  maps = {
    stride: np.asarray(
      build(output_stride=stride).apply(variables, image)["stage5"]
    )[0]
    for stride in (8, 16, 32)
  }
  assert [m.shape[0] for m in maps.values()] == [73, 37, 19]
  for stride in (8, 16):
    step = 32 // stride
    ours = maps[stride][::step, ::step][9:10, 9:10]
    np.testing.assert_allclose(ours, maps[32][9:10, 9:10], rtol=1e-3, atol=1e-4)


def test_multi_grid_multiplies_the_last_dilations():
  plan = resnet.plan(
    depths=(3, 4, 23, 3),
    output_stride=16,
    stride_unit="last",
    multi_grid=(1, 2, 4),
  )
  assert [rate for _, rate in plan[-1]] == [2, 4, 8]
  assert {rate for _, rate in plan[-2]} == {1}


def test_the_pyramid_has_the_papers_rates():
  """Section 4.1.2 of v3: 6, 12, 18 at output stride 16, doubled at 8."""
  assert deeplab.RATES[16] == (6, 12, 18)
  assert deeplab.RATES[8] == (12, 24, 36)
