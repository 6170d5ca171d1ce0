"""Prepared data sets: what comes out is what went in, TFDS reads it too."""

from concurrent import futures
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from fcnjax import errors
from fcnjax.data import (
  folders,
  pipeline,
  reading,
  second_source,
  sources,
  weight_maps,
)
from fcnjax.data.preparation import (
  manifest,
  metadata,
  prepared,
  preparing,
  records,
)

ABOUT = metadata.Description("mine", text="Mine.", citation="Me.")
NAMES = ("ground", "tree", "lake")


def _image(random, shape):
  """Noise that JPEG changes and PNG does not shrink."""
  return random.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
  """Eleven images of several sizes and encodings with three classes and 255."""
  random = np.random.default_rng(0)
  for index in range(11):
    height, width = 20 + index, 30 - index
    image = PIL.Image.fromarray(_image(random, (height, width, 3)))
    mask = random.choice([0, 1, 2, 255], (height, width)).astype(np.uint8)
    mask = PIL.Image.fromarray(np.where(index < 5, mask % 2, mask))
    image_file = tmp_path / "images" / f"n{index}.jpg"
    words = {}
    if index == 3:  # greys are repeated
      image = image.convert("L")
    elif index == 4:
      image_file = image_file.with_suffix(".png")
    elif index == 5:  # a palette
      image = image.quantize(16)
      image_file = image_file.with_suffix(".png")
    elif index == 6:
      image_file = image_file.with_suffix(".png")
      image.putalpha(100)
    elif index == 7:
      image_file = image_file.with_suffix(".tif")
    elif index == 8:  # turned by a right angle for viewing
      image = image.transpose(PIL.Image.Transpose.ROTATE_90)
      words["exif"] = PIL.Image.Exif()
      words["exif"][0x0112] = 6
    for file, picture in (
      (image_file, image),
      (tmp_path / "masks" / f"n{index}.png", mask),
    ):
      file.parent.mkdir(exist_ok=True)
      picture.save(file, **(words if file is image_file else {}))
  return tmp_path


def _files(folder, split="train", **words):
  return folders.folder(
    folder / "images",
    folder / "masks",
    split=split,
    class_names=NAMES,
    **words,
  )


def _write(splits, directory, **words):
  return preparing.write(splits, directory, ABOUT, progress=False, **words)


@pytest.fixture
def written(folder):
  splits = {split: _files(folder, split) for split in ("train", "val")}
  assert _write(splits, folder / "out", shard_images=3)
  return splits, folder / "out"


def _snapshot(directory):
  return {
    path.relative_to(directory).as_posix(): path.read_bytes()
    for path in directory.rglob("*")
    if path.is_file()
  }


def _assert_equal(one, other):
  assert one.keys() == other.keys()
  for key, value in one.items():
    assert np.asarray(value).dtype == np.asarray(other[key]).dtype
    np.testing.assert_array_equal(value, other[key])


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
      _assert_equal(source[index], files[index])
      np.testing.assert_array_equal(source.image(index), files.image(index))
      np.testing.assert_array_equal(
        source.table.apply(source.raw_label(index), name=""),
        files[index]["label"],
      )
      assert files.names[index] in source.label_file(index)
    _assert_equal(source[-1], files[-1])
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
  files = _files(folder, "val", **words)
  if words.get("channels"):  # a palette's greys are made of its RGB
    assert source[0]["image"].shape == files[0]["image"].shape
    return
  for index in range(len(files)):
    _assert_equal(source[index], files[index])


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
  assert builder.info.features["label"].names == list(NAMES)
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
  files = _files(folder)
  _write({"train": files}, directory)
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
    _assert_equal(one, other)


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
  files = _files(tmp_path, channels=1, val_fraction=0.5)
  arrays = sources.Arrays(
    [_image(random, (5, 6, 7))] * 2, [np.eye(5, 6, dtype=np.uint8)] * 2,
    classes=NAMES,
  )  # fmt: skip
  for number, source in enumerate((files, arrays)):
    _write({"train": source}, tmp_path / str(number))
    again = prepared.Prepared(tmp_path / str(number), "train")
    for index in range(len(source)):
      _assert_equal(again[index], source[index])
    data = tfds.builder_from_directory(tmp_path / str(number)).as_data_source(
      "train"
    )
    np.testing.assert_array_equal(data[0]["image"], source[0]["image"])
    with pytest.raises(errors.InputError, match="set data.channels="):
      prepared.Prepared(tmp_path / str(number), "train", channels=4)
  # Greys are repeated, as of files.
  again = prepared.Prepared(tmp_path / "0", "train", channels=3)
  thrice = _files(tmp_path, channels=3, val_fraction=0.5)
  _assert_equal(again[0], thrice[0])


