"""A second image, and a second mask, of each scene."""

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.data import pipeline, reading, second_source, sources


def _images(channels, count=5, seed=0):
  random = np.random.default_rng(seed)
  shape = (count, 12, 10, channels)
  return random.integers(0, 256, shape, np.uint8)


def _labels(seed, k):
  return np.random.default_rng(seed).integers(0, k, (5, 12, 10), np.uint8)


def _source(images, labels, k, names=tuple("abcde")):
  return sources.Arrays(
    images, labels, classes=[str(i) for i in range(k)], names=names
  )


def test_channels_of_the_second_are_behind_the_firsts():
  labels, first, second = _labels(1, 3), _images(3), _images(3, seed=7)
  source = second_source.Second(
    _source(first, labels, 3), _source(second, labels, 3), "image"
  )
  assert source.channels == 6
  assert len(source) == 5
  assert source.classes == ("0", "1", "2")
  for i in (0, 4):
    expected = np.concatenate([first[i], second[i]], axis=-1)
    np.testing.assert_array_equal(source[i]["image"], expected)
    np.testing.assert_array_equal(source.image(i), expected)
    np.testing.assert_array_equal(source[i]["label"], labels[i])


def test_depths_in_sixteen_bits_become_logarithms(tmp_path):
  """As nyud_layers.py: log of the numbers in the file."""
  random = np.random.default_rng(0)
  depth = random.integers(300, 9000, (12, 10)).astype(np.uint16)
  for name, pixels in (
    ("color", _images(3)[0]),
    ("depth", depth),
    ("mask", _labels(0, 3)[0]),
  ):
    PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
  files = {}
  for name, channels in (("color", 3), ("depth", 1)):
    pair = (tmp_path / f"{name}.png", tmp_path / "mask.png")
    files[name] = sources.Files(
      [pair], classes="abc", channels=channels, names=["x"]
    )
  source = second_source.Second(
    files["color"], files["depth"], "image", log=True
  )
  assert source.channels == 4
  seen = source[0]["image"][..., 3]
  np.testing.assert_allclose(seen, np.log(depth), rtol=1e-5)


def test_other_scenes_are_refused():
  labels = _labels(1, 3)
  first = _source(_images(3), labels, 3)
  second = _source(_images(3), labels, 3, names=tuple("abcdf"))
  with pytest.raises(errors.InputError, match="second_images.*stems e, f"):
    second_source.Second(first, second, "image")


def test_labels_of_both_tasks_are_moved_with_the_image():
  """The image holds both labels, so whatever moves must move all alike."""
  semantic, geometric = _labels(1, 33), _labels(2, 3)
  images = np.stack([semantic, geometric, 0 * semantic], axis=-1)
  source = second_source.Second(
    _source(images, semantic, 33), _source(images, geometric, 3), "label"
  )
  batches = pipeline.training_batches(
    reading.Reader(source, seed=3),
    batch_size=5,
    transforms=(
      ("flip", {"vertical": True}),
      ("random_crop", {"size": (16, 8)}),
    ),
    label_margin=1,
  )
  for _ in range(3):
    batch = next(batches)
    assert batch["label"].dtype == batch["second_label"].dtype == np.uint8
    assert batch["label"].shape == batch["second_label"].shape == (5, 14, 6)
    inner = batch["image"][:, 1:-1, 1:-1]
    valid = batch["label"] != 255
    np.testing.assert_array_equal(valid, batch["second_label"] != 255)
    assert valid.any()
    assert not valid.all()
    np.testing.assert_array_equal(inner[..., 0][valid], batch["label"][valid])
    np.testing.assert_array_equal(
      inner[..., 1][valid], batch["second_label"][valid]
    )
  batches.close()
