"""Every mode of image and mask, and every way a file can be broken."""

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from fcnjax import errors
from fcnjax.data import images

_random = np.random.default_rng(0)
GREY = _random.integers(0, 256, (9, 7), np.uint8)
RGB = _random.integers(0, 256, (9, 7, 3), np.uint8)


def _save(path, array, mode=None, **options):
  image = PIL.Image.fromarray(array)
  (image if mode is None else image.convert(mode)).save(path, **options)
  return path


def test_grey(tmp_path):
  path = _save(tmp_path / "a.png", GREY)
  np.testing.assert_array_equal(
    images.read_image(path), np.repeat(GREY[..., None], 3, -1)
  )
  np.testing.assert_array_equal(
    images.read_image(path, channels=None)[..., 0], GREY
  )
  assert images.read_image(path, channels=1).shape == (9, 7, 1)
  with pytest.raises(errors.InputError, match="got 2"):
    images.read_image(path, channels=2)


def test_rgb(tmp_path):
  path = _save(tmp_path / "a.png", RGB)
  np.testing.assert_array_equal(images.read_image(path), RGB)
  np.testing.assert_array_equal(images.read_image(path, channels=None), RGB)
  luminance = RGB @ np.array([0.299, 0.587, 0.114])
  np.testing.assert_allclose(
    images.read_image(path, channels=1)[..., 0], luminance, atol=1
  )


def test_transparency_is_dropped_or_kept_as_a_channel(tmp_path):
  alpha = _random.integers(0, 256, (9, 7, 1), np.uint8)
  path = _save(tmp_path / "a.png", np.concatenate([RGB, alpha], -1))
  np.testing.assert_array_equal(images.read_image(path), RGB)
  four = images.read_image(path, channels=4)
  np.testing.assert_array_equal(four[..., 3:], alpha)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(8))])
def test_palette_is_looked_up(tmp_path, transparency):
  indices = GREY % 8
  image = PIL.Image.fromarray(indices)
  table = _random.integers(0, 256, (8, 3), np.uint8)
  image.putpalette(table.tobytes())
  options = {} if transparency is None else {"transparency": transparency}
  image.save(tmp_path / "a.png", **options)
  np.testing.assert_array_equal(
    images.read_image(tmp_path / "a.png"), table[indices]
  )
  np.testing.assert_array_equal(images.read_mask(tmp_path / "a.png"), indices)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit(tmp_path, ending):
  deep = _random.integers(0, 65536, (9, 7), np.uint16)
  deep[0, 0] = 65535
  path = _save(tmp_path / f"a.{ending}", deep)
  found = images.read_image(path)
  assert found.dtype == np.float32
  assert found.shape == (9, 7, 3)
  np.testing.assert_allclose(found[..., 1], deep / 257, rtol=1e-6)
  assert found.max() == 255
  assert images.read_image(path, channels=None).shape == (9, 7, 1)
  mask = images.read_mask(path)
  assert mask.dtype == np.uint16
  np.testing.assert_array_equal(mask, deep)


def test_16_bit_mask_of_small_numbers_is_uint8(tmp_path):
  path = _save(tmp_path / "a.png", GREY.astype(np.uint16))
  assert images.read_mask(path).dtype == np.uint8
  np.testing.assert_array_equal(images.read_mask(path), GREY)


def test_float_pixels_are_taken_or_refused(tmp_path):
  values = GREY.astype(np.float32) / 2
  path = _save(tmp_path / "a.tif", values)
  np.testing.assert_array_equal(
    images.read_image(path, channels=1)[..., 0], values
  )
  for wrong in (values * 10 - 0.5, values * np.float32(np.nan)):
    bad = _save(tmp_path / "b.tif", wrong)
    with pytest.raises(errors.InputError, match=r"b\.tif.*8 or 16 bits"):
      images.read_image(bad)
    with pytest.raises(errors.InputError, match=r"b\.tif"):
      images.read_mask(bad)


def test_one_bit(tmp_path):
  path = _save(tmp_path / "a.png", GREY > 127)
  np.testing.assert_array_equal(
    images.read_image(path)[..., 0], 255 * (GREY > 127)
  )
  np.testing.assert_array_equal(images.read_mask(path), GREY > 127)


