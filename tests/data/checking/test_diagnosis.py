"""Faults are planted in a good folder; each is found, and nothing else is."""

import io

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.data import folders, reading, sources
from fcnjax.data.checking import diagnosis, set_checks
from tests.data.checking import drawn, faults


@pytest.fixture
def root(tmp_path):
  drawn.write(tmp_path)
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


@pytest.mark.parametrize(
  "plant", faults.PLANTS, ids=lambda plant: plant.__name__
)
def test_a_planted_fault_is_found_by_its_name(root, plant):
  words = plant(root) or {}
  also = words.pop("also", set())
  expected = set(plant.__name__.split("_and_")) | also
  if plant is faults.black_and_white_masks:
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
    names = found.splits[0].source.names
    assert [names[position] for position in finding.examples] == ["3"]


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
    grey = drawn.pixels(drawn.image_file(root, number))[..., 0]
    drawn.save(drawn.image_file(root, number), grey.astype(np.uint16) * 257)


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
    [np.full((*drawn.SIZE, 3), 5.5, np.float32)],
    [np.zeros(drawn.SIZE, np.uint8)],
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
    pixels = PIL.Image.fromarray(drawn.pixels(drawn.image_file(root, one)))
    packed = io.BytesIO()
    pixels.save(packed, "JPEG", quality=quality, subsampling=0)
    packed.seek(0)
    drawn.save(
      drawn.image_file(root, other), np.asarray(PIL.Image.open(packed))
    )
  found = _examine(root)
  assert not _codes(found)
  assert _codes(found, "note") == {"near_duplicates", "similar_across_splits"}


def _compressed(root, one, other):
  packed = io.BytesIO()
  PIL.Image.fromarray(drawn.pixels(drawn.image_file(root, one))).save(
    packed, "JPEG", quality=60, subsampling=0
  )
  drawn.save(drawn.image_file(root, other), np.asarray(PIL.Image.open(packed)))
  drawn.copy(drawn.mask_file(root, one), drawn.mask_file(root, other))


def _halved(root, one, other):
  """Of an image that is large enough to be halved."""
  for path, filter_ in (
    (drawn.image_file, PIL.Image.Resampling.BICUBIC),
    (drawn.mask_file, PIL.Image.Resampling.NEAREST),
  ):
    pixels = PIL.Image.fromarray(drawn.pixels(path(root, one)))
    for factor, number in ((4, one), (2, other)):
      size = (factor * pixels.width, factor * pixels.height)
      pixels.resize(size, filter_).save(path(root, number))


@pytest.mark.parametrize("change", [_compressed, _halved])
def test_a_changed_copy_with_its_mask_is_a_leak(root, change):
  change(root, 3, 9)
  assert (
    drawn.pixels(drawn.image_file(root, 3)).tobytes()
    != drawn.pixels(drawn.image_file(root, 9)).tobytes()
  )
  found = _examine(root)
  assert _codes(found, "error") == {"leaked_copies"}
  assert not _codes(found, "warning")
  # Told once: not among those that are alike as well.
  assert "similar_across_splits" not in _codes(found, "note")
  (finding,) = (f for f in found.findings if f.code == "leaked_copies")
  assert finding.files == (str(drawn.image_file(root, 9)),)
  assert str(drawn.image_file(root, 3)) in finding.message
  assert finding.splits == ("eval",)
  with pytest.raises(errors.InputError, match="have 1 error"):
    diagnosis.require(found)


@pytest.mark.parametrize("change", [_compressed, _halved])
def test_the_same_scene_with_a_mask_of_its_own_is_a_note(root, change):
  """As a video's frames have; here something moved by a twelfth of it."""
  change(root, 3, 9)
  mask = drawn.pixels(drawn.mask_file(root, 9))
  moved = np.roll(mask, mask.shape[1] // 12, axis=1)
  moved[-1, -1] = 2  # never none of it
  drawn.save(drawn.mask_file(root, 9), moved)
  found = _examine(root)
  assert not _codes(found)
  assert "similar_across_splits" in _codes(found, "note")


@pytest.mark.parametrize("change", [_compressed, _halved])
def test_equal_masks_of_one_value_tell_no_leak(root, change):
  drawn.save(drawn.mask_file(root, 3), np.ones(drawn.SIZE, np.uint8))
  change(root, 3, 9)
  found = _examine(root)
  assert not _codes(found, "error")
  assert "similar_across_splits" in _codes(found, "note")


def test_an_orientation_that_fits_is_a_note(root):
  turned = np.rot90(drawn.pixels(drawn.image_file(root, 3)))  # stored lying
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  PIL.Image.fromarray(np.ascontiguousarray(turned)).save(
    drawn.image_file(root, 3), exif=exif
  )
  found = _examine(root)
  assert not _codes(found)
  assert _codes(found, "note") == {"exif_orientation"}


def test_figures_are_those_of_a_plain_count(root):
  record = diagnosis.record(_examine(root))
  pictures = np.stack(
    [drawn.pixels(drawn.image_file(root, n)) for n in range(8)]
  )
  masks = np.stack([drawn.pixels(drawn.mask_file(root, n)) for n in range(8)])
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
  drawn.copy(drawn.image_file(root, 4), drawn.image_file(root, 9))
  faults.truncated_image(root)
  drawn.all_masks(root, lambda mask: mask * 50)
  for number in (5, 8):
    drawn.save(
      drawn.mask_file(root, number),
      drawn.pixels(drawn.mask_file(root, number))[:-1],
    )
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
