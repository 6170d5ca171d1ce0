"""Which path makes the training batches, and that a run keeps to it."""

import json

import jax
import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.cli import batches, defaults, open_data, workdir
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
  with pytest.raises(errors.InputError, match="'resideot', not one of"):
    batches.path(configured(), train(), "resideot")
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


@pytest.mark.parametrize("space", [1, 2])
@pytest.mark.parametrize("path", list(batches.PATHS))
def test_both_paths_give_the_same_kind_of_batches(path, space):
  config = configured(mean=(120.0,), std=(50.0,))
  mesh = sharding.create_mesh(data=2, space=space, batch_size=4)
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
  for array in (second["image"], placed["image"], placed["label"]):
    assert array.sharding == sharding.by_row(mesh)
  part = placed["label"].addressable_shards[0].data
  assert part.shape == (2, 8 // space, 8)
  stream.close()
  late.close()


def folder_of(path, values, count=12):
  """Writes images of one grey value each; the mask tells it, too."""
  for kind in ("images", "masks"):
    (path / kind).mkdir(parents=True)
  for i in range(count):
    value = values[i % len(values)]
    grey = np.full((9, 10), value, np.uint8)
    name = f"{path.name}{i}.png"
    PIL.Image.fromarray(np.stack([grey] * 3, -1)).save(path / "images" / name)
    PIL.Image.fromarray(grey).save(path / "masks" / name)
  return {"images": str(path / "images"), "masks": str(path / "masks")}


def of_folder(words, **changes):
  return configured(
    source="folder", num_classes=4, val_fraction=0.05, **words, **changes
  )


def shares(config, path, steps=12, cache=None):
  """Returns how often each class was seen, and the batches' figures."""
  train = open_data.source(config, "train")
  mesh = sharding.create_mesh(data=1, batch_size=4)
  made = batches.create(config, train, mesh, path=path, cache=cache)
  stream = made.start(0)
  labels = [np.asarray(next(stream)["label"])[:, 0, 0] for _ in range(steps)]
  stream.close()
  return np.bincount(np.concatenate(labels), minlength=4), made.figures()


@pytest.mark.parametrize("path", list(batches.PATHS))
def test_the_words_say_which_images_are_seen(path, tmp_path):
  first = folder_of(tmp_path / "a", [0] * 9 + [1, 1, 2])
  other = folder_of(tmp_path / "b", [3])
  uniform, _ = shares(of_folder(first), path)
  assert uniform[0] > 30
  config = of_folder(first, sampling="class_balanced")
  balanced, _ = shares(config, path, cache=tmp_path / "cache")
  present = balanced[balanced > 0]
  assert len(present) >= 2
  assert (present == 48 // len(present)).all()
  config = of_folder(first, mix=((3, {}), (1, other)))
  mixed, _ = shares(config, path)
  assert mixed[3] == 12


@pytest.mark.parametrize("path", list(batches.PATHS))
def test_a_broken_file_ends_a_run_or_is_skipped(path, tmp_path):
  words = folder_of(tmp_path / "a", [0, 1], count=30)
  broken = open_data.source(of_folder(words), "train").pairs[5][0]
  broken.write_bytes(broken.read_bytes()[:20])
  with pytest.raises(errors.InputError, match=broken.name):
    shares(of_folder(words), path)
  config = of_folder(words, on_bad_example="skip")
  seen, figures = shares(config, path)
  assert seen.sum() == 48
  assert figures == {"bad_examples": 1}


def test_wrong_words_of_the_batches_get_one_line(tmp_path):
  words = folder_of(tmp_path / "a", [0, 1])
  for changes, message in (
    ({"sampling": "balanced"}, "data.sampling: 'balanced' is unknown"),
    ({"transfer": "int8"}, "data.transfer"),
    ({"on_bad_example": "ignore"}, "use raise or skip"),
    ({"mixing": (("cutmix", {}),)}, "did you mean 'cut_mix'"),
  ):
    with pytest.raises(errors.InputError, match=message):
      batches.check(of_folder(words, **changes))
  for mix, message in (
    (((0, {}),), "the weight above 0"),
    (((1, {}), (1, {"image": "b"})), "no word data.image"),
    (((1, {}), (1, {"num_classes": 5})), "they must be the same"),
  ):
    with pytest.raises(errors.InputError, match=message):
      open_data.source(of_folder(words, mix=mix), "train")


@pytest.mark.parametrize("transfer", ["uint8", "float32"])
def test_images_travel_as_the_config_says(transfer, monkeypatch):
  """And become float32 behind that, on the device."""
  sent, place = [], sharding.to_devices

  def recorded(batch, mesh):
    sent.append({key: value.dtype for key, value in batch.items()})
    return place(batch, mesh)

  monkeypatch.setattr(sharding, "to_devices", recorded)
  config = configured(transfer=transfer)
  mesh = sharding.create_mesh(data=1, batch_size=4)
  stream = batches.create(config, train(), mesh, path="tf.data").start(0)
  assert next(stream)["image"].dtype == np.float32
  stream.close()
  assert sent == [{"image": np.dtype(transfer), "label": np.uint8}]