def test_cmyk_jpeg(tmp_path):
  flat = np.full((16, 16, 3), (200, 60, 30), np.uint8)
  path = _save(tmp_path / "a.jpg", flat, "CMYK", quality=95)
  np.testing.assert_allclose(images.read_image(path), flat, atol=6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_image_and_mask_alike(tmp_path, orientation):
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  path = _save(tmp_path / "a.png", GREY, exif=exif)
  with PIL.Image.open(path) as image:
    expected = np.asarray(PIL.ImageOps.exif_transpose(image))
  np.testing.assert_array_equal(images.read_image(path)[..., 0], expected)
  np.testing.assert_array_equal(images.read_mask(path), expected)
  assert images.size(path) == expected.shape


COLORS = ((0, 0, 0), (255, 0, 0), (0, 0, 255), (1, 0, 0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_mask(tmp_path, mode):
  labels = GREY % 4
  path = _save(tmp_path / "a.png", np.array(COLORS, np.uint8)[labels], mode)
  np.testing.assert_array_equal(images.read_mask(path, colors=COLORS), labels)


def test_unknown_colour_is_named_with_file_and_count(tmp_path):
  labels = GREY % 4
  pixels = np.array(COLORS, np.uint8)[labels]
  pixels[2, 3] = pixels[4, 4] = (9, 8, 7)
  pixels[0, 0] = (255, 255, 255)
  path = _save(tmp_path / "a.png", pixels)
  with pytest.raises(
    errors.InputError,
    match=r"a\.png has 2 pixels of colour \(9, 8, 7\) and 1 other",
  ):
    images.read_mask(path, colors=COLORS)


def test_colour_mask_needs_a_table_unless_it_is_grey(tmp_path):
  path = _save(tmp_path / "a.png", np.repeat(GREY[..., None], 3, -1))
  np.testing.assert_array_equal(images.read_mask(path), GREY)
  path = _save(tmp_path / "b.png", RGB)
  with pytest.raises(errors.InputError, match=r"b\.png.*data\.colors"):
    images.read_mask(path)


def _broken(folder):
  """Files that are no images, by name."""
  pixels = _random.integers(0, 256, (90, 70, 3), np.uint8)
  whole = _save(folder / "whole.png", pixels).read_bytes()
  jpeg = _save(folder / "whole.jpg", pixels)
  files = {
    "truncated.png": whole[: len(whole) // 2],
    "head.png": whole[:20],
    "flipped.png": whole[:60] + b"\0\1\2\3" * 20 + whole[140:],
    "truncated.jpg": jpeg.read_bytes()[: jpeg.stat().st_size // 2],
    "text.jpg": b"<html>404 Not Found</html>",
    "empty.png": b"",
  }
  for name, content in files.items():
    (folder / name).write_bytes(content)
  (folder / "folder.png").mkdir()
  return [*files, "folder.png", "missing.png"]


def test_broken_files_are_named_in_one_line(tmp_path):
  for name in _broken(tmp_path):
    for read in (images.read_image, images.read_mask):
      with pytest.raises(errors.InputError) as caught:
        read(tmp_path / name)
      message = str(caught.value)
      assert str(tmp_path / name) in message
      assert "\n" not in message
  with pytest.raises(errors.InputError, match=r"empty\.png is an empty file"):
    images.size(tmp_path / "empty.png")
  with pytest.raises(errors.InputError, match=r"text\.jpg is no image"):
    images.size(tmp_path / "text.jpg")


def test_size_decodes_nothing(tmp_path):
  path = _save(tmp_path / "a.png", np.tile(RGB, (40, 40, 1)))
  path.write_bytes(path.read_bytes()[:400])  # the head and little more
  assert images.size(path) == (360, 280)


def test_index_png_keeps_numbers_and_shows_colours(tmp_path):
  labels = GREY.copy()
  labels[0, :3] = (0, 3, 255)
  images.write_index_png(tmp_path / "a.png", labels, COLORS)
  np.testing.assert_array_equal(images.read_mask(tmp_path / "a.png"), labels)
  with PIL.Image.open(tmp_path / "a.png") as image:
    assert image.mode == "P"
  shown = images.read_image(tmp_path / "a.png")
  assert shown[0, :3].tolist() == [[0, 0, 0], [1, 0, 0], [224, 224, 192]]
  with pytest.raises(errors.InputError, match=r"cannot write .*no/a\.png"):
    images.write_index_png(tmp_path / "no" / "a.png", labels, COLORS)


def test_palette_is_vocs():
  colors = images.palette(256)
  assert len(set(colors)) == 256
  # aeroplane, bicycle, person, tvmonitor, and 255 = void of PASCAL VOC.
  assert colors[:3] == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
  assert colors[15] == (192, 128, 128)
  assert colors[20] == (0, 64, 128)
  assert colors[255] == (224, 224, 192)


def test_class_colors():
  assert images.class_colors((), 3) == images.palette(3)
  assert images.class_colors(COLORS, 2) == COLORS[:2]
  with pytest.raises(errors.InputError, match="4 colours for 5 classes"):
    images.class_colors(COLORS, 5)
  with pytest.raises(errors.InputError, match="300"):
    images.class_colors(((0, 0, 300), (0, 0, 0)), 2)
