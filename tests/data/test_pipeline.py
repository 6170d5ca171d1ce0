"""Batch t is a pure function of (seed, t), whoever makes it."""

import collections
import itertools
import time

import numpy as np
import pytest
import tensorflow as tf

from fcnjax import errors
from fcnjax.data import order as orders, pipeline, reading

AUGMENT = (
  ("random_scale", {"minimum": 0.7, "maximum": 1.5}),
  ("elastic", {"sigma": 2.0}),
  ("random_crop", {"size": (8, 9)}),
  ("flip", {}),
  ("photometric", {}),
)


class Source:
  """Example i is an image of the value i, so that a batch tells its order."""

  def __init__(self, count, size=(6, 7), channels=3, weight=False, seed=None):
    rng = np.random.default_rng(seed)
    self.names = [f"image{i}" for i in range(count)]
    self.reads = []
    self.examples = []
    for i in range(count):
      image = np.full((*size, channels), i, np.uint8)
      if seed is not None:
        image = rng.integers(0, 256, image.shape, dtype=np.uint8)
      label = rng.integers(0, 4, size).astype(np.uint8)
      example = {"image": image, "label": label, "name": self.names[i]}
      if weight:
        example["weight"] = rng.uniform(0, 2, size).astype(np.float32)
      self.examples.append(example)

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    self.reads.append(index)
    return self.examples[index]


def read(source, seed=3, order=None, **parameters):
  """Returns batches and their reader."""
  words = {
    key: parameters.pop(key)
    for key in ("on_bad_example", "say")
    if key in parameters
  }
  reader = reading.Reader(source, seed=seed, order=order, **words)
  parameters = {"batch_size": 4} | parameters
  return pipeline.training_batches(reader, **parameters), reader


def names_of(source, step, batch_size=4):
  return reading.Reader(source, seed=3).names(step, batch_size)


def take(count, source, **parameters):
  batches, _ = read(source, **parameters)
  taken = list(itertools.islice(batches, count))
  batches.close()
  return taken


def order(batches):
  return [int(value) for b in batches for value in b["image"][:, 0, 0, 0]]


def assert_equal(left, right):
  assert len(left) == len(right)
  for one, other in zip(left, right):
    assert one.keys() == other.keys()
    for key in one:
      np.testing.assert_array_equal(one[key], other[key])


def test_a_batch_is_what_was_read_and_nothing_else():
  source = Source(5, weight=True, seed=0)
  (batch,) = take(1, source)
  assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
    "image": ((4, 6, 7, 3), np.uint8),
    "label": ((4, 6, 7), np.uint8),
    "weight": ((4, 6, 7), np.float32),
  }
  names = names_of(source, 0)
  for j, name in enumerate(names):
    example = source.examples[source.names.index(name)]
    np.testing.assert_array_equal(batch["image"][j], example["image"])
    np.testing.assert_array_equal(batch["label"][j], example["label"])
    np.testing.assert_array_equal(batch["weight"][j], example["weight"])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_an_epoch_holds_every_example_once(count):
  """Also where it ends within a batch, and where it is smaller than one."""
  stream = order(take(3 * count, Source(count)))
  epochs = [tuple(stream[i : i + count]) for i in range(0, len(stream), count)]
  assert len(epochs) == 12
  for epoch in epochs:
    assert sorted(epoch) == list(range(count))
  if count > 2:
    assert len(set(epochs)) > 3


def test_the_order_depends_on_the_seed():
  streams = {
    tuple(order(take(5, Source(20), seed=seed))) for seed in (0, 1, 2, 2**40)
  }
  assert len(streams) == 4


@pytest.mark.parametrize("start", [1, 3, 8])
def test_starting_at_a_step_is_having_run_until_there(start):
  source = Source(5, seed=1, weight=True)
  whole = take(10, source, transforms=AUGMENT)
  rest = take(10 - start, source, transforms=AUGMENT, start_step=start)
  assert_equal(rest, whole[start:])


def test_a_late_start_replays_nothing():
  source = Source(7)
  batches = take(2, source, start_step=10**6, batch_size=64)
  assert len(source.reads) < 12 * 64
  names = names_of(source, 10**6, 64)
  assert names == [f"image{i}" for i in order(batches[:1])]


def test_a_start_at_step_1_000_000_takes_no_longer_than_one_at_0():
  """Less than a second longer, also where classes are balanced and mixed."""
  source = Source(250)
  counts = np.random.default_rng(0).integers(0, 2, (250, 20))

  def seconds(step):
    """As a new run takes: no order knows an epoch yet."""
    began = time.process_time()
    balanced = orders.class_balanced(counts, 3, streams=2)
    mixing = (("cut_mix", {}),)
    take(1, source, order=balanced, start_step=step, mixing=mixing)
    return time.process_time() - began

  seconds(0)
  taken = [(seconds(0), seconds(10**6)) for _ in range(2)]
  at_0, late = np.median(taken, axis=0)
  assert late - at_0 < 1, taken


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_batches_of_one(count):
  source = Source(6, seed=2)
  whole = take(5, source, transforms=AUGMENT)[2:]
  parts = [
    take(
      3,
      source,
      start_step=2,
      transforms=AUGMENT,
      process_index=index,
      process_count=count,
    )
    for index in range(count)
  ]
  joined = [
    {key: np.concatenate([part[key] for part in step]) for key in step[0]}
    for step in zip(*parts)
  ]
  assert_equal(joined, whole)


