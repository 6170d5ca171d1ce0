"""fcnjax prepare: one line where something is wrong."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import io
import sys
import threading
import zipfile

import numpy as np
import PIL.Image
import pytest

from fcnjax import locks
from fcnjax.cli import config as configs, main, open_data
from fcnjax.data import datasets
from fcnjax.data.datasets import cards
from fcnjax.data.preparation import manifest, prepared
from tests.cli import commands


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
  code, text, _ = commands.run(
    capsys, "prepare", "isbi2012", "--data-dir", data
  )
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
  code, text, _ = commands.run(
    capsys, "prepare", "isbi2012", "--data-dir", data
  )
  assert code == 0
  assert "prepared already" in text


def test_a_terminal_has_bars(tmp_path, isbi, capsys, monkeypatch):
  words = ("prepare", "isbi2012", "--data-dir", tmp_path / "data")
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  code, text, shown = commands.run(capsys, *words)
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
  assert commands.bars(shown) == expected


def test_a_damaged_data_set_is_not_prepared_already(tmp_path, isbi, capsys):
  data = tmp_path / "data"
  words = ("prepare", "isbi2012", "--data-dir", data)
  assert commands.run(capsys, *words)[0] == 0
  shard = next((data / "isbi2012").rglob("*-train.array_record-*"))
  shard.unlink()
  line = commands.fails(capsys, *words)
  assert f"{shard.name} has 0 bytes" in line
  assert "prepare it anew" in line


def test_two_at_once(tmp_path, isbi, capsys):
  data = tmp_path / "data"
  words = ("prepare", "isbi2012", "--data-dir", data)
  directory = manifest.directory(data, "isbi2012")
  directory.mkdir(parents=True)
  with locks.locked(directory, ""):
    assert "another process is preparing" in commands.fails(capsys, *words)
  assert commands.run(capsys, *words)[0] == 0


def test_from_the_official_layout(tmp_path, isbi, capsys):
  given = tmp_path / "given"
  for name, content in _slices().items():
    (given / name).parent.mkdir(parents=True, exist_ok=True)
    (given / name).write_bytes(content)
  command = ("prepare", "isbi2012", "--from", given, "--data-dir")
  code, text, _ = commands.run(capsys, *command, tmp_path / "data")
  assert code == 0
  assert "not needed" not in text
  assert not (tmp_path / "data" / "downloads").exists()
  (given / "train" / "label" / "3.png").unlink()
  line = commands.fails(capsys, *command, tmp_path / "other")
  assert "3.png" in line
  assert not (tmp_path / "other").exists()


def test_a_wrong_checksum(tmp_path, isbi, capsys):
  web, _ = isbi
  content = bytearray((web / "label.zip").read_bytes())
  content[200] ^= 1
  (web / "label.zip").write_bytes(content)
  data = tmp_path / "data"
  line = commands.fails(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert "label.zip has the sha1" in line
  kept = data / "downloads" / "isbi2012" / "label.zip"
  assert kept.read_bytes() == content
  assert not (data / "isbi2012").exists()


def test_a_missing_part(tmp_path, isbi, capsys):
  web, change = isbi
  data = tmp_path / "data"
  (web / "label.zip").unlink()
  line = commands.fails(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert "404" in line
  assert "label.zip" in line
  login = [
    dataclasses.replace(archive, login=True)
    for archive in datasets.get("isbi2012").archives
  ]
  change(archives=tuple(login))
  line = commands.fails(capsys, "prepare", "isbi2012", "--data-dir", data)
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
  line = commands.fails(
    capsys, "prepare", "isbi2012", "--data-dir", tmp_path / "data"
  )
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
  line = commands.fails(
    capsys, "prepare", "isbi2012", "--data-dir", tmp_path / "data"
  )
  assert "evil.txt" in line
  assert not list(tmp_path.rglob("evil.txt"))


def test_counts_are_compared_with_the_published_ones(tmp_path, isbi, capsys):
  isbi[1](splits={"train": 25, "val": 6})
  line = commands.fails(
    capsys, "prepare", "isbi2012", "--data-dir", tmp_path / "data"
  )
  assert "24 images in the split 'train'" in line
  assert "expected 25" in line
  assert not (tmp_path / "data" / "isbi2012").exists()


def test_a_folder_of_other_content_is_not_overwritten(tmp_path, isbi, capsys):
  data = tmp_path / "data"
  commands.run(capsys, "prepare", "isbi2012", "--data-dir", data)
  isbi[1](classes=("a", "b"))
  line = commands.fails(capsys, "prepare", "isbi2012", "--data-dir", data)
  assert "other content already" in line


def test_words_that_are_missing_or_unknown(tmp_path, capsys):
  assert "--list" in commands.fails(capsys, "prepare")
  assert "--data-dir" in commands.fails(capsys, "prepare", "camvid")
  line = commands.fails(capsys, "prepare", "nothing", "--data-dir", tmp_path)
  assert "camvid" in line
  line = commands.fails(
    capsys, "prepare", "camvid", "--data-dir", tmp_path, "--config.steps=1"
  )
  assert "--config.steps=1" in line
  words = ("prepare", "cityscapes", "--data-dir", tmp_path / "none")
  line = commands.fails(capsys, *words)
  assert "--from" in line


def test_the_list_fits_a_terminal(capsys):
  code, text, _ = commands.run(capsys, "prepare", "--list")
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