def test_a_second_label(folder):
  first, other = _files(folder), _files(folder, label_map={0: 1, 1: 0, 2: 0})
  source = second_source.Second(first, other, "label")
  _write({"train": source}, folder / "out")
  again = prepared.Prepared(folder / "out", "train")
  for index in range(len(source)):
    _assert_equal(again[index], source[index])
  data = tfds.builder_from_directory(folder / "out").as_data_source("train")
  np.testing.assert_array_equal(
    data[1]["second_label"][..., 0], source[1]["second_label"]
  )
  assert again.second_classes == NAMES
  _write({"train": again}, folder / "twice")
  twice = prepared.Prepared(folder / "twice", "train")
  _assert_equal(twice[3], source[3])


def test_an_interrupted_conversion_goes_on(written, folder):
  """Killed at any shard, the result is byte for byte the same."""
  splits, out = written
  expected = _snapshot(out)
  shards = [name for name in expected if "array_record-" in name]
  assert len(shards) > 3
  record = records.record
  for stop in (0, 4, 7):
    left = [stop]

    def interrupted(*arguments, left=left, **words):
      left[0] -= 1
      if left[0] < 0:
        raise KeyboardInterrupt
      return record(*arguments, **words)

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(records, "record", interrupted)
      with pytest.raises(KeyboardInterrupt):
        _write(splits, folder / f"{stop}", shard_images=3, workers=2)
    there = set(_snapshot(folder / f"{stop}")) & set(shards)
    assert len(there) == max(0, stop - 1) // 3
    with pytest.raises(errors.InputError, match="not prepared wholly"):
      prepared.Prepared(folder / f"{stop}", "train")
    kept = {n: (folder / f"{stop}" / n).stat().st_mtime_ns for n in there}
    assert _write(splits, folder / f"{stop}", shard_images=3)
    for name, time_ns in kept.items():
      assert (folder / f"{stop}" / name).stat().st_mtime_ns == time_ns
    assert _snapshot(folder / f"{stop}") == expected


_SLOW = """
import pathlib, sys, time
from fcnjax.data import folders
from fcnjax.data.preparation import metadata, preparing, records
root = pathlib.Path(sys.argv[1])
record = records.record
def slow(*arguments, **words):
  time.sleep(0.05)
  return record(*arguments, **words)
records.record = slow
splits = {
  split: folders.folder(
    root / "images", root / "masks", split=split,
    class_names=("ground", "tree", "lake"),
  )
  for split in ("train", "val")
}
about = metadata.Description("mine", text="Mine.", citation="Me.")
preparing.write(
  splits, root / "killed", about, shard_images=3, workers=1, progress=False
)
"""


def _slow(folder):
  """Starts a slow conversion to killed/; returns it when a shard is there."""
  process = subprocess.Popen([sys.executable, "-c", _SLOW, str(folder)])
  deadline = time.monotonic() + 60
  while not list((folder / "killed").glob("*array_record-*")):
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.01)
  return process


def test_two_at_once(written, folder):
  """The second refuses; what the first writes is whole all the same."""
  splits, out = written
  process = _slow(folder)
  try:
    with pytest.raises(errors.InputError, match="another process is prep"):
      _write(splits, folder / "killed", shard_images=3)
  finally:
    assert process.wait() == 0
  assert not _write(splits, folder / "killed", shard_images=3)
  assert _snapshot(folder / "killed") == _snapshot(out)


def test_a_killed_process(written, folder):
  splits, out = written
  killed = folder / "killed"
  process = _slow(folder)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not manifest.is_finished(killed)
  before = set(_snapshot(killed))
  assert before & set(_snapshot(out)) != set(_snapshot(out))
  _write(splits, killed, shard_images=3)
  assert _snapshot(killed) == _snapshot(out)


