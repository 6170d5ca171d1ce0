"""Copies are found, and what only resembles them is not."""

import io
import time

import numpy as np
import PIL.Image
import pytest

from fcnjax.data.checking import fingerprints


def _picture(seed, size=(90, 120)):
  random = np.random.default_rng(seed)
  coarse = random.integers(0, 256, (7, 9, 3), dtype=np.uint8)
  return np.asarray(PIL.Image.fromarray(coarse).resize(size[::-1]))


def _packed(pixels, quality):
  file = io.BytesIO()
  PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
  return np.asarray(PIL.Image.open(file))


def test_digests_are_of_pixels_shape_and_type():
  image = _picture(0)
  assert fingerprints.digest(image) == fingerprints.digest(image.copy())
  strided = np.repeat(image, 2, axis=1)[:, ::2]
  assert fingerprints.digest(image) == fingerprints.digest(strided)
  changed = image.copy()
  changed[5, 5, 1] ^= 1
  others = [
    changed,
    image.reshape(120, 90, 3),
    image.astype(np.float32),
  ]
  for other in others:
    assert fingerprints.digest(image) != fingerprints.digest(other)


def test_bits_are_those_of_a_plain_difference_hash():
  # Cells of equal grey: averaging over them is exact.
  random = np.random.default_rng(0)
  cells = random.permutation(72).astype(np.uint8).reshape(8, 9) * 3
  image = np.repeat(np.repeat(cells, 12, 0), 16, 1)[..., None]
  found = fingerprints.fingerprint(image)
  expected = 0
  for row in range(8):
    for column in range(8):
      rises = cells[row, column + 1] > cells[row, column]
      expected = 2 * expected + int(rises)
  assert found.bits == expected


def test_plain_pictures_are_like_nothing():
  plain = np.full((50, 60, 3), 128, np.uint8)
  noisy = plain + np.random.default_rng(0).integers(0, 3, plain.shape, np.uint8)
  prints = [fingerprints.fingerprint(p) for p in (plain, noisy)]
  assert prints[0].bits is None
  assert fingerprints.near(prints, most=255.0) == []


@pytest.mark.parametrize("quality", [60, 90])
def test_a_compressed_copy_is_near_and_another_picture_is_not(quality):
  pictures = [_picture(seed) for seed in range(40)]
  pictures.insert(17, _packed(_picture(3), quality))
  prints = [fingerprints.fingerprint(picture) for picture in pictures]
  (pair,) = fingerprints.near(prints, most=3.0)
  assert pair[:2] == (3, 17)
  # Against the mean over boxes in floating point.
  grey = [
    np.asarray(PIL.Image.fromarray(p).convert("L"), np.float64)
    for p in (pictures[3], pictures[17])
  ]
  boxes = [
    np.asarray(
      PIL.Image.fromarray(g).resize((24, 24), PIL.Image.Resampling.BOX)
    )
    for g in grey
  ]
  exact = np.sqrt(((boxes[0] - boxes[1]) ** 2).mean())
  assert pair.difference == pytest.approx(exact, abs=0.5)


@pytest.mark.parametrize(
  "size", [(90, 120), (180, 240), (263, 351), (720, 960)]
)
def test_a_resized_copy_is_near(size):
  """Whatever whole factor it is shrunk by first, and what that leaves over."""
  whole = PIL.Image.fromarray(_picture(3, (360, 480)))
  small = whole.resize(size[::-1], PIL.Image.Resampling.BICUBIC)
  prints = [fingerprints.fingerprint(np.asarray(p)) for p in (whole, small)]
  (pair,) = fingerprints.near(prints, most=0.7)
  assert pair[:2] == (0, 1)


def _mask(size, edge=0.5):
  """A disc of class 2 on classes 0 and 1, whose edge is at that share."""
  height, width = size
  y, x = ((np.arange(n) + 0.5) / n for n in size)
  mask = np.broadcast_to(x >= edge, (height, width)).astype(np.uint16)
  mask[(y[:, None] - 0.4) ** 2 + (x - 0.3) ** 2 < 0.04] = 300
  return mask


def test_a_sketch_knows_a_mask_in_every_size_and_no_other():
  one = fingerprints.sketch(_mask((360, 480)))
  assert len(one) == 24 * 24
  cells = np.frombuffer(one, np.uint8).reshape(24, 24)
  assert cells[0, 0] == 0
  assert cells[0, -1] == 1
  assert cells[9, 7] == 300 % 251
  assert 255 in cells[9]  # the disc's edge
  for size in ((180, 240), (97, 131), (900, 1200)):
    assert fingerprints.same_sketch(one, fingerprints.sketch(_mask(size)))
    other = fingerprints.sketch(_mask(size, edge=0.6))
    assert not fingerprints.same_sketch(one, other)
  # Masks of a single value are of any image.
  plain = fingerprints.sketch(np.ones((9, 8), np.uint8))
  assert not fingerprints.same_sketch(plain, plain)


def test_equal_pixels_are_no_near_pair_but_a_group():
  prints = [fingerprints.fingerprint(_picture(seed)) for seed in (1, 2, 1)]
  assert fingerprints.near(prints, most=3.0) == []
  digests = [found.digest for found in prints]
  assert fingerprints.groups([*digests, None, None]) == [[0, 2]]


def test_pairs_over_the_border_of_two_blocks(monkeypatch):
  monkeypatch.setattr(fingerprints, "_BLOCK", 4)
  pictures = [_picture(seed) for seed in range(11)]
  pictures[9] = _packed(pictures[2], 90)
  prints = [fingerprints.fingerprint(picture) for picture in pictures]
  prints[0] = None
  assert [pair[:2] for pair in fingerprints.near(prints, most=3.0)] == [(2, 9)]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_and_floats(channels):
  image = np.repeat(_picture(0)[..., :1], channels, axis=-1)
  found = fingerprints.fingerprint(image)
  again = fingerprints.fingerprint(image.astype(np.float32))
  assert found.bits == again.bits
  assert found.thumbnail == again.thumbnail


def test_pairs_across_a_place_and_no_more_than_asked_for():
  pictures = [_packed(_picture(0), 60 + quality) for quality in range(12)]
  prints = [fingerprints.fingerprint(picture) for picture in pictures]
  every = fingerprints.near(prints, most=3.0)
  assert len(every) == 12 * 11 // 2
  differences = [pair.difference for pair in every]
  assert differences == sorted(differences)
  across = fingerprints.near(prints, most=3.0, across=5)
  assert {pair[:2] for pair in across} == {
    (i, j) for i in range(5) for j in range(5, 12)
  }
  assert len(fingerprints.near(prints, most=3.0, limit=7)) == 7


def test_thousands_of_hashes_take_seconds_even_if_all_are_alike():
  one = fingerprints.fingerprint(_picture(0))
  prints = [
    one._replace(digest=bytes([n % 256, n // 256])) for n in range(6000)
  ]
  began = time.process_time()
  assert len(fingerprints.near(prints, most=3.0, limit=2000)) == 2000
  assert time.process_time() - began < 3
