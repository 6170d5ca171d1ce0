"""Prepared data sets: what comes out is what went in, TFDS reads it too."""

from concurrent import futures
import hashlib
import itertools
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from fcnjax import errors
from fcnjax.data import pipeline, reading, second_source, sources, weight_maps
from fcnjax.data.preparation import manifest, prepared
from tests.data.preparation import converting


def test_a_prepared_source_equals_its_files(written):
  splits, out = written
  assert sum(map(len, splits.values())) == 11
  for split, files in splits.items():
    source = prepared.Prepared(out, split)
    assert len(source) == len(files)
    assert source.names == files.names
    assert source.classes == files.classes
    assert source.colors == files.colors
    assert source.channels == files.channels
    for index in range(len(files)):
      converting.assert_equal(source[index], files[index])
      np.testing.assert_array_equal(source.image(index), files.image(index))
      np.testing.assert_array_equal(
        source.table.apply(source.raw_label(index), name=""),
        files[index]["label"],
      )
      assert files.names[index] in source.label_file(index)
    converting.assert_equal(source[-1], files[-1])
    for index in (len(files), -len(files) - 1):
      with pytest.raises(IndexError):
        source[index]


@pytest.mark.parametrize(
  "words",
  [
    {"channels": 1},
    {"channels": 4},
    {"image_size": (16, 24)},
    {"image_size": (16, 24), "resize_label": True},
  ],
  ids=str,
)
def test_sizes_and_channels_are_those_of_files(written, folder, words):
  source = prepared.Prepared(written[1], "val", **words)
  files = converting.files(folder, "val", **words)
  if words.get("channels"):  # a palette's greys are made of its RGB
    assert source[0]["image"].shape == files[0]["image"].shape
    return
  for index in range(len(files)):
    converting.assert_equal(source[index], files[index])