def test_the_number_of_workers_changes_no_bit():
  source = Source(6, seed=2)
  one = take(5, source, transforms=AUGMENT, workers=1, prefetch=1)
  many = take(5, source, transforms=AUGMENT, workers=6, prefetch=4)
  assert_equal(one, many)


def test_examples_come_in_order_from_slow_readers():
  class Slow(Source):
    def __getitem__(self, index):
      time.sleep(0.01 * (index % 3))
      return super().__getitem__(index)

  assert order(take(5, Slow(9), workers=4)) == order(take(5, Source(9)))


def test_workers_read_at_the_same_time():
  class Counting(Source):
    active, most = 0, 0

    def __getitem__(self, index):
      self.active += 1
      self.most = max(self.most, self.active)
      time.sleep(0.05)
      self.active -= 1
      return super().__getitem__(index)

  for workers in (1, 3):
    source = Counting(9)
    take(2, source, workers=workers)
    assert source.most == workers


def test_each_epoch_draws_its_own_transforms():
  crop = (("random_crop", {"size": (3, 3)}),)
  source = Source(1, size=(20, 20), seed=5)
  batches = take(4, source, transforms=crop)
  crops = {image.tobytes() for batch in batches for image in batch["image"]}
  assert len(crops) > 12


def test_two_equal_transforms_draw_different_numbers():
  source = Source(1, size=(1, 9), seed=5)
  flips = (("flip", {}), ("flip", {}))
  batches = take(8, source, transforms=flips)
  images = {image.tobytes() for batch in batches for image in batch["image"]}
  assert len(images) == 2


def test_batch_names_are_those_of_the_batch():
  source = Source(11)
  batches = take(6, source, start_step=5)
  for t, batch in enumerate(batches, start=5):
    expected = [f"image{i}" for i in order([batch])]
    assert names_of(source, t) == expected


def test_whole_numbers_are_numbers():
  transforms = (("rotate", {"degrees": 5, "fill": (1, 2, 3)}), ("flip", {}))
  take(1, Source(2), transforms=transforms, mean=(1, 2, 3))


def test_padding_has_the_mean_colour_unless_told_otherwise():
  source = Source(1, size=(2, 2))
  for fill, expected in [({}, 10), ({"fill": 30.0}, 30)]:
    crop = (("random_crop", {"size": (4, 4), **fill}),)
    (batch,) = take(1, source, transforms=crop, mean=(10.0,))
    padding = batch["label"] == 255
    assert padding.sum() == 4 * 12
    np.testing.assert_array_equal(batch["image"][padding], expected)


