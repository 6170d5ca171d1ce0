"""fcnjax prepare and prepare-folder: one line where something is wrong."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import io
import re
import shlex
import sys
import threading
import zipfile

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors, locks
from fcnjax.cli import config as configs, main, open_data
from fcnjax.data import datasets, weight_maps
from fcnjax.data.datasets import cards
from fcnjax.data.preparation import manifest, prepared


def _run(capsys, *words):
  code = main.main([str(word) for word in words])
  printed = capsys.readouterr()
  return code, printed.out, printed.err


def _fails(capsys, *words):
  """Expects exit code 2 and one line; returns it."""
  code, _, line = _run(capsys, *words)
  assert code == 2
  assert line.startswith("fcnjax: ")
  assert line.count("\n") == 1
  return line


@contextlib.contextmanager
def _served(folder):
  """Serves a folder; yields its address."""

  class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
      pass

  handler = functools.partial(Quiet, directory=folder)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def _slices(count=30):
  """Returns {path: bytes} of ISBI's layout in miniature."""
  random = np.random.default_rng(0)
  files = {}
  for n in range(count):
    image = random.integers(0, 256, (8, 12), dtype=np.uint8)
    for part, array in (("image", image), ("label", (image > 99) * 255)):
      buffer = io.BytesIO()
      PIL.Image.fromarray(array.astype(np.uint8)).save(buffer, "PNG")
      files[f"train/{part}/{n}.png"] = buffer.getvalue()
  return files


def _zip(path, files):
  with zipfile.ZipFile(path, "w") as archive:
    for name, data in files.items():
      archive.writestr(name, data)


def _sha1(path):
  return f"sha1:{hashlib.sha1(path.read_bytes()).hexdigest()}"


@pytest.fixture
def isbi(tmp_path, monkeypatch):
  """Serves images.zip and labels.zip; `change` replaces words of the card."""
  web = tmp_path / "web"
  web.mkdir()
  files = _slices()
  for part in ("image", "label"):
    mine = {n.removeprefix("train/"): d for n, d in files.items() if part in n}
    _zip(web / f"{part}.zip", mine)
  with _served(web) as url:
    archives = tuple(
      cards.Archive(
        name=f"{part}.zip",
        url=f"{url}/{part}.zip",
        digest=_sha1(web / f"{part}.zip"),
        folder="train",
      )
      for part in ("image", "label")
    )

    def change(**words):
      card = dataclasses.replace(
        datasets.get("isbi2012"), **{"archives": archives} | words
      )
      monkeypatch.setitem(datasets.CARDS, "isbi2012", card)
      return card

    change()
    yield web, change


