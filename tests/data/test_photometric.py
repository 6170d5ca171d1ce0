"""Colours and grey values against NumPy and SciPy."""

import numpy as np
import pytest
from scipy import ndimage
import tensorflow as tf

from fcnjax.data import transforms

NAMES = ("photometric", "grey_values", "blur", "noise")


def make_example(height=10, width=13, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return {
    "image": tf.constant(
      rng.uniform(0, 255, (height, width, channels)), tf.float32
    ),
    "label": tf.constant(rng.integers(0, 5, (height, width)), tf.uint8),
  }


def apply(name, example, seed, **parameters):
  return transforms.TRANSFORMS[name](example, seed, **parameters)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_what_is_no_colour_stays(name, channels):
  """Depths may lie outside [0, 255], too."""
  example = make_example(channels=channels)
  colours = 3 if channels >= 3 else 1
  image = example["image"].numpy()
  image[..., colours:] = 10 * image[..., colours:] - 500
  example["image"] = tf.constant(image)
  moved = apply(name, example, (3, 1))
  after = moved["image"].numpy()
  np.testing.assert_array_equal(after[..., colours:], image[..., colours:])
  assert (np.abs(after - image).max(axis=(0, 1))[:colours] > 1).all()
  np.testing.assert_array_equal(moved["label"], example["label"])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(40, 50), (7, 3), (1, 9)])
def test_blur_is_scipys_gaussian_filter(seed, size):
  example = make_example(*size, seed=seed)
  sigma = float(tf.random.stateless_uniform([], (seed, 1), 0.0, 2.0))
  moved = apply("blur", example, (seed, 1), sigma=2.0)
  expected = ndimage.gaussian_filter(
    example["image"].numpy().astype(np.float64),
    (sigma, sigma, 0),
    mode="mirror",
    radius=(6, 6, 0),
  )
  np.testing.assert_allclose(moved["image"], expected, atol=0.1)


def drawn_sigma(seed, greatest):
  """The standard deviation of a seed, told from what it makes of an impulse."""
  image = np.zeros((61, 61, 1), np.float32)
  image[30, 30] = 255
  example = {"image": tf.constant(image), "label": tf.zeros([61, 61], tf.uint8)}
  mass = apply("blur", example, seed, sigma=greatest)["image"].numpy()[..., 0]
  mass = mass / mass.sum()
  return np.sqrt((mass.sum(1) * (np.arange(61) - 30) ** 2).sum())


def test_blur_draws_all_deviations_up_to_the_greatest():
  sigmas = [drawn_sigma((seed, 0), 3.0) for seed in range(60)]
  assert min(sigmas) < 0.4
  assert 2.6 < max(sigmas) < 3.0
  assert abs(np.mean(sigmas) - 1.5) < 3 * 3 / np.sqrt(12 * 60)


def test_noise_is_white_and_gaussian():
  """Of 20000 values each: mean, deviation, neighbours, kurtosis."""
  grey = {
    "image": tf.fill([100, 200, 3], 127.5),
    "label": tf.zeros([100, 200], tf.uint8),
  }
  sigmas = []
  for seed in range(40):
    moved = apply("noise", grey, (seed, 0), sigma=12.0)["image"].numpy()
    added = (moved - 127.5).reshape(100, 200, 3)
    sigmas.append(added.std())
    error = added.std() / np.sqrt(added.size)
    assert abs(added.mean()) < 5 * error
    scaled = added / added.std()
    for other in (
      scaled[1:] * scaled[:-1],
      scaled[:, 1:] * scaled[:, :-1],
      scaled[..., 1:] * scaled[..., :-1],
    ):
      assert abs(other.mean()) < 5 / np.sqrt(other.size)
    assert abs((scaled**4).mean() - 3) < 5 * np.sqrt(24 / scaled.size)
  assert min(sigmas) < 1.5
  assert 10.5 < max(sigmas) < 12.1
  assert abs(np.mean(sigmas) - 6) < 3 * 12 / np.sqrt(12 * 40)


@pytest.mark.parametrize("segments", [2, 5])
def test_grey_values_follow_a_curve_of_straight_segments(segments):
  ramp = np.linspace(0, 255, 511, dtype=np.float32)
  example = {
    "image": tf.constant(np.stack([ramp] * 3, -1)[None]),
    "label": tf.zeros([1, 511], tf.uint8),
  }
  slopes = []
  for seed in range(40):
    curve = apply(
      "grey_values", example, (seed, 0), strength=0.8, segments=segments
    )["image"].numpy()[0]
    assert (np.diff(curve, axis=0) > 0).all()
    knots = np.linspace(0, 255, segments + 1)
    for channel in range(3):
      at = np.interp(knots, ramp, curve[:, channel])
      np.testing.assert_allclose(
        curve[:, channel], np.interp(ramp, knots, at), atol=1e-3
      )
      np.testing.assert_allclose(at[[0, -1]], [0, 255], atol=1e-3)
      slopes.append(np.diff(at))
    assert np.abs(curve[:, 0] - curve[:, 1]).max() > 1
  ratios = np.log(np.max(slopes, 1) / np.min(slopes, 1))
  assert 1.2 < ratios.max() < 1.6


def test_photometric_keeps_within_its_strengths():
  example = make_example(4, 4)
  example["image"] = tf.fill([4, 4, 3], 100.0)
  shifts = [
    float(
      apply("photometric", example, (i, 0), brightness=0.1)["image"][0, 0, 0]
    )
    - 100
    for i in range(60)
  ]
  assert -25.6 < min(shifts) < -18
  assert 18 < max(shifts) < 25.6


def test_saturation_and_hue_change_colours_and_keep_the_grey_value():
  rng = np.random.default_rng(0)
  example = {
    "image": tf.constant(rng.uniform(90, 150, (6, 6, 4)), tf.float32),
    "label": tf.zeros([6, 6], tf.uint8),
  }
  moved = apply(
    "photometric",
    example,
    (1, 1),
    brightness=0.0,
    contrast=0.0,
    saturation=0.5,
    hue=0.3,
  )
  before, after = example["image"].numpy(), moved["image"].numpy()
  grey = np.array([0.299, 0.587, 0.114])
  assert np.abs(after - before)[..., :3].max() > 3
  np.testing.assert_allclose(
    after[..., :3] @ grey, before[..., :3] @ grey, atol=1e-3
  )
  np.testing.assert_array_equal(after[..., 3], before[..., 3])


def test_photometric_varies_grey_values_of_one_channel():
  example = make_example(channels=1)
  moved = apply("photometric", example, (1, 1), gamma=0.3, saturation=0.9)
  assert np.abs(moved["image"] - example["image"]).mean() > 1
  np.testing.assert_array_equal(moved["label"], example["label"])
