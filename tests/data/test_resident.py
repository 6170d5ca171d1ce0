"""Batches made on the device: a function of (seed, t), wherever it is made."""

import collections
import itertools
import os
import time

import jax
import numpy as np
import pytest

from fcnjax import errors
from fcnjax.data import (
  normalization,
  order as orders,
  pipeline,
  reading,
  resident,
)
from fcnjax.training import sharding

AUGMENT = (
  ("random_scale", {"minimum": 0.7, "maximum": 1.5}),
  ("elastic", {"sigma": 2.0}),
  ("random_crop", {"size": (8, 9)}),
  ("flip", {}),
  ("photometric", {}),
)


class Source:
  """Example i is an image of the value i, so that a batch tells its order."""

  def __init__(self, count, sizes=((6, 7),), channels=3, seed=None, more=False):
    rng = np.random.default_rng(seed)
    self.names = [f"image{i}" for i in range(count)]
    self.examples = []
    for i in range(count):
      size = sizes[i % len(sizes)]
      image = np.full((*size, channels), i, np.uint8)
      if seed is not None:
        image = rng.integers(0, 256, image.shape, dtype=np.uint8)
      label = rng.integers(0, 4, size).astype(np.uint8)
      example = {"image": image, "label": label, "name": self.names[i]}
      if more:
        example["weight"] = rng.uniform(0, 2, size).astype(np.float32)
        example["second_label"] = rng.integers(0, 9, size).astype(np.uint8)
      self.examples.append(example)

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    return self.examples[index]


def held(source, seed=3, order=None, on_bad_example="raise", **parameters):
  reader = reading.Reader(
    source, seed=seed, order=order, on_bad_example=on_bad_example
  )
  return resident.Resident(reader, **({"batch_size": 4} | parameters))


def order(made, steps):
  batches = [np.asarray(made.batch(t)["image"]) for t in range(steps)]
  return [int(value) for batch in batches for value in batch[:, 0, 0, 0]]


def assert_equal(left, right):
  assert left.keys() == right.keys()
  for key in left:
    np.testing.assert_array_equal(left[key], right[key])


def test_a_batch_is_normalised_and_nothing_else():
  source = Source(5, seed=0, more=True)
  mean, std = (100.0, 110.0, 120.0), (50.0, 55.0, 60.0)
  made = held(source, mean=mean, std=std)
  batch = made.batch(0)
  assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
    "image": ((4, 6, 7, 3), np.float32),
    "label": ((4, 6, 7), np.int32),
    "weight": ((4, 6, 7), np.float32),
    "second_label": ((4, 6, 7), np.int32),
  }
  for j, name in enumerate(made.names(0)):
    example = source.examples[source.names.index(name)]
    expected = (example["image"] - np.array(mean)) / std
    np.testing.assert_allclose(batch["image"][j], expected, atol=1e-6)
    for key in ("label", "weight", "second_label"):
      np.testing.assert_array_equal(batch[key][j], example[key])


def test_it_is_the_batch_of_tf_data_where_nothing_is_drawn():
  """Order, padding, margin and types too."""
  source = Source(5, ((6, 7), (9, 4)), seed=0, more=True)
  words = {
    "batch_size": 5,
    "transforms": (
      ("resize", {"size": (11, 6)}),
      ("center_crop", {"size": (10, 9)}),
      ("pad_to", {"size": (12, 9), "boundary": "reflect"}),
    ),
    "mean": (100.0, 110.0, 120.0),
    "label_margin": 1,
  }
  made = held(source, std=50, **words)
  batches = pipeline.training_batches(
    reading.Reader(source, seed=3), transfer="float32", **words
  )
  theirs = normalization.normalized(next(batches), mean=words["mean"], std=50)
  batches.close()
  ours = made.batch(0)
  assert {k: v.dtype for k, v in ours.items()} == {
    k: v.dtype for k, v in theirs.items()
  }
  for key in theirs:
    np.testing.assert_allclose(ours[key], theirs[key], rtol=0, atol=2e-5)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_an_epoch_holds_every_example_once(count):
  """Also where it ends within a batch, and where it is smaller than one."""
  made = held(Source(count))
  stream = order(made, 3 * count)
  epochs = [tuple(stream[i : i + count]) for i in range(0, len(stream), count)]
  assert len(epochs) == 12
  for epoch in epochs:
    assert sorted(epoch) == list(range(count))
  if count > 2:
    assert len(set(epochs)) > 3
  named = [name for t in range(3 * count) for name in made.names(t)]
  assert named == [f"image{i}" for i in stream]


def test_order_and_transforms_depend_on_all_bits_of_the_seed():
  flip = (("random_crop", {"size": (20, 20)}),)
  seeds = (0, 1, -1, 2**32, 2**40, 2**63 - 1)
  made = [held(Source(30), seed=seed, transforms=flip) for seed in seeds]
  assert len({tuple(m.names(0) + m.names(1)) for m in made}) == len(seeds)
  where = [np.asarray(m.batch(0)["label"]) == 255 for m in made]
  assert len({x.tobytes() for x in where}) == len(seeds)


