"""The files that a data set comes in: found, downloaded, verified, unpacked.

What was downloaded by hand is looked for first. A download that broke off goes
on where it was; a file with a wrong digest is kept for its owner to look at.
Nothing in a folder that the user names is ever written to or deleted.
"""

from collections.abc import Iterator
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import ssl
import time
from typing import Any, BinaryIO
import urllib.error
import urllib.request

import tqdm

from fcnjax import _version, errors, locks
from fcnjax.data import datasets
from fcnjax.data.datasets import cards
from fcnjax.data.preparation import unpacking

_BLOCK = 1 << 20  # bytes
_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 6  # in a row that brought nothing
_AGENT = f"fcnjax/{_version.__version__}"


def layout(
  card: cards.Card,
  data_dir: str | os.PathLike[str],
  *,
  given: str | os.PathLike[str] | None = None,
  pause: float = 2.0,
  progress: bool = True,
) -> pathlib.Path:
  """Returns a folder that holds a data set in its official layout.

  Args:
    card: the data set.
    data_dir: its archives are looked for and downloaded in
      data_dir/downloads/NAME, and unpacked in data_dir/downloads/NAME/unpacked.
    given: another folder with archives that were downloaded by hand, or with
      the unpacked official layout, which is then used as it is.
    pause: seconds before the second try of a download; doubled each time.
    progress: whether bars are shown.

  Raises:
    InputError: if an archive needs a login and is not there, cannot be
      downloaded, has a wrong digest, is damaged or not to be trusted.
  """
  downloads = pathlib.Path(data_dir) / "downloads" / card.name
  if given is not None:
    given = pathlib.Path(given)
    if not given.is_dir():
      raise errors.InputError(
        f"--from: {given} is no folder; give the one that holds the archives of"
        f" {card.title}, or its unpacked layout."
      )
    try:
      for split in card.splits:
        card.pairs(given, split)
      return given
    except errors.InputError:
      if not any((given / archive.name).is_file() for archive in card.archives):
        raise
  unpacked = downloads / "unpacked"
  _folder(downloads)
  with locks.locked(
    downloads,
    f"another process is downloading or unpacking {card.title} in {downloads};"
    " wait for it, stop it, or give another --data-dir.",
  ):
    _unpack(card, downloads, given, unpacked, pause, progress)
  return unpacked


def _unpack(
  card: cards.Card,
  downloads: pathlib.Path,
  given: pathlib.Path | None,
  unpacked: pathlib.Path,
  pause: float,
  progress: bool,
) -> None:
  """Finds or downloads, verifies and unpacks all archives."""
  done = downloads / "done"
  if not unpacked.is_dir():  # What was done there has been taken away.
    shutil.rmtree(done, ignore_errors=True)
  _folder(unpacked)
  # All files first: what must be fetched by hand is asked for before hours of
  # downloading.
  places = {
    archive.name: _found(card, archive, downloads, given, done)
    for archive in card.archives
  }
  for archive in card.archives:
    file = places[archive.name]
    if file is None:
      if unpacking.is_done(done, archive.name):
        continue
      file = downloads / archive.name
      download(archive.url, file, pause=pause, progress=progress)
    verify(
      file, archive.digest, memory=downloads / "verified", progress=progress
    )
    unpacking.unpack(
      file, unpacked / archive.folder, done=done, progress=progress
    )


def _found(
  card: cards.Card,
  archive: cards.Archive,
  downloads: pathlib.Path,
  given: pathlib.Path | None,
  done: pathlib.Path,
) -> pathlib.Path | None:
  """Returns where an archive lies; None if it is downloaded or not needed.

  Some data sets come in the same files: what was downloaded for another one is
  taken where it lies.
  """
  for folder in (given, downloads):
    if folder is not None and (folder / archive.name).is_file():
      return folder / archive.name
  if unpacking.is_done(done, archive.name):
    return None
  for other in datasets.CARDS.values():
    file = downloads.parent / other.name / archive.name
    if _same(archive, other) and file.is_file():
      return file
  if archive.login:
    raise errors.InputError(
      f"{archive.name} of {card.title} needs a login: download it from"
      f" {archive.url} and put it to {downloads / archive.name}, or name its"
      " folder by --from DIR."
    )
  return None


def _same(archive: cards.Archive, other: cards.Card) -> bool:
  """Whether a card has this very file, wherever it unpacks it to."""
  return any(
    (known.name, known.url, known.digest)
    == (archive.name, archive.url, archive.digest)
    for known in other.archives
  )


