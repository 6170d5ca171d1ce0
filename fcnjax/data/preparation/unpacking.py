"""Unpacking archives without trusting what they say.

All members are looked at before one byte is written: a path that leaves the
folder, a device, more bytes than the disk has room for or than any honest
compression makes are refused. No link is ever made: one that stays within the
archive becomes a copy of what it names. Files are written under temporary
names, so a file that is there is whole, and unpacking goes on where it was.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import datetime
import json
import lzma
import os
import pathlib
import re
import shutil
import stat
import tarfile
from typing import BinaryIO
import zipfile
import zlib

import tqdm

from fcnjax import errors

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
# Of the size of all members to that of the archive: label images and arrays
# reach 100; more than this only what was made to fill disks.
_MOST_RATIO = 400
_LATEST = (1 << 32) - 1  # seconds since 1970 that every disk can hold
_SMALL = 1 << 28  # bytes that are unpacked whatever the ratio


@dataclasses.dataclass(frozen=True)
class _Member:
  """A file in an archive.

  Attributes:
    name: path, as the archive says.
    size: bytes when unpacked.
    time: of its last change, whole seconds since 1970.
    open: opens its content.
  """

  name: str
  size: int
  time: int
  open: Callable[[], BinaryIO]


def is_done(done: pathlib.Path, name: str) -> bool:
  """Whether an archive of this name was unpacked wholly; see `unpack`."""
  return _marker(done, name).is_file()


def unpack(
  file: pathlib.Path,
  folder: pathlib.Path,
  *,
  done: pathlib.Path,
  progress: bool = True,
) -> None:
  """Unpacks an archive; puts a file that is none into the folder.

  Members that are there with their size and time of change are passed over.

  Args:
    file: .zip, .tar, .tar.gz or .tgz; of others a copy is made.
    folder: where to.
    done: folder where it is remembered that this file was unpacked; not one
      that archives are unpacked to, which could plant what lies in it.
    progress: whether a bar is shown.

  Raises:
    InputError: if the archive is damaged, holds what it must not (then nothing
      was written), or the disk is full.
  """
  state = file.stat()
  seen = {"size": state.st_size, "mtime": state.st_mtime_ns}
  marker = _marker(done, file.name)
  with contextlib.suppress(OSError, ValueError):
    if json.loads(marker.read_text()) == seen:
      return
  try:
    with _members(file) as members:
      _check(file, folder, members)
      _write(file, folder, members, progress)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(seen))
  except (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,  # a compression that zipfile lacks
    RuntimeError,  # an encrypted member
  ) as error:
    raise _damaged(file, error) from error
  except OSError as error:
    if error.errno is None:  # gzip's own
      raise _damaged(file, error) from error
    raise errors.InputError(
      f"{file} cannot be unpacked to {folder}: {error.strerror}"
      f" ({error.filename}); mend that or make room, and run the command again."
    ) from error


def _damaged(file: pathlib.Path, error: Exception) -> errors.InputError:
  reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
  return errors.InputError(
    f"{file} is damaged or not whole ({reason}); take it away and run the"
    " command again."
  )


def _marker(done: pathlib.Path, name: str) -> pathlib.Path:
  return done / f"{name}.json"


@contextlib.contextmanager
def _members(file: pathlib.Path) -> Iterator[list[_Member]]:
  """Opens an archive and lists its files."""
  if file.name.lower().endswith(".zip"):
    with zipfile.ZipFile(file) as archive:
      yield list(_of_zip(archive, file))
  elif file.name.lower().endswith(ENDINGS):
    with tarfile.open(file) as archive:
      yield list(_of_tar(archive, file))
  else:
    state = file.stat()
    yield [
      _Member(
        file.name, state.st_size, int(state.st_mtime), lambda: file.open("rb")
      )
    ]


def _of_zip(archive: zipfile.ZipFile, file: pathlib.Path) -> Iterator[_Member]:
  for info in archive.infolist():
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
      raise _refused(file, info.filename, "is a link or a device")
    if info.is_dir():
      _check_name(file, info.filename)
      continue
    try:
      time = datetime.datetime(*info.date_time, tzinfo=datetime.UTC)
    except ValueError:  # such as the 0th of a month
      time = datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)
    yield _Member(
      info.filename,
      info.file_size,
      int(time.timestamp()),
      lambda info=info: archive.open(info),
    )


def _of_tar(archive: tarfile.TarFile, file: pathlib.Path) -> Iterator[_Member]:
  total = 0
  found = []
  for info in archive:
    _check_name(file, info.name)
    if info.isdir():
      continue
    if not (info.isreg() or info.issym() or info.islnk()):
      raise _refused(file, info.name, "is a device")
    total += info.size
    _check_ratio(file, info.name, total)  # before all of a bomb is read
    found.append(info)
  # What a link names is looked for among all headers, so not before these are
  # read; what the copies add is counted with all members.
  for info in found:
    content = info if info.isreg() else _target(archive, file, info)
    yield _Member(
      info.name,
      content.size,
      min(max(int(info.mtime), 0), _LATEST),
      lambda content=content: archive.extractfile(content),
    )
  # A tar ends before its file does, and gzip's checksum stands at the end.
  while block := archive.fileobj.read(1 << 20):
    total += len(block)
    _check_ratio(file, "(padding)", total)


def _target(
  archive: tarfile.TarFile, file: pathlib.Path, link: tarfile.TarInfo
) -> tarfile.TarInfo:
  """Returns the file that a link names; looks within the archive only."""
  for _ in range(8):
    base = os.path.dirname(link.name) if link.issym() else ""
    name = os.path.normpath(os.path.join(base, link.linkname))
    _check_name(file, name, of=f"{link.name}, a link,")
    try:
      found = archive.getmember(name)
    except KeyError:
      raise _refused(
        file, link.name, f"links to {link.linkname}, which is not in it"
      ) from None
    if found.isreg():
      return found
    if not (found.issym() or found.islnk()):
      break
    link = found
  raise _refused(file, link.name, f"links to {link.linkname}, which is no file")


def _check_name(file: pathlib.Path, name: str, of: str = "") -> None:
  """Refuses paths that may leave the folder, on any system."""
  parts = re.split(r"[/\\]", name)
  if (
    not name
    or not parts[0]
    or ":" in parts[0]
    or ".." in parts
    or "\0" in name
    or ("\\" in name and os.sep == "\\")
  ):
    raise _refused(file, of or name, f"leads to {name!r}, out of its folder")


def _check_ratio(file: pathlib.Path, name: str, total: int) -> None:
  if total > max(_SMALL, _MOST_RATIO * file.stat().st_size):
    raise _refused(
      file,
      name,
      f"brings it to {total} bytes unpacked, over {_MOST_RATIO} times its size",
    )


def _check(
  file: pathlib.Path, folder: pathlib.Path, members: list[_Member]
) -> None:
  """Refuses archives with a member that must not be written."""
  total = need = 0
  for member in members:
    _check_name(file, member.name)
    total += member.size
    need += 0 if _is_there(folder / member.name, member) else member.size
    _check_ratio(file, member.name, total)
  existing = folder
  while not existing.exists():
    existing = existing.parent
  free = shutil.disk_usage(existing).free
  if need > free:
    raise errors.InputError(
      f"{file} needs {need} bytes unpacked, but {folder} has {free} left; make"
      " room or name another --data-dir."
    )


def _write(
  file: pathlib.Path,
  folder: pathlib.Path,
  members: list[_Member],
  progress: bool,
) -> None:
  inside = folder.resolve()
  with tqdm.tqdm(
    desc=f"unpack {file.name}",
    total=sum(member.size for member in members),
    unit="B",
    unit_scale=True,
    disable=not progress,
  ) as bar:
    for member in members:
      path = folder / member.name
      if not _is_there(path, member):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(inside):
          raise _refused(file, member.name, "lies behind a link on the disk")
        part = path.with_name(f"{path.name}.unpacking")
        with member.open() as source, part.open("wb") as target:
          shutil.copyfileobj(source, target, 1 << 20)
        if part.stat().st_size != member.size:
          raise EOFError(f"{member.name} is cut off")
        os.utime(part, (member.time, member.time))
        part.replace(path)
      bar.update(member.size)


def _is_there(path: pathlib.Path, member: _Member) -> bool:
  try:
    found = path.stat()
  except OSError:
    return False
  return (found.st_size, int(found.st_mtime)) == (member.size, member.time)


def _refused(file: pathlib.Path, name: str, why: str) -> errors.InputError:
  return errors.InputError(
    f"{file}: its member {name} {why}; this archive is not to be trusted, get"
    " it from its official place."
  )
