"""The four FCN metrics against their definitions, pixel by pixel."""

import json

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from fcnjax.metrics import confusion


def counted_by_hand(labels, predictions, k, ignore=255):
  matrix = np.zeros((k, k), np.int64)
  for t, p in zip(labels.ravel().tolist(), predictions.ravel().tolist()):
    if t != ignore and t in range(k) and p in range(k):
      matrix[t, p] += 1
  return matrix


def iou_by_sets(labels, predictions, k):
  """Intersection over union of the sets of pixels, classes of neither left."""
  valid = labels < k
  values = {}
  for i in range(k):
    truth, predicted = (labels == i) & valid, (predictions == i) & valid
    if (truth | predicted).any():
      values[i] = (truth & predicted).sum() / (truth | predicted).sum()
  return values


@hypothesis.given(seed=st.integers(0, 10**6), k=st.integers(1, 6))
def test_counts_equal_a_loop_whatever_values_there_are(seed, k):
  rng = np.random.default_rng(seed)
  labels = rng.choice([-1, 255, 254, k, *range(k)], (2, 5, 7)).astype(np.int32)
  predictions = rng.choice([-1, k, *range(k)], (2, 5, 7)).astype(np.int32)
  matrix = confusion.confusion_matrix(labels, predictions, num_classes=k)
  assert matrix.dtype == np.int32
  np.testing.assert_array_equal(matrix, counted_by_hand(labels, predictions, k))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_ignored_labels_are_no_class_in_any_integer_type(dtype):
  labels = np.array([[255, 0, 1, 2]], dtype)
  predictions = np.zeros((1, 4), np.int32)
  matrix = confusion.confusion_matrix(labels, predictions, num_classes=2)
  np.testing.assert_array_equal(matrix, [[1, 0], [1, 0]])


def test_ignore_may_be_a_class_number():
  labels = np.array([[0, 1, 1]], np.uint8)
  matrix = confusion.confusion_matrix(labels, labels, num_classes=2, ignore=0)
  np.testing.assert_array_equal(matrix, [[0, 0], [0, 2]])


def test_more_than_256_classes_do_not_wrap_around():
  labels = np.array([[255, 299]], np.uint16)
  matrix = confusion.confusion_matrix(
    labels, np.array([[3, 298]]), num_classes=300, ignore=65535
  )
  assert np.argwhere(np.asarray(matrix)).tolist() == [[255, 3], [299, 298]]


def test_jit_and_sum_of_parts_equal_the_whole():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, (3, 8, 8)).astype(np.uint8)
  predictions = rng.integers(0, 4, (3, 8, 8)).astype(np.int32)
  count = jax.jit(confusion.confusion_matrix, static_argnames="num_classes")
  whole = count(labels, predictions, num_classes=4)
  parts = sum(
    np.asarray(count(a, b, num_classes=4), np.int64)
    for a, b in zip(labels, predictions)
  )
  np.testing.assert_array_equal(whole, parts)


