"""Small files that claim to be large."""

from collections.abc import Callable, Iterator
import io
import pathlib
import struct
import zipfile
import zlib

from fcnjax.cli import workdir
from fcnjax.data import images, sources, weight_maps
from fcnjax.report import page
from fcnjax.training import writers
from tests.faults import targets


def create(root: pathlib.Path) -> Iterator[tuple[str, Callable[[], str]]]:
  """Writes them beside those of `targets`; yields names, and what reads each.

  That raises InputError, or returns a word.
  """

  def refused(read):
    def read_it():
      read()
      raise AssertionError("it was read")

    return read_it

  for width, height in ((100_000, 100_000), (13_000, 13_000), (2**31 - 1, 1)):
    for mode in (0, 2, 6):  # grey, RGB, RGBA
      path = root / f"claims_{width}_{height}_{mode}.png"
      path.write_bytes(_png(width, height, mode, zlib.compress(bytes(100))))
      yield path.name, refused(lambda path=path: images.read_image(path))
      yield path.name, refused(lambda path=path: images.read_mask(path))
  buffer = io.BytesIO()
  targets.picture(0).save(buffer, "JPEG")
  jpeg = bytearray(buffer.getvalue())
  start = jpeg.index(b"\xff\xc0") + 5  # frame header: height, width
  jpeg[start : start + 4] = struct.pack(">HH", 65_500, 65_500)
  (root / "claims.jpg").write_bytes(jpeg)
  yield "claims.jpg", refused(lambda: images.read_image(root / "claims.jpg"))
  text = zlib.compress(bytes(50_000_000), 9)
  path = root / "text.png"
  chunk = _chunk(b"zTXt", b"Comment\0\0" + text)
  path.write_bytes(_png(1, 1, 0, zlib.compress(bytes(2)), chunk))
  # Whether it is read or not: 50 MB of text are not kept.
  yield path.name, lambda: str(images.damage(path)) and "same"
  folder = root / "caches"
  (file,) = (folder / "cache").glob("weight-*")
  source = sources.Files(
    [(folder / "0.png", folder / "1.png")], classes=targets.CLASSES
  )
  weighted = weight_maps.cached(source, folder / "cache", w0=10.0)
  compared = targets.never_other(lambda: weighted[0]["weight"])
  header = (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 99999)}"
  )
  array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("weight.npy", array + bytes(100))
  yield "weight.npz", compared
  for name in ("config.json", "metrics.jsonl", "evaluation.json"):
    deep = root / "pages" / name
    deep.write_text("[" * 200_000)
    yield name, lambda: str(page.write(root / "pages")) and "same"
  (root / "configs" / "config.json").write_text("[" * 200_000)
  yield "config.json", refused(lambda: workdir.read(root / "configs"))
  (root / "metrics" / "metrics.jsonl").write_text("[" * 200_000 + "\n")
  yield (
    "metrics.jsonl",
    lambda: writers.keep_until(root / "metrics" / "metrics.jsonl", 1) or "same",
  )


def _chunk(name: bytes, data: bytes) -> bytes:
  body = name + data
  return (
    struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
  )


def _png(
  width: int, height: int, mode: int, data: bytes, more: bytes = b""
) -> bytes:
  head = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", head)
    + more
    + _chunk(b"IDAT", data)
    + _chunk(b"IEND", b"")
  )