def test_batch_t_is_the_same_whoever_makes_it_and_when():
  source = Source(5, ((6, 7), (12, 5)), seed=1, more=True)
  words = {"transforms": AUGMENT}
  made, again = held(source, **words), held(source, workers=1, **words)
  whole = [made.batch(t) for t in range(5)]
  for t, batch in enumerate(itertools.islice(again.batches(3), 2), start=3):
    assert_equal(batch, whole[t])
  assert_equal(made.batch(1), whole[1])
  images = {np.asarray(b["image"]).tobytes() for b in whole}
  assert len(images) == 5


def test_a_start_at_step_1_000_000_takes_no_longer_than_one_at_0():
  """Less than a second longer, also where classes are balanced and mixed."""
  source = Source(250)
  counts = np.random.default_rng(0).integers(0, 2, (250, 20))

  def seconds(step):
    """As a new run takes: no order knows an epoch yet."""
    began = time.process_time()
    balanced = orders.class_balanced(counts, 3, streams=2)
    made = held(source, order=balanced, mixing=(("cut_mix", {}),))
    jax.block_until_ready(next(made.batches(step)))
    return time.process_time() - began

  seconds(0)
  taken = [(seconds(0), seconds(10**6)) for _ in range(2)]
  at_0, late = np.median(taken, axis=0)
  assert late - at_0 < 1, taken


def test_each_epoch_and_place_draws_its_own_transforms():
  crop = (("random_crop", {"size": (3, 3)}),)
  made = held(Source(1, ((20, 20),), seed=5), transforms=crop)
  batches = [np.asarray(made.batch(t)["image"]) for t in range(4)]
  crops = {image.tobytes() for batch in batches for image in batch}
  assert len(crops) > 12


def test_two_equal_transforms_draw_different_numbers():
  source = Source(1, ((1, 9),), seed=5)
  made = held(source, transforms=(("flip", {}), ("flip", {})))
  batches = [np.asarray(made.batch(t)["image"]) for t in range(8)]
  assert len({image.tobytes() for batch in batches for image in batch}) == 2


def test_any_number_of_devices_makes_the_same_batch():
  """Each its own examples, without a word to the others."""
  source = Source(11, ((6, 7), (12, 5)), seed=2, more=True)
  batches = []
  for devices in (1, 8):
    mesh = sharding.create_mesh(data=devices, batch_size=8)
    made = held(
      source,
      batch_size=8,
      transforms=AUGMENT,
      replicated=sharding.replicated(mesh),
      by_example=sharding.by_example(mesh),
    )
    with jax.transfer_guard("disallow"):
      batch = next(made.batches(7))
    for array in batch.values():
      assert array.sharding == sharding.by_example(mesh)
    assert sharding.to_devices(batch, mesh) == batch
    batches.append(batch)
  # Two programs: a product and a sum may be rounded once or twice, as the
  # processor's instructions have it. Four units of the last place of 255.
  images = [np.asarray(batch.pop("image")) for batch in batches]
  np.testing.assert_allclose(*images, rtol=0, atol=2**-14)
  if "fusion_emitters=false" in os.environ["XLA_FLAGS"]:
    # So it is of weights, as the tests are compiled, but not as users are.
    weights = [np.asarray(batch.pop("weight")) for batch in batches]
    np.testing.assert_allclose(*weights, rtol=0, atol=2**-20)
  assert_equal(*batches)
  where = jax.device_put(made._where(0), sharding.by_example(mesh))
  compiled = made._make.lower(made._held, where).compile().as_text()
  for word in ("all-gather", "all-reduce", "all-to-all", "permute"):
    assert word not in compiled


