"""Parts of other examples, pasted on either path."""

import functools

import numpy as np
import pytest

from fcnjax import errors
from fcnjax.data import mixing, order as orders, pipeline, reading, resident

BOTH = (("cut_mix", {"probability": 0.8}), ("mosaic", {"probability": 0.5}))


class Source:
  """Every pixel tells its example and its place, in all maps alike."""

  def __init__(self, count=9, size=(10, 12)):
    self.names = [f"image{i}" for i in range(count)]
    place = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
    self.examples = [
      {
        "image": np.stack([np.full(size, i, np.uint8), place], -1),
        "label": np.full(size, i, np.uint8),
        "second_label": place % 200,
        "weight": (i + place / 256).astype(np.float32),
      }
      for i in range(count)
    ]

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    return self.examples[index]


def batches(path, source, steps, *, start=0, seed=4, **words):
  words = {"batch_size": 6, "mixing": BOTH} | words
  reader = reading.Reader(source, seed=seed)
  if path == "resident":
    held = resident.Resident(reader, **words)
    made = [held.batch(t) for t in range(start, start + steps)]
    return [{k: np.asarray(v) for k, v in b.items()} for b in made]
  made = pipeline.training_batches(reader, start_step=start, **words)
  taken = [next(made) for _ in range(steps)]
  made.close()
  return taken


def assert_equal(left, right):
  for one, other in zip(left, right, strict=True):
    assert one.keys() == other.keys()
    for key in one:
      np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("path", ["tf.data", "resident"])
def test_the_parts_are_where_the_plan_has_them(path):
  """Against a loop over pixels; all maps alike, and no value is new."""
  source = Source()
  order, plan = orders.uniform(9, 4), mixing.plan(BOTH, 4)
  mixed = 0
  for t, batch in enumerate(batches(path, source, 4)):
    for j in range(6):
      position = 6 * t + j
      expected = np.full((10, 12), order(position))
      for number, box in enumerate(plan(position)):
        top, left, bottom, right = np.round(box * (10, 12, 10, 12)).astype(int)
        other = order(position + (number + 1) * orders.FAR)
        expected[top:bottom, left:right] = other
      mixed += len(np.unique(expected)) > 1
      place = np.arange(120).reshape(10, 12)
      np.testing.assert_array_equal(batch["label"][j], expected)
      np.testing.assert_array_equal(batch["image"][j, ..., 0], expected)
      np.testing.assert_array_equal(batch["image"][j, ..., 1], place)
      np.testing.assert_array_equal(batch["second_label"][j], place)
      np.testing.assert_allclose(
        batch["weight"][j], expected + place / 256, atol=1e-6
      )
  assert 8 < mixed < 24


@pytest.mark.parametrize("path", ["tf.data", "resident"])
def test_mixed_batches_resume_and_are_transformed_one_by_one(path):
  words = {"transforms": (("flip", {"vertical": True}),)}
  whole = batches(path, Source(), 5, **words)
  assert_equal(batches(path, Source(), 2, start=3, **words), whole[3:])
  # What is pasted was flipped by its own numbers.
  turned = set()
  for batch in whole:
    for label, place in zip(batch["label"], batch["second_label"]):
      for value in np.unique(label):
        y, x = np.argwhere(label == value)[0]
        turned.add((len(np.unique(label)) > 1, int(place[y, x] == 12 * y + x)))
  assert turned == {(True, 0), (True, 1), (False, 0), (False, 1)}


def balanced(seed, streams, holders=((0, 1, 4), (1, 2), (3,))):
  """Returns the order of five examples that hold three classes."""
  counts = np.zeros((5, 3), np.int64)
  for label, held in enumerate(holders):
    counts[list(held), label] = 7
  return orders.class_balanced(counts, seed, streams=streams)


def of_two(seed, streams):
  """Returns an order of two sets, five and four examples, two to one."""
  parts = [
    balanced(orders.part_seed(seed, 0), streams),
    orders.uniform(4, orders.part_seed(seed, 1), streams=streams),
  ]
  return orders.mixed(parts, [5, 4], [2, 1], seed, streams=streams)


