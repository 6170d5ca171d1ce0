"""Crops that no class rules, and rectangles cut out."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fcnjax.data import crops, transforms


def windows(label, size, seed, tries):
  """The windows that a seed draws, and their greatest share of a class."""
  room = np.array(label.shape) - size
  drawn = tf.random.stateless_uniform([tries, 2], seed).numpy()
  places = np.minimum((drawn * np.float32(room + 1)).astype(int), room)
  for y, x in places:
    window = label[y : y + size[0], x : x + size[1]]
    counted = window[window < 255]
    counts = np.bincount(counted, minlength=1)
    yield window, counts.max() / counted.size if counted.size else 1.0


@pytest.mark.parametrize("max_share", [0.35, 0.6, 0.9])
def test_the_first_crop_that_no_class_rules_is_taken_or_the_best(max_share):
  rng = np.random.default_rng(0)
  label = rng.choice([2, 7, 200, 255], (30, 40), p=[0.3, 0.3, 0.2, 0.2])
  label[:, :22] = 4
  label[:, 36:] = 255
  example = {
    "image": tf.zeros([30, 40, 1]),
    "label": tf.constant(label, tf.uint8),
  }
  kinds = set()
  for seed in range(40):
    found = list(windows(label, (6, 5), (seed, 0), 4))
    good = [i for i, (_, share) in enumerate(found) if share <= max_share]
    shares = [share for _, share in found]
    best = good[0] if good else int(np.argmin(shares))
    kinds.add((bool(good), best > 0))
    moved = crops.random_crop(
      example, (seed, 0), size=(6, 5), max_share=max_share, tries=4
    )
    np.testing.assert_array_equal(moved["label"], found[best][0])
  # All four cases were seen, but the strictest share is met by few.
  assert len(kinds) >= 3


def test_balanced_crops_see_more_of_a_rare_class():
  """A class of 4 % of the pixels, in one corner."""
  label = np.zeros((50, 50), np.uint8)
  label[:10, :10] = 1
  example = {"image": tf.zeros([50, 50, 1]), "label": tf.constant(label)}
  shares = {}
  for max_share in (1.0, 0.75):
    crop = tf.function(
      functools.partial(
        crops.random_crop, example, size=(12, 12), max_share=max_share
      ),
      autograph=False,
    )
    labels = [crop(tf.constant((seed, 0)))["label"] for seed in range(100)]
    shares[max_share] = np.mean(labels)
  assert shares[0.75] > 3 * shares[1.0]


def rectangles(keep_label=False, seeds=150, **words):
  label = tf.fill([40, 60], tf.constant(3, tf.uint8))
  example = {
    "image": tf.fill([40, 60, 4], 100.0),
    "label": label,
    "second_label": label,
    "weight": tf.fill([40, 60], 2.0),
  }
  for seed in range(seeds):
    moved = transforms.cut_out(
      example, (seed, 1), fill=(1, 2, 3, 4), keep_label=keep_label, **words
    )
    hole = moved["image"].numpy()[..., 0] == 1
    expected = np.where(hole[..., None], [1, 2, 3, 4], 100)
    np.testing.assert_array_equal(moved["image"], expected)
    gone = hole & (not keep_label)
    np.testing.assert_array_equal(moved["label"], np.where(gone, 255, 3))
    np.testing.assert_array_equal(moved["second_label"], moved["label"])
    np.testing.assert_array_equal(moved["weight"], np.where(gone, 0, 2))
    yield hole


@pytest.mark.parametrize("keep_label", [False, True])
def test_cut_out_erases_one_rectangle_within_its_limits(keep_label):
  sides, covered = [], np.zeros((40, 60), int)
  for hole in rectangles(keep_label, minimum=0.2, maximum=0.5):
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    assert hole.sum() == len(rows) * len(columns)
    assert hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    sides.append((len(rows), len(columns)))
    covered += hole
  heights, widths = np.transpose(sides)
  assert heights.min() in (8, 9)
  assert heights.max() in (19, 20)
  assert widths.min() in (12, 13)
  assert widths.max() in (29, 30)
  assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.3
  for border in (covered[0], covered[-1], covered[:, 0], covered[:, -1]):
    assert border.any()


def test_several_rectangles_may_overlap():
  areas = [
    hole.mean() for hole in rectangles(count=4, minimum=0.5, maximum=0.5)
  ]
  assert min(areas) > 0.25
  assert 0.4 < np.mean(areas) < 0.9
