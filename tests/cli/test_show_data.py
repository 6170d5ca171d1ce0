"""The sheet of what the network sees: what is on it, and where it may go."""

import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from fcnjax.cli import batches, config as configs, main, open_data, show_data
from fcnjax.data import normalization, pipeline, reading, resident

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
  reader = reading.Reader(source, seed=7)
  same = {
    "batch_size": 3,
    "transforms": TRANSFORMS,
    "mean": config.data.mean,
  }
  mean, std = config.data.mean, config.data.std
  if path == "tf.data":
    stream = (
      normalization.normalized(batch, mean=mean, std=std)
      for batch in pipeline.training_batches(reader, **same)
    )
  else:
    stream = resident.Resident(reader, **same, std=std).batches()
  names = [reader.names(step, 3) for step in range(8)]
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
      image = np.asarray(image) * std + mean
      np.testing.assert_allclose(picture.image, image, atol=1e-3)


def other_set(folder, root):
  """The same names and masks, and images of one grey value each."""
  (root / "images").mkdir()
  for path in (folder / "images").iterdir():
    grey = np.full((32, 40, 3), 10 * int(path.stem[-1]), np.uint8)
    PIL.Image.fromarray(grey).save(root / "images" / path.name)
  return f"{root}/images"


@pytest.mark.parametrize("path", ["tf.data", "resident"])
def test_sets_of_the_same_names_are_not_confused(
  folder, path, tmp_path, monkeypatch
):
  """Every example of both has its row, beside what is made of itself."""
  monkeypatch.setattr(batches, "_has_tensorflow", lambda: path == "tf.data")
  mix = f"((1,{{}}),(1,{{'images':'{other_set(folder, tmp_path)}'}}))"
  config = configs.override(
    configs.load(CONFIG),
    [
      *words(folder),
      "--config.data.transforms=(('flip',{}),)",
      "--config.data.mixing=(('cut_mix',{'probability':0.2}),)",
      f"--config.data.mix={mix}",
    ],
  )
  source = open_data.source(config, "train")
  rows = show_data._augmented(config, source, 100)
  assert len(rows) == len(source) == 2 * len(set(source.names))
  originals = {row.pictures[0].image.tobytes() for row in rows}
  assert originals == {source[i]["image"].tobytes() for i in range(len(source))}
  alike = []
  for row in rows:
    original, _, *drawn = row.pictures
    assert len(drawn) == 4
    for picture in drawn:
      off = [
        np.abs(turned - picture.image).max()
        for turned in (original.image, original.image[:, ::-1])
      ]
      alike.append(min(off) < 0.01)
  assert 0.6 < np.mean(alike) < 1  # A fifth has a box of another.


@pytest.mark.parametrize("path", ["tf.data", "resident"])
def test_what_is_skipped_in_training_is_left_out(
  folder, path, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(batches, "_has_tensorflow", lambda: path == "tf.data")
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  config = configs.override(
    configs.load(CONFIG),
    [
      *words(tmp_path),
      "--config.data.on_bad_example=skip",
      "--config.data.transforms=(('flip',{}),)",
    ],
  )
  whole = open_data.source(config, "train")
  # Not the first, which is tried before any is drawn.
  bad = whole.pairs[1][0]
  bad.write_bytes(bad.read_bytes()[:40])
  source = open_data.source(config, "train")
  rows = show_data._augmented(config, source, 100)
  assert len(rows) == len(source) - 1
  assert bad.stem not in {row.name for row in rows}
  assert capsys.readouterr().err.count("is skipped") == 1
  for row in rows:
    original, _, *drawn = row.pictures
    assert len(drawn) == 4
    for picture in drawn:
      assert any(
        np.allclose(picture.image, turned, atol=0.01)
        for turned in (original.image, original.image[:, ::-1])
      )


def test_the_evaluated_split_is_shown_as_it_is(folder):
  """Labels at their own resolution, over images of another one."""
  config = configs.override(
    configs.load(CONFIG), [*words(folder), "--config.data.image_size=(16, 20)"]
  )
  source = open_data.source(config, "val")
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
  wanted = [f"--output={target}", "--split=val"]
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
    (
      [
        "--config.data.transforms=(('random_scale',{'minimum':3,'maximum':1}),"
        "('random_crop',{'size':(8,8)}))"
      ],
      "random_scale, random_crop: random_scale needs 0 < minimum <= maximum",
    ),
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
