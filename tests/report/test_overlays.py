"""Classes painted over their image."""

import numpy as np
import PIL.Image
import pytest

from fcnjax.report import overlays

COLORS = ((0, 0, 0), (200, 100, 0))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_images_of_any_number_of_channels(channels):
  image = np.full((2, 3, channels), 100, np.uint8)
  label = np.array([[0, 1, 255]] * 2, np.uint8)
  picture = overlays.overlay(image, label, COLORS)
  assert picture.dtype == np.uint8
  assert picture[0].tolist() == [[50] * 3, [150, 100, 50], [100] * 3]


def test_float_images_are_clipped_and_nan_is_black():
  image = np.array([[[-3.0], [99.6], [300.0], [np.nan]]], np.float32)
  assert overlays.rgb(image)[0, :, 0].tolist() == [0, 100, 255, 0]


def test_alpha_is_the_strength_of_the_tint():
  image = np.full((1, 2, 3), 40, np.uint8)
  label = np.array([[1, 1]], np.int32)
  none = overlays.overlay(image, label, COLORS, alpha=0)
  np.testing.assert_array_equal(none, image)
  full = overlays.overlay(image, label, COLORS, alpha=1)
  assert full[0, 0].tolist() == [200, 100, 0]
  with pytest.raises(ValueError, match="alpha"):
    overlays.overlay(image, label, COLORS, alpha=1.5)


def test_panel_is_image_truth_prediction():
  image = np.full((2, 3, 1), 100, np.uint8)
  truth = np.full((2, 3), 255, np.uint8)
  prediction = np.ones((2, 3), np.int32)
  picture = overlays.panel(image, truth, prediction, COLORS)
  assert picture.shape == (2, 3 * 3 + 8, 3)
  assert (picture[:, :3] == 100).all()
  assert (picture[:, 3:7] == 255).all()
  assert (picture[:, 7:10] == 100).all()  # Ignored: the image itself.
  assert (picture[:, 14:] == (150, 100, 50)).all()
  alone = overlays.panel(image, None, prediction, COLORS)
  assert alone.shape == (2, 3 * 2 + 4, 3)


def test_nearest_takes_the_label_at_the_centre():
  label = np.array([[1, 2, 3, 4]], np.uint8)
  assert overlays.nearest(label, (1, 2)).tolist() == [[2, 4]]
  assert (
    overlays.nearest(label, (2, 8)).tolist() == [[1, 1, 2, 2, 3, 3, 4, 4]] * 2
  )
  assert overlays.nearest(label, (1, 4)).tolist() == label.tolist()


def test_save_writes_png(tmp_path):
  picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
  overlays.save(tmp_path / "new" / "overlays", {"a": picture})
  with PIL.Image.open(tmp_path / "new" / "overlays" / "a.png") as image:
    np.testing.assert_array_equal(np.asarray(image), picture)
