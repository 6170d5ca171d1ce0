"""The elastic field against SciPy and against Keys' formula in NumPy."""

import numpy as np
import pytest
from scipy import interpolate
import tensorflow as tf

from fcnjax.data import elastic


def catmull_rom(nodes, place):
  """One point of the curve through `nodes`, written out."""
  before = 3 * nodes[0] - 3 * nodes[1] + nodes[2]
  after = 3 * nodes[-1] - 3 * nodes[-2] + nodes[-3]
  nodes = np.concatenate([[before], nodes, [after]])
  left = min(int(place), len(nodes) - 4)
  t = place - left
  a, b, c, d = nodes[left : left + 4]
  return 0.5 * (
    2 * b
    + (c - a) * t
    + (2 * a - 5 * b + 4 * c - d) * t**2
    + (3 * b - 3 * c + d - a) * t**3
  )


def test_three_nodes_a_side_give_the_biquadratic_surface():
  nodes = np.random.default_rng(0).normal(size=(3, 3, 2)).astype(np.float32)
  surface = elastic.bicubic_surface(tf.constant(nodes), (17, 30)).numpy()
  assert surface.shape == (17, 30, 2)
  for axis in range(2):
    spline = interpolate.RectBivariateSpline(
      [0, 8, 16], [0, 14.5, 29], nodes[..., axis], kx=2, ky=2
    )
    expected = spline(np.arange(17), np.arange(30))
    np.testing.assert_allclose(surface[..., axis], expected, atol=2e-6)


@pytest.mark.parametrize("count", [3, 4, 6])
def test_the_surface_is_keys_cubic_convolution(count):
  nodes = np.random.default_rng(1).normal(size=(count, count))
  surface = elastic.bicubic_surface(
    tf.constant(nodes[..., None], tf.float32), (11, 23)
  )
  rows = [
    [catmull_rom(nodes[:, j], y) for j in range(count)]
    for y in np.linspace(0, count - 1, 11)
  ]
  expected = [
    [catmull_rom(np.array(row), x) for x in np.linspace(0, count - 1, 23)]
    for row in rows
  ]
  np.testing.assert_allclose(surface[..., 0], expected, atol=1e-5)


def test_the_corners_of_the_grid_are_the_corner_pixels():
  nodes = tf.random.stateless_normal([3, 3, 2], (1, 2))
  surface = elastic.bicubic_surface(nodes, (9, 13))
  np.testing.assert_allclose(surface[::4, ::6], nodes, atol=1e-6)


def test_displacements_have_the_given_deviation_in_pixels():
  corners = [
    elastic.displacement_field((7, i), (5, 5), sigma=10.0).numpy()[::2, ::2]
    for i in range(100)
  ]
  corners = np.stack(corners)  # 1800 numbers.
  assert abs(corners.mean()) < 1
  assert 9.5 < corners.std() < 10.5
  # Rows and columns are moved independently, and so are the nodes.
  flat = corners.reshape(100, -1)
  others = np.corrcoef(flat.T) - np.eye(18)
  assert np.abs(others).max() < 0.45


def test_the_field_depends_on_the_seed_alone_and_not_on_the_resolution():
  small = elastic.displacement_field((3, 4), (5, 9))
  again = elastic.displacement_field((3, 4), (5, 9))
  large = elastic.displacement_field((3, 4), (9, 17))
  other = elastic.displacement_field((3, 5), (5, 9))
  np.testing.assert_array_equal(small, again)
  np.testing.assert_allclose(small, large[::2, ::2], atol=1e-4)
  assert np.abs(small - other).max() > 1


def test_a_single_row_is_allowed():
  assert elastic.displacement_field((1, 1), (1, 4)).shape == (1, 4, 2)


def test_two_nodes_make_no_bicubic_surface():
  with pytest.raises(ValueError, match="at least 3 nodes"):
    elastic.displacement_field((0, 0), (5, 5), grid=2)
