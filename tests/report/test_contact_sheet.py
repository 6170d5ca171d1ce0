"""Sheets of pictures, looked at pixel by pixel."""

import numpy as np
import pytest

from fcnjax.report import contact_sheet

COLORS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))
CLASSES = ("red", "green", "blue")


def picture(height=64, width=64, inner=None):
  """Grey, the upper half class 0, the lower 1, a corner of 4 x 4 ignored."""
  label = np.zeros(inner or (height, width), np.uint8)
  label[label.shape[0] // 2 :] = 1
  label[:4, :4] = 255
  image = np.full((height, width, 3), 100.0, np.float32)
  return contact_sheet.Picture(image, label, "caption")


def painted(shown):
  return contact_sheet._painted(shown, COLORS)


@pytest.mark.parametrize("size", [(64, 64), (64, 32), (300, 700), (1024, 512)])
def test_a_picture_fits_its_square_and_keeps_its_shape(size):
  image = painted(picture(*size))
  assert max(image.shape[:2]) == 256
  assert abs(image.shape[0] / image.shape[1] - size[0] / size[1]) < 0.02


def test_classes_are_tinted_parted_by_a_line_and_ignored_pixels_hatched():
  image = painted(picture()).astype(int)
  # 55 % of the grey and 45 % of the colour.
  np.testing.assert_array_equal(image[60, 128], [145, 55, 55])
  np.testing.assert_array_equal(image[200, 128], [55, 145, 55])
  assert (image[127, 20:] == 255).all()
  assert (image == 255).all(-1).sum() == 256
  hatched = image[:16, :16].reshape(-1, 3)
  assert (hatched.min(1) == hatched.max(1)).all()
  assert len(np.unique(hatched)) == 2


def test_a_smaller_label_lies_in_the_middle_within_a_frame():
  image = painted(picture(inner=(32, 32)))
  assert (image[40, 40] == 100).all()
  assert (image[220, 128] == 100).all()
  np.testing.assert_array_equal(image[120, 80:180:20], [[145, 55, 55]] * 5)
  for line in (image[63, 63:193], image[192, 63:193], image[63:193, 63]):
    assert (line == 255).all()


def test_without_a_label_the_image_is_shown_as_it_is():
  shown = contact_sheet.Picture(
    np.arange(256, dtype=np.uint8).reshape(16, 16, 1), None, ""
  )
  np.testing.assert_array_equal(
    painted(shown)[8::16, 8::16, 0], np.arange(256).reshape(16, 16)
  )


def drawn(names, classes=CLASSES, colors=COLORS):
  return contact_sheet.draw(
    [contact_sheet.Row(name, [picture(), picture(64, 40)]) for name in names],
    title="title",
    classes=classes,
    colors=colors,
  )


def test_the_sheet_holds_every_row_and_a_swatch_of_every_class():
  one, two = drawn(["a"]), drawn(["a", "b"])
  assert one.shape[1] == two.shape[1] == 2 * 24 + 2 * 256 + 12
  assert two.shape[0] - one.shape[0] == 256 + 2 * 20 + 12
  for color in COLORS:
    assert (one == color).all(-1).sum() >= 100


def test_a_long_name_is_shortened_and_a_foreign_one_written():
  """Nothing reaches into the margins."""
  sheet = drawn(["n" * 500, "日本 Zürich\n"])
  assert (sheet[:, :24] == 255).all()
  assert (sheet[:, -24:] == 255).all()


def test_of_many_classes_those_that_are_shown_are_listed():
  classes = [f"class {i}" for i in range(150)]
  colors = [(i, 255 - i, 7) for i in range(150)]
  rows = [contact_sheet.Row("", [picture()])]
  assert contact_sheet._legend(rows, classes) == [
    ("class 0", 0, True),
    ("class 1", 1, True),
    ("ignored", None, True),
  ]
  few = contact_sheet._legend(rows, CLASSES)
  assert few[2] == ("blue", 2, False)
  assert drawn([""], classes, colors).shape == drawn([""]).shape
