"""Names become networks, and mistakes become sentences."""

import pytest

import fcnjax
from fcnjax import models


def test_the_package_offers_the_table():
  assert fcnjax.list_models() == sorted(models.MODELS)
  model = fcnjax.create_model("unet_same", num_classes=2, in_channels=1)
  assert (model.padding, model.in_channels) == ("same", 1)


def test_an_unknown_name_gets_the_nearest():
  with pytest.raises(
    ValueError, match="Did you mean 'unet_same'.*segnet_basic"
  ):
    models.create_model("unet_sam", num_classes=2)


def test_what_makes_a_network_itself_is_no_option():
  assert "padding" not in models.options("unet_same")
  assert "stride" not in models.options("fcn8s_vgg16")
  assert models.options("fcn8s_vgg16")["upsampling"] == "fixed"
  with pytest.raises(ValueError, match="no option 'padding'"):
    models.create_model("unet_same", num_classes=2, padding="valid")


def test_an_unknown_dtype_is_refused():
  with pytest.raises(ValueError, match="bfloat16"):
    models.create_model("unet_same", num_classes=2, dtype="half")


def test_a_default_of_the_table_may_be_changed():
  assert models.options("deeplab_largefov")["rates"] == (12,)
  assert models.options("deeplabv2_vgg16")["rates"] == (6, 12, 18, 24)
  model = models.create_model("deeplabv2_vgg16", num_classes=2, rates=[2, 4])
  assert model.head.keywords["rates"] == (2, 4)


def test_lists_from_a_file_become_tuples():
  a, b = (
    models.create_model("segnet_vgg16", num_classes=2, widths=kind((4,) * 5))
    for kind in (list, tuple)
  )
  assert a.backbone.keywords == b.backbone.keywords


@pytest.mark.parametrize(
  ("name", "option", "value", "known"),
  [
    ("fcn8s_vgg16", "upsampling", "nearest", "intermediate_learned"),
    ("fcn8s_vgg16", "first_padding", 50, "100 or 1"),
    ("deeplabv3_resnet50", "output_stride", 4, "8, 16 or 32; got 4"),
    ("deeplabv3p_xception65", "output_stride", 4, "8, 16 or 32; got 4"),
  ],
)
def test_an_unknown_value_is_refused(name, option, value, known):
  with pytest.raises(ValueError, match=known):
    models.create_model(name, num_classes=2, **{option: value})