def test_the_label_margin_cuts_label_and_weight():
  source = Source(1, size=(9, 12), weight=True, seed=0)
  (batch,) = take(1, source, label_margin=3)
  assert batch["image"].shape == (4, 9, 12, 3)
  expected = source.examples[0]["label"][3:6, 3:9]
  np.testing.assert_array_equal(batch["label"][0], expected)
  assert batch["weight"].shape == (4, 3, 6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_number_of_channels(channels):
  (batch,) = take(1, Source(3, channels=channels), transforms=AUGMENT)
  assert batch["image"].shape == (4, 8, 9, channels)


def test_float_images_keep_their_fractions():
  source = Source(1)
  source.examples[0]["image"] = np.full((6, 7, 1), 0.25, np.float32)
  assert (take(1, source)[0]["image"] == 0.25).all()


def test_an_unreadable_example_is_named(capfd):
  """After the good batches, as it was raised, and without a page of words."""
  names = names_of(Source(40), 2)
  message = f"{names[1]}.png is no image; replace it."

  class Broken(Source):
    def __getitem__(self, index):
      if self.names[index] == names[1]:
        raise errors.InputError(message)
      return super().__getitem__(index)

  source = Broken(40)
  batches, _ = read(source)
  next(batches)
  next(batches)
  with pytest.raises(errors.InputError) as caught:
    next(batches)
  assert str(caught.value) == message
  assert "Traceback" not in "".join(capfd.readouterr())


def test_other_errors_of_a_source_stay_what_they_are():
  class Broken(Source):
    def __getitem__(self, index):
      return {} if index else super().__getitem__(index)

  with pytest.raises(KeyError, match="image"):
    take(5, Broken(3))


def test_closing_ends_the_reading():
  source = Source(5)
  batches, _ = read(source, batch_size=2)
  next(batches)
  batches.close()
  time.sleep(0.3)
  count = len(source.reads)
  time.sleep(0.3)
  assert len(source.reads) == count
  with pytest.raises(StopIteration):
    next(batches)


def test_reading_ahead_is_bounded():
  source = Source(5)
  batches, _ = read(source, batch_size=2, prefetch=2, workers=2)
  next(batches)
  time.sleep(0.3)
  count = len(source.reads)
  time.sleep(0.3)
  assert len(source.reads) == count < 30
  batches.close()


def uneven():
  source = Source(4)
  source.examples[2]["image"] = np.zeros((5, 9, 3), np.uint8)
  source.examples[2]["label"] = np.zeros((5, 9), np.uint8)
  return source


def test_sizes_that_differ_need_a_crop():
  with pytest.raises(errors.InputError, match="random_crop") as caught:
    take(2, uneven())
  assert "\n" not in str(caught.value)
  crop = (("random_crop", {"size": (5, 5)}),)
  assert take(2, uneven(), transforms=crop)[0]["image"].shape == (4, 5, 5, 3)
  sizes = [b["image"].shape for b in take(4, uneven(), batch_size=1)]
  assert collections.Counter(sizes) == {(1, 6, 7, 3): 3, (1, 5, 9, 3): 1}


def test_an_unreadable_example_among_uneven_ones_is_named():
  class Broken(Source):
    def __getitem__(self, index):
      if index == 2:
        raise errors.InputError("image2.png is no image.")
      return super().__getitem__(index)

  source = Broken(4)
  for example in source.examples[1:]:
    example["image"] = np.zeros((5, 9, 3), np.uint8)
    example["label"] = np.zeros((5, 9), np.uint8)
  with pytest.raises(errors.InputError, match=r"image2\.png"):
    take(2, source)


def changed(**changes):
  source = Source(4, weight=True)
  source.examples[2] = {**source.examples[2], **changes}
  return source


def without_weight():
  source = Source(4, weight=True)
  del source.examples[2]["weight"]
  return source


@pytest.mark.parametrize(
  ("source", "words"),
  [
    (changed(image=np.zeros((6, 7, 4), np.uint8)), "image2 has 4 channel"),
    (changed(label=np.zeros((6, 6), np.uint8)), "image2: .*label 6x6"),
    (changed(weight=np.zeros((5, 7), np.float32)), "image2: .*weight 5x7"),
    (without_weight(), "image2 has image, label, image0 has"),
    (
      changed(image=np.zeros((6, 7, 3), np.float32)),
      "image2 has more than 8 bits a channel, image0 has 8; save all",
    ),
  ],
)
def test_an_example_of_another_kind_is_named(source, words):
  with pytest.raises(errors.InputError, match=words) as caught:
    take(1, source)
  assert "\n" not in str(caught.value)


def test_bytes_among_finer_images_are_as_fine():
  """All become float32 then, whichever file a batch begins with."""
  source = Source(4, seed=0)
  for i in (0, 2):
    deep = source.examples[i]["image"].astype(np.float32) / np.float32(257)
    source.examples[i]["image"] = deep
  batches = take(2, source)
  for t, batch in enumerate(batches):
    assert batch["image"].dtype == np.float32
    for image, name in zip(batch["image"], names_of(source, t)):
      example = source.examples[source.names.index(name)]
      np.testing.assert_array_equal(image, example["image"])


@pytest.mark.parametrize(
  ("parameters", "words"),
  [
    ({"batch_size": 6, "process_count": 4}, "multiple of the 4"),
    ({"batch_size": 0}, "positive"),
    ({"transforms": (("random_corp", {}),)}, "did you mean 'random_crop'"),
    ({"transforms": (("flip", {"vertikal": True}),)}, "'vertical'"),
    ({"transforms": (("random_crop", {}),)}, "size is missing"),
    ({"transforms": (("elastic", {"grid": 2}),)}, "at least 3 nodes"),
    ({"transforms": (("elastic", {"grid": 2, "sigma": 3}),)}, "nodes"),
    ({"mean": (1.0, 2.0)}, "data.mean has 2 values"),
    ({"label_margin": 4}, "label_margin"),
  ],
)
def test_a_mistake_gets_one_line(parameters, words):
  with pytest.raises(errors.InputError, match=words) as caught:
    take(1, Source(3), **parameters)
  assert "\n" not in str(caught.value)


def test_an_empty_source_is_refused():
  with pytest.raises(errors.InputError, match="no examples"):
    take(1, Source(0))


def test_tensorflow_sees_no_accelerator(monkeypatch):
  """They are hidden before the first data set is made; JAX owns them."""
  said = []
  hide, made = tf.config.set_visible_devices, tf.data.Dataset.range

  def hiding(*words):
    said.append(words)
    hide(*words)

  def making(*words):
    said.append("made")
    return made(*words)

  monkeypatch.setattr(tf.config, "set_visible_devices", hiding)
  monkeypatch.setattr(tf.data.Dataset, "range", making)
  take(1, Source(3))
  assert said == [([], "GPU"), "made"]
  assert tf.config.get_visible_devices("GPU") == []
