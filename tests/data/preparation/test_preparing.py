"""Conversions that are interrupted go on, and nothing is overwritten."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.data import second_source, weight_maps
from fcnjax.data.preparation import manifest, metadata, prepared, records
from tests.data.preparation import converting


def test_an_interrupted_conversion_goes_on(written, folder):
  """Killed at any shard, the result is byte for byte the same."""
  splits, out = written
  expected = converting.snapshot(out)
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
        converting.write(splits, folder / f"{stop}", shard_images=3, workers=2)
    there = set(converting.snapshot(folder / f"{stop}")) & set(shards)
    assert len(there) == max(0, stop - 1) // 3
    with pytest.raises(errors.InputError, match="not prepared wholly"):
      prepared.Prepared(folder / f"{stop}", "train")
    kept = {n: (folder / f"{stop}" / n).stat().st_mtime_ns for n in there}
    assert converting.write(splits, folder / f"{stop}", shard_images=3)
    for name, time_ns in kept.items():
      assert (folder / f"{stop}" / name).stat().st_mtime_ns == time_ns
    assert converting.snapshot(folder / f"{stop}") == expected


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
      converting.write(splits, folder / "killed", shard_images=3)
  finally:
    assert process.wait() == 0
  assert not converting.write(splits, folder / "killed", shard_images=3)
  assert converting.snapshot(folder / "killed") == converting.snapshot(out)


def test_a_killed_process(written, folder):
  splits, out = written
  killed = folder / "killed"
  process = _slow(folder)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not manifest.is_finished(killed)
  before = set(converting.snapshot(killed))
  assert before & set(converting.snapshot(out)) != set(converting.snapshot(out))
  converting.write(splits, killed, shard_images=3)
  assert converting.snapshot(killed) == converting.snapshot(out)


def test_a_mended_file_changes_its_shard_only(folder):
  """An unreadable example stops it; mended, it goes on."""
  files = converting.files(folder)
  bad = files.pairs[4][0]
  good = bad.read_bytes()
  bad.write_bytes(good[: len(good) // 2])
  splits = {"train": files}
  with pytest.raises(errors.InputError, match=bad.name):
    converting.write(splits, folder / "out", shard_images=3)
  assert len(list((folder / "out").glob("*array_record-*"))) == 1
  bad.write_bytes(good)
  assert converting.write(splits, folder / "out", shard_images=3)
  source = prepared.Prepared(folder / "out", "train")
  converting.assert_equal(source[4], files[4])


def test_a_shard_of_a_file_that_changed_is_written_anew(folder, monkeypatch):
  files = converting.files(folder)
  splits = {"train": files}
  with monkeypatch.context() as patch:
    patch.setattr(manifest, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      converting.write(splits, folder / "out", shard_images=3)
  mask = files.pairs[1][1]
  label = np.array(PIL.Image.open(mask))
  PIL.Image.fromarray(2 - label % 3).save(mask)
  assert converting.write(splits, folder / "out", shard_images=3)
  source = prepared.Prepared(folder / "out", "train")
  for index in range(len(files)):
    converting.assert_equal(source[index], files[index])
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
    converting.write(splits, out, shard_images=3)


def test_what_a_second_source_adds_is_content(folder):
  """The same files of both, read in another way."""
  first = converting.files(folder)
  swapped = converting.files(folder, label_map={0: 1, 1: 0, 2: 2})
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
    assert converting.write({"train": one}, folder / str(number))
    assert not converting.write({"train": one}, folder / str(number))
    with pytest.raises(errors.InputError, match="other content already"):
      converting.write({"train": other}, folder / str(number))


def test_nothing_is_overwritten(written, folder):
  splits, out = written
  before = converting.snapshot(out)
  assert not converting.write(splits, out, shard_images=3)
  assert not converting.write(splits, out)  # however it was divided
  words = {"label_map": {0: 0, 1: 2, 2: 1}}
  other = {s: converting.files(folder, s, **words) for s in splits}
  for changed in (other, {"train": splits["train"]}):
    with pytest.raises(errors.InputError, match="other content already"):
      converting.write(changed, out)
  mask = splits["train"].pairs[0][1]
  os.utime(mask, ns=(1, 1))
  with pytest.raises(errors.InputError, match="other content already"):
    converting.write(splits, out)
  assert converting.snapshot(out) == before
  (folder / "full").mkdir()
  (folder / "full" / "thesis.txt").write_text("mine")
  with pytest.raises(errors.InputError, match="is not empty"):
    converting.write(splits, folder / "full")
  assert converting.snapshot(folder / "full") == {"thesis.txt": b"mine"}


def test_an_unfinished_one_of_other_data_is_refused(folder, monkeypatch):
  monkeypatch.setattr(manifest, "write", lambda *_: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    converting.write({"train": converting.files(folder)}, folder / "out")
  with pytest.raises(errors.InputError, match="unfinished conversion of other"):
    converting.write({"train": converting.files(folder, "val")}, folder / "out")


def test_images_of_other_channels_are_named(folder):
  files = converting.files(folder, channels=None)
  assert "n3" in files.names  # the grey one
  with pytest.raises(errors.InputError, match="n3: an image of 1 channel"):
    converting.write({"train": files}, folder / "out")


@pytest.mark.parametrize(
  ("text", "name"),
  [("sun-rgbd", "sun_rgbd"), ("2012 cells", "data_2012_cells"), ("ä", "data")],
)
def test_names_that_tfds_takes(text, name):
  assert metadata.dataset_name(text) == name
