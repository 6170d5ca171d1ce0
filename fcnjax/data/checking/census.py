"""Everything that is looked at in a data set, in one pass over its files.

An example becomes a `Look`: some kilobytes that say what its mask holds and,
if asked for, how its files were saved, what its image measures and what it may
be recognised by. Threads look; decoding, hashing and most of NumPy let others
go on meanwhile. No pixels are kept, so memory is proportional to the number of
examples.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
import dataclasses
import os
import pathlib
from typing import NamedTuple

from jaxtyping import Float, Int64, Integer
import numpy as np
import PIL.Image

from fcnjax import errors
from fcnjax.data import findings, images as images_lib
from fcnjax.data.checking import fingerprints, mask_traces

# Shows how far one is: gets the looks and their number, and yields them.
Progress = Callable[[Iterable, int], Iterable]

_ENDINGS = {
  "BMP": (".bmp",),
  "GIF": (".gif",),
  "JPEG": (".jpg", ".jpeg"),
  "JPEG2000": (".jp2",),
  "MPO": (".jpg", ".jpeg"),
  "PNG": (".png",),
  "PPM": (".ppm", ".pgm", ".pbm"),
  "TIFF": (".tif", ".tiff"),
  "WEBP": (".webp",),
}
_MOST_COLOURS = 300  # that are kept of a mask whose colours are unknown


class Fault(NamedTuple):
  """Why a file cannot be used.

  Attributes:
    code: "missing", "empty", "broken", "truncated", "no_colour_table",
      "unknown_colour", or "unreadable" for all else.
    message: a line that names the file.
  """

  code: str
  message: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
  """How a file was saved.

  Attributes:
    format: such as "PNG"; "" where an example is no file.
    misnamed: whether its name ends as those of other formats do.
    channels: in the file; a palette counts as 3, transparency as one.
    bits: of each channel, as it is read: 8, 16 or 32 (floating point).
    halved: see `images.Head`.
    turned: whether EXIF data say that it is to be turned for viewing.
  """

  format: str
  misnamed: bool
  channels: int
  bits: int
  halved: bool
  turned: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
  """What an image measures.

  Attributes:
    size: height and width in pixels.
    mean: of each channel, in [0, 255].
    square: mean of the squares, likewise.
    histogram: pixels of each grey value, in all channels.
    shades: number of different values in the first channel.
    deep: whether it is finer than bytes: float32.
    print: what it is recognised by.
  """

  size: tuple[int, int]
  mean: Float[np.ndarray, " c"]
  square: Float[np.ndarray, " c"]
  histogram: Int64[np.ndarray, "256"]
  shades: int
  deep: bool
  print: fingerprints.Fingerprint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
  """What was seen of one example; what could not be seen is None.

  Attributes:
    index: its position in the source.
    name: its name.
    image_file: the image's file, or the example's name.
    mask_file: the mask's file, or the example's name.
    values: raw values of the mask.
    counts: pixels of each.
    mask_size: height and width in pixels.
    mask_digest: of its pixels.
    mask_sketch: see `fingerprints.sketch`.
    blended: see `mask_traces.blended`.
    colours: of a mask whose colours are unknown: the most frequent ones.
    all_colours: how many there were.
    image_fault: why the image cannot be used.
    mask_fault: why the mask cannot be used.
    picture: what the image measures.
    image_saved: how the image's file was saved.
    mask_saved: how the mask's file was saved.
  """

  index: int
  name: str
  image_file: str
  mask_file: str
  values: Integer[np.ndarray, " n"]
  counts: Integer[np.ndarray, " n"]
  mask_size: tuple[int, int] | None = None
  mask_digest: bytes | None = None
  mask_sketch: bytes | None = None
  blended: str | None = None
  colours: dict[tuple[int, int, int], int] = dataclasses.field(
    default_factory=dict
  )
  all_colours: int = 0
  image_fault: Fault | None = None
  mask_fault: Fault | None = None
  picture: Picture | None = None
  image_saved: Saved | None = None
  mask_saved: Saved | None = None


def take(
  source,
  *,
  limit: int | None = None,
  images: bool = True,
  deep: bool = False,
  workers: int = 4,
  progress: Progress = lambda looks, total: looks,
) -> list[Look]:
  """Looks at the examples of a source.

  Args:
    source: see `sources`.
    limit: look at about this many only, spread evenly; None = all.
    images: whether images are decoded as well.
    deep: whether all of `Look` is filled in; otherwise only what a mask holds
      and whether the files can be used.
    workers: threads.
    progress: shows how far it is.

  Returns:
    The looks, in the source's order.
  """
  total = len(source)
  step = 1 if limit is None else max(1, -(-total // limit))
  places = range(0, total, step)
  files = getattr(source, "pairs", None)
  # Sources that compute their names do so for all of them at once.
  names = list(source.names) if hasattr(source, "names") else None

  def look(index: int) -> Look:
    mask_file = source.label_file(index)
    pair = files[index] if files else (None, None)
    common = {
      "index": index,
      "name": names[index] if names else mask_file,
      "image_file": str(pair[0]) if files else mask_file,
      "mask_file": mask_file,
    }
    seen = _mask(source, index, pair[1], deep)
    if images:
      seen |= _image(source, index, pair[0], deep)
    return Look(**common, **seen)

  with futures.ThreadPoolExecutor(workers) as pool:
    return list(progress(pool.map(look, places), len(places)))


def cores() -> int:
  """Returns how many processor cores this process may use."""
  try:
    return len(os.sched_getaffinity(0))
  except AttributeError:  # not on Linux
    return os.cpu_count() or 1


def _mask(source, index, file, deep) -> dict:
  """Returns what a `Look` tells of the mask."""
  nothing = np.zeros(0, np.int64)
  seen = {"values": nothing, "counts": nothing}
  if deep:
    seen["mask_saved"] = _saved(file)
  try:
    raw = source.raw_label(index)
  except errors.InputError as error:
    fault = _fault(file, error)
    if fault.code in ("no_colour_table", "unknown_colour") and deep and file:
      found = mask_traces.colours(file)
      often = sorted(found, key=found.get, reverse=True)[:_MOST_COLOURS]
      seen["colours"] = {color: found[color] for color in often}
      seen["all_colours"] = len(found)
    return seen | {"mask_fault": fault}
  seen["values"], seen["counts"] = _counted(raw)
  seen["mask_size"] = raw.shape
  if deep:
    seen["mask_digest"] = fingerprints.digest(raw)
    seen["mask_sketch"] = fingerprints.sketch(raw)
    seen["blended"] = mask_traces.blended(
      raw, values=seen["values"], counts=seen["counts"]
    )
  return seen


def _image(source, index, file, deep) -> dict:
  """Returns what a `Look` tells of the image."""
  seen = {"image_saved": _saved(file)} if deep else {}
  try:
    image = source.image(index)
  except errors.InputError as error:
    return seen | {"image_fault": _fault(file, error)}
  if deep:
    seen["picture"] = _picture(image)
    if file is None:
      seen["image_saved"] = Saved(
        format="",
        misnamed=False,
        channels=image.shape[-1],
        bits=8 * image.dtype.itemsize,
        halved=False,
        turned=False,
      )
  return seen


def _counted(raw):
  """Returns the values and how often each occurs."""
  if raw.dtype not in (np.uint8, np.uint16):
    return np.unique(raw, return_counts=True)
  if raw.dtype == np.uint8:  # Pillow's is four times as fast as NumPy's.
    pixels = np.asarray(PIL.Image.fromarray(raw).histogram(), np.int64)
  else:
    pixels = np.bincount(raw.ravel())
  values = pixels.nonzero()[0]
  return values, pixels[values]


def _fault(file, error) -> Fault:
  if isinstance(error, images_lib.NoColourTable):
    code = "no_colour_table"
  elif isinstance(error, images_lib.UnknownColour):
    code = "unknown_colour"
  else:
    code = None if file is None else images_lib.damage(file)
  return Fault(code or "unreadable", str(error))


def _saved(file) -> Saved | None:
  if file is None:
    return None
  try:
    head = images_lib.head(file)
  except errors.InputError:
    return None
  ending = pathlib.Path(file).suffix.lower()
  return Saved(
    format=head.format,
    misnamed=ending not in _ENDINGS.get(head.format, (ending,)),
    channels=3 if head.mode == "P" else PIL.Image.getmodebands(head.mode),
    bits={"I": 16, "F": 32}.get(head.mode[0], 8),
    halved=head.halved,
    turned=head.orientation != 1,
  )


def _picture(image) -> Picture:
  if image.dtype == np.uint8:
    table = _histograms(image)  # [c, 256]
    grey = np.arange(256.0)
    pixels = table.sum(axis=1)
    mean, square = table @ grey / pixels, table @ grey**2 / pixels
    histogram, shades = table.sum(axis=0), np.count_nonzero(table[0])
  else:
    flat = image.reshape(-1, image.shape[-1]).astype(np.float64)
    mean, square = flat.mean(axis=0), (flat**2).mean(axis=0)
    whole = np.clip(flat, 0, 255).astype(np.uint8)
    histogram = np.bincount(whole.ravel(), minlength=256)
    shades = len(np.unique(flat[:, 0]))
  return Picture(
    size=image.shape[:2],
    mean=mean,
    square=square,
    histogram=histogram.astype(np.int64),
    shades=int(shades),
    deep=image.dtype != np.uint8,
    print=fingerprints.fingerprint(image),
  )


def _histograms(image) -> Integer[np.ndarray, "c 256"]:
  """Returns how often each value occurs in each channel."""
  channels = image.shape[-1]
  if channels in (3, 4):
    # Three times as fast as NumPy's.
    table = PIL.Image.fromarray(np.ascontiguousarray(image)).histogram()
    return np.asarray(table, np.int64).reshape(channels, 256)
  return np.stack(
    [
      np.bincount(image[..., channel].ravel(), minlength=256)
      for channel in range(channels)
    ]
  )


def finding(
  code: str,
  severity: str,
  message: str,
  remedy: str,
  looks: Sequence[Look],
  *,
  part: str,
) -> findings.Finding:
  """Returns what was found in the files that were looked at.

  Args:
    code: see `findings.Finding`; so for the next three.
    severity: of the finding.
    message: of the finding.
    remedy: of the finding.
    looks: at the examples, those that show it best first.
    part: whose files are named: "image" or "mask".
  """
  return findings.Finding(
    code=code,
    severity=severity,
    message=message,
    remedy=remedy,
    files=tuple(file(look, part) for look in looks),
    examples=tuple(look.index for look in looks[:4]),
  )


def file(look: Look, part: str) -> str:
  """Returns the name of an example's "image" or "mask" file."""
  return look.image_file if part == "image" else look.mask_file