def test_scores_of_a_matrix_worked_out_on_paper():
  # 3 classes and one that never occurs; t = (4, 2, 0, 0), predicted (3, 2, 1).
  matrix = np.array([[3, 1, 0, 0], [0, 1, 1, 0], [0] * 4, [0] * 4])
  scores = confusion.scores(matrix)
  assert scores["pixel_accuracy"] == pytest.approx(4 / 6)
  assert scores["mean_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
  # Class 2 is predicted though absent: IoU 0 counts. Class 3 does not.
  assert scores["mean_iou"] == pytest.approx((3 / 4 + 1 / 3 + 0) / 3)
  assert scores["frequency_weighted_iou"] == pytest.approx(
    (4 * 3 / 4 + 2 * 1 / 3) / 6
  )
  assert scores["absent"] == [3]
  np.testing.assert_allclose(scores["iou"], [3 / 4, 1 / 3, 0, np.nan])
  np.testing.assert_allclose(scores["accuracy"], [3 / 4, 1 / 2, np.nan, np.nan])
  np.testing.assert_allclose(scores["truth_share"], [4 / 6, 2 / 6, 0, 0])
  np.testing.assert_allclose(
    scores["prediction_share"], [3 / 6, 2 / 6, 1 / 6, 0]
  )


@hypothesis.given(seed=st.integers(0, 10**6))
def test_scores_equal_the_sets_of_pixels(seed):
  rng = np.random.default_rng(seed)
  k = 5
  labels = rng.choice([255, 0, 1, 2, 3], (6, 9)).astype(np.uint8)
  predictions = rng.choice([0, 1, 2], (6, 9)).astype(np.int32)
  matrix = confusion.confusion_matrix(labels, predictions, num_classes=k)
  scores = confusion.scores(np.asarray(matrix, np.int64))
  expected = iou_by_sets(labels, predictions, k)
  assert scores["absent"] == [i for i in range(k) if i not in expected]
  assert scores["mean_iou"] == pytest.approx(np.mean([*expected.values()]))
  valid = labels < k
  assert scores["pixel_accuracy"] == pytest.approx(
    (labels == predictions)[valid].mean()
  )
  present = [i for i in range(k) if (labels == i).any()]
  assert scores["mean_accuracy"] == pytest.approx(
    np.mean([(predictions == i)[labels == i].mean() for i in present])
  )
  assert scores["frequency_weighted_iou"] == pytest.approx(
    sum((labels == i).sum() * expected[i] for i in present) / valid.sum()
  )


def test_nothing_counted_is_nan_without_a_warning():
  scores = confusion.scores(np.zeros((3, 3), np.int64))
  assert np.isnan(scores["mean_iou"])
  assert np.isnan(scores["pixel_accuracy"])
  assert np.isnan(scores["frequency_weighted_iou"])
  assert scores["absent"] == [0, 1, 2]
  assert "mean IoU" in confusion.table(scores)


def test_record_is_strict_json():
  scores = confusion.scores(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
  text = json.dumps(confusion.record(scores), allow_nan=False)
  assert json.loads(text)["iou"] == [3 / 4, 2 / 3, None]


def test_table_names_absent_classes_and_fits_a_terminal():
  matrix = np.zeros((3, 3), np.int64)
  matrix[:2, :2] = [[90, 2], [3, 5]]
  names = ["a very long name of a class that no terminal shows", "b", "c"]
  text = confusion.table(confusion.scores(matrix), names)
  assert max(map(len, text.splitlines())) <= 80
  assert "left out of the means: c." in text
  assert "94.74" in text  # IoU of the first class: 90 / 95.
  assert "Never" not in text
  assert "takes" not in text


def test_table_warns_of_one_class_everywhere():
  matrix = np.array([[60, 0], [40, 0]])
  text = confusion.table(confusion.scores(matrix), ["road", "car"])
  assert "road takes 100.0% of the prediction, but is 60.0%" in text
  assert "Never predicted though present: car." in text


def test_no_warning_where_the_truth_is_like_that():
  matrix = np.array([[98, 0], [1, 1]])
  assert confusion.warnings(confusion.scores(matrix)) == []


def test_excluded_classes_have_no_figures_but_their_pixels_count():
  matrix = np.array([[6, 1, 1], [2, 4, 0], [0, 0, 0]])
  whole, scores = (confusion.scores(matrix, exclude=e) for e in ((), (2,)))
  assert whole["iou"][2] == 0  # Predicted once, never there.
  assert np.isnan(scores["iou"][2])
  assert scores["mean_iou"] == pytest.approx(whole["iou"][:2].mean())
  for figure in ("pixel_accuracy", "frequency_weighted_iou"):
    assert scores[figure] == whole[figure]


def test_a_wrong_number_of_names_is_refused():
  scores = confusion.scores(np.eye(3, dtype=np.int64))
  with pytest.raises(ValueError, match="2 class names for 3 classes"):
    confusion.table(scores, ["a", "b"])
