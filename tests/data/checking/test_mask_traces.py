"""What masks tell of how they were saved."""

import io

import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from fcnjax.data import images
from fcnjax.data.checking import mask_traces


def _shapes(seed, labels=12):
  """Discs and thin lines of many classes, as people draw them."""
  random = np.random.default_rng(seed)
  mask = np.zeros((120, 160), np.uint8)
  rows, columns = np.mgrid[:120, :160]
  for _ in range(25):
    row, column = random.integers(0, 120), random.integers(0, 160)
    disc = (rows - row) ** 2 + (columns - column) ** 2 < random.integers(9, 500)
    mask[disc] = random.integers(0, labels)
  for _ in range(6):
    place = random.integers(0, 158)
    mask[:, place : place + 2] = random.integers(0, labels)
  return mask


def _large(seed):
  """The same, three times as large, in steps of 20."""
  return np.kron(_shapes(seed) * 20, np.ones((3, 3), np.uint8))


def _blended(mask):
  values, counts = np.unique(mask, return_counts=True)
  return mask_traces.blended(mask, values=values, counts=counts)


def _jpeg(mask, quality):
  file = io.BytesIO()
  PIL.Image.fromarray(mask).save(file, "JPEG", quality=quality)
  return np.asarray(PIL.Image.open(file))


def _cells(seed):
  noise = np.random.default_rng(seed).standard_normal((120, 160))
  return (ndimage.gaussian_filter(noise, 6) > 0).astype(np.uint8) * 255


@pytest.mark.parametrize("labels", [3, 12, 150])
def test_what_was_drawn_is_not_blended(labels):
  for seed in range(20):
    assert _blended(_shapes(seed, labels)) is None
  spread = (_shapes(0, 12) * 20).astype(np.uint16) * 200
  assert _blended(spread) is None


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_compressed_masks(quality):
  assert [_blended(_jpeg(_cells(seed), quality)) for seed in range(10)] == [
    "jpeg"
  ] * 10
  # Classes that are numbered in steps are blended in either way.
  assert _blended(_jpeg(_large(0), quality)) == "smoothed"


@pytest.mark.parametrize("kind", ["BILINEAR", "BICUBIC", "HAMMING"])
@pytest.mark.parametrize("size", [(100, 75), (250, 190)])
def test_smoothed_masks(kind, size):
  resample = PIL.Image.Resampling[kind]
  for seed in range(6):
    picture = PIL.Image.fromarray(_cells(seed)).resize(size, resample)
    assert _blended(np.asarray(picture)) == "smoothed"
    nearest = PIL.Image.fromarray(_cells(seed)).resize(size, 0)
    assert _blended(np.asarray(nearest)) is None


def test_photographs():
  noise = np.random.default_rng(0).standard_normal((120, 160))
  smooth = ndimage.gaussian_filter(noise, 3)
  grey = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
  assert _blended(grey) == "photograph"


def test_tables_of_colours(tmp_path):
  palette = images.palette(21)
  assert mask_traces.table_of(palette[:3], num_classes=21) == palette
  with_void = [palette[0], (224, 224, 192)]
  table = mask_traces.table_of(with_void, num_classes=21)
  assert table == (*palette, (224, 224, 192))
  assert mask_traces.table_of([(1, 2, 3)], num_classes=21) is None
  assert mask_traces.table_of(palette, num_classes=5) is None
  assert mask_traces.table_of([], num_classes=5) is None
  pixels = np.zeros((4, 4, 3), np.uint8)
  pixels[0, :3] = (1, 2, 3)
  PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
  assert mask_traces.colours(tmp_path / "a.png") == {
    (0, 0, 0): 13, (1, 2, 3): 3,
  }  # fmt: skip
