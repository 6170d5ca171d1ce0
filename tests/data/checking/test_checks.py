"""What is wrong with masks, in words, before the first step."""

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.data import scenes, sources
from fcnjax.data.checking import checks


def _masks(tmp_path, *masks, endings=(), **words):
  """Returns a source of mask files with images of noise."""
  pairs = []
  for n, mask in enumerate(masks):
    mask = np.asarray(mask, np.uint8)
    ending = endings[n] if endings else "png"
    image_file, mask_file = tmp_path / f"i{n}.png", tmp_path / f"m{n}.{ending}"
    image = np.random.default_rng(n).integers(0, 256, mask.shape[:2], np.uint8)
    PIL.Image.fromarray(image).save(image_file)
    PIL.Image.fromarray(mask).save(mask_file)
    pairs.append((image_file, mask_file))
  return sources.Files(pairs, **{"classes": ("a", "b"), **words})


def _only(texts):
  assert len(texts) == 1, texts
  assert "\n" not in texts[0]
  return texts[0]


def test_good_masks_count_pixels_and_images(tmp_path):
  source = _masks(
    tmp_path, [[0, 0, 1], [0, 0, 255]], [[0, 0, 0, 0]], [[2, 2], [1, 1]],
    classes=("a", "b", "c"),
  )  # fmt: skip
  report = checks.check(source)
  assert report.errors == report.warnings == ()
  assert report.pixels.tolist() == [8, 3, 2]
  assert report.images.tolist() == [2, 2, 1]
  assert report.image_pixels.tolist() == [10, 10, 4]
  assert report.ignored == 1
  assert report.raw[0] == (8, 2, 0)
  assert report.raw[255] == (1, 1, 255)
  checks.require(report)


def test_counts_are_of_labels_after_the_map(tmp_path):
  source = _masks(tmp_path, [[3, 3, 5, 9]], label_map={3: 1, 5: 0, 9: 255})
  report = checks.check(source)
  assert report.pixels.tolist() == [1, 2]
  assert {raw: count.label for raw, count in report.raw.items()} == {
    3: 1, 5: 0, 9: 255,
  }  # fmt: skip


def test_values_out_of_range_name_value_files_and_cause(tmp_path):
  source = _masks(
    tmp_path, [[7, 11]], [[33, 7]], [[33, 8]],
    classes=tuple(f"c{n}" for n in range(19)),
  )  # fmt: skip
  message = _only(checks.check(source).errors)
  assert message.startswith("value 33 in 2 of 3 masks (first: ")
  assert "m1.png" in message
  assert "num_classes 19" in message
  assert "cityscapes_train_ids" in message


def test_black_and_white_masks(tmp_path):
  for masks in ([[[0, 255]]], [[[0, 255]], [[255, 255]]]):
    message = _only(checks.check(_masks(tmp_path, *masks)).errors)
    assert "never seen" in message
    assert "data.mask_values=0,255" in message
    assert "m0.png" in message
  source = _masks(tmp_path, [[0, 255]], label_map={0: 0, 255: 1})
  assert checks.check(source).errors == ()


def test_black_and_white_without_ignore(tmp_path):
  source = _masks(tmp_path, [[0, 255]], ignore=())
  assert "mask_values=0,255" in _only(checks.check(source).errors)


def test_ade_counts_from_one(tmp_path):
  report = checks.check(_masks(tmp_path, [[0, 1, 2]]))
  assert "zero_is_ignored" in _only(report.errors)
  report = checks.check(_masks(tmp_path, [[1, 2, 2]], classes=("a", "b", "c")))
  assert "zero_is_ignored" in _only(report.warnings)


def test_all_ignored(tmp_path):
  source = _masks(tmp_path, [[11, 11]], [[11, 11]], ignore=11)
  message = _only(checks.check(source).errors)
  assert "every pixel of all 2 masks is ignored" in message
  assert "m0.png" in message


def test_some_ignored_is_a_warning(tmp_path):
  source = _masks(tmp_path, [[0, 1, 1, 1]], [[255]])
  report = checks.check(source)
  assert report.errors == ()
  message = _only(report.warnings)
  assert "1 of 2 masks" in message
  assert "m1.png" in message


def test_mostly_ignored_is_a_warning(tmp_path):
  report = checks.check(_masks(tmp_path, [[0, 1, 255, 255, 255]]))
  assert "60 % of the pixels are ignored" in _only(report.warnings)