def test_a_data_set_is_downloaded_and_converted(tmp_path, isbi, capsys):
  data = tmp_path / "data"
  code, text, _ = _run(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert code == 0
  assert "24 in train, 6 in val" in text
  assert "isbi2012/unpacked is not needed any more" in text
  assert f"--config.data.root={data}" in text
  config = configs.load("configs/unet.py:isbi2012")
  config.data.root = str(data)
  source = open_data.source(config, "train")
  assert isinstance(source, prepared.Prepared)
  config.data.root = str(data / "downloads" / "isbi2012" / "unpacked")
  files = open_data.source(config, "train")
  assert len(source) == len(files) == 24
  for index in range(24):
    for key in ("image", "label"):
      np.testing.assert_array_equal(source[index][key], files[index][key])
  known = manifest.read(data / "isbi2012" / manifest.VERSION)
  assert known["card"] == "isbi2012"
  pixels = np.stack([files[i]["image"] for i in range(24)])
  assert known["mean"] == [pytest.approx(pixels.mean(), abs=1e-4)]
  # Again: nothing is needed any more.
  for archive in isbi[0].iterdir():
    archive.unlink()
  code, text, _ = _run(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert code == 0
  assert "prepared already" in text


def _bars(text):
  """Returns {words: what the bar with them counted to}."""
  found = re.findall(r"([\w. -]+): 100%[^\r]*?\| ([\d.k]+/[\d.k]+) \[", text)
  return {words.strip(): counted for words, counted in found}


def test_a_terminal_has_bars(tmp_path, isbi, capsys, monkeypatch):
  words = ("prepare", "isbi2012", "--data-dir", tmp_path / "data")
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  code, text, shown = _run(capsys, *words)
  assert code == 0
  assert "%|" not in text
  expected = {"prepare": "30/30"}  # 24 in train, 6 in val
  for part in ("image.zip", "label.zip"):
    packed = f"{(isbi[0] / part).stat().st_size / 1000:.2f}k"
    with zipfile.ZipFile(isbi[0] / part) as archive:
      total = sum(member.file_size for member in archive.infolist())
    unpacked = f"{total / 1000:.2f}k"
    expected |= {
      part: f"{packed}/{packed}",  # downloaded
      f"verify {part}": f"{packed}/{packed}",
      f"unpack {part}": f"{unpacked}/{unpacked}",
    }
  assert _bars(shown) == expected


def test_a_damaged_data_set_is_not_prepared_already(tmp_path, isbi, capsys):
  data = tmp_path / "data"
  words = ("prepare", "isbi2012", "--data-dir", data)
  assert _run(capsys, *words)[0] == 0
  shard = next((data / "isbi2012").rglob("*-train.array_record-*"))
  shard.unlink()
  line = _fails(capsys, *words)
  assert f"{shard.name} has 0 bytes" in line
  assert "prepare it anew" in line


def test_two_at_once(tmp_path, isbi, capsys):
  data = tmp_path / "data"
  words = ("prepare", "isbi2012", "--data-dir", data)
  directory = manifest.directory(data, "isbi2012")
  directory.mkdir(parents=True)
  with locks.locked(directory, ""):
    assert "another process is preparing" in _fails(capsys, *words)
  assert _run(capsys, *words)[0] == 0


def test_from_the_official_layout(tmp_path, isbi, capsys):
  given = tmp_path / "given"
  for name, content in _slices().items():
    (given / name).parent.mkdir(parents=True, exist_ok=True)
    (given / name).write_bytes(content)
  command = ("prepare", "isbi2012", "--from", given, "--data-dir")
  code, text, _ = _run(capsys, *command, tmp_path / "data")
  assert code == 0
  assert "not needed" not in text
  assert not (tmp_path / "data" / "downloads").exists()
  (given / "train" / "label" / "3.png").unlink()
  line = _fails(capsys, *command, tmp_path / "other")
  assert "3.png" in line
  assert not (tmp_path / "other").exists()


def test_a_wrong_checksum(tmp_path, isbi, capsys):
  web, _ = isbi
  content = bytearray((web / "label.zip").read_bytes())
  content[200] ^= 1
  (web / "label.zip").write_bytes(content)
  data = tmp_path / "data"
  line = _fails(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert "label.zip has the sha1" in line
  kept = data / "downloads" / "isbi2012" / "label.zip"
  assert kept.read_bytes() == content
  assert not (data / "isbi2012").exists()


def test_a_missing_part(tmp_path, isbi, capsys):
  web, change = isbi
  data = tmp_path / "data"
  (web / "label.zip").unlink()
  line = _fails(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert "404" in line
  assert "label.zip" in line
  login = [
    dataclasses.replace(archive, login=True)
    for archive in datasets.get("isbi2012").archives
  ]
  change(archives=tuple(login))
  line = _fails(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert "label.zip of ISBI 2012 needs a login" in line
  assert "--from" in line


def test_members_that_are_missing(tmp_path, isbi, capsys):
  web, change = isbi
  _zip(web / "all.zip", _slices(count=29))
  archive = cards.Archive(
    name="all.zip",
    url=datasets.get("isbi2012").archives[0].url.replace("image", "all"),
  )
  change(archives=(archive,))
  line = _fails(capsys, "prepare", "isbi2012", "--data-dir", tmp_path / "data")
  assert "29.png" in line


def test_a_path_that_climbs_out(tmp_path, isbi, capsys):
  web, change = isbi
  _zip(web / "all.zip", _slices() | {"../../../evil.txt": b"evil"})
  archive = cards.Archive(
    name="all.zip",
    url=datasets.get("isbi2012").archives[0].url.replace("image", "all"),
    digest=_sha1(web / "all.zip"),
  )
  change(archives=(archive,))
  line = _fails(capsys, "prepare", "isbi2012", "--data-dir", tmp_path / "data")
  assert "evil.txt" in line
  assert not list(tmp_path.rglob("evil.txt"))


def test_counts_are_compared_with_the_published_ones(tmp_path, isbi, capsys):
  isbi[1](splits={"train": 25, "val": 6})
  line = _fails(capsys, "prepare", "isbi2012", "--data-dir", tmp_path / "data")
  assert "24 images in the split 'train'" in line
  assert "expected 25" in line
  assert not (tmp_path / "data" / "isbi2012").exists()


def test_a_folder_of_other_content_is_not_overwritten(tmp_path, isbi, capsys):
  data = tmp_path / "data"
  _run(capsys, "prepare", "isbi2012", "--data-dir", data)
  isbi[1](classes=("a", "b"))
  line = _fails(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert "other content already" in line


def test_words_that_are_missing_or_unknown(tmp_path, capsys):
  assert "--list" in _fails(capsys, "prepare")
  assert "--data-dir" in _fails(capsys, "prepare", "camvid")
  line = _fails(capsys, "prepare", "nothing", "--data-dir", tmp_path)
  assert "camvid" in line
  line = _fails(
    capsys, "prepare", "camvid", "--data-dir", tmp_path, "--config.steps=1"
  )
  assert "--config.steps=1" in line
  words = ("prepare", "cityscapes", "--data-dir", tmp_path / "none")
  line = _fails(capsys, *words)
  assert "--from" in line


def test_the_list_fits_a_terminal(capsys):
  code, text, _ = _run(capsys, "prepare", "--list")
  assert code == 0
  assert max(map(len, text.splitlines())) <= 80
  for card in datasets.CARDS.values():
    assert card.name in text
    for split, count in card.splits.items():
      assert (f"{split} {count}" if count else split) in text


@pytest.mark.parametrize("command", ["prepare", "prepare-folder"])
def test_help(capsys, command):
  with pytest.raises(SystemExit) as caught:
    main.main([command, "--help"])
  assert caught.value.code == 0
  text = capsys.readouterr().out
  for word in (
    "--config.data",
    "interrupted" if command == "prepare" else "--",
  ):
    assert word in text


@pytest.fixture
def folder(tmp_path):
  random = np.random.default_rng(0)
  for index in range(12):
    image = random.integers(0, 256, (40, 44, 3), dtype=np.uint8)
    mask = (image[..., 0] > 127).astype(np.uint8) * 255
    for part, array in (("images", image), ("masks", mask)):
      (tmp_path / part).mkdir(exist_ok=True)
      PIL.Image.fromarray(array).save(tmp_path / part / f"{index}.png")
  return tmp_path


def _folder_words(folder):
  return [
    "--config=configs/unet.py:folder",
    f"--config.data.images={folder}/images",
    f"--config.data.masks={folder}/masks",
    "--config.data.class_names=('cell','gap')",
    "--config.data.mask_values=(0,255)",
    "--config.data.image_size=(32,32)",
  ]


def test_a_folder_is_prepared_with_the_words_of_training(folder, capsys):
  out = folder / "out"
  words = _folder_words(folder)
  code, text, _ = _run(capsys, "prepare-folder", *words, "--output", out)
  assert code == 0
  # The words to train with can be pasted into a shell.
  pasted = _pasted(text)
  config = configs.override(configs.load("configs/unet.py:folder"), pasted)
  assert config.data.source == "prepared"
  assert config.data.root == str(out)
  assert config.data.mean == pytest.approx(manifest.read(out)["mean"], abs=1e-3)
  config = configs.override(configs.load("configs/unet.py:folder"), words[1:])
  files = {which: open_data.source(config, which) for which in ("train", "val")}
  config.data.source = "prepared"
  config.data.root = str(out)
  for which, expected in files.items():
    source = open_data.source(config, which)
    assert source.names == expected.names
    assert source.classes == ("cell", "gap")
    for index in range(len(expected)):
      for key in ("image", "label"):
        np.testing.assert_array_equal(source[index][key], expected[index][key])
  check = ("--config.data.source=prepared", f"--config.data.root={out}")
  code, text, _ = _run(capsys, "check-data", words[0], *check)
  assert code == 0
  code, text, _ = _run(capsys, "prepare-folder", *words, "--output", out)
  assert (code, "already" in text) == (0, True)
  line = _fails(capsys, "prepare-folder", *words, "--output", folder / "masks")
  assert "is not empty" in line
  line = _fails(
    capsys, "prepare-folder", words[0], *check, "--output", folder / "x"
  )
  assert "data.source" in line


def _pasted(text):
  """Returns the words to train with, as a shell would pass them."""
  (line,) = (line for line in text.splitlines() if line.startswith("Train"))
  return shlex.split(line)[2:]


def _assert_equal_sources(one, other):
  assert one.names == other.names
  assert one.classes == other.classes
  for index in range(len(other)):
    example, expected = one[index], other[index]
    assert example.keys() == expected.keys()
    for key in expected:
      np.testing.assert_array_equal(example[key], expected[key])
    np.testing.assert_array_equal(
      one.table.apply(one.raw_label(index), name=""),
      other.table.apply(other.raw_label(index), name=""),
    )


def test_a_folder_has_a_bar_on_a_terminal_only(folder, capsys, monkeypatch):
  words = ["prepare-folder", *_folder_words(folder), "--output"]
  code, _, shown = _run(capsys, *words, folder / "silent")
  assert (code, shown) == (0, "")
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  code, text, shown = _run(capsys, *words, folder / "out")
  assert code == 0
  assert _bars(shown) == {"prepare": "12/12"}
  assert "prepare:" not in text


def test_a_second_task_of_a_folder(folder, capsys):
  """Second labels are read where data.second_masks is set, and scored."""
  (folder / "other").mkdir()
  random = np.random.default_rng(1)
  for mask in (folder / "masks").iterdir():
    for part in ("masks", "other"):
      label = random.integers(0, 3, (40, 44), dtype=np.uint8)
      PIL.Image.fromarray(label).save(folder / part / mask.name)
  words = [
    "--config=configs/unet.py:folder",
    f"--config.data.images={folder}/images",
    f"--config.data.masks={folder}/masks",
    "--config.data.num_classes=3",
    f"--config.data.second_masks={folder}/other",
    "--config.data.second_classes=3",
    "--config.data.image_size=(32,32)",
  ]
  out = folder / "out"
  code, text, _ = _run(capsys, "prepare-folder", *words, "--output", out)
  assert code == 0
  config = configs.override(configs.load("configs/unet.py:folder"), words[1:])
  # Both: the words alone, and those of the folder with source and root.
  pasted = _pasted(text)
  alone = configs.override(configs.load("configs/unet.py:folder"), pasted)
  alone.data.image_size = (32, 32)
  kept = configs.override(configs.load("configs/unet.py:folder"), words[1:])
  kept.data.source, kept.data.root = "prepared", str(out)
  for prepared_config in (alone, kept):
    for task in ("first", "second"):
      config.evaluation.task = prepared_config.evaluation.task = task
      for which in ("train", "val"):
        source = open_data.source(prepared_config, which)
        expected = open_data.source(config, which)
        _assert_equal_sources(source, expected)
        if which == "train":
          _assert_equal_sources(source.second, expected.second)
          assert len(source.second.classes) == 3
  second = open_data.source(alone, "train").second
  assert (
    second.labels_version() != open_data.source(alone, "train").labels_version()
  )
  found = weight_maps.class_statistics(second, num_classes=3)
  expected = weight_maps.class_statistics(
    open_data.source(config, "train").second, num_classes=3
  )
  np.testing.assert_array_equal(found, expected)
  alone.data.second_classes = 2
  with pytest.raises(errors.InputError, match="second_classes=3"):
    open_data.source(alone, "train")
  # Without the word there is one task.
  alone.data.second_masks = ""
  assert "second_label" not in open_data.source(alone, "train")[0]
  with pytest.raises(errors.InputError, match="second_masks is not set"):
    open_data.source(alone, "val")


def test_second_words_that_prepared_data_do_not_know(folder, capsys):
  words, out = _folder_words(folder), folder / "out"
  depth = [
    f"--config.data.second_images={folder}/images",
    "--config.data.second_channels=1",
  ]
  command = ("prepare-folder", *words, *depth, "--output", out)
  code, text, _ = _run(capsys, *command)
  assert code == 0
  config = configs.override(
    configs.load("configs/unet.py:folder"), [*words[1:], *depth]
  )
  config.data.image_size = (0, 0)
  files = open_data.source(config, "train")
  config.data.source, config.data.root = "prepared", str(out)
  with pytest.raises(errors.InputError, match="data.second_images: prepared"):
    open_data.source(config, "train")
  config = configs.override(config, _pasted(text))
  source = open_data.source(config, "train")
  assert open_data.channels(config) == source.channels == 4
  _assert_equal_sources(source, files)
  config.data.second_masks = "masks"
  with pytest.raises(errors.InputError, match="was prepared without"):
    open_data.source(config, "train")


def test_a_mixture_is_no_folder(folder, capsys):
  mix = f"--config.data.mix=((1,{{'images':'{folder}/images'}}),)"
  words = (*_folder_words(folder), mix, "--output", folder / "out")
  assert "data.mix" in _fails(capsys, "prepare-folder", *words)
  assert not (folder / "out").exists()


def test_a_damaged_image_of_a_folder_is_named(folder, capsys):
  file = folder / "images" / "7.png"
  file.write_bytes(file.read_bytes()[:-900])
  words = (*_folder_words(folder), "--output", folder / "out")
  assert "7.png" in _fails(capsys, "prepare-folder", *words)
  assert not manifest.is_finished(folder / "out")


def test_missing_data_name_the_command():
  config = configs.load("configs/unet.py:folder")
  config.data.source = "prepared"
  with pytest.raises(errors.InputError, match="fcnjax prepare-folder --output"):
    open_data.source(config, "train")
  config.data.root = "nowhere"
  with pytest.raises(errors.InputError, match="fcnjax prepare-folder"):
    open_data.source(config, "train")
  config = configs.load("configs/unet.py:camvid")
  for root in ("", "nowhere"):
    config.data.root = root
    with pytest.raises(errors.InputError, match="fcnjax prepare camvid"):
      open_data.source(config, "train")
