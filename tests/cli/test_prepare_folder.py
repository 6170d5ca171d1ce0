"""fcnjax prepare-folder: what training reads is what the folder holds."""

import shlex
import sys

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.cli import config as configs, open_data
from fcnjax.data import weight_maps
from fcnjax.data.preparation import manifest
from tests.cli import commands


@pytest.fixture
def folder(tmp_path):
  random = np.random.default_rng(0)
  for index in range(12):
    image = random.integers(0, 256, (40, 44, 3), dtype=np.uint8)
    mask = (image[..., 0] > 127).astype(np.uint8) * 255
    for part, array in (("images", image), ("masks", mask)):
      (tmp_path / part).mkdir(exist_ok=True)
      PIL.Image.fromarray(array).save(tmp_path / part / f"{index}.png")
  return tmp_path


def _folder_words(folder):
  return [
    "--config=configs/unet.py:folder",
    f"--config.data.images={folder}/images",
    f"--config.data.masks={folder}/masks",
    "--config.data.class_names=('cell','gap')",
    "--config.data.mask_values=(0,255)",
    "--config.data.image_size=(32,32)",
  ]


def test_a_folder_is_prepared_with_the_words_of_training(folder, capsys):
  out = folder / "out"
  words = _folder_words(folder)
  code, text, _ = commands.run(
    capsys, "prepare-folder", *words, "--output", out
  )
  assert code == 0
  # The words to train with can be pasted into a shell.
  pasted = _pasted(text)
  config = configs.override(configs.load("configs/unet.py:folder"), pasted)
  assert config.data.source == "prepared"
  assert config.data.root == str(out)
  assert config.data.mean == pytest.approx(manifest.read(out)["mean"], abs=1e-3)
  config = configs.override(configs.load("configs/unet.py:folder"), words[1:])
  files = {which: open_data.source(config, which) for which in ("train", "val")}
  config.data.source = "prepared"
  config.data.root = str(out)
  for which, expected in files.items():
    source = open_data.source(config, which)
    assert source.names == expected.names
    assert source.classes == ("cell", "gap")
    for index in range(len(expected)):
      for key in ("image", "label"):
        np.testing.assert_array_equal(source[index][key], expected[index][key])
  check = ("--config.data.source=prepared", f"--config.data.root={out}")
  code, text, _ = commands.run(capsys, "check-data", words[0], *check)
  assert code == 0
  code, text, _ = commands.run(
    capsys, "prepare-folder", *words, "--output", out
  )
  assert (code, "already" in text) == (0, True)
  line = commands.fails(
    capsys, "prepare-folder", *words, "--output", folder / "masks"
  )
  assert "is not empty" in line
  line = commands.fails(
    capsys, "prepare-folder", words[0], *check, "--output", folder / "x"
  )
  assert "data.source" in line


def _pasted(text):
  """Returns the words to train with, as a shell would pass them."""
  (line,) = (line for line in text.splitlines() if line.startswith("Train"))
  return shlex.split(line)[2:]


def _assert_equal_sources(one, other):
  assert one.names == other.names
  assert one.classes == other.classes
  for index in range(len(other)):
    example, expected = one[index], other[index]
    assert example.keys() == expected.keys()
    for key in expected:
      np.testing.assert_array_equal(example[key], expected[key])
    np.testing.assert_array_equal(
      one.table.apply(one.raw_label(index), name=""),
      other.table.apply(other.raw_label(index), name=""),
    )


def test_a_folder_has_a_bar_on_a_terminal_only(folder, capsys, monkeypatch):
  words = ["prepare-folder", *_folder_words(folder), "--output"]
  code, _, shown = commands.run(capsys, *words, folder / "silent")
  assert (code, shown) == (0, "")
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  code, text, shown = commands.run(capsys, *words, folder / "out")
  assert code == 0
  assert commands.bars(shown) == {"prepare": "12/12"}
  assert "prepare:" not in text


