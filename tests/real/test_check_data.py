"""check-data on the real CamVid, as it is and with faults planted in it."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest

from fcnjax.cli import main

# Of all pixels of the 367 training masks, in per cent, as its README has them.
SHARES = [
  16.85, 23.26, 0.98, 31.66, 4.49, 9.72, 1.17, 1.13, 5.87, 0.64, 0.29,
]  # fmt: skip
# Median frequency over frequency, recounted from the same masks.
WEIGHTS = [
  0.2793, 0.2017, 4.7865, 0.149, 1.0, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747,
  8.8587,
]  # fmt: skip


def test_nothing_is_wrong_with_camvid(real_data, tmp_path, capsys):
  code = main.main(
    [
      "check-data",
      "--config=configs/unet.py:camvid",
      f"--config.data.root={real_data / 'camvid'}",
      f"--output={tmp_path}",
    ]
  )
  out = capsys.readouterr().out
  assert code == 0
  assert "Nothing looks wrong." in out
  assert all(len(line) <= 80 for line in out.splitlines()[:-1])
  record = json.loads((tmp_path / "check.json").read_text())
  assert record["findings"] == []
  splits = record["splits"]
  counts = {name: split["images"] for name, split in splits.items()}
  assert counts == {"train": 367, "val": 101, "test": 233}
  train = splits["train"]
  shares = [100 * kept["share"] for kept in train["classes"]]
  np.testing.assert_allclose(shares, SHARES, atol=0.01)
  assert 100 * train["ignored_share"] == pytest.approx(3.95, abs=0.01)
  weights = [kept["median_frequency_weight"] for kept in train["classes"]]
  np.testing.assert_allclose(weights, WEIGHTS, atol=1e-4)
  # What the config normalises by.
  np.testing.assert_allclose(
    train["image_statistics"]["mean"], (104.949, 108.353, 110.196), atol=2e-3
  )
  np.testing.assert_allclose(
    train["image_statistics"]["std"], (78.223, 79.341, 78.229), atol=2e-3
  )


def _plant(root):
  """Plants faults; returns {code: stems of the files that it is told of}."""

  def image(number):
    return root / "images" / f"{number}.jpg"

  def mask(number):
    return root / "masks" / f"{number}.png"

  def pixels(path):
    with PIL.Image.open(path) as file:
      return np.array(file)

  def save(path, array, **words):
    PIL.Image.fromarray(array).save(path, **words)

  image(0).write_bytes(image(0).read_bytes()[:9000])
  mask(1).write_bytes(mask(1).read_bytes()[:900])
  image(2).write_bytes(b"")
  mask(3).write_bytes(b"")
  image(4).write_text("this is no picture")
  mask(5).unlink()
  save(mask(6), pixels(mask(6))[::2, ::2])
  exif = PIL.Image.Exif()
  exif[0x0112] = 8
  save(image(7), pixels(image(7)), exif=exif)
  save(image(8), pixels(image(8))[..., 0])
  save(image(9), pixels(image(9)), format="PNG")
  wrong = pixels(mask(10))
  wrong[:40, :40] = 77
  save(mask(10), wrong)
  half = PIL.Image.fromarray(pixels(mask(11)) * 20).resize((320, 240))
  smooth = half.resize((480, 360), PIL.Image.Resampling.BILINEAR)
  save(mask(11), np.asarray(smooth))
  shutil.copy(image(13), image(12))
  shutil.copy(mask(13), mask(12))
  shutil.copy(image(15), image(14))
  shutil.copy(image(16), image(38))
  save(mask(17), np.full((360, 480), 11, np.uint8))
  save(root / "images" / "18.png", pixels(image(18)))
  save(image(19), pixels(image(20)), quality=75)
  deep = pixels(image(21))[..., 0].astype(np.uint16) * 257
  image(21).unlink()
  save(root / "images" / "21.png", deep)
  save(mask(22), pixels(image(22))[..., 0])
  for path, number, filter_ in (
    (image, 39, PIL.Image.Resampling.BICUBIC),
    (mask, 39, PIL.Image.Resampling.NEAREST),
  ):
    whole = PIL.Image.fromarray(pixels(path(23)))
    save(path(number), np.asarray(whole.resize((240, 180), filter_)))
  save(image(40), pixels(image(24)), quality=50)
  shutil.copy(mask(24), mask(40))
  return {
    "truncated_image": {"0"},
    "truncated_mask": {"1"},
    "empty_image": {"2"},
    "empty_mask": {"3"},
    "broken_image": {"4"},
    "unpaired_files": {"5"},
    "unequal_sizes": {"6"},
    "turned_by_exif": {"7"},
    "mixed_channels": {"8", "21"},
    "misnamed_image": {"9"},
    "values_out_of_range": {"10"},
    "smoothed_masks": {"11"},
    "duplicate_images": {"12", "13"},
    "conflicting_masks": {"14", "15"},
    "leaked_images": {"38"},
    "leaked_copies": {"39", "40"},
    "ignored_masks": {"17"},
    "same_stem": {"18"},
    "near_duplicates": {"19", "20"},
    "mixed_bits": {"21"},
    "photographs_among_masks": {"22"},
  }


def test_faults_planted_in_camvid_are_found_by_name(
  real_data, tmp_path, capsys
):
  source = real_data / "camvid"
  for kind in ("images", "masks"):
    (tmp_path / kind).mkdir()
  # Far apart in time, so that none resembles another.
  stems = sorted(file.stem for file in (source / "train").iterdir())[::9]
  assert len(stems) == 41
  for number, stem in enumerate(stems):
    shutil.copy(
      source / "train" / f"{stem}.jpg", tmp_path / "images" / f"{number}.jpg"
    )
    shutil.copy(
      source / "trainannot" / f"{stem}.png",
      tmp_path / "masks" / f"{number}.png",
    )
  (tmp_path / "val.txt").write_text("38\n39\n40\n")
  words = [
    "check-data",
    "--config=configs/unet.py:folder",
    f"--config.data.images={tmp_path}/images",
    f"--config.data.masks={tmp_path}/masks",
    "--config.data.num_classes=12",
    f"--config.data.val_list={tmp_path}/val.txt",
  ]
  assert main.main(words) == 0
  assert "Nothing looks wrong." in capsys.readouterr().out
  planted = _plant(tmp_path)
  words.append("--config.data.ignore=11")
  words.append(f"--output={tmp_path}/check")
  words[words.index("--config.data.num_classes=12")] = (
    "--config.data.num_classes=11"
  )
  assert main.main(words) == 2
  assert "fcnjax: the data have" in capsys.readouterr().err
  record = json.loads((tmp_path / "check" / "check.json").read_text())
  found = {
    finding["code"]: {
      file.rsplit("/", 1)[-1].split(".")[0] for file in finding["files"]
    }
    for finding in record["findings"]
  }
  assert found == planted
