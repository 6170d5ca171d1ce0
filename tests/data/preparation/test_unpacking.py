"""Archives that climb out, bombs, truncated ones; and the honest ones."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest

from fcnjax import errors
from fcnjax.data.preparation import unpacking

NOISE = np.random.default_rng(0).bytes(200_000)
FILES = {"set/a.bin": NOISE, "set/b/c.txt": b"hello", "./d.txt": b"dot"}
KINDS = ("a.zip", "a.tar", "a.tar.gz", "a.tgz")


def _pack(path, files, links=()):
  """Writes an archive; links are (name, type, target)."""
  if path.suffix == ".zip":
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
      for name, data in files.items():
        info = zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6))
        archive.writestr(info, data, zipfile.ZIP_DEFLATED)
      for name, kind, target in links:
        info = zipfile.ZipInfo(name)
        mode = {"sym": 0o120777, "fifo": 0o010600}[kind]
        info.external_attr = mode << 16
        archive.writestr(info, target)
    return path
  mode = "w" if path.suffix == ".tar" else "w:gz"
  with tarfile.open(path, mode) as archive:
    for name, data in files.items():
      info = tarfile.TarInfo(name)
      info.size, info.mtime = len(data), 1_000_000_000
      archive.addfile(info, io.BytesIO(data))
    for name, kind, target in links:
      info = tarfile.TarInfo(name)
      info.type = {
        "sym": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "device": tarfile.CHRTYPE,
      }[kind]
      info.linkname = target
      archive.addfile(info)
  return path


def _done(folder):
  return folder.with_name("done")


def _unpack(path, folder):
  unpacking.unpack(path, folder, done=_done(folder), progress=False)


def _files(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file()
  }


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_unpacked(tmp_path, kind):
  path, folder = _pack(tmp_path / kind, FILES), tmp_path / "to"
  assert not unpacking.is_done(_done(folder), kind)
  _unpack(path, folder)
  assert _files(folder) == {
    "set/a.bin": NOISE,
    "set/b/c.txt": b"hello",
    "d.txt": b"dot",
  }
  assert unpacking.is_done(_done(folder), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_with_what_is_missing(tmp_path, kind):
  path, folder = _pack(tmp_path / kind, FILES), tmp_path / "to"
  _unpack(path, folder)
  (_done(folder) / f"{kind}.json").unlink()
  untouched = (folder / "set" / "a.bin").stat()
  (folder / "set" / "b" / "c.txt").write_bytes(b"hel")  # of another program
  (folder / "d.txt").rename(folder / "d.txt.unpacking")  # it was killed there
  _unpack(path, folder)
  assert _files(folder)["set/b/c.txt"] == b"hello"
  assert _files(folder)["d.txt"] == b"dot"
  assert not (folder / "d.txt.unpacking").exists()
  now = (folder / "set" / "a.bin").stat()
  assert (now.st_ino, now.st_mtime) == (untouched.st_ino, untouched.st_mtime)
  # A finished one is not even opened.
  path.write_bytes(path.read_bytes())
  os.utime(path, (1, 1))
  _unpack(path, folder)
  path.write_bytes(b"0" * path.stat().st_size)
  os.utime(path, (1, 1))
  _unpack(path, folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
  "name", ["../out.txt", "a/../../out.txt", "/out.txt", "C:/out", "a\\..\\b"]
)
def test_paths_that_climb_out(tmp_path, kind, name):
  path = _pack(tmp_path / kind, {"first.txt": b"x", name: b"evil"})
  before = {p for p in tmp_path.rglob("*")}
  with pytest.raises(errors.InputError) as caught:
    _unpack(path, tmp_path / "to")
  assert repr(name)[1:-1] in str(caught.value)
  assert "out of its folder" in str(caught.value)
  assert "\n" not in str(caught.value)
  assert {p for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
  ("kind", "link"),
  [
    ("a.tar", ("x", "sym", "/etc/passwd")),
    ("a.tar", ("x", "sym", "../secret")),
    ("a.tar", ("b/x", "sym", "../../secret")),
    ("a.tar", ("x", "hard", "/etc/passwd")),
    ("a.tgz", ("x", "hard", "../secret")),
    ("a.tgz", ("x", "sym", "nowhere")),
    ("a.tar", ("x", "sym", "x")),
    ("a.tar", ("x", "fifo", "")),
    ("a.tar", ("x", "device", "")),
    ("a.zip", ("x", "sym", "../secret")),
    ("a.zip", ("x", "fifo", "")),
  ],
  ids=str,
)
def test_links_that_leave_and_devices(tmp_path, kind, link):
  (tmp_path / "secret").write_text("secret")
  path = _pack(tmp_path / kind, {"a.txt": b"x"}, [link])
  with pytest.raises(errors.InputError) as caught:
    _unpack(path, tmp_path / "to")
  assert link[0] in str(caught.value)
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "to").exists()


def test_links_within_become_copies(tmp_path):
  links = [
    ("b/sym", "sym", "../a.txt"),
    ("b/again", "sym", "sym"),
    ("hard", "hard", "a.txt"),
  ]
  _unpack(_pack(tmp_path / "a.tar", {"a.txt": b"x"}, links), tmp_path / "to")
  names = ("a.txt", "b/again", "b/sym", "hard")
  assert _files(tmp_path / "to") == dict.fromkeys(names, b"x")
  assert not any(path.is_symlink() for path in (tmp_path / "to").rglob("*"))
  assert (tmp_path / "to" / "hard").stat().st_nlink == 1


def test_a_link_cannot_be_written_through(tmp_path):
  """A link to a folder, and then a file below its name."""
  path = _pack(tmp_path / "a.tar", {}, [("x", "sym", "..")])
  with tarfile.open(path, "a") as archive:
    info = tarfile.TarInfo("x/evil.txt")
    info.size = 4
    archive.addfile(info, io.BytesIO(b"evil"))
  with pytest.raises(errors.InputError, match="out of its folder"):
    _unpack(path, tmp_path / "to")
  # Nor one that lay in the folder before.
  (tmp_path / "to").mkdir()
  (tmp_path / "to" / "x").symlink_to(tmp_path)
  path = _pack(tmp_path / "b.tar", {"x/evil.txt": b"evil"})
  with pytest.raises(errors.InputError, match="behind a link"):
    _unpack(path, tmp_path / "to")
  assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_bombs(tmp_path, kind, monkeypatch):
  monkeypatch.setattr(unpacking, "_SMALL", 1 << 20)
  path = _pack(tmp_path / kind, {"zeros": bytes(20_000_000)})
  assert path.stat().st_size * 400 < 20_000_000
  with pytest.raises(errors.InputError, match="member zeros brings it to 2000"):
    _unpack(path, tmp_path / "to")
  assert not (tmp_path / "to").exists()


def test_a_link_first_does_not_hide_a_bomb(tmp_path, monkeypatch):
  """It is refused at the member that goes too far, before the rest is read."""
  monkeypatch.setattr(unpacking, "_SMALL", 1 << 20)
  path = tmp_path / "a.tgz"
  with tarfile.open(path, "w:gz") as archive:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "last"
    archive.addfile(link)
    for name in ("first", "second", "third", "last"):
      info = tarfile.TarInfo(name)
      info.size = 20_000_000
      archive.addfile(info, io.BytesIO(bytes(info.size)))
  read = []
  following = tarfile.TarFile.next

  def counted(archive):
    info = following(archive)
    read.append(info.name)
    return info

  monkeypatch.setattr(tarfile.TarFile, "next", counted)
  with pytest.raises(errors.InputError, match="member second brings it"):
    _unpack(path, tmp_path / "to")
  assert "last" not in read


def test_links_count_as_what_they_copy(tmp_path, monkeypatch):
  monkeypatch.setattr(unpacking, "_SMALL", 1 << 20)
  links = [(f"l{n}", "sym", "a") for n in range(500)]
  path = _pack(tmp_path / "a.tar.gz", {"a": NOISE}, links)
  with pytest.raises(errors.InputError, match="brings it to"):
    _unpack(path, tmp_path / "to")
  assert not (tmp_path / "to").exists()


def test_a_declared_size_beyond_the_disk(tmp_path, monkeypatch):
  path = _pack(tmp_path / "a.tar", {"a": NOISE})
  usage = unpacking.shutil.disk_usage(tmp_path)
  full = usage._replace(free=100_000)
  monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: full)
  with pytest.raises(
    errors.InputError, match="needs 200000 bytes.*100000 left"
  ):
    _unpack(path, tmp_path / "to")
  assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
  ("kind", "share"),
  [(kind, share) for kind in KINDS for share in (0.0, 0.01, 0.5, 0.9)]
  # A tar ends with padding, whose lack harms nothing.
  + [(kind, 0.99998) for kind in KINDS if kind != "a.tar"],
)
def test_truncated_archives(tmp_path, kind, share):
  path = _pack(tmp_path / kind, FILES)
  data = path.read_bytes()
  path.write_bytes(data[: int(share * len(data))])
  with pytest.raises(errors.InputError, match=f"{kind} is damaged") as caught:
    _unpack(path, tmp_path / "to")
  assert "\n" not in str(caught.value)
  assert not unpacking.is_done(_done(tmp_path / "to"), kind)


@pytest.mark.parametrize("kind", ["a.zip", "a.tgz"])
def test_a_flipped_byte(tmp_path, kind):
  path = _pack(tmp_path / kind, FILES)
  data = bytearray(path.read_bytes())
  data[100_000] ^= 255
  path.write_bytes(data)
  with pytest.raises(errors.InputError, match="is damaged"):
    _unpack(path, tmp_path / "to")
  assert not unpacking.is_done(_done(tmp_path / "to"), kind)


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / "to").write_text("a file")
  path = _pack(tmp_path / "a.zip", FILES)
  with pytest.raises(errors.InputError, match="cannot be unpacked"):
    _unpack(path, tmp_path / "to")
