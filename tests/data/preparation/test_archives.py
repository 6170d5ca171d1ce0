"""The files that a data set comes in: downloads, digests, what is missing."""

import dataclasses
import hashlib
import http.server
import re
import shutil
import threading
import zipfile

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors, locks
from fcnjax.data import datasets
from fcnjax.data.datasets import cards
from fcnjax.data.preparation import archives

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class _Server(http.server.ThreadingHTTPServer):
  """Serves CONTENT, and breaks off after so many bytes of an answer."""

  def __init__(self):
    super().__init__(("127.0.0.1", 0), _Handler)
    self.content = CONTENT
    self.version = '"one"'
    self.ranges = True  # whether parts are served
    self.most = None  # bytes of an answer, then the connection breaks off
    self.status = None
    self.asked = []  # (method's path, Range) of each request

  @property
  def url(self):
    return f"http://127.0.0.1:{self.server_port}/part.zip"


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    server = self.server
    asked = self.headers.get("Range")
    server.asked.append(asked)
    if server.status:
      self.send_error(server.status)
      return
    start, content = 0, server.content
    same = self.headers.get("If-Range", server.version) == server.version
    if asked and server.ranges and same:
      start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
      if start >= len(content):
        self.send_response(416)
        self.send_header("Content-Range", f"bytes */{len(content)}")
        self.end_headers()
        return
      self.send_response(206)
      span = f"bytes {start}-{len(content) - 1}/{len(content)}"
      self.send_header("Content-Range", span)
    else:
      self.send_response(200)
    self.send_header("ETag", server.version)
    self.send_header("Content-Length", str(len(content) - start))
    self.end_headers()
    self.wfile.write(content[start:][: server.most])

  def log_message(self, *_):
    pass


@pytest.fixture
def server():
  with _Server() as found:
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.shutdown()
    thread.join()


def _download(server, file):
  archives.download(server.url, file, pause=0.001, progress=False)


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path, server):
  server.most = 1_200_000
  file = tmp_path / "part.zip"
  _download(server, file)
  assert file.read_bytes() == CONTENT
  assert server.asked == [None, "bytes=1200000-", "bytes=2400000-"]
  assert [path.name for path in tmp_path.iterdir()] == ["part.zip"]


def test_the_next_call_goes_on_behind_what_is_there(tmp_path, server):
  file = tmp_path / "part.zip"
  server.most = 0
  (tmp_path / "part.zip.part").write_bytes(CONTENT[:1_000_000])
  (tmp_path / "part.zip.part.version").write_text('"one"')
  with pytest.raises(errors.InputError, match="broke off.*again to go on"):
    _download(server, file)
  assert (tmp_path / "part.zip.part").read_bytes() == CONTENT[:1_000_000]
  server.most = None
  _download(server, file)
  assert file.read_bytes() == CONTENT
  assert set(server.asked) == {"bytes=1000000-"}