def test_bytes_of_jpeg_and_png_files_are_kept(written, folder):
  """What TFDS and we read alike is stored as it was; the rest as PNG."""
  splits, out = written
  kept = {}
  for split, files in splits.items():
    builder = tfds.builder_from_directory(out)
    raw = builder.as_data_source(
      split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    for name, example in zip(files.names, raw, strict=True):
      (file,) = (folder / "images").glob(f"{name}.*")
      kept[name] = example["image"] == file.read_bytes()
      if not kept[name]:
        assert example["image"][1:4] == b"PNG"
  assert {name for name, same in kept.items() if not same} == {
    *("n5", "n6", "n7", "n8")
  }


def test_tfds_reads_it(written, folder):
  splits, out = written
  builder = tfds.builder_from_directory(out)
  assert builder.info.features["label"].names == list(converting.NAMES)
  assert builder.info.citation == "Me."
  for split, files in splits.items():
    assert builder.info.splits[split].num_examples == len(files)
    data = builder.as_data_source(split)
    for example, expected in zip(data, iter(files), strict=True):
      assert example["name"].decode() == expected["name"]
      np.testing.assert_array_equal(example["image"], expected["image"])
      np.testing.assert_array_equal(example["label"][..., 0], expected["label"])


def test_tfds_finds_it_by_name(folder):
  directory = folder / "data" / "mine" / manifest.VERSION
  files = converting.files(folder)
  converting.write({"train": files}, directory)
  data = tfds.data_source("mine", data_dir=folder / "data", split="train")
  assert len(data) == len(files)
  np.testing.assert_array_equal(data[2]["image"], files[2]["image"])


def test_training_batches_are_those_of_the_files(written):
  splits, out = written

  def batches(source):
    found = pipeline.training_batches(
      reading.Reader(source, seed=7),
      batch_size=3,
      transforms=(
        ("random_scale", {"minimum": 0.8, "maximum": 1.25}),
        ("random_crop", {"size": (16, 16)}),
        ("flip", {}),
      ),
      mean=(1.0, 2.0, 3.0),
      workers=3,
    )
    yield from itertools.islice(found, 6)
    found.close()

  pairs = zip(
    batches(prepared.Prepared(out, "train")),
    batches(splits["train"]),
    strict=True,
  )
  for one, other in pairs:
    converting.assert_equal(one, other)


def test_statistics_are_numpys(written):
  splits, out = written
  known = manifest.read(out)
  examples = [splits["train"][i] for i in range(len(splits["train"]))]
  pixels = np.concatenate([e["image"].reshape(-1, 3) for e in examples])
  np.testing.assert_allclose(known["mean"], pixels.mean(0), atol=1e-4)
  np.testing.assert_allclose(known["std"], pixels.std(0), atol=1e-4)
  labels = [e["label"] for e in examples]
  found = known["splits"]["train"]
  for number in range(3):
    here = [(label == number).sum() for label in labels]
    assert found["pixel_counts"][number] == sum(here)
    assert found["image_pixel_counts"][number] == sum(
      label.size for label, count in zip(labels, here, strict=True) if count
    )


def test_classes_are_not_counted_again(written, tmp_path, monkeypatch):
  splits, out = written
  source = prepared.Prepared(out, "train")
  expected = weight_maps.class_statistics(splits["train"], num_classes=3)
  with monkeypatch.context() as patch:
    patch.setattr(prepared.Prepared, "__getitem__", None)
    found = weight_maps.class_statistics(source, tmp_path, num_classes=3)
  np.testing.assert_array_equal(found, expected)
  small = {"image_size": (8, 8), "resize_label": True}
  resized = prepared.Prepared(out, "train", **small)
  found = weight_maps.class_statistics(resized, num_classes=3)
  assert found.pixel_counts.sum() <= len(source) * 64
  assert resized.labels_version() != source.labels_version()
  other = prepared.Prepared(out, "val")
  assert other.labels_version() != source.labels_version()
  again = prepared.Prepared(out, "train")
  assert again.labels_version() == source.labels_version()


def test_sixteen_bits_and_odd_channels(tmp_path):
  random = np.random.default_rng(0)
  deep = random.integers(0, 65536, (9, 7), dtype=np.uint16)
  for part, array in (("images", deep), ("masks", deep.astype(np.uint8) % 3)):
    (tmp_path / part).mkdir()
    for name in "ab":
      PIL.Image.fromarray(array).save(tmp_path / part / f"{name}.png")
  files = converting.files(tmp_path, channels=1, val_fraction=0.5)
  arrays = sources.Arrays(
    [converting.noise(random, (5, 6, 7))] * 2,
    [np.eye(5, 6, dtype=np.uint8)] * 2,
    classes=converting.NAMES,
  )
  for number, source in enumerate((files, arrays)):
    converting.write({"train": source}, tmp_path / str(number))
    again = prepared.Prepared(tmp_path / str(number), "train")
    for index in range(len(source)):
      converting.assert_equal(again[index], source[index])
    data = tfds.builder_from_directory(tmp_path / str(number)).as_data_source(
      "train"
    )
    np.testing.assert_array_equal(data[0]["image"], source[0]["image"])
    with pytest.raises(errors.InputError, match="set data.channels="):
      prepared.Prepared(tmp_path / str(number), "train", channels=4)
  # Greys are repeated, as of files.
  again = prepared.Prepared(tmp_path / "0", "train", channels=3)
  thrice = converting.files(tmp_path, channels=3, val_fraction=0.5)
  converting.assert_equal(again[0], thrice[0])


def test_a_second_label(folder):
  first, other = (
    converting.files(folder),
    converting.files(folder, label_map={0: 1, 1: 0, 2: 0}),
  )
  source = second_source.Second(first, other, "label")
  converting.write({"train": source}, folder / "out")
  again = prepared.Prepared(folder / "out", "train")
  for index in range(len(source)):
    converting.assert_equal(again[index], source[index])
  data = tfds.builder_from_directory(folder / "out").as_data_source("train")
  np.testing.assert_array_equal(
    data[1]["second_label"][..., 0], source[1]["second_label"]
  )
  assert again.second_classes == converting.NAMES
  converting.write({"train": again}, folder / "twice")
  twice = prepared.Prepared(folder / "twice", "train")
  converting.assert_equal(twice[3], source[3])


def test_what_is_missing_or_damaged_is_named(written, tmp_path):
  _, out = written
  with pytest.raises(errors.InputError, match="no split 'test'; .* train, val"):
    prepared.Prepared(out, "test")
  with pytest.raises(errors.InputError, match="fcnjax prepare-folder"):
    prepared.Prepared(tmp_path / "nowhere", "train")
  source = prepared.Prepared(out, "train")
  shard = out / manifest.read(out)["splits"]["train"]["shards"][-1]["file"]
  data = shard.read_bytes()
  start = data.rindex(b"IDAT")
  shard.write_bytes(data[:start] + bytes(100) + data[start + 100 :])
  with pytest.raises(errors.InputError, match=shard.name) as caught:
    source[-1]
  assert "damaged" in str(caught.value)
  assert "\n" not in str(caught.value)
  shard.write_bytes(data[:-1])
  with pytest.raises(errors.InputError, match=f"{shard.name} has"):
    prepared.Prepared(out, "train")
  shard.unlink()
  with pytest.raises(errors.InputError, match=f"{shard.name} has 0 bytes"):
    prepared.Prepared(out, "train")


_WITHOUT = """
import sys
class Missing:
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] == "tensorflow":
      raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import hashlib
from fcnjax.data.preparation import prepared
source = prepared.Prepared(sys.argv[1], "train")
for index in range(len(source)):
  for key in ("image", "label"):
    print(hashlib.sha256(source[index][key].tobytes()).hexdigest())
assert "tensorflow" not in sys.modules
"""


def test_it_is_read_without_tensorflow(written):
  splits, out = written
  done = subprocess.run(
    [sys.executable, "-c", _WITHOUT, str(out)],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split() == [
    hashlib.sha256(example[key].tobytes()).hexdigest()
    for example in (splits["train"][i] for i in range(len(splits["train"])))
    for key in ("image", "label")
  ]


def test_many_threads_read_the_same(written):
  splits, out = written
  source = prepared.Prepared(out, "train")
  order = np.random.default_rng(0).integers(0, len(source), 200).tolist()
  with futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(source.__getitem__, order))
  for index, example in zip(order, found, strict=True):
    converting.assert_equal(example, splits["train"][index])
