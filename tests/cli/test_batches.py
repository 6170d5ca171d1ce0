"""Which path makes the training batches, and that a run keeps to it."""

import json

import jax
import numpy as np
import pytest

from fcnjax import errors
from fcnjax.cli import batches, defaults, workdir
from fcnjax.data import sources
from fcnjax.training import sharding

CROP = (("random_crop", {"size": (8, 8)}),)


def configured(word="auto", transforms=CROP, **changes):
  config = defaults.get_config()
  config.batch_size = 4
  config.data.resident = word
  config.data.transforms = transforms
  config.data.update(changes)
  return config


def train():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, 9, 10, 3), np.uint8)
  labels = rng.integers(0, 2, (6, 9, 10), np.uint8)
  return sources.Arrays(images, labels, classes=("a", "b"))


@pytest.mark.parametrize(
  ("config", "begun", "backend", "tensorflow", "expected"),
  [
    (configured(), None, "cpu", True, "tf.data"),
    (configured(), None, "cpu", False, "resident"),
    (configured(), None, "gpu", True, "resident"),
    (configured(resident_gigabytes=1e-9), None, "gpu", True, "tf.data"),
    (configured(transforms=(("random_scale", {}),)), None, "gpu", 1, "tf.data"),
    (configured("on"), None, "cpu", True, "resident"),
    (configured("off"), None, "gpu", True, "tf.data"),
    # What a run began with, whatever would be chosen now.
    (configured(), "tf.data", "gpu", True, "tf.data"),
    (configured(), "resident", "cpu", True, "resident"),
    (configured(resident_gigabytes=1e-9), "resident", "gpu", 1, "resident"),
    (configured("on"), "tf.data", "cpu", True, "resident"),
  ],
)
def test_the_path_is_chosen(
  config, begun, backend, tensorflow, expected, monkeypatch
):
  monkeypatch.setattr(batches, "_has_tensorflow", lambda: tensorflow)
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  batches.check(config)
  assert batches.path(config, train(), begun) == expected


def test_a_run_of_tf_data_does_not_change_its_numbers_unasked(monkeypatch):
  monkeypatch.setattr(batches, "_has_tensorflow", lambda: False)
  with pytest.raises(errors.InputError, match="began with tf.data.*=on"):
    batches.path(configured(), train(), "tf.data")
  with pytest.raises(errors.InputError, match="not installed"):
    batches.check(configured("off"))


def test_unknown_words_are_refused():
  with pytest.raises(errors.InputError, match="auto, on or off"):
    batches.check(configured("yes"))
  with pytest.raises(errors.InputError, match="'random_crop'"):
    batches.check(configured(transforms=(("random_corp", {}),)))


def test_config_json_holds_the_path(tmp_path):
  words = {"classes": ("a", "b"), "colors": ((0, 0, 0), (1, 1, 1))}
  record, _ = workdir.check(tmp_path, configured(), **words)
  assert record["resolved"]["batches"] is None
  record["resolved"]["batches"] = "resident"
  workdir.write(tmp_path, record)
  record, changes = workdir.check(tmp_path, configured(), **words)
  assert record["resolved"]["batches"] == "resident"
  assert not changes
  # A run older than the word was one of tf.data.
  del record["resolved"]["batches"]
  (tmp_path / "config.json").write_text(json.dumps(record))
  record, _ = workdir.check(tmp_path, configured(), **words)
  assert record["resolved"]["batches"] == "tf.data"


@pytest.mark.parametrize("path", list(batches.PATHS))
def test_both_paths_give_the_same_kind_of_batches(path):
  config = configured(mean=(120.0,), std=(50.0,))
  mesh = sharding.create_mesh(data=2, batch_size=4)
  made = batches.create(config, train(), mesh, path=path)
  stream, late = made.start(0), made.start(1)
  next(stream)
  second, first = next(stream), next(late)
  assert {k: (v.shape, v.dtype) for k, v in second.items()} == {
    "image": ((4, 8, 8, 3), np.float32),
    "label": ((4, 8, 8), np.int32),
  }
  np.testing.assert_array_equal(first["image"], second["image"])
  assert len(made.names(1)) == 4
  placed = sharding.to_devices(second, mesh)
  assert placed["image"].sharding == sharding.by_example(mesh)
  stream.close()
  late.close()