@pytest.mark.parametrize("change", ["version", "ranges"])
def test_parts_of_two_versions_are_never_joined(tmp_path, server, change):
  (tmp_path / "part.zip.part").write_bytes(b"x" * 1_000_000)
  (tmp_path / "part.zip.part.version").write_text('"one"')
  if change == "version":
    server.version = '"two"'
  else:
    server.ranges = False
  _download(server, tmp_path / "part.zip")
  assert (tmp_path / "part.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(("extra", "requests"), [(0, 1), (10, 2)])
def test_a_part_that_is_whole_or_too_long(tmp_path, server, extra, requests):
  (tmp_path / "part.zip.part").write_bytes(CONTENT + b"x" * extra)
  (tmp_path / "part.zip.part.version").write_text('"one"')
  _download(server, tmp_path / "part.zip")
  assert (tmp_path / "part.zip").read_bytes() == CONTENT
  assert len(server.asked) == requests


def test_what_the_server_refuses_is_not_asked_for_again(tmp_path, server):
  server.status = 404
  with pytest.raises(errors.InputError, match="404") as caught:
    _download(server, tmp_path / "part.zip")
  assert str(tmp_path / "part.zip") in str(caught.value)
  assert len(server.asked) == 1
  server.status = 503
  with pytest.raises(errors.InputError, match="503"):
    _download(server, tmp_path / "part.zip")
  assert len(server.asked) > 3
  assert not list(tmp_path.iterdir())


def test_addresses_that_are_none(tmp_path):
  for url in ("file:///etc/passwd", "ftp://host/part.zip"):
    with pytest.raises(errors.InputError, match="no address"):
      archives.download(url, tmp_path / "part.zip", progress=False)


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_digests(tmp_path, kind):
  file, memory = tmp_path / "a.tar", tmp_path / "memory"
  file.write_bytes(CONTENT)
  right = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"

  def verify(digest):
    archives.verify(file, digest, memory=memory, progress=False)

  verify(None)
  verify(right)
  verify(right.upper().replace(kind.upper(), kind))
  wrong = f"{kind}:{'0' * (len(right) - len(kind) - 1)}"
  with pytest.raises(errors.InputError, match=f"a.tar has the {kind}"):
    verify(wrong)
  assert file.read_bytes() == CONTENT


def test_a_digest_is_computed_once(tmp_path, monkeypatch):
  file, memory = tmp_path / "a.tar", tmp_path / "memory"
  file.write_bytes(CONTENT)
  digest = f"sha1:{hashlib.sha1(CONTENT).hexdigest()}"
  archives.verify(file, digest, memory=memory, progress=False)
  with monkeypatch.context() as patch:
    patch.setattr(hashlib, "new", None)
    archives.verify(file, digest, memory=memory, progress=False)
  file.write_bytes(CONTENT[:-1] + b"?")
  with pytest.raises(errors.InputError, match="expected"):
    archives.verify(file, digest, memory=memory, progress=False)


def _card(*found, **changes):
  return dataclasses.replace(
    datasets.get("isbi2012"), archives=found, **changes
  )


def _archive(name="a.zip", **words):
  return cards.Archive(name=name, url="https://example.org/a", **words)


def test_a_login_is_asked_for_before_anything_is_downloaded(tmp_path, server):
  card = _card(
    cards.Archive(name="part.zip", url=server.url), _archive(login=True)
  )
  with pytest.raises(errors.InputError) as caught:
    archives.layout(card, tmp_path, progress=False)
  message = str(caught.value)
  for word in ("a.zip", "login", "https://example.org/a", "--from"):
    assert word in message
  assert str(tmp_path / "downloads" / "isbi2012" / "a.zip") in message
  assert "\n" not in message
  assert not server.asked


def test_a_file_that_is_no_archive_is_put_into_its_folder(tmp_path, server):
  card = _card(
    cards.Archive(name="labels.mat", url=server.url, folder="data/labels")
  )
  root = archives.layout(card, tmp_path, pause=0.001, progress=False)
  assert (root / "data" / "labels" / "labels.mat").read_bytes() == CONTENT
  # What was unpacked is not needed any more, nor asked for.
  (tmp_path / "downloads" / "isbi2012" / "labels.mat").unlink()
  server.asked.clear()
  assert archives.layout(card, tmp_path, progress=False) == root
  assert not server.asked


def test_a_wrong_digest_keeps_the_download(tmp_path, server):
  card = _card(
    cards.Archive(name="a.mat", url=server.url, digest=f"sha1:{'0' * 40}")
  )
  for _ in range(2):
    with pytest.raises(errors.InputError, match=r"a\.mat has the sha1"):
      archives.layout(card, tmp_path, progress=False)
  file = tmp_path / "downloads" / "isbi2012" / "a.mat"
  assert file.read_bytes() == CONTENT
  assert len(server.asked) == 1


def test_two_at_once(tmp_path, server):
  """The second asks the server for nothing."""
  card = _card(cards.Archive(name="a.mat", url=server.url))
  downloads = tmp_path / "downloads" / "isbi2012"
  downloads.mkdir(parents=True)
  with (
    locks.locked(downloads, ""),
    pytest.raises(errors.InputError, match="another process is downloading"),
  ):
    archives.layout(card, tmp_path, progress=False)
  assert not server.asked
  archives.layout(card, tmp_path, progress=False)


def test_every_data_set_says_what_it_comes_in():
  assert all(card.archives for card in datasets.CARDS.values())


def test_found_by_hand(tmp_path):
  given = tmp_path / "given"
  given.mkdir()
  (given / "a.mat").write_bytes(b"abc")
  digest = f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
  card = _card(_archive("a.mat", digest=digest, login=True))
  root = archives.layout(card, tmp_path, given=given, progress=False)
  assert (root / "a.mat").read_bytes() == b"abc"
  assert [path.name for path in given.iterdir()] == ["a.mat"]


def test_the_unpacked_layout_is_used_as_it_is(tmp_path):
  given = tmp_path / "given"
  card = _card(_archive(login=True))
  with pytest.raises(errors.InputError, match="is no folder"):
    archives.layout(card, tmp_path, given=given, progress=False)
  for n in range(30):
    for part in ("image", "label"):
      (given / "train" / part).mkdir(parents=True, exist_ok=True)
      image = PIL.Image.fromarray(np.zeros((4, 6), np.uint8))
      image.save(given / "train" / part / f"{n}.png")
  assert archives.layout(card, tmp_path, given=given) == given
  assert not (tmp_path / "downloads").exists()
  (given / "train" / "label" / "29.png").unlink()
  with pytest.raises(errors.InputError, match=r"29\.png.*does not exist"):
    archives.layout(card, tmp_path, given=given)


def test_unpacked_files_that_were_deleted_are_unpacked_again(tmp_path, server):
  card = _card(cards.Archive(name="a.mat", url=server.url))
  for _ in range(2):
    root = archives.layout(card, tmp_path, progress=False)
    assert (root / "a.mat").read_bytes() == CONTENT
    shutil.rmtree(root)
  assert len(server.asked) == 1


def test_an_archive_cannot_say_that_another_is_unpacked(tmp_path, server):
  """A file of any name in it lies where nothing is looked for."""
  given = tmp_path / "given"
  given.mkdir()
  names = ("a.mat.json", "done/a.mat.json", ".unpacked/a.mat.json")
  with zipfile.ZipFile(given / "first.zip", "w") as archive:
    for name in names:
      archive.writestr(name, "{}")
  card = _card(
    _archive("first.zip"), cards.Archive(name="a.mat", url=server.url)
  )
  root = archives.layout(card, tmp_path, given=given, progress=False)
  assert all((root / name).is_file() for name in names)
  assert (root / "a.mat").read_bytes() == CONTENT


def test_what_two_cards_come_in_is_downloaded_once(
  tmp_path, server, monkeypatch
):
  shared = cards.Archive(name="a.mat", url=server.url, folder="one")
  card = _card(shared)
  monkeypatch.setitem(datasets.CARDS, card.name, card)
  root = archives.layout(card, tmp_path, progress=False)
  # Wherever the other one unpacks it to; of its own url nothing is shared.
  moved = dataclasses.replace(shared, folder="two")
  other = dataclasses.replace(_card(moved), name="other")
  root = archives.layout(other, tmp_path, progress=False)
  assert (root / "two" / "a.mat").read_bytes() == CONTENT
  assert len(server.asked) == 1
  url = dataclasses.replace(shared, url=f"{server.url}?of=another")
  third = dataclasses.replace(_card(url), name="third")
  server.content = b"another"
  root = archives.layout(third, tmp_path, progress=False)
  assert (root / "one" / "a.mat").read_bytes() == b"another"
