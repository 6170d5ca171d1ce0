"""The elastic field against SciPy and against Keys' formula in NumPy."""

import numpy as np
import pytest
from scipy import interpolate
import tensorflow as tf

from fcnjax.data import elastic, transforms


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


def fields(count, size, grid=3, sigma=10.0):
  """Independent fields, [count, h, w, 2]."""
  draw = tf.function(
    lambda seed: elastic.displacement_field(seed, size, grid=grid, sigma=sigma),
    autograph=False,
  )
  return np.stack([draw(tf.constant((7, i))).numpy() for i in range(count)])


@pytest.mark.parametrize("grid", [3, 5])
def test_the_field_has_the_papers_mean_and_deviation(grid):
  """Everywhere, within five standard errors of 2 x 1500 samples.

  The paper draws the nodes with 10 pixels. Between them a value is a sum of
  nodes, so its variance is that of a node times the sum of squared weights,
  which are told here by the curves through unit vectors, and on 3 x 3 nodes by
  the closed form that elastic.py states.
  """
  count, size = 1500, (17, 9)
  found = np.moveaxis(fields(count, size, grid), -1, 0).reshape(-1, *size)
  squares = [
    [
      sum(catmull_rom(unit, place) ** 2 for unit in np.eye(grid))
      for place in np.linspace(0, grid - 1, side)
    ]
    for side in size
  ]
  expected = 10 * np.sqrt(np.outer(*squares))
  nodes = expected[:: 16 // (grid - 1), :: 8 // (grid - 1)]
  np.testing.assert_allclose(nodes, 10, rtol=1e-12)
  if grid == 3:
    u, v = np.linspace(-1, 1, 17)[:, None], np.linspace(-1, 1, 9)
    closed = (1 - 1.5 * u**2 * (1 - u**2)) * (1 - 1.5 * v**2 * (1 - v**2))
    np.testing.assert_allclose(expected, 10 * np.sqrt(closed), rtol=1e-12)
  error = expected / np.sqrt(2 * count)
  assert (np.abs(found.mean(0)) < 5 * error).all()
  # The standard error of a Gaussian's deviation is sigma / sqrt(2 n).
  deviation = np.sqrt((found**2).mean(0))
  assert (np.abs(deviation - expected) < 5 * error / np.sqrt(2)).all()


def test_rows_and_columns_and_nodes_are_moved_independently():
  """Correlations of 1500 samples: five standard errors of 1 / sqrt(n)."""
  corners = fields(1500, (5, 5))[:, ::2, ::2].reshape(1500, -1)
  others = np.corrcoef(corners.T) - np.eye(18)
  assert np.abs(others).max() < 5 / np.sqrt(1500)


@pytest.mark.parametrize(("grid", "size"), [(3, (65, 129)), (6, (101, 151))])
def test_the_field_is_smooth(grid, size):
  """Second differences stay below what the nodes allow the curves to bend.

  A piece's second derivative is linear, so it is greatest at one of its ends:
  there it is 2a - 5b + 4c - d or -a + 4b - 5c + 2d of the four nodes around,
  per cell squared. The slope is continuous, so the second difference of pixels
  is at most that. A field that jumped or kinked would exceed it.
  """
  for index in range(5):
    nodes = tf.random.stateless_normal([grid, grid, 2], (index, 1)) * 10
    surface = elastic.bicubic_surface(nodes, size).numpy()
    for axis in (0, 1):
      field = np.moveaxis(surface, axis, 0)
      cell = (size[axis] - 1) / (grid - 1)
      across = np.moveaxis(
        elastic.bicubic_surface(
          nodes, [grid if i == axis else size[i] for i in (0, 1)]
        ).numpy(),
        axis,
        0,
      )
      first = 3 * across[:1] - 3 * across[1:2] + across[2:3]
      last = 3 * across[-1:] - 3 * across[-2:-1] + across[-3:-2]
      around = np.concatenate([first, across, last])
      a, b, c, d = (around[i : len(around) - 3 + i] for i in range(4))
      ends = np.abs(
        [2 * a - 5 * b + 4 * c - d, -a + 4 * b - 5 * c + 2 * d]
      ).max((0, 1))
      bends = np.abs(np.diff(field, 2, axis=0)).max(0)
      # The field is float32, with an error of some 1e-5 of its 30 pixels.
      assert (bends < ends / cell**2 + 2e-5).all()
      assert (bends > 0.5 * ends / cell**2 - 2e-5).mean() > 0.5


@pytest.mark.parametrize("tile", [3, 16])
@pytest.mark.parametrize("seed", range(4))
def test_the_edges_of_a_warped_checkerboard_coincide(tile, seed):
  """Half grey of the image is exactly where the label changes.

  Between two pixels that differ half is half way, where the nearest pixel
  changes; and between the four of a board's corner a grey value is
  255 (t u + (1 - t)(1 - u)), which is over half where the nearest is white.
  """
  board = np.indices((128, 160)) // tile
  board = (board.sum(0) % 2).astype(np.uint8)
  warped = transforms.TRANSFORMS["elastic"](
    {
      "image": tf.constant(255.0 * board[..., None], tf.float32),
      "label": tf.constant(board),
    },
    (seed, 0),
  )
  image = warped["image"].numpy()[..., 0]
  label = warped["label"].numpy()
  clear = np.abs(image - 127.5) > 0.05
  assert clear.mean() > 0.998
  np.testing.assert_array_equal((image > 127.5)[clear], label[clear] == 1)
  assert (label != board).mean() > 0.1


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
