"""Faults are planted in a good folder; each is found, and nothing else is."""

import io
import shutil
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.data import folders, images, reading, sources
from fcnjax.data.checking import diagnosis, set_checks

SIZE = (48, 64)
COUNT = 10  # the last two are validated on


def _draw(number):
  """A picture of blots in a few shades, and a mask of two rectangles."""
  random = np.random.default_rng(number)
  coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
  image = PIL.Image.fromarray(coarse).resize(SIZE[::-1])
  mask = np.zeros(SIZE, np.uint8)
  for label in (1, 2):
    row, column = random.integers(0, 20), random.integers(0, 40)
    mask[row : row + 24, column : column + 16] = label
  mask[-3:, -3:] = 2  # never covered
  return np.asarray(image), mask


def _save(path, array, **words):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(array).save(path, **words)


@pytest.fixture
def root(tmp_path):
  for number in range(COUNT):
    image, mask = _draw(number)
    _save(tmp_path / "images" / f"{number}.png", image)
    _save(tmp_path / "masks" / f"{number}.png", mask)
  lines = [str(number) for number in range(COUNT)]
  (tmp_path / "train.txt").write_text("\n".join(lines[:-2]))
  (tmp_path / "val.txt").write_text("\n".join(lines[-2:]))
  return tmp_path


def _examine(root, *, settings=None, lists=True, **words):
  """Diagnoses both splits."""
  told = []
  listed = {
    "train_list": root / "train.txt",
    "val_list": root / "val.txt",
  }
  opened = {
    split: folders.folder(
      root / "images",
      root / "masks",
      split=name,
      tell=told.append,
      **{"num_classes": 3, **(listed if lists else {}), **words},
    )
    for split, name in (("train", "train"), ("eval", "val"))
  }
  return diagnosis.examine(opened, words=settings, told=told, workers=2)


def _codes(found, *severities):
  return {
    finding.code
    for finding in found.findings
    if finding.severity in (severities or ("error", "warning"))
  }


def _mask(root, number):
  return root / "masks" / f"{number}.png"


def _image(root, number):
  return root / "images" / f"{number}.png"


def _pixels(path):
  with PIL.Image.open(path) as file:
    return np.asarray(file)


def _all_masks(root, change):
  for path in (root / "masks").iterdir():
    _save(path, change(_pixels(path)))


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _jpeg(pixels):
  packed = io.BytesIO()
  PIL.Image.fromarray(pixels).save(packed, "JPEG", quality=80)
  return np.asarray(PIL.Image.open(packed))


