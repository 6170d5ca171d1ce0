"""The samplers against SciPy and NumPy."""

import numpy as np
import pytest
from scipy import ndimage
import tensorflow as tf

from fcnjax.data import geometry


def make_example(height=9, width=12, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return {
    "image": tf.constant(
      rng.uniform(0, 255, (height, width, channels)), tf.float32
    ),
    "label": tf.constant(rng.integers(0, 5, (height, width)), tf.uint8),
    "weight": tf.constant(rng.uniform(0, 2, (height, width)), tf.float32),
  }


def make_coordinates(beyond=20, seed=0):
  """Places on and up to so many pixels around a 9x12 image."""
  rng = np.random.default_rng(seed)
  places = rng.uniform([-beyond] * 2, [8 + beyond, 11 + beyond], (25, 30, 2))
  return places.astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_warp_is_scipys_map_coordinates_with_mirrored_borders(channels):
  example = make_example(channels=channels)
  coordinates = make_coordinates()
  warped = geometry.warp(example, tf.constant(coordinates))
  places = np.moveaxis(coordinates, -1, 0)

  def scipys(values, order):
    return ndimage.map_coordinates(values, places, order=order, mode="mirror")

  for channel in range(channels):
    expected = scipys(example["image"].numpy()[..., channel], 1)
    np.testing.assert_allclose(
      warped["image"][..., channel], expected, atol=2e-2
    )
  np.testing.assert_allclose(
    warped["weight"], scipys(example["weight"].numpy(), 1), atol=2e-4
  )
  np.testing.assert_array_equal(
    warped["label"], scipys(example["label"].numpy(), 0)
  )


def test_warp_fills_where_the_nearest_pixel_does_not_exist():
  example = make_example()
  coordinates = make_coordinates(beyond=1)
  warped = geometry.warp(
    example, tf.constant(coordinates), boundary="fill", fill=(7.0, 8.0, 9.0)
  )
  nearest = np.floor(coordinates + 0.5)
  outside = ((nearest < 0) | (nearest >= [9, 12])).any(-1)
  assert 0 < outside.mean() < 1
  assert (warped["image"].numpy()[outside] == [7, 8, 9]).all()
  assert (warped["label"].numpy()[outside] == 255).all()
  assert (warped["weight"].numpy()[outside] == 0).all()
  places = np.moveaxis(coordinates, -1, 0)
  for channel in range(3):
    expected = ndimage.map_coordinates(
      example["image"].numpy()[..., channel], places, order=1, mode="nearest"
    )
    np.testing.assert_allclose(
      warped["image"].numpy()[~outside, channel], expected[~outside], atol=2e-2
    )


def test_warp_at_the_pixels_themselves_changes_no_bit():
  example = make_example()
  warped = geometry.warp(example, geometry.pixel_grid((9, 12)))
  for key, values in example.items():
    np.testing.assert_array_equal(warped[key], values)


@pytest.mark.parametrize(
  "offset", [(2, 3), (-4, 5), (6, -7), (-30, 0), (40, 9)]
)
@pytest.mark.parametrize("size", [(4, 5), (20, 30)])
def test_window_is_a_slice_of_the_padded_example(offset, size):
  example = make_example()
  offset, size = np.array(offset), np.array(size)
  before = np.maximum(-offset, 0)
  after = np.maximum(offset + size - [9, 12], 0)
  pads = list(zip(before, after))
  cut = tuple(
    slice(start, start + side) for start, side in zip(offset + before, size)
  )
  filled = geometry.window(
    example,
    tf.constant(offset, tf.int32),
    tf.constant(size, tf.int32),
    fill=3.0,
  )
  mirrored = geometry.window(
    example,
    tf.constant(offset, tf.int32),
    tf.constant(size, tf.int32),
    boundary="reflect",
  )
  for key, outside in [("image", 3.0), ("label", 255), ("weight", 0.0)]:
    values = example[key].numpy()
    more = [(0, 0)] * (values.ndim - 2)
    np.testing.assert_array_equal(
      filled[key], np.pad(values, pads + more, constant_values=outside)[cut]
    )
    np.testing.assert_array_equal(
      mirrored[key], np.pad(values, pads + more, mode="reflect")[cut]
    )


def test_window_fills_with_a_colour_a_channel():
  moved = geometry.window(
    make_example(),
    tf.constant([-1, 0]),
    tf.constant([5, 6]),
    fill=(1.0, 2.5, 104.00699),
  )
  expected = np.broadcast_to(np.float32([1, 2.5, 104.00699]), (6, 3))
  np.testing.assert_array_equal(moved["image"][0], expected)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_is_rot90(turns):
  example = make_example()
  moved = geometry.turned(example, tf.constant(turns))
  for key, values in example.items():
    np.testing.assert_array_equal(moved[key], np.rot90(values, turns))


@pytest.mark.parametrize(
  "axes", [[False, False], [False, True], [True, False], [True, True]]
)
def test_mirrored_is_flip(axes):
  example = make_example()
  moved = geometry.mirrored(example, tf.constant(axes))
  for key, values in example.items():
    expected = np.flip(values, np.flatnonzero(axes))
    np.testing.assert_array_equal(moved[key], expected)


def test_resized_samples_at_half_pixel_centres():
  example = make_example(8, 12)
  for size in ((16, 36), (4, 3), (5, 7)):
    moved = geometry.resized(example, tf.constant(size))
    places = np.meshgrid(
      *((np.arange(m) + 0.5) * n / m - 0.5 for m, n in zip(size, (8, 12))),
      indexing="ij",
    )
    expected = geometry.warp(
      example,
      tf.constant(np.clip(np.stack(places, -1), 0, (7, 11)), tf.float32),
    )
    np.testing.assert_allclose(moved["image"], expected["image"], atol=1e-3)
    np.testing.assert_allclose(moved["weight"], expected["weight"], atol=1e-5)
    np.testing.assert_array_equal(moved["label"], expected["label"])


def test_an_antialiased_halving_keeps_the_mean_of_a_checkerboard():
  board = 255.0 * (np.indices((16, 16)).sum(0) % 2)
  example = {
    "image": tf.constant(board[..., None], tf.float32),
    "label": tf.zeros([16, 16], tf.uint8),
  }
  moved = geometry.resized(example, tf.constant([4, 4]), antialias=True)
  np.testing.assert_allclose(moved["image"], 127.5, atol=8)


def test_an_unknown_boundary_is_refused():
  with pytest.raises(ValueError, match="fill, reflect"):
    geometry.warp(
      make_example(), geometry.pixel_grid((2, 2)), boundary="mirror"
    )