def test_a_mended_file_changes_its_shard_only(folder):
  """An unreadable example stops it; mended, it goes on."""
  files = _files(folder)
  bad = files.pairs[4][0]
  good = bad.read_bytes()
  bad.write_bytes(good[: len(good) // 2])
  splits = {"train": files}
  with pytest.raises(errors.InputError, match=bad.name):
    _write(splits, folder / "out", shard_images=3)
  assert len(list((folder / "out").glob("*array_record-*"))) == 1
  bad.write_bytes(good)
  assert _write(splits, folder / "out", shard_images=3)
  source = prepared.Prepared(folder / "out", "train")
  _assert_equal(source[4], files[4])


def test_a_shard_of_a_file_that_changed_is_written_anew(folder, monkeypatch):
  files = _files(folder)
  splits = {"train": files}
  with monkeypatch.context() as patch:
    patch.setattr(manifest, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      _write(splits, folder / "out", shard_images=3)
  mask = files.pairs[1][1]
  label = np.array(PIL.Image.open(mask))
  PIL.Image.fromarray(2 - label % 3).save(mask)
  assert _write(splits, folder / "out", shard_images=3)
  source = prepared.Prepared(folder / "out", "train")
  for index in range(len(files)):
    _assert_equal(source[index], files[index])
  assert manifest.read(folder / "out")["splits"]["train"]["pixel_counts"] == (
    weight_maps.class_statistics(files, num_classes=3).pixel_counts.tolist()
  )


@pytest.mark.parametrize("gone", [False, True])
def test_a_finished_one_with_a_damaged_shard_is_not_already_there(
  written, gone
):
  splits, out = written
  shard = next(out.glob("*-val.array_record-*"))
  if gone:
    shard.unlink()
  else:
    shard.write_bytes(shard.read_bytes()[:-1])
  with pytest.raises(errors.InputError, match=f"{shard.name} has.*prepare it"):
    _write(splits, out, shard_images=3)


def test_what_a_second_source_adds_is_content(folder):
  """The same files of both, read in another way."""
  first = _files(folder)
  swapped = _files(folder, label_map={0: 1, 1: 0, 2: 2})
  for number, (one, other) in enumerate(
    [
      (
        second_source.Second(first, first, "image"),
        second_source.Second(first, first, "image", log=True),
      ),
      (
        second_source.Second(first, first, "label"),
        second_source.Second(first, swapped, "label"),
      ),
    ]
  ):
    assert _write({"train": one}, folder / str(number))
    assert not _write({"train": one}, folder / str(number))
    with pytest.raises(errors.InputError, match="other content already"):
      _write({"train": other}, folder / str(number))


def test_nothing_is_overwritten(written, folder):
  splits, out = written
  before = _snapshot(out)
  assert not _write(splits, out, shard_images=3)
  assert not _write(splits, out)  # however it was divided
  words = {"label_map": {0: 0, 1: 2, 2: 1}}
  other = {s: _files(folder, s, **words) for s in splits}
  for changed in (other, {"train": splits["train"]}):
    with pytest.raises(errors.InputError, match="other content already"):
      _write(changed, out)
  mask = splits["train"].pairs[0][1]
  os.utime(mask, ns=(1, 1))
  with pytest.raises(errors.InputError, match="other content already"):
    _write(splits, out)
  assert _snapshot(out) == before
  (folder / "full").mkdir()
  (folder / "full" / "thesis.txt").write_text("mine")
  with pytest.raises(errors.InputError, match="is not empty"):
    _write(splits, folder / "full")
  assert _snapshot(folder / "full") == {"thesis.txt": b"mine"}


def test_an_unfinished_one_of_other_data_is_refused(folder, monkeypatch):
  monkeypatch.setattr(manifest, "write", lambda *_: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    _write({"train": _files(folder)}, folder / "out")
  with pytest.raises(errors.InputError, match="unfinished conversion of other"):
    _write({"train": _files(folder, "val")}, folder / "out")


def test_images_of_other_channels_are_named(folder):
  files = _files(folder, channels=None)
  assert "n3" in files.names  # the grey one
  with pytest.raises(errors.InputError, match="n3: an image of 1 channel"):
    _write({"train": files}, folder / "out")


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
    _assert_equal(example, splits["train"][index])


@pytest.mark.parametrize(
  ("text", "name"),
  [("sun-rgbd", "sun_rgbd"), ("2012 cells", "data_2012_cells"), ("ä", "data")],
)
def test_names_that_tfds_takes(text, name):
  assert metadata.dataset_name(text) == name