def _smooth(pixels):
  shape = PIL.Image.fromarray(pixels)
  half = shape.resize((shape.width * 2 // 3, shape.height * 2 // 3))
  return np.asarray(half.resize(shape.size, PIL.Image.Resampling.BILINEAR))


def _copy(source, target):
  shutil.copyfile(source, target)


# --- planting: each function changes the folder, and returns config words.


def truncated_image(root):
  _cut(_image(root, 3))


def truncated_mask(root):
  _cut(_mask(root, 3))


def empty_image(root):
  _image(root, 3).write_bytes(b"")


def empty_mask(root):
  _mask(root, 3).write_bytes(b"")


def broken_image(root):
  _image(root, 3).write_text("this is no picture")


def unpaired_files(root):
  _save(root / "images" / "alone.png", _draw(77)[0])
  return {"lists": False}


def same_stem(root):
  _save(root / "images" / "3.bmp", _draw(77)[0])


def list_names_no_pair(root):
  (root / "train.txt").write_text("0\n1\n2\nnobody\n3\n4\n5\n6\n7")


def shared_by_lists_and_leaked_images(root):
  (root / "val.txt").write_text("8\n9\n3")


def unequal_sizes(root):
  _save(_mask(root, 3), _pixels(_mask(root, 3))[:-1])


def turned_by_exif(root):
  picture = PIL.Image.fromarray(_pixels(_image(root, 3)))
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  picture.save(_image(root, 3), exif=exif)


def mixed_channels(root):
  _save(_image(root, 3), _pixels(_image(root, 3))[..., 0])


def mixed_bits_and_mixed_channels(root):
  deep = _pixels(_image(root, 3))[..., 0].astype(np.uint16) * 257
  _save(_image(root, 3), deep)


def only_upper_bits(root):
  """A colour PNG of 16 bits, which Pillow cannot write."""
  wide = _pixels(_image(root, 3)).astype(">u2") * 257
  height, width, _ = wide.shape
  rows = b"".join(b"\0" + row.tobytes() for row in wide)
  head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
  parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
  with _image(root, 3).open("wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n")
    for kind, content in parts:
      file.write(struct.pack(">I", len(content)) + kind + content)
      file.write(struct.pack(">I", zlib.crc32(kind + content)))


def misnamed_image(root):
  with PIL.Image.open(_image(root, 3)) as file:
    file.load()
    file.save(_image(root, 3), format="BMP")


def misnamed_mask_and_jpeg_masks(root):
  flat = np.full(SIZE, 1, np.uint8)
  _save(_mask(root, 3), flat, format="JPEG")


def values_out_of_range(root):
  pixels = _pixels(_mask(root, 3)).copy()
  pixels[:9, :9] = 33
  _save(_mask(root, 3), pixels)


def black_and_white_masks(root):
  _all_masks(root, lambda mask: (mask > 0).astype(np.uint8) * 255)
  return {"num_classes": 2}


def cityscapes_label_ids(root):
  _all_masks(root, lambda mask: np.asarray([7, 11, 33], np.uint8)[mask])
  return {"num_classes": 19}


def ade_zero_is_other(root):
  _all_masks(root, lambda mask: np.asarray([0, 1, 150], np.uint8)[mask])
  return {"num_classes": 150}


def shifted_by_one(root):
  _all_masks(root, lambda mask: mask + 1)


def one_value_too_many(root):
  _all_masks(root, lambda mask: mask)
  return {"num_classes": 2}


def other_values(root):
  _all_masks(root, lambda mask: mask * 100)


def voc_palette_as_rgb(root):
  table = np.asarray(images.palette(3), np.uint8)
  _all_masks(root, lambda mask: table[mask])


def colour_masks(root):
  table = np.asarray([(9, 9, 9), (0, 200, 0), (90, 0, 1)], np.uint8)
  _all_masks(root, lambda mask: table[mask])


def unknown_colours(root):
  table = np.asarray([(0, 0, 0), (0, 200, 0), (90, 0, 1)], np.uint8)
  _all_masks(root, lambda mask: table[mask])
  pixels = _pixels(_mask(root, 3)).copy()
  pixels[4, 4] = (1, 2, 3)
  _save(_mask(root, 3), pixels)
  return {"colors": table.tolist()}


def blended_colours(root):
  table = np.asarray([(0, 0, 0), (0, 200, 0), (90, 0, 1)], np.uint8)
  _all_masks(root, lambda mask: _jpeg(table[mask]))
  return {"colors": table.tolist()}


def smoothed_masks(root):
  _all_masks(root, lambda mask: _smooth((mask > 0).astype(np.uint8) * 255))
  return {"num_classes": 2, "mask_values": (0, 255)}


def jpeg_compressed_masks(root):
  _all_masks(root, lambda mask: _jpeg((mask > 0).astype(np.uint8) * 255))
  return {"num_classes": 2, "mask_values": (0, 255)}


def label_map_applied_twice(root):
  _all_masks(root, lambda mask: np.asarray([255, 0, 1], np.uint8)[mask])
  return {"num_classes": 2, "label_map": "zero_is_ignored"}


def duplicate_images(root):
  _copy(_image(root, 3), _image(root, 4))
  _copy(_mask(root, 3), _mask(root, 4))


def conflicting_masks(root):
  _copy(_image(root, 3), _image(root, 4))


def leaked_images(root):
  _copy(_image(root, 3), _image(root, 9))


def exchanged_folders(root):
  (root / "images").rename(root / "aside")
  (root / "masks").rename(root / "images")
  (root / "aside").rename(root / "masks")


def photographs_as_masks(root):
  for number in range(COUNT):
    _save(_mask(root, number), _draw(number + 50)[0])


def identical_masks(root):
  for number in range(1, COUNT):
    _copy(_mask(root, 0), _mask(root, number))


def all_ignored(root):
  _all_masks(root, lambda mask: np.full_like(mask, 255))


def ignored_masks(root):
  _save(_mask(root, 3), np.full(SIZE, 255, np.uint8))


def one_class_only(root):
  _all_masks(root, lambda mask: np.ones_like(mask))


def masks_of_one_value_and_classes_only_in_validation(root):
  for number in range(COUNT):
    label = 2 if number == COUNT - 1 else number % 2
    _save(_mask(root, number), np.full(SIZE, label, np.uint8))
  return {"also": {"classes_never_seen"}}


def mostly_ignored(root):
  _all_masks(root, lambda mask: np.where(mask, mask, 255).astype(np.uint8))
  return {"also": {"classes_never_seen"}}


PLANTS = [
  truncated_image,
  truncated_mask,
  empty_image,
  empty_mask,
  broken_image,
  unpaired_files,
  same_stem,
  list_names_no_pair,
  shared_by_lists_and_leaked_images,
  unequal_sizes,
  turned_by_exif,
  mixed_channels,
  mixed_bits_and_mixed_channels,
  only_upper_bits,
  misnamed_image,
  misnamed_mask_and_jpeg_masks,
  values_out_of_range,
  black_and_white_masks,
  cityscapes_label_ids,
  ade_zero_is_other,
  shifted_by_one,
  one_value_too_many,
  other_values,
  voc_palette_as_rgb,
  colour_masks,
  unknown_colours,
  blended_colours,
  smoothed_masks,
  jpeg_compressed_masks,
  label_map_applied_twice,
  duplicate_images,
  conflicting_masks,
  leaked_images,
  exchanged_folders,
  photographs_as_masks,
  identical_masks,
  all_ignored,
  ignored_masks,
  one_class_only,
  masks_of_one_value_and_classes_only_in_validation,
  mostly_ignored,
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found_by_its_name(root, plant):
  words = plant(root) or {}
  also = words.pop("also", set())
  expected = set(plant.__name__.split("_and_")) | also
  if plant is black_and_white_masks:
    expected = {plant.__name__}  # whose name has an "and"
  found = _examine(root, **words)
  assert _codes(found) == expected, diagnosis.text(found)
  for finding in found.findings:
    assert finding.message
    assert "\n" not in finding.line
    assert finding.remedy or "; " in finding.message
  if plant.__name__.startswith(("truncated", "empty", "broken", "unequal")):
    (finding,) = found.findings
    assert [file.rsplit("/")[-1] for file in finding.files] == ["3.png"]


def test_a_good_folder_has_nothing_wrong(root):
  found = _examine(root)
  assert found.findings == ()
  assert "Nothing looks wrong." in diagnosis.text(found)
  diagnosis.require(found)


@pytest.mark.parametrize(
  ("settings", "code"),
  [
    ({"mean": (30.0,), "std": (50.0,)}, "mean_and_std"),
    ({"mean": (127.0,), "std": (5.0,)}, "mean_and_std"),
    ({"batch_size": 9}, "batch_larger_than_set"),
    ({"crop": (48, 65)}, "crop_larger_than_images"),
    ({"crop": (96, 129), "scale": 2.0}, "crop_larger_than_images"),
    ({"crop": (96, 128), "scale": 2.0}, None),
    ({"crop": (48, 64), "image_size": (24, 64)}, "crop_larger_than_images"),
    ({"mean": (127.0, 127.0, 127.0), "std": (62.0,), "batch_size": 8,
      "crop": (48, 64)}, None),
  ],
)  # fmt: skip
def test_what_does_not_fit_the_config(root, settings, code):
  found = _examine(root, settings=set_checks.Words(**settings))
  assert _codes(found) == ({code} if code else set())


def _deep(root, *numbers):
  """Saves images with 16 bits, but of the same grey values."""
  for number in numbers:
    grey = _pixels(_image(root, number))[..., 0]
    _save(_image(root, number), grey.astype(np.uint16) * 257)


@pytest.mark.parametrize(
  ("deep", "severities", "files"),
  [
    ((3,), {"error"}, ["3.png"]),
    (range(2, 8), {"error"}, [f"{number}.png" for number in range(2, 8)]),
    ((0, 3), {"warning"}, ["0.png", "3.png"]),
    ((9,), {"warning"}, ["9.png"]),
    (range(10), set(), []),
  ],
)
def test_mixed_bits_are_an_error_where_training_refuses_them(
  root, deep, severities, files
):
  """It goes by the first example that it reads; 8 and 9 are validated on."""
  _deep(root, *deep)
  found = _examine(root)
  bits = [f for f in found.findings if f.code == "mixed_bits"]
  assert {finding.severity for finding in bits} == severities
  named = [file.rsplit("/")[-1] for f in bits for file in f.files]
  assert named == files
  source = found.splits[0].source
  reader = reading.Reader(source, seed=0)
  if "error" in severities:
    with pytest.raises(errors.InputError, match="more than 8 bits"):
      reader.every(1)
  else:
    assert len(reader.every(1)) == 8


def test_bits_of_several_training_sets_are_judged_together(root):
  """A set of 16 bits makes training read all as float32."""
  _deep(root, 3)
  (mixed,) = (s.source for s in _examine(root).splits if s.name == "train")
  deep = sources.Arrays(
    [np.full((*SIZE, 3), 5.5, np.float32)],
    [np.zeros(SIZE, np.uint8)],
    classes=mixed.classes,
  )
  for sets, severity in (
    ({"one": mixed}, "error"),
    ({"one": mixed, "two": deep}, "warning"),
    ({"two": deep, "one": mixed}, "warning"),
  ):
    found = diagnosis.examine(sets, training=tuple(sets))
    bits = [f.severity for f in found.findings if f.code == "mixed_bits"]
    assert bits == [severity]


def test_class_imbalance(root):
  rare = np.zeros((300, 300), np.uint8)
  rare[0, :2] = 1
  source = sources.Arrays(
    [np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)],
    [rare],
    classes=("much", "little"),
  )
  words = set_checks.Words()
  found = diagnosis.examine({"train": source}, words=words)
  assert _codes(found) == {"class_imbalance"}
  weighted = set_checks.Words(weighted=True)
  assert not _codes(diagnosis.examine({"train": source}, words=weighted))


def test_copies_that_were_compressed_are_a_note(root):
  for one, other, quality in ((3, 4, 90), (3, 9, 80)):
    pixels = PIL.Image.fromarray(_pixels(_image(root, one)))
    packed = io.BytesIO()
    pixels.save(packed, "JPEG", quality=quality, subsampling=0)
    packed.seek(0)
    _save(_image(root, other), np.asarray(PIL.Image.open(packed)))
  found = _examine(root)
  assert not _codes(found)
  assert _codes(found, "note") == {"near_duplicates", "similar_across_splits"}


def _compressed(root, one, other):
  packed = io.BytesIO()
  PIL.Image.fromarray(_pixels(_image(root, one))).save(
    packed, "JPEG", quality=60, subsampling=0
  )
  _save(_image(root, other), np.asarray(PIL.Image.open(packed)))
  _copy(_mask(root, one), _mask(root, other))


def _halved(root, one, other):
  """Of an image that is large enough to be halved."""
  for path, filter_ in (
    (_image, PIL.Image.Resampling.BICUBIC),
    (_mask, PIL.Image.Resampling.NEAREST),
  ):
    pixels = PIL.Image.fromarray(_pixels(path(root, one)))
    for factor, number in ((4, one), (2, other)):
      size = (factor * pixels.width, factor * pixels.height)
      pixels.resize(size, filter_).save(path(root, number))


@pytest.mark.parametrize("change", [_compressed, _halved])
def test_a_changed_copy_with_its_mask_is_a_leak(root, change):
  change(root, 3, 9)
  assert (
    _pixels(_image(root, 3)).tobytes() != _pixels(_image(root, 9)).tobytes()
  )
  found = _examine(root)
  assert _codes(found, "error") == {"leaked_copies"}
  assert not _codes(found, "warning")
  # Told once: not among those that are alike as well.
  assert "similar_across_splits" not in _codes(found, "note")
  (finding,) = (f for f in found.findings if f.code == "leaked_copies")
  assert finding.files == (str(_image(root, 9)),)
  assert str(_image(root, 3)) in finding.message
  assert finding.splits == ("eval",)
  with pytest.raises(errors.InputError, match="have 1 error"):
    diagnosis.require(found)


@pytest.mark.parametrize("change", [_compressed, _halved])
def test_the_same_scene_with_a_mask_of_its_own_is_a_note(root, change):
  """As a video's frames have; here something moved by a twelfth of it."""
  change(root, 3, 9)
  mask = _pixels(_mask(root, 9))
  moved = np.roll(mask, mask.shape[1] // 12, axis=1)
  moved[-1, -1] = 2  # never none of it
  _save(_mask(root, 9), moved)
  found = _examine(root)
  assert not _codes(found)
  assert "similar_across_splits" in _codes(found, "note")


@pytest.mark.parametrize("change", [_compressed, _halved])
def test_equal_masks_of_one_value_tell_no_leak(root, change):
  _save(_mask(root, 3), np.ones(SIZE, np.uint8))
  change(root, 3, 9)
  found = _examine(root)
  assert not _codes(found, "error")
  assert "similar_across_splits" in _codes(found, "note")


def test_an_orientation_that_fits_is_a_note(root):
  turned = np.rot90(_pixels(_image(root, 3)))  # stored lying
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  PIL.Image.fromarray(np.ascontiguousarray(turned)).save(
    _image(root, 3), exif=exif
  )
  found = _examine(root)
  assert not _codes(found)
  assert _codes(found, "note") == {"exif_orientation"}


def test_figures_are_those_of_a_plain_count(root):
  record = diagnosis.record(_examine(root))
  pictures = np.stack([_pixels(_image(root, n)) for n in range(8)])
  masks = np.stack([_pixels(_mask(root, n)) for n in range(8)])
  split = record["splits"]["train"]
  statistics = split["image_statistics"]
  np.testing.assert_allclose(statistics["mean"], pictures.mean((0, 1, 2)))
  np.testing.assert_allclose(statistics["std"], pictures.std((0, 1, 2)))
  histogram = np.bincount(pictures.ravel(), minlength=256)
  np.testing.assert_array_equal(statistics["histogram"], histogram)
  assert statistics["sizes"]["height"] == [48, 48, 48]
  shares = np.bincount(masks.ravel()) / masks.size
  frequencies = []
  for label, kept in enumerate(split["classes"]):
    holds = (masks == label).any((1, 2))
    frequencies.append((masks == label).sum() / (holds.sum() * masks[0].size))
    assert kept["share"] == pytest.approx(shares[label])
    assert kept["images"] == holds.sum()
  weights = [kept["median_frequency_weight"] for kept in split["classes"]]
  np.testing.assert_allclose(weights, np.median(frequencies) / frequencies)


def test_all_faults_are_told_at_once_and_each_once(root):
  _copy(_image(root, 4), _image(root, 9))
  truncated_image(root)
  _all_masks(root, lambda mask: mask * 50)
  for number in (5, 8):
    _save(_mask(root, number), _pixels(_mask(root, number))[:-1])
  found = _examine(root)
  assert _codes(found) == {
    "truncated_image", "unequal_sizes", "other_values", "leaked_images",
  }  # fmt: skip
  text = diagnosis.text(found)
  for finding in found.findings:
    assert text.count(f"[{finding.code}]") == 1, text
  (sizes,) = (f for f in found.findings if f.code == "unequal_sizes")
  assert sizes.splits == ("train", "eval")
  assert [file[-5:] for file in sizes.files] == ["5.png", "8.png"]
  for line in text.splitlines():
    assert len(line) <= 80 or str(root) in line
  with pytest.raises(errors.InputError, match="have 4 errors"):
    diagnosis.require(found)
