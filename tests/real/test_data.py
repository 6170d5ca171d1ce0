"""The cards and checks on the real CamVid and ISBI 2012."""

import numpy as np
import pytest

from fcnjax.data import datasets, folders, pairs, sources
from fcnjax.data.checking import checks
from fcnjax.data.preparation import manifest, metadata, prepared, preparing


@pytest.mark.parametrize("name", ["camvid", "isbi2012"])
def test_splits_have_their_number_of_images(real_data, name):
  card = datasets.get(name)
  seen = set()
  for split, count in card.splits.items():
    source = sources.card(name, real_data / name, split)
    assert len(source) == count
    files = {mask for _, mask in source.pairs}
    assert not files & seen
    seen |= files


def test_camvid_masks_hold_what_is_known_of_them(real_data):
  source = sources.card("camvid", real_data / "camvid", "train")
  report = checks.check(source, images=False)
  assert report.errors == report.warnings == ()
  # Shares of all pixels, in per cent, of the 367 training masks.
  known = [16.845, 23.259, 0.983, 31.658, 4.486, 9.724, 1.173, 1.127, 5.866,
           0.639, 0.292]  # fmt: skip
  share = report.pixels / (367 * 360 * 480) * 100
  np.testing.assert_allclose(share, known, atol=1e-3)
  assert report.ignored / (367 * 360 * 480) == pytest.approx(0.03948, abs=1e-5)
  # Median-frequency weights over 11 classes, recomputed from these masks.
  frequency = report.pixels / report.image_pixels
  weights = np.median(frequency) / frequency
  np.testing.assert_allclose(
    weights,
    [
      0.2793,
      0.2017,
      4.7865,
      0.149,
      1.0,
      0.4217,
      3.8467,
      1.9736,
      0.7889,
      6.3747,
      8.8587,
    ],  # fmt: skip
    atol=1e-4,
  )


def test_isbi_masks_are_membrane_and_cell(real_data):
  source = sources.card("isbi2012", real_data / "isbi2012", "train")
  report = checks.check(source)
  assert report.errors == ()
  assert report.pixels[0] / report.pixels.sum() == pytest.approx(
    0.225, abs=0.01
  )
  # Membranes are dark, cells bright: the map is not the wrong way round.
  example = source[3]
  grey = example["image"][..., 0]
  assert 80 < grey[example["label"] == 0].mean() < 103
  assert 130 < grey[example["label"] == 1].mean() < 155


@pytest.mark.parametrize("name", ["camvid", "isbi2012"])
def test_mean_and_std_of_the_cards(real_data, name):
  card = datasets.get(name)
  source = sources.card(name, real_data / name, "train")
  step = max(1, len(source) // 30)
  pixels = np.concatenate(
    [
      source[i]["image"].reshape(-1, card.channels)
      for i in range(0, len(source), step)
    ]  # fmt: skip
  )
  np.testing.assert_allclose(pixels.mean(0), card.mean, atol=3)
  np.testing.assert_allclose(pixels.std(0), card.std, atol=3)


def test_isbi_slices_are_the_lists(real_data):
  root = real_data / "isbi2012"
  for split in ("train", "val"):
    lines = pairs.read_lines(root / f"{split}.txt")
    source = sources.card("isbi2012", root, split)
    assert [
      tuple(str(root / word) for word in line.split()) for line in lines
    ] == [(str(image), str(mask)) for image, mask in source.pairs]


def test_camvid_as_somebodys_own_folder(real_data):
  root = real_data / "camvid"
  words = {
    "num_classes": 11,
    "ignore": (11, 255),
    "val_images": root / "val",
    "val_masks": root / "valannot",
  }
  train = folders.folder(root / "train", root / "trainannot", split="train",
                         **words)  # fmt: skip
  val = folders.folder(root / "train", root / "trainannot", split="val",
                       **words)  # fmt: skip
  assert (len(train), len(val)) == (367, 101)
  assert train[0]["image"].shape == (360, 480, 3)


def test_camvid_without_its_void_is_told_so(real_data):
  root = real_data / "camvid"
  source = folders.folder(
    root / "train", root / "trainannot", split="val", num_classes=11
  )
  report = checks.check(source, limit=20, images=False)
  assert "value 11" in report.errors[0]
  assert "data.num_classes=12" in report.errors[0]


def test_prepared_camvid_is_camvid(real_data, tmp_path):
  card = datasets.get("camvid")
  files = sources.card("camvid", real_data / "camvid", "train")
  about = metadata.Description("camvid")
  preparing.write({"train": files}, tmp_path, about, progress=False)
  known = manifest.read(tmp_path)
  np.testing.assert_allclose(known["mean"], card.mean, atol=6e-4)
  np.testing.assert_allclose(known["std"], card.std, atol=6e-4)
  # Shares of the facts, as above, from what was counted on the way.
  pixels = np.array(known["splits"]["train"]["pixel_counts"])
  assert pixels[3] / (367 * 360 * 480) == pytest.approx(0.31658, abs=1e-5)
  source = prepared.Prepared(tmp_path, "train")
  for index in (0, 100, 366):
    for key in ("image", "label"):
      np.testing.assert_array_equal(source[index][key], files[index][key])
  read = sum(file.stat().st_size for pair in files.pairs for file in pair)
  assert sum(f.stat().st_size for f in tmp_path.glob("*record*")) < 1.1 * read