def part_of_run(order, mixing, start, index, count):
  """Returns what one process makes of steps `start` to 3; nothing is shared."""
  source = Source(9, size=(5, 6))
  for example in source.examples:
    del example["second_label"], example["weight"]
  reader = reading.Reader(source, seed=4, order=order(4, streams=5))
  made = pipeline.training_batches(
    reader,
    batch_size=8,
    start_step=start,
    transforms=(("flip", {}), ("random_crop", {"size": (4, 4)})),
    mixing=mixing,
    process_index=index,
    process_count=count,
  )
  taken = [next(made) for _ in range(start, 4)]
  made.close()
  return taken


@pytest.mark.parametrize(
  ("order", "mixing"),
  [
    (functools.partial(orders.uniform, 9), BOTH[:1]),
    (balanced, BOTH[:1]),
    (of_two, BOTH),
  ],
  ids=["uniform", "class_balanced", "of_two_sets"],
)
def test_batch_t_is_a_function_of_seed_and_t(order, mixing):
  """Bit for bit, at whichever step one begins, alone or one of several."""
  whole = part_of_run(order, mixing, 0, 0, 1)
  for start, index, count in ((1, 0, 1), (2, 1, 2), (3, 3, 4)):
    own = slice(index * 8 // count, (index + 1) * 8 // count)
    assert_equal(
      part_of_run(order, mixing, start, index, count),
      [{k: v[own] for k, v in batch.items()} for batch in whole[start:]],
    )
  # Crops, flips and boxes were drawn, and drawn anew.
  labels = [label for batch in whole for label in batch["label"]]
  assert sum(len(np.unique(label)) > 1 for label in labels) > 8
  first = np.concatenate([b["image"][:, 0, 0, 1] for b in whole])
  assert len(np.unique(first)) > 6
  assert len({batch["image"].tobytes() for batch in whole}) == 4


def test_a_mosaic_has_four_quadrants_and_a_box_its_share():
  boxes = np.stack(
    [mixing.plan((("mosaic", {"probability": 1}),), 0)(p) for p in range(500)]
  )
  corners = boxes[:, 2, :2]
  assert corners.min() >= 0.25
  assert corners.max() <= 0.75
  np.testing.assert_allclose(corners.mean(axis=0), 0.5, atol=0.03)
  areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
  np.testing.assert_allclose(areas.sum(1), 1 - corners.prod(-1), atol=1e-6)

  plan = mixing.plan((("cut_mix", {"probability": 0.5}),), 0)
  boxes = np.stack([plan(p)[0] for p in range(2000)])
  areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
  assert abs((areas > 0).mean() - 0.5) < 0.04
  # Before it is cut at the borders, its mean share is E[1 - v] = 1/2; a side s
  # around a uniform centre keeps s - s**2 / 4 of its length on average:
  # E[(s - s**2 / 4)**2], s**2 uniform, is 1/2 - 1/5 + 1/48.
  expected = 1 / 2 - 1 / 5 + 1 / 48
  np.testing.assert_allclose(areas[areas > 0].mean(), expected, atol=0.03)


def test_nothing_is_mixed_at_probability_0():
  none = (("cut_mix", {"probability": 0}), ("mosaic", {"probability": 0}))
  for path in ("tf.data", "resident"):
    assert_equal(
      batches(path, Source(), 2, mixing=none),
      batches(path, Source(), 2, mixing=()),
    )


def test_the_names_of_a_batch_hold_what_was_pasted():
  reader, plan = reading.Reader(Source(), seed=4), mixing.plan(BOTH, 4)
  (batch,) = batches("tf.data", Source(), 1)
  names = reader.names(0, 6, plan)
  assert names[:6] == reader.names(0, 6)
  assert {f"image{i}" for i in np.unique(batch["label"])} <= set(names)


def test_mistakes_get_one_line():
  for words, message in (
    ((("cutmix", {}),), "data.mixing: unknown 'cutmix'; did you mean 'cut_mix"),
    ((("cut_mix", {"alpha": 0}),), "alpha must be positive"),
    ((("mosaic", {"minimum": 0.6}),), "minimum"),
  ):
    with pytest.raises(errors.InputError, match=message):
      mixing.plan(words, 0)
  source = Source(4)
  for key, values in source.examples[2].items():
    source.examples[2][key] = values[:-1]
  with pytest.raises(errors.InputError, match="data.mixing.*random_crop"):
    batches("tf.data", source, 3, mixing=(("mosaic", {"probability": 1}),))