def download(
  url: str, file: pathlib.Path, *, pause: float = 2.0, progress: bool = True
) -> None:
  """Downloads a file; goes on behind what an earlier try has left.

  What has come is in FILE.part, which gets its name when it is whole. The
  server's word for the version (ETag or Last-Modified) is kept beside it, so
  that parts of two versions are never joined.

  Args:
    url: http or https.
    file: where to.
    pause: seconds before the second try; doubled each time.
    progress: whether a bar is shown.

  Raises:
    InputError: if the server refuses, or several tries in a row bring nothing.
  """
  if not url.startswith(("http://", "https://")):
    raise errors.InputError(f"{url} is no address to download from (http, ...)")
  part = file.with_name(f"{file.name}.part")
  _folder(file.parent)
  tries, reason = 0, ""
  while tries < _TRIES:
    if tries:
      time.sleep(pause * 2 ** (tries - 1))
    before = _size(part)
    try:
      if _fetch(url, part, file.name, progress):
        part.replace(file)
        _version_file(part).unlink(missing_ok=True)
        return
      reason = "the connection broke off"
    except urllib.error.HTTPError as error:
      reason = f"the server says {error.code} {error.reason}"
      if error.code < 500 and error.code not in (408, 429):
        break
    except (urllib.error.URLError, http.client.HTTPException) as error:
      reason = str(getattr(error, "reason", error)) or type(error).__name__
    except (TimeoutError, ConnectionError, ssl.SSLError) as error:
      reason = str(error) or type(error).__name__
    except OSError as error:
      raise errors.InputError(
        f"{part} cannot be written: {error.strerror or error}; make room or"
        " name another --data-dir, then run the command again."
      ) from error
    tries = 1 if _size(part) > before else tries + 1
  raise errors.InputError(
    f"{url} cannot be downloaded: {reason}. Run the command again to go on"
    f" (what has come is kept), or put the file to {file} by hand."
  )


def _fetch(url: str, part: pathlib.Path, name: str, progress: bool) -> bool:
  """Asks once for the rest of a file; returns whether it is whole then."""
  start, version = _size(part), _version_file(part)
  headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
  if start and version.is_file():
    headers |= {"Range": f"bytes={start}-", "If-Range": version.read_text()}
  request = urllib.request.Request(url, headers=headers)
  try:
    response = urllib.request.urlopen(request, timeout=_TIMEOUT)
  except urllib.error.HTTPError as error:
    total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
    if error.code != 416:
      raise
    error.close()
    if total == str(start):
      return True
    part.unlink()  # longer than the file: of another version
    return False
  with response:
    goes_on = response.status == 206
    if goes_on:
      span = response.headers.get("Content-Range", "")
      if not (start and span.startswith(f"bytes {start}-")):
        raise http.client.HTTPException(
          f"the server sends the wrong part {span}"
        )
    else:
      start = 0
    length = response.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    word = response.headers.get("ETag", "")
    if not word or word.startswith("W/"):  # If-Range takes no weak ones
      word = response.headers.get("Last-Modified", "")
    if word:
      version.write_text(word)
    else:
      version.unlink(missing_ok=True)
    with (
      part.open("ab" if goes_on else "wb") as file,
      _bar(name, total, progress, start) as bar,
    ):
      while block := response.read(_BLOCK):
        file.write(block)
        bar.update(len(block))
  return total is None or _size(part) == total


def verify(
  file: pathlib.Path,
  digest: str | None,
  *,
  memory: pathlib.Path,
  progress: bool = True,
) -> None:
  """Compares a file's digest with the published one.

  Args:
    file: the file.
    digest: "sha1:..." or "sha256:..."; None = nothing is compared.
    memory: folder where it is remembered that a file of this size and time of
      change was right, so that it is read once.
    progress: whether a bar is shown.

  Raises:
    InputError: if it differs; the file stays where it is.
  """
  if digest is None:
    return
  stat = file.stat()
  found = {"size": stat.st_size, "mtime": stat.st_mtime_ns, "digest": digest}
  note = memory / f"{file.name}.json"
  if _json(note) == found:
    return
  kind, _, expected = digest.partition(":")
  running = hashlib.new(kind)
  with (
    file.open("rb") as stream,
    _bar(f"verify {file.name}", stat.st_size, progress) as bar,
  ):
    for block in _blocks(stream):
      running.update(block)
      bar.update(len(block))
  if running.hexdigest() != expected.lower():
    raise errors.InputError(
      f"{file} has the {kind} {running.hexdigest()}, expected"
      f" {expected.lower()}: it is damaged, not whole, or another version;"
      " take it away and run the command again."
    )
  _folder(memory)
  note.write_text(json.dumps(found))


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
  while block := stream.read(_BLOCK):
    yield block


@contextlib.contextmanager
def _bar(
  text: str, total: int | None, shown: bool, start: int = 0
) -> Iterator[tqdm.tqdm]:
  with tqdm.tqdm(
    desc=text,
    total=total,
    initial=start,
    unit="B",
    unit_scale=True,
    disable=not shown,
  ) as bar:
    yield bar


def _version_file(part: pathlib.Path) -> pathlib.Path:
  return part.with_name(f"{part.name}.version")


def _size(file: pathlib.Path) -> int:
  return file.stat().st_size if file.exists() else 0


def _json(file: pathlib.Path) -> Any:
  try:
    return json.loads(file.read_text())
  except (OSError, ValueError):
    return None


def _folder(path: pathlib.Path) -> None:
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.InputError(
      f"{path}: cannot make this folder ({error.strerror}); name another"
      " --data-dir."
    ) from error
