"""Bad examples: named and raised, or skipped, counted and replaced."""

import numpy as np
import pytest

from fcnjax import errors
from fcnjax.data import pipeline, reading, resident


class Source:
  """Example i is an image of the value i; some are broken."""

  def __init__(self, count=40, bad=()):
    self.names = [f"image{i}" for i in range(count)]
    self.bad, self.reads = set(bad), []

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    self.reads.append(index)
    if index in self.bad:
      raise errors.InputError(f"image{index}.png is no image; replace it.")
    return {
      "image": np.full((3, 4, 1), index, np.uint8),
      "label": np.zeros((3, 4), np.uint8),
    }


def batches(path, source, steps, start=0, seed=1, said=None, **words):
  said = [] if said is None else said
  reader = reading.Reader(
    source, seed=seed, on_bad_example="skip", say=said.append
  )
  words = {"batch_size": 8} | words
  if path == "resident":
    held = resident.Resident(reader, **words)
    made = [np.asarray(held.batch(t)["image"]) for t in range(start, steps)]
  else:
    stream = pipeline.training_batches(reader, start_step=start, **words)
    made = [next(stream)["image"] for t in range(start, steps)]
    stream.close()
  return [[int(v) for v in image[:, 0, 0, 0]] for image in made], reader


@pytest.mark.parametrize("path", ["tf.data", "resident"])
@pytest.mark.parametrize("bad", [(7,), (0, 13, 22, 39)])
def test_another_stands_in_for_a_bad_one(path, bad):
  """All others stay where they are; a resumed run has the same stand-ins."""
  said = []
  taken, reader = batches(path, Source(bad=bad), 10, said=said)
  whole, _ = batches("tf.data", Source(), 10)
  replaced = 0
  for one, other in zip(sum(taken, []), sum(whole, [])):
    replaced += other in bad
    assert one not in bad
    assert one == other or other in bad
  assert replaced == 2 * len(bad)  # Two epochs.
  later, _ = batches(path, Source(bad=bad), 10, start=7)
  assert later == taken[7:]
  # Each is said once, by its name and the reason; and counted.
  assert len(said) == len(bad)
  for line in said:
    assert "image" in line
    assert ".png is no image" in line
  assert reader.figures() == {"bad_examples": len(bad)}
  for t, images in enumerate(taken):
    assert reader.names(t, 8) == [f"image{i}" for i in images]


def test_a_bad_file_is_not_read_again_and_again():
  source = Source(count=20, bad=(3,))
  batches("tf.data", source, 20, workers=1)
  assert source.reads.count(3) == 1


def test_both_paths_and_any_number_of_processes_have_the_same_stand_ins():
  bad = (1, 2, 30)
  whole, _ = batches("tf.data", Source(bad=bad), 6)
  assert batches("resident", Source(bad=bad), 6)[0] == whole
  parts = [
    batches(
      "tf.data", Source(bad=bad), 6, process_index=index, process_count=4
    )[0]
    for index in range(4)
  ]
  assert [sum(step, []) for step in zip(*parts)] == whole


@pytest.mark.parametrize("path", ["tf.data", "resident"])
def test_more_than_a_tenth_ends_it(path):
  with pytest.raises(errors.InputError, match="5 of 40 .*more than a tenth"):
    batches(path, Source(bad=range(10, 20)), 6)


def test_raising_is_the_default_and_names_the_file():
  reader = reading.Reader(Source(bad=(5,)), seed=0)
  assert reader.figures() == {}
  (place,) = [p for p in range(40) if reader.index(p) == 5]
  with pytest.raises(errors.InputError, match=r"image5\.png is no image"):
    reader.maps(place)
  with pytest.raises(errors.InputError, match="use raise or skip"):
    reading.Reader(Source(), seed=0, on_bad_example="ignore")
  with pytest.raises(errors.InputError, match=r"image0\.png"):
    reading.Reader(Source(1, bad=(0,)), seed=0, on_bad_example="skip")


def test_what_is_no_fault_of_the_data_is_never_skipped():
  class Wrong(Source):
    def __getitem__(self, index):
      return super().__getitem__(index) if index == 0 else {}

  with pytest.raises(KeyError):
    batches("tf.data", Wrong(), 3)
