"""DeepLab v3 and v3+: the papers' multiply-adds, parameters and sizes."""

import jax
import jax.numpy as jnp
import pytest

from fcnjax import models, profile
from fcnjax.models import deeplabv3

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
  model = models.create_model(
    "deeplabv3p_resnet101", num_classes=21, multi_grid=(1, 1, 1)
  )
  ours = profile.multiply_adds(model, (513, 513), space_to_batch=True)
  assert ours == pytest.approx(101.28e9, rel=0.005)


def test_xception_has_no_multi_grid():
  with pytest.raises(ValueError, match="multi_grid is for ResNet"):
    models.create_model(
      "deeplabv3p_xception65", num_classes=21, multi_grid=(1, 2, 4)
    )


def test_multiply_adds_of_cityscapes():
  model = models.create_model("deeplabv3p_xception65", num_classes=19)
  ours = profile.multiply_adds(model, (1025, 2049), space_to_batch=True)
  assert ours == pytest.approx(418.64e9, rel=0.005)


@pytest.mark.parametrize(
  ("name", "options", "parameters"),
  [
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
  assert ours == pytest.approx(parameters, rel=2e-4)


@pytest.mark.parametrize(
  "name", ["deeplabv3p_xception65", "deeplabv3_resnet50"]
)
@pytest.mark.parametrize(("output_stride", "side"), [(16, 33), (8, 65)])
def test_sizes_of_the_papers_crop(name, output_stride, side):
  """513 pixels: maps of 33 or 65, and 129 x 129 x 256 for the decoder."""
  model = models.create_model(name, num_classes=21, output_stride=output_stride)
  features, _ = jax.eval_shape(
    lambda x: model.backbone().init_with_output(jax.random.key(0), x),
    jax.ShapeDtypeStruct((1, 513, 513, 3), jnp.float32),
  )
  assert features["stage5"].shape == (1, side, side, 2048)
  assert features["low_level"].shape == (1, 129, 129, 256)


def test_the_pyramid_has_the_papers_rates():
  """Section 4.1.2 of v3: 6, 12, 18 at output stride 16, doubled at 8."""
  assert deeplabv3.RATES[16] == (6, 12, 18)
  assert deeplabv3.RATES[8] == (12, 24, 36)
