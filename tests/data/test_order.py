"""What stands where is a function of the seed and the position alone."""

import collections
import time

import numpy as np
import pytest

from fcnjax import errors
from fcnjax.data import order as orders

# Image i holds the classes of row i; class 2 is rare, class 3 nowhere.
COUNTS = np.array(
  [[90, 10, 0, 0]] * 5 + [[50, 0, 0, 0]] * 6 + [[70, 0, 30, 0], [99, 0, 1, 0]]
)


def balanced(seed=0, least=1):
  return orders.class_balanced(COUNTS, seed, least=least)


def mixture(weights, seed=0):
  counts = (7, 3, 5)[: len(weights)]
  parts = [
    orders.uniform(count, orders.part_seed(seed, i))
    for i, count in enumerate(counts)
  ]
  return orders.mixed(parts, counts, weights, seed)


ORDERS = {
  "uniform": lambda seed: orders.uniform(11, seed),
  "class_balanced": balanced,
  "mixed": lambda seed: mixture((3, 1, 0.7), seed),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_it_may_be_asked_at_any_place_in_any_order(kind):
  """A fresh order, asked backwards, far away first, tells the same."""
  whole = ORDERS[kind](5)
  asked = [whole(p) for p in range(300)]
  again = ORDERS[kind](5)
  began = time.perf_counter()
  far = [again(10**9 + p) for p in range(50)]
  assert time.perf_counter() - began < 1
  assert [again(p) for p in reversed(range(300))] == asked[::-1]
  assert [whole(10**9 + p) for p in range(50)] == far
  # Another seed has another order, whichever of its 64 bits differs.
  for seed in (6, 5 + 2**40, -5):
    other = ORDERS[kind](seed)
    assert [other(p) for p in range(300)] != asked


def test_every_epoch_of_a_uniform_order_holds_all():
  order = orders.uniform(11, 0)
  epochs = [
    tuple(order(p) for p in range(i, i + 11)) for i in range(0, 110, 11)
  ]
  assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
  assert len(set(epochs)) == 10


def test_classes_are_shown_equally_often_and_their_images_too():
  """Each class exactly once in three positions, each image once a round."""
  order = balanced()
  seen = collections.Counter(order(p) for p in range(3 * 13 * 10))
  # Class 0 shows all 13 images 10 times in 130 turns; class 1 five images 26
  # times each; class 2 two images 65 times each.
  expected = {i: 10 + 26 for i in range(5)} | {i: 10 for i in range(5, 11)}
  assert seen == expected | {11: 75, 12: 75}


def test_a_few_pixels_may_not_show_a_class():
  seen = collections.Counter(balanced(least=5)(p) for p in range(3 * 13 * 10))
  assert seen[11] == 10 + 130
  assert seen[12] == 10
  with pytest.raises(errors.InputError, match="no image has 100 pixels"):
    balanced(least=100)


@pytest.mark.parametrize(
  ("weights", "block", "expected"),
  [
    ((3, 1), 4, (3, 1)),
    ((1, 1, 2), 4, (1, 1, 2)),
    ((0.5, 0.25, 0.25), 1000, (500, 250, 250)),
    ((1 / 3, 1 / 3, 1 / 3), 1000, (334, 333, 333)),
    ((5000, 1000), 1000, (833, 167)),
  ],
)
def test_a_mixture_keeps_its_weights_in_every_block(weights, block, expected):
  order = mixture(weights)
  for start in (0, 7 * block):
    seen = [order(start + p) for p in range(block)]
    parts = [(0, 7), (7, 10), (10, 15)]
    shares = [sum(a <= i < b for i in seen) for a, b in parts]
    assert tuple(shares[: len(weights)]) == expected


def test_each_set_of_a_mixture_goes_on_in_its_own_order():
  """However often another's turn comes, no example is left out."""
  order, alone = mixture((3, 1)), orders.uniform(7, orders.part_seed(0, 0))
  first = [i for i in map(order, range(200)) if i < 7]
  assert first == [alone(p) for p in range(len(first))]


def test_a_weight_too_small_is_refused():
  with pytest.raises(errors.InputError, match="less than a thousandth"):
    mixture((1, 1e-5))


def test_memory_does_not_grow_with_positions():
  order = orders.class_balanced(np.ones((50, 20), int), 0)
  for position in range(0, 200_000, 7):
    order(position)
  for cell in order.__closure__:
    info = getattr(cell.cell_contents, "cache_info", None)
    if info:
      assert info().currsize <= info().maxsize < 100


@pytest.mark.parametrize("kind", ["uniform", "class_balanced", "mixed"])
def test_with_mixing_nothing_is_drawn_twice(kind, monkeypatch):
  """As the pipeline reads: batches of 16, and 13 pasted into each example."""
  streams, classes = 14, 40
  if kind == "uniform":
    order = orders.uniform(64, 0, streams=streams)
  elif kind == "class_balanced":
    counts = np.ones((64, classes), int)
    order = orders.class_balanced(counts, 0, streams=streams)
  else:
    parts = [orders.uniform(64, seed, streams=streams) for seed in (1, 2)]
    order = orders.mixed(parts, [64, 64], (1, 3), 0, streams=streams)
  drawn, generator = [], orders._generator

  def counted(*words):
    drawn.append(words)
    return generator(*words)

  monkeypatch.setattr(orders, "_generator", counted)
  for step in range(25):
    for stream in range(streams):
      for place in range(16):
        order(16 * step + place + stream * orders.FAR)
  assert len(drawn) == len(set(drawn)) > streams
