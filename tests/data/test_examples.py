"""Examples in order, decoded ahead."""

import threading
import time

import numpy as np
import pytest

from fcnjax import errors
from fcnjax.data import examples, scenes, sources


def test_all_in_order_and_as_they_are():
  source = scenes.Scenes("val", size=(32, 40), count=11)
  found = list(examples.evaluation_examples(source, workers=3))
  assert [example["name"] for example in found] == source.names
  for i, example in enumerate(found):
    assert example["image"].dtype == np.uint8
    np.testing.assert_array_equal(example["image"], source[i]["image"])
    np.testing.assert_array_equal(example["label"], source[i]["label"])


def test_a_part():
  source = scenes.Scenes("val", size=(32, 32), count=5)
  found = examples.evaluation_examples(source, indices=[1, 3])
  assert [example["name"] for example in found] == source.names[1:4:2]
  assert not list(examples.evaluation_examples(source, indices=[]))


def test_reads_ahead_a_bounded_number():
  source = _Counting(50)
  stream = examples.evaluation_examples(source, workers=2)
  next(stream)
  time.sleep(0.2)  # time to read all 50, were it not for the bound
  assert 1 <= source.read <= 4
  next(stream)
  time.sleep(0.2)
  assert source.read <= 5
  stream.close()


def test_the_error_comes_where_the_example_would():
  labels = np.zeros((4, 2, 2), np.uint8)
  labels[2] = 7
  source = sources.Arrays(
    np.zeros((4, 2, 2, 3), np.uint8), labels, classes=("a", "b")
  )
  stream = examples.evaluation_examples(source)
  assert [next(stream)["name"] for _ in range(2)] == ["0", "1"]
  with pytest.raises(errors.InputError, match="mask 2 holds value 7"):
    next(stream)


class _Counting:
  """A source that counts how often it is read."""

  def __init__(self, count):
    self.count = count
    self.read = 0
    self.lock = threading.Lock()

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    with self.lock:
      self.read += 1
    return {"image": np.zeros((2, 2, 1), np.uint8), "name": str(index)}