def test_one_class_everywhere_is_a_warning(tmp_path):
  report = checks.check(_masks(tmp_path, [[0, 0]], [[0, 0]]))
  assert "the one class 'a'" in _only(report.warnings)


def test_masks_of_one_value_each_are_a_warning(tmp_path):
  report = checks.check(_masks(tmp_path, [[0, 0]], [[1, 1]]))
  assert "2 of 2 masks hold one class only" in _only(report.warnings)


def test_classes_never_seen_are_a_warning(tmp_path):
  source = _masks(tmp_path, [[0, 1]], classes=("a", "b", "c", "d"))
  assert "2 of 4 classes are never seen: c, d" in _only(
    checks.check(source).warnings
  )


def test_jpeg_masks(tmp_path):
  noise = np.random.default_rng(0).integers(0, 2, (32, 32)) * 9
  source = _masks(tmp_path, noise, endings=("jpg",))
  assert "JPEG" in _only(checks.check(source).errors)
  flat = _masks(tmp_path, np.eye(8) * 0 + 1, endings=("jpg",))
  assert any("JPEG" in text for text in checks.check(flat).warnings)


def test_broken_files_are_named_and_counted(tmp_path):
  source = _masks(tmp_path, *[np.tile([[0, 1]], (40, 20))] * 6)
  for name in ("i0.png", "m1.png", "m2.png", "m3.png", "i4.png"):
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:60])
  report = checks.check(source)
  found = {finding.code: finding for finding in report.findings}
  assert set(found) == {"truncated_image", "truncated_mask"}
  assert [file[-6:] for file in found["truncated_image"].files] == [
    "i0.png", "i4.png",
  ]  # fmt: skip
  assert [file[-6:] for file in found["truncated_mask"].files] == [
    "m1.png", "m2.png", "m3.png",
  ]  # fmt: skip
  assert found["truncated_mask"].message.startswith("3 masks")
  assert "m1.png" in found["truncated_mask"].message
  # Masks whose image is broken are counted all the same.
  assert report.pixels.sum() == 3 * 40 * 40
  assert len(checks.check(source, images=False).errors) == 1
  with pytest.raises(errors.InputError, match=r"i0\.png.*\(1 more"):
    checks.require(report)


def test_colour_masks_with_an_unknown_colour(tmp_path):
  mask = np.zeros((2, 2, 3), np.uint8)
  mask[0, 0] = (1, 2, 3)
  colors = ((0, 0, 0), (255, 0, 0))
  message = _only(checks.check(_masks(tmp_path, mask, colors=colors)).errors)
  assert "(1, 2, 3)" in message
  assert "m0.png" in message


def test_model_and_data_must_agree_on_classes(tmp_path):
  report = checks.check(_masks(tmp_path, [[0, 1]]), num_classes=5)
  assert "the model has 5 classes and the data 2" in _only(report.errors)


def test_a_sample_is_spread_evenly():
  source = scenes.Scenes("train", size=(32, 32), count=100)
  report = checks.check(source, limit=30, images=False)
  assert 20 <= report.checked <= 30
  assert report.total == 100


def test_text_fits_80_columns():
  source = scenes.Scenes("train", count=12)
  source.classes = ("a very long name " * 5,
                    *source.classes[1:])  # fmt: skip
  text = checks.text(checks.check(source, num_classes=7))
  assert max(map(len, text.splitlines())) <= 80
  assert "Error: the model has 7 classes" in text
  for name in source.classes[1:]:
    assert name in text


def test_text_says_when_all_is_well(tmp_path):
  text = checks.text(checks.check(_masks(tmp_path, [[0, 1]])))
  assert "Nothing looks wrong." in text


@pytest.mark.parametrize("value", [-1, 70_000])
def test_values_that_no_file_can_hold(value):
  label = np.full((4, 4), 1, np.int32)
  label[0, 0] = value
  source = sources.Arrays(
    np.zeros((1, 4, 4, 3), np.uint8), [label], classes=("a", "b")
  )
  report = checks.check(source, num_classes=2)
  assert report.raw[value] == checks.RawCount(1, 1, -1)
  assert f"value {value} in 1 of 1 masks" in report.errors[0]
  with pytest.raises(errors.InputError, match=f"value {value}"):
    source[0]
