"""From the config's data words to sources."""

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.cli import config as configs, defaults, evaluate, open_data
from fcnjax.data import datasets
from tests.data import layouts


def test_scenes_are_drawn_in_the_size_that_is_asked_for():
  config = defaults.get_config()
  assert open_data.source(config, "train")[0]["image"].shape == (96, 96, 3)
  config.data.image_size = (48, 80)
  for which in ("train", "val"):
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
    open_data.source(config, "val")


@pytest.mark.parametrize(
  ("variant", "name"),
  [
    ("fcn.py:voc2011", "voc2011"),
    ("fcn.py:pascal_context", "pascal_context_60"),
    ("hdnet.py:pascal_context", "pascal_context"),
    ("hdnet.py:ade20k", "ade20k"),
    ("hdnet.py:coco_stuff", "coco_stuff10k"),
    ("segnet.py:sunrgbd", "sun_rgbd"),
    ("segnet.py:camvid", "camvid"),
    ("deeplab.py:voc2012", "voc2012"),
    ("deeplabv3p.py:cityscapes", "cityscapes"),
    ("dilation.py:cityscapes", "cityscapes"),
    ("fcn.py:nyudv2_rgb", "nyudv2"),
  ],
)
def test_a_published_variant_opens_its_data_set(tmp_path, variant, name):
  config = configs.load(f"configs/{variant}")
  drawn = getattr(layouts, name)(tmp_path, seed=1)
  config.data.root = str(tmp_path)
  for which, split in (
    ("train", config.data.train_split),
    ("val", config.data.eval_split),
  ):
    source = open_data.source(config, which)
    assert source.names == list(drawn[split])
    assert source.classes == datasets.get(name).classes
    assert source[0]["image"].shape[-1] == open_data.channels(config) == 3
    if not any(config.data.image_size):
      expected = drawn[split][source.names[0]]
      np.testing.assert_array_equal(source[0]["label"], expected)


@pytest.mark.parametrize(
  ("variant", "kinds"),
  [
    ("nyudv2_hha", ("hha",)),
    ("nyudv2_rgbd", ("images", "depth")),
    ("nyudv2_rgb_hha", ("images", "hha")),
  ],
)
def test_nyudv2_is_seen_in_depth(tmp_path, variant, kinds):
  config = configs.load(f"configs/fcn.py:{variant}")
  layouts.nyudv2(tmp_path, seed=1)
  config.data.root = str(tmp_path)
  source = open_data.source(config, "val")
  assert source.names == ["img_5001", "img_5002", "img_5010"]
  parts = []
  for kind in kinds:
    path = tmp_path / "nyud" / "data" / kind / "img_5002.png"
    with PIL.Image.open(path) as image:
      pixels = np.array(image).reshape(*image.size[::-1], -1)
    parts.append(np.log(pixels.astype(float)) if kind == "depth" else pixels)
  image = source[1]["image"]
  np.testing.assert_allclose(image, np.concatenate(parts, -1), rtol=1e-5)
  assert image.shape[-1] == open_data.channels(config)
  assert len(config.data.mean) == image.shape[-1]


def test_sift_flow_has_two_tasks(tmp_path):
  config = configs.load("configs/fcn.py:siftflow")
  semantic = layouts.sift_flow(tmp_path, seed=1)
  geometric = layouts.sift_flow_geometric(tmp_path, seed=1)
  config.data.root = str(tmp_path)
  for which, split in (("train", "trainval"), ("val", "test")):
    source = open_data.source(config, which)
    assert len(source.second.classes) == config.data.second_classes == 3
    for i, name in enumerate(source.names):
      example = source[i]
      np.testing.assert_array_equal(example["label"], semantic[split][name])
      np.testing.assert_array_equal(
        example["second_label"], geometric[split][name]
      )
  # No test image shows them; raw values 9, 11 and 16, where 0 is void.
  assert config.evaluation.exclude == ("cow", "desert", "moon")
  assert evaluate.excluded(config, source.classes) == [8, 10, 15]
  config.evaluation.task = "second"
  source = open_data.source(config, "val")
  assert source.classes == ("sky", "horizontal", "vertical")
  assert not evaluate.excluded(config, source.classes)
  np.testing.assert_array_equal(
    source[0]["label"], geometric["test"][source.names[0]]
  )
  config.evaluation.task = "first"
  config.data.second_masks = "geometric"
  with pytest.raises(errors.InputError, match="'geometric'; known are"):
    open_data.source(config, "val")


def test_words_of_a_folder_that_is_not_there_are_named():
  """A newcomer sets them and wonders why nothing changes."""
  config = defaults.get_config()
  config.data.num_classes = 40
  with pytest.raises(errors.InputError, match="num_classes: 40, but"):
    open_data.source(config, "train")
  config.data.num_classes = 0
  source = open_data.source(config, "train")
  config.data.num_classes = len(source.classes)
  open_data.source(config, "train")
  assert open_data.unused(config, source) == ""
  config.data.images, config.data.mask_values = "photos", (0, 255)
  config.data.class_names = source.classes  # As they are.
  line = open_data.unused(config, source)
  assert "data.source=scenes: data.images, data.mask_values;" in line
  config.data.class_names = ("a", "b")
  assert "data.class_names" in open_data.unused(config, source)
  # Of a card they are depths, or the like.
  config.data.source = "nyudv2"
  assert "data.images" not in open_data.unused(config, source)
  config.data.source = "folder"
  assert open_data.unused(config, source) == ""
