"""Tiled equals whole: the claim of U-Net's figure 2, and of users' seams."""

import itertools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import models
from fcnjax.inference import borders, tiles

KERNELS = [
  np.random.default_rng(i).normal(size=(3, 3, a, b)).astype(np.float32) / 3
  for i, (a, b) in enumerate([(2, 4), (4, 4), (4, 3)])
]


def conv(x, kernel, padding):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


@jax.jit
def valid_net(x):
  """Three valid 3x3 convolutions: 3 pixels smaller on each side."""
  for kernel in KERNELS:
    x = jnp.tanh(conv(x, kernel, "VALID"))
  return x


@jax.jit
def same_net(x):
  """Three zero-padded 3x3 convolutions: a reach of 3 pixels."""
  for kernel in KERNELS:
    x = jnp.tanh(conv(x, kernel, "SAME"))
  return x


def random_image(*shape):
  return np.random.default_rng(7).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ("size", "tile"),
  [
    ((31, 23), (8, 8)),
    ((16, 24), (8, 8)),
    ((5, 40), (8, 12)),
    ((2, 1), (6, 6)),
  ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_overlap_tile_equals_the_whole_mirrored_image(size, tile, batch):
  image = random_image(2, *size, 2)
  whole = valid_net(borders.mirror(image, rows=(3, 3), columns=(3, 3)))
  tiled = tiles.overlap_tile(valid_net, image, tile=tile, margin=3, batch=batch)
  np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_all_tiles_have_one_shape():
  shapes = []

  def predict(x):
    shapes.append(x.shape)
    return valid_net(x)

  tiles.overlap_tile(
    predict, random_image(1, 19, 30, 2), tile=(8, 8), margin=3, batch=5
  )
  assert shapes == [(5, 14, 14, 2)] * 3  # 3 x 4 tiles, 5 at a time.


def pooling_net(x):
  """Valid, stride 4: means of 4x4 cells of the middle, spread out again."""
  b, h, w, c = x.shape
  cells = x.reshape(b, h // 4, 4, w // 4, 4, c).mean(axis=(2, 4))
  spread = cells.repeat(4, axis=1).repeat(4, axis=2)
  return spread[:, 4 : h - 4 - 2, 4 : w - 4 - 2]  # Output 4 n + 2, as U-Net's.


def test_a_pooling_network_needs_tiles_at_multiples_of_its_stride():
  image = random_image(1, 20, 40, 1)

  def predict(x):
    x = np.pad(np.asarray(x), ((0, 0), (0, 2), (0, 2), (0, 0)))
    return pooling_net(x)

  def tiled(stride):
    return tiles.overlap_tile(
      predict, image, tile=(10, 10), margin=4, stride=stride
    )

  # One tile over everything: 42 rows and columns of output.
  whole = tiles.overlap_tile(predict, image, tile=(42, 42), margin=4)
  np.testing.assert_allclose(tiled(4)[:, :20, :36], whole[:, :20, :36])
  assert np.abs(tiled(1) - whole).max() > 0.1


def test_overlap_tile_equals_the_whole_image_for_unet():
  """At two levels the margin is 20, the stride 4."""
  model = models.create_model(
    "unet", num_classes=2, in_channels=1, width=2, depth=2
  )
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 44, 44, 1))
  )
  variables = jax.tree.map(lambda leaf: random_image(*leaf.shape) / 3, shapes)
  image = random_image(1, 30, 40, 1)

  @jax.jit
  def predict(x):
    return model.apply(variables, x, train=False)["logits"]

  whole = tiles.overlap_tile(predict, image, tile=(32, 40), margin=20)
  tiled = tiles.overlap_tile(
    predict, image, tile=(12, 20), margin=20, stride=4, batch=2
  )
  assert np.abs(whole).max() > 1e-3
  np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_a_wrong_margin_is_named():
  with pytest.raises(ValueError, match="8x8 for 14x14 pixels, expected 10x10"):
    tiles.overlap_tile(
      valid_net, random_image(1, 9, 9, 2), tile=(10, 10), margin=2
    )


@pytest.mark.parametrize(
  "words", [{"tile": (0, 4)}, {"margin": -1}, {"batch": 0}, {"stride": 9}]
)
def test_overlap_tile_refuses_sizes_out_of_range(words):
  words = {"tile": (8, 8), "margin": 3} | words
  with pytest.raises(ValueError, match="expected tile >= stride"):
    tiles.overlap_tile(valid_net, random_image(1, 9, 9, 2), **words)


@pytest.mark.parametrize("size", [(40, 33), (16, 16), (7, 50), (3, 2)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_windows_of_a_pointwise_network_equal_the_whole_image(size, overlap):
  image = random_image(2, *size, 3)

  def predict(x):
    return np.tanh(x @ np.array([[1.0, 2], [0, 1], [3, -1]], np.float32))

  windows = tiles.sliding_window(
    predict, image, window=(16, 12), overlap=overlap, batch=3
  )
  np.testing.assert_allclose(windows, predict(image), atol=2e-6)


@pytest.mark.parametrize("size", [(40, 33), (20, 61), (16, 16)])
def test_windows_equal_the_whole_image_where_the_margin_covers_the_reach(size):
  image = random_image(1, *size, 2)
  windows = tiles.sliding_window(
    same_net, image, window=(16, 16), overlap=0.25, margin=3, batch=2
  )
  np.testing.assert_allclose(windows, same_net(image), atol=1e-5)
  # Without the margin, the windows' own zero padding shows.
  seams = tiles.sliding_window(
    same_net, image, window=(16, 16), overlap=0.25, batch=2
  )
  if size != (16, 16):
    assert np.abs(seams - same_net(image)).max() > 1e-2


def test_window_weights_fall_from_the_centre():
  """One of two overlapping windows wins where its centre is nearer."""
  calls = itertools.count()

  def predict(x):
    return np.full((*x.shape[:3], 1), float(next(calls)), np.float32)

  logits = tiles.sliding_window(
    predict, random_image(1, 16, 24, 1), window=(16, 16), overlap=0.5
  )
  across = logits[0, 8, :, 0]
  assert (np.diff(across) >= 0).all()
  assert across[8] < 0.05
  assert across[15] > 0.95
  np.testing.assert_allclose(across[11] + across[12], 1, atol=1e-6)


def test_a_small_image_is_mirrored_to_the_window():
  seen = []

  def predict(x):
    seen.append(x)
    return x

  image = random_image(1, 3, 4, 1)
  logits = tiles.sliding_window(predict, image, window=(5, 4))
  np.testing.assert_allclose(logits, image, rtol=1e-6)
  np.testing.assert_array_equal(seen[0], image[:, [0, 1, 2, 1, 0]])


@pytest.mark.parametrize(
  "words", [{"overlap": 1.0}, {"overlap": -0.1}, {"margin": 8}, {"batch": 0}]
)
def test_sliding_window_refuses_sizes_out_of_range(words):
  with pytest.raises(ValueError, match="expected 0 <= overlap"):
    tiles.sliding_window(
      same_net, random_image(1, 9, 9, 2), window=(16, 16), **words
    )
