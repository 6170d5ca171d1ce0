"""BF against a search over all pairs of pixels."""

import numpy as np
import pytest

from fcnjax.metrics import boundary


def bf_by_hand(label, prediction, k, tolerance):
  """The definition, one pixel after another."""
  height, width = label.shape
  limit = tolerance * (height**2 + width**2) ** 0.5

  def edges(mask):
    points = []
    for y in range(height):
      for x in range(width):
        for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
          inside = v < height and u < width
          if (
            inside
            and label[y, x] < k
            and label[v, u] < k
            and mask[y, x] != mask[v, u]
          ):
            points.append((y, x))
            break
    return points

  def share(some, others):
    near = [
      any((y - v) ** 2 + (x - u) ** 2 <= limit**2 for v, u in others)
      for y, x in some
    ]
    return sum(near) / len(near) if near else 0.0

  result = []
  for i in range(k):
    if not (label == i).any():
      result.append(np.nan)
      continue
    valid = label < k
    truth = edges((label == i) & valid)
    predicted = edges((prediction == i) & valid)
    p, r = share(predicted, truth), share(truth, predicted)
    result.append(2 * p * r / (p + r) if p + r else 0.0)
  return result


def square(offset=0, size=60):
  label = np.zeros((size, size), np.uint8)
  label[20:40, 20 + offset : 40 + offset] = 1
  return label


def test_identical_maps_score_one():
  label = square()
  np.testing.assert_array_equal(
    boundary.bf_score(label, label.astype(np.int32), num_classes=3),
    [1, 1, np.nan],
  )


def test_a_shift_within_the_tolerance_is_free_and_one_beyond_is_not():
  # The diagonal is 84.85 pixels: 3 pixels are 0.03536 of it.
  label, moved = square(), square(offset=3)
  near = boundary.bf_score(label, moved, num_classes=2, tolerance=0.0354)
  far = boundary.bf_score(label, moved, num_classes=2, tolerance=0.0353)
  np.testing.assert_array_equal(near, [1, 1])
  assert (far < 1).all()
  assert (far > 0.3).all()  # The upper and lower sides overlap still.


def test_a_distance_equal_to_the_tolerance_is_near_enough():
  # A 30 x 40 image has a diagonal of 50 pixels; 0.04 of it are 2 pixels.
  label = np.zeros((30, 40), np.uint8)
  moved = label.copy()
  label[:, 20:], moved[:, 22:] = 1, 1
  score = boundary.bf_score(label, moved, num_classes=2, tolerance=0.04)
  np.testing.assert_array_equal(score, [1, 1])


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_definition(seed):
  rng = np.random.default_rng(seed)
  label = np.kron(rng.integers(0, 3, (5, 4)), np.ones((4, 5))).astype(np.uint8)
  prediction = np.roll(label, rng.integers(0, 4), axis=1).astype(np.int32)
  noise = rng.random(label.shape) < 0.03
  prediction = np.where(noise, rng.integers(0, 3, label.shape), prediction)
  label[rng.random(label.shape) < 0.1] = 255
  score = boundary.bf_score(label, prediction, num_classes=4, tolerance=0.06)
  np.testing.assert_allclose(score, bf_by_hand(label, prediction, 4, 0.06))


def test_ignored_pixels_make_no_boundary():
  label = square()
  label[15:45, 15:45][square()[15:45, 15:45] == 0] = 255  # A ring of 255.
  # What is predicted inside the ring does not matter.
  wrong = np.where(label == 255, 1, label).astype(np.int32)
  right = np.where(label == 255, 0, label).astype(np.int32)
  np.testing.assert_array_equal(
    boundary.bf_score(label, wrong, num_classes=2),
    boundary.bf_score(label, right, num_classes=2),
  )


def test_an_outline_that_is_ignored_throughout_is_not_scored():
  label = square()
  label[18:42, 18:42][square()[18:42, 18:42] == 0] = 255
  prediction = square().astype(np.int32)
  prediction[30, 30] = prediction[2, 2] = 2  # Its boundaries are wrong, but
  score = boundary.bf_score(label, prediction, num_classes=3)  # to what?
  np.testing.assert_array_equal(score, [np.nan] * 3)


def test_predicted_only_classes_count_where_the_script_is_followed():
  label = np.zeros((40, 40), np.uint8)
  prediction = label.astype(np.int32)
  prediction[10:20, 10:20] = 2
  paper = boundary.bf_score(label, prediction, num_classes=3)
  script = boundary.bf_score(
    label, prediction, num_classes=3, classes="truth_or_prediction"
  )
  np.testing.assert_array_equal(paper, [0, np.nan, np.nan])
  np.testing.assert_array_equal(script, [0, np.nan, 0])


def test_a_class_that_fills_the_image_has_no_boundary():
  label = np.zeros((9, 9), np.uint8)
  score = boundary.bf_score(label, label, num_classes=1)
  np.testing.assert_array_equal(score, [1])
  missed = boundary.bf_score(label, label + 1, num_classes=2)
  np.testing.assert_array_equal(missed, [0, np.nan])


def test_mean_is_over_classes_then_images():
  values = np.array([[1.0, 0.0], [0.5, np.nan], [np.nan, np.nan]])
  assert boundary.mean_bf_score(values) == pytest.approx(0.5)
  assert np.isnan(boundary.mean_bf_score(values[2:]))


def test_another_word_is_refused():
  label = np.zeros((3, 3), np.uint8)
  with pytest.raises(ValueError, match="truth_or_prediction"):
    boundary.bf_score(label, label, num_classes=1, classes="both")


@pytest.mark.parametrize("width", [1, 2, 3.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_trimap_is_what_is_near_another_label(seed, width):
  """Every distance, one pair of pixels after the other."""
  random = np.random.default_rng(seed)
  label = random.choice(np.array([0, 1, 2, 255], np.uint8), (4, 5))
  label = label.repeat(4, axis=0).repeat(3, axis=1)
  places = np.argwhere(label < 256)
  apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
  flat = label.reshape(-1)
  other = flat[:, None] != flat[None]
  near = np.where(other, apart, np.inf).min(axis=1) <= width
  expected = near.reshape(label.shape) & (label != 255)
  band = boundary.trimap(label, width=width)
  np.testing.assert_array_equal(band, expected)
  assert band.any()


def test_a_map_of_one_class_has_no_trimap():
  label = np.full((4, 5), 7, np.uint8)
  assert not boundary.trimap(label, width=3).any()
