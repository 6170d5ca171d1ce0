"""Overrides keep types; mistakes name the nearest key."""

import pytest

from fcnjax import errors
from fcnjax.cli import config as configs, defaults


def _config(*arguments):
  config = defaults.get_config()
  config.lock()
  return configs.override(config, arguments)


def test_values_keep_the_type_of_the_default():
  config = _config(
    "--config.steps=5",
    "--config.optimizer.learning_rate=1",
    "--config.optimizer.nesterov=true",
    "--config.data.image_size=(180,240)",
    "--config.data.mean=7",
    "--config.model.name=unet",
    "--config.model.options.width=16",
    "--config.model.options.norm=batch",
    "--config.model.options.widths=(1, 2)",
    "--config.data.label_map={0: 0, 255: 1}",
    "--config.optimizer.groups=(('bias$', 2.0, 0.0),)",
    "--config.data.class_names=('a','b')",
  )
  assert config.steps == 5
  assert type(config.optimizer.learning_rate) is float
  assert config.optimizer.nesterov is True
  assert config.data.image_size == (180, 240)
  assert config.data.mean == (7,)
  assert config.model.options.to_dict() == {
    "width": 16,
    "norm": "batch",
    "widths": (1, 2),
  }
  assert config.data.label_map == {0: 0, 255: 1}
  assert config.optimizer.groups == (("bias$", 2.0, 0.0),)
  assert config.data.class_names == ("a", "b")


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("--config.stesp=5", "nearest is 'steps'"),
    ("--config.optimizer.learning_rat=5", "optimizer.learning_rate"),
    ("--config.steps=many", "expected int like 1000, got 'many'"),
    ("--config.data.image_size=(1", "expected tuple"),
    ("--config.steps", "--config.KEY=VALUE"),
  ],
)
def test_mistakes_are_told(argument, message):
  with pytest.raises(errors.InputError) as error:
    _config(argument)
  assert message in str(error.value)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("configs/nothing.py", "no file"),
    ("README.md", "no Python file|no get_config"),
  ],
)
def test_a_config_that_is_none(argument, message):
  with pytest.raises(errors.InputError, match=message):
    configs.load(argument)


def test_broken_python_names_the_line(tmp_path):
  path = tmp_path / "broken.py"
  path.write_text("def get_config(variant):\n  return (\n")
  with pytest.raises(errors.InputError, match="line 2"):
    configs.load(str(path))


def test_an_unknown_variant_lists_the_known():
  with pytest.raises(errors.InputError, match="mean 'camvid_small'.*isbi2012"):
    configs.load("configs/unet.py:camvid_smal")


def test_a_config_survives_json():
  import json

  config = _config("--config.data.transforms=(('flip', {'vertical': True}),)")
  back = configs.tuples(json.loads(config.to_json()))
  assert back["data"]["transforms"] == (("flip", {"vertical": True}),)
  assert back["optimizer"]["groups"] == ()