def test_a_second_task_of_a_folder(folder, capsys):
  """Second labels are read where data.second_masks is set, and scored."""
  (folder / "other").mkdir()
  random = np.random.default_rng(1)
  for mask in (folder / "masks").iterdir():
    for part in ("masks", "other"):
      label = random.integers(0, 3, (40, 44), dtype=np.uint8)
      PIL.Image.fromarray(label).save(folder / part / mask.name)
  words = [
    "--config=configs/unet.py:folder",
    f"--config.data.images={folder}/images",
    f"--config.data.masks={folder}/masks",
    "--config.data.num_classes=3",
    f"--config.data.second_masks={folder}/other",
    "--config.data.second_classes=3",
    "--config.data.image_size=(32,32)",
  ]
  out = folder / "out"
  code, text, _ = commands.run(
    capsys, "prepare-folder", *words, "--output", out
  )
  assert code == 0
  config = configs.override(configs.load("configs/unet.py:folder"), words[1:])
  # Both: the words alone, and those of the folder with source and root.
  pasted = _pasted(text)
  alone = configs.override(configs.load("configs/unet.py:folder"), pasted)
  alone.data.image_size = (32, 32)
  kept = configs.override(configs.load("configs/unet.py:folder"), words[1:])
  kept.data.source, kept.data.root = "prepared", str(out)
  for prepared_config in (alone, kept):
    for task in ("first", "second"):
      config.evaluation.task = prepared_config.evaluation.task = task
      for which in ("train", "val"):
        source = open_data.source(prepared_config, which)
        expected = open_data.source(config, which)
        _assert_equal_sources(source, expected)
        if which == "train":
          _assert_equal_sources(source.second, expected.second)
          assert len(source.second.classes) == 3
  second = open_data.source(alone, "train").second
  assert (
    second.labels_version() != open_data.source(alone, "train").labels_version()
  )
  found = weight_maps.class_statistics(second, num_classes=3)
  expected = weight_maps.class_statistics(
    open_data.source(config, "train").second, num_classes=3
  )
  np.testing.assert_array_equal(found, expected)
  alone.data.second_classes = 2
  with pytest.raises(errors.InputError, match="second_classes=3"):
    open_data.source(alone, "train")
  # Without the word there is one task.
  alone.data.second_masks = ""
  assert "second_label" not in open_data.source(alone, "train")[0]
  with pytest.raises(errors.InputError, match="second_masks is not set"):
    open_data.source(alone, "val")


def test_second_words_that_prepared_data_do_not_know(folder, capsys):
  words, out = _folder_words(folder), folder / "out"
  depth = [
    f"--config.data.second_images={folder}/images",
    "--config.data.second_channels=1",
  ]
  command = ("prepare-folder", *words, *depth, "--output", out)
  code, text, _ = commands.run(capsys, *command)
  assert code == 0
  config = configs.override(
    configs.load("configs/unet.py:folder"), [*words[1:], *depth]
  )
  config.data.image_size = (0, 0)
  files = open_data.source(config, "train")
  config.data.source, config.data.root = "prepared", str(out)
  with pytest.raises(errors.InputError, match="data.second_images: prepared"):
    open_data.source(config, "train")
  config = configs.override(config, _pasted(text))
  source = open_data.source(config, "train")
  assert open_data.channels(config) == source.channels == 4
  _assert_equal_sources(source, files)
  config.data.second_masks = "masks"
  with pytest.raises(errors.InputError, match="was prepared without"):
    open_data.source(config, "train")


def test_a_mixture_is_no_folder(folder, capsys):
  mix = f"--config.data.mix=((1,{{'images':'{folder}/images'}}),)"
  words = (*_folder_words(folder), mix, "--output", folder / "out")
  assert "data.mix" in commands.fails(capsys, "prepare-folder", *words)
  assert not (folder / "out").exists()


def test_a_damaged_image_of_a_folder_is_named(folder, capsys):
  file = folder / "images" / "7.png"
  file.write_bytes(file.read_bytes()[:-900])
  words = (*_folder_words(folder), "--output", folder / "out")
  assert "7.png" in commands.fails(capsys, "prepare-folder", *words)
  assert not manifest.is_finished(folder / "out")


def test_missing_data_name_the_command():
  config = configs.load("configs/unet.py:folder")
  config.data.source = "prepared"
  with pytest.raises(errors.InputError, match="fcnjax prepare-folder --output"):
    open_data.source(config, "train")
  config.data.root = "nowhere"
  with pytest.raises(errors.InputError, match="fcnjax prepare-folder"):
    open_data.source(config, "train")
  config = configs.load("configs/unet.py:camvid")
  for root in ("", "nowhere"):
    config.data.root = root
    with pytest.raises(errors.InputError, match="fcnjax prepare camvid"):
      open_data.source(config, "train")
