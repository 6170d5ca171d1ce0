"""The sheet of what the network sees: what is on it, and where it may go."""

import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from fcnjax.cli import batches, config as configs, main, open_data, show_data
from fcnjax.data import pipeline, resident

CONFIG = "configs/unet.py:folder"
TRANSFORMS = (
  ("random_crop", {"size": (24, 24)}),
  ("flip", {"vertical": True}),
  ("noise", {}),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Five images of 32 x 40 pixels with their masks of three classes."""
  root = tmp_path_factory.mktemp("data")
  rng = np.random.default_rng(0)
  for part in ("images", "masks"):
    (root / part).mkdir()
  for i in range(5):
    image = rng.integers(0, 256, (32, 40, 3), np.uint8)
    mask = np.repeat(np.arange(3, dtype=np.uint8), [10, 10, 12])[:, None]
    PIL.Image.fromarray(image).save(root / "images" / f"photo{i}.png")
    PIL.Image.fromarray(np.repeat(mask, 40, 1)).save(
      root / "masks" / f"photo{i}.png"
    )
  return root


def words(folder):
  return [
    f"--config.data.images={folder}/images",
    f"--config.data.masks={folder}/masks",
    "--config.data.num_classes=3",
    "--config.data.val_fraction=0.2",
    "--config.batch_size=3",
    "--config.seed=7",
    f"--config.data.transforms={TRANSFORMS}",
  ]


def run(folder, *arguments):
  return main.main(
    ["show-data", f"--config={CONFIG}", *words(folder), *arguments]
  )


@pytest.mark.parametrize("path", ["tf.data", "resident"])
def test_the_examples_are_those_of_training(folder, path, monkeypatch):
  """Of the same seed, in the steps that stand below them; 4 images of 5."""
  monkeypatch.setattr(batches, "_has_tensorflow", lambda: path == "tf.data")
  config = configs.override(configs.load(CONFIG), words(folder))
  source = open_data.source(config, "train")
  rows = show_data._augmented(config, source, 3)
  assert len(rows) == 3
  same = {
    "batch_size": 3,
    "seed": 7,
    "transforms": TRANSFORMS,
    "mean": config.data.mean,
    "std": config.data.std,
  }
  if path == "tf.data":
    stream = pipeline.training_batches(source, **same)
    names = [pipeline.batch_names(source, step, 3, 7) for step in range(8)]
  else:
    held = resident.Resident(source, **same)
    stream = held.batches()
    names = [held.names(step) for step in range(8)]
  seen = [(step, next(stream)) for step in range(8)]
  for row in rows:
    original, labelled, *drawn = row.pictures
    index = [str(name) for name in source.names].index(row.name)
    np.testing.assert_array_equal(original.image, source[index]["image"])
    np.testing.assert_array_equal(labelled.label, source[index]["label"])
    expected = [
      (step, batch["image"][j], batch["label"][j])
      for step, batch in seen
      for j in range(3)
      if names[step][j] == row.name
    ][:4]
    assert len(drawn) == len(expected) == 4
    for picture, (step, image, label) in zip(drawn, expected):
      assert picture.caption == f"step {step}, 24x24"
      np.testing.assert_array_equal(picture.label, label)
      image = np.asarray(image) * config.data.std + config.data.mean
      np.testing.assert_allclose(picture.image, image, atol=1e-3)


def test_the_evaluated_split_is_shown_as_it_is(folder):
  """Labels at their own resolution, over images of another one."""
  config = configs.override(
    configs.load(CONFIG), [*words(folder), "--config.data.image_size=(16, 20)"]
  )
  source = open_data.source(config, "eval")
  rows = show_data._plain(source, 6)
  assert len(rows) == len(source)
  for i, row in enumerate(rows):
    image, label = row.pictures
    assert image.label is None
    np.testing.assert_array_equal(image.image, source[i]["image"])
    assert source[i]["label"].shape == (32, 40)
    np.testing.assert_array_equal(label.label, source[i]["label"][1::2, 1::2])
    assert label.caption == "label, 32x40"


def test_it_replaces_its_own_file_and_no_other(folder, tmp_path, capsys):
  target = tmp_path / "sheet.png"
  wanted = [f"--output={target}", "--split=eval"]
  assert run(folder, *wanted) == 0
  first = target.read_bytes()
  assert capsys.readouterr().out.splitlines()[-1] == str(target)
  assert np.asarray(PIL.Image.open(target)).shape[1] == 2 * 24 + 2 * 256 + 12
  target.write_bytes(first)
  assert run(folder, *wanted) == 0
  assert target.read_bytes() == first
  PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(target)
  mine = target.read_bytes()
  assert run(folder, *wanted) == 2
  message = capsys.readouterr().err
  assert "was not written by show-data" in message
  assert len(message.splitlines()) == 1
  assert target.read_bytes() == mine
  target.write_text("notes")
  assert run(folder, *wanted) == 2
  assert target.read_text() == "notes"
  assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--output=sheet.jpg"], "ends in .png"),
    (["--output=nowhere/sheet.png"], "no folder nowhere"),
    (["--count=0"], "--count: expected at least 1"),
    (["--config.data.transforms=(('flop', {}),)"], "did you mean 'flip'"),
    (
      ["--config.data.transforms=(('noise', {'probability': 2.0}),)"],
      "probability must be in [0, 1], got 2.0",
    ),
    (["--config.data.images=nowhere"], "nowhere"),
  ],
)
def test_what_is_wrong_is_said_in_one_line(
  arguments, said, folder, tmp_path, capsys
):
  target = tmp_path / "sheet.png"
  assert run(folder, f"--output={target}", *arguments) == 2
  message = capsys.readouterr().err
  assert said in message
  assert len(message.splitlines()) == 1
  assert not target.exists()


def test_without_tensorflow_the_device_makes_the_examples(folder, tmp_path):
  target = tmp_path / "sheet.png"
  arguments = [
    "show-data",
    f"--config={CONFIG}",
    *words(folder),
    "--count=2",
    f"--output={target}",
  ]
  code = (
    "import sys; sys.modules['tensorflow'] = None; "
    "from fcnjax.cli import main; "
    f"sys.exit(main.main({arguments!r}))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert "held on the device" in done.stdout
  with PIL.Image.open(target) as sheet:
    assert sheet.width == 2 * 24 + 6 * 256 + 5 * 12
