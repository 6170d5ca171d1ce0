"""From the config's data words to sources."""

import pytest

from fcnjax import errors
from fcnjax.cli import defaults, open_data


def test_scenes_are_drawn_in_the_size_that_is_asked_for():
  config = defaults.get_config()
  assert open_data.source(config, "train")[0]["image"].shape == (96, 96, 3)
  config.data.image_size = (48, 80)
  for which in ("train", "eval"):
    example = open_data.source(config, which)[0]
    assert example["image"].shape == (48, 80, 3)
    assert example["label"].shape == (48, 80)
  config.data.image_size = (16, 80)
  with pytest.raises(errors.InputError, match="at least 32 x 32"):
    open_data.source(config, "train")


def test_scenes_are_in_colour():
  config = defaults.get_config()
  config.data.channels = 1
  with pytest.raises(errors.InputError, match="data.channels=3"):
    open_data.source(config, "train")


def test_a_second_image_adds_its_channels():
  config = defaults.get_config()
  assert open_data.channels(config) == 3
  config.data.second_images = "hha"
  assert open_data.channels(config) == 6
  config.data.second_channels = 1
  assert open_data.channels(config) == 4


def test_a_second_task_needs_its_masks():
  config = defaults.get_config()
  config.data.source = "folder"
  config.evaluation.task = "second"
  with pytest.raises(errors.InputError, match="second_masks is not set"):
    open_data.source(config, "eval")