def test_a_process_makes_its_own_part_of_a_batch(monkeypatch):
  """With one device each, which is all that it is told of the others."""
  mesh = sharding.create_mesh(data=1, batch_size=8)
  made = held(
    Source(9, seed=2),
    order=orders.class_balanced(np.arange(27).reshape(9, 3) % 4, 3),
    batch_size=8,
    transforms=(("random_crop", {"size": (5, 4)}), ("flip", {})),
    mixing=(("cut_mix", {"probability": 0.8}),),
    replicated=sharding.replicated(mesh),
    by_example=sharding.by_example(mesh),
  )
  whole = {t: made.batch(t) for t in (0, 7)}
  for index, count in ((0, 2), (1, 2), (0, 4), (1, 4), (2, 4), (3, 4)):
    monkeypatch.setattr(jax, "process_count", lambda count=count: count)
    monkeypatch.setattr(jax, "process_index", lambda index=index: index)
    own = slice(index * 8 // count, (index + 1) * 8 // count)
    for t, batch in whole.items():
      part = made.batch(t)
      for key, values in batch.items():
        np.testing.assert_array_equal(part[key], values[own])
  assert len({np.asarray(image).tobytes() for image in batch["image"]}) == 8


def test_images_of_several_sizes_do_not_see_each_other():
  source = Source(9, ((3, 4), (7, 2), (5, 5)))
  reflect = {"boundary": "reflect"}
  made = held(
    source,
    transforms=(
      ("elastic", reflect),
      ("random_scale", {}),
      ("random_crop", {"size": (6, 6)} | reflect),
    ),
  )
  for t in range(9):
    batch = made.batch(t)
    for image, label, name in zip(
      np.asarray(batch["image"]), np.asarray(batch["label"]), made.names(t)
    ):
      np.testing.assert_allclose(image, int(name[5:]), atol=1e-5)
      theirs = source.examples[int(name[5:])]["label"]
      assert set(np.unique(label)) <= set(np.unique(theirs))


@pytest.mark.parametrize("channels", [1, 4])
def test_float_images_keep_their_fractions(channels):
  source = Source(2, channels=channels)
  source.examples[0]["image"] = np.full((6, 7, channels), 0.25, np.float32)
  made = held(source)
  values = collections.Counter(
    float(v) for v in made.batch(0)["image"][:, 0, 0, 0]
  )
  assert values == {0.25: 2, 1.0: 2}


def test_whole_numbers_are_numbers_and_padding_is_the_mean():
  transforms = (("rotate", {"degrees": 5}), ("random_crop", {"size": (9, 9)}))
  made = held(Source(2), transforms=transforms, mean=(1, 2, 3), std=2)
  batch = made.batch(0)
  padding = np.asarray(batch["label"]) == 255
  assert padding.sum() >= 4 * (81 - 42)
  np.testing.assert_allclose(np.asarray(batch["image"])[padding], 0, atol=1e-6)


def test_a_set_is_refused_for_its_size_or_the_sizes_it_ends_in():
  source = Source(100, ((50, 60),))
  crop = (("random_scale", {}), ("random_crop", {"size": (8, 8)}))
  needed = 100 * 50 * 60 * 4 / 1e9
  small, large = {"gigabytes": 0.9 * needed}, {"gigabytes": 1.1 * needed}
  assert resident.refusal(source, transforms=crop, **large) == ""
  assert resident.refusal(source, transforms=(), **large) == ""
  assert "it takes" in resident.refusal(source, transforms=crop, **small)
  scale = (("random_scale", {}),)
  assert "one size" in resident.refusal(source, transforms=scale, **large)
  uneven = Source(100, ((5, 6), (6, 5)))
  assert "one size" in resident.refusal(uneven, transforms=(), **large)


class Broken(Source):
  def __getitem__(self, index):
    if index == 2:
      raise errors.InputError("image2.png is no image; replace it.")
    return super().__getitem__(index)


def changed(**changes):
  source = Source(4, more=True)
  source.examples[2] = {**source.examples[2], **changes}
  return source


@pytest.mark.parametrize(
  ("source", "parameters", "words"),
  [
    (Source(3), {"batch_size": 0}, "positive"),
    (Source(0), {}, "no examples"),
    (Source(3), {"transforms": (("random_corp", {}),)}, "'random_crop'"),
    (Source(3), {"transforms": (("elastic", {"grid": 2}),)}, "at least 3"),
    (Source(3), {"transforms": (("random_scale", {}),)}, "resident=off"),
    (Source(3, ((6, 7), (5, 7))), {}, "random_crop or a resize"),
    (Source(3), {"mean": (1.0, 2.0)}, "data.mean has 2 values"),
    (Source(3), {"label_margin": 4}, "label_margin"),
    (Broken(3), {}, "image2.png is no image"),
    (changed(image=np.zeros((6, 7, 4), np.uint8)), {}, "image2 has 4 channel"),
    (changed(weight=np.zeros((5, 7), np.float32)), {}, "image2: .*weight 5x7"),
    (
      changed(image=np.zeros((6, 7, 3), np.float32)),
      {},
      "image2 has more than 8 bits a channel, image0 has 8; save all",
    ),
  ],
)
def test_a_mistake_gets_one_line(source, parameters, words):
  with pytest.raises(errors.InputError, match=words) as caught:
    held(source, **parameters)
  assert "\n" not in str(caught.value)


def test_a_device_without_the_memory_is_told_with_the_word(monkeypatch):
  def full(*_):
    raise jax.errors.JaxRuntimeError(
      "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."
    )

  monkeypatch.setattr(jax, "device_put", full)
  source = Source(10, ((1600, 1600),))  # 10 · 1600² · 4 bytes
  with pytest.raises(errors.InputError, match=r"takes 0\.1 GB") as caught:
    held(source, transforms=(("random_crop", {"size": (8, 8)}),))
  assert "--config.data.resident=off" in str(caught.value)
  assert "\n" not in str(caught.value)


def test_what_else_goes_wrong_on_the_device_is_not_taken_for_it(monkeypatch):
  def lost(*_):
    raise jax.errors.JaxRuntimeError("INTERNAL: the device was lost")

  monkeypatch.setattr(jax, "device_put", lost)
  with pytest.raises(jax.errors.JaxRuntimeError, match="was lost"):
    held(Source(3))
