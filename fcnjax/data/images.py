"""Reading images and masks of any kind, and writing indexed masks.

Images become RGB or grey arrays in [0, 255]; masks keep the numbers that are
in the file. The EXIF orientation is applied to images and masks alike, because
annotation tools show, and hence label, the turned picture. Whatever is wrong
with a file is one `InputError` that names it.
"""

from collections.abc import Iterator, Sequence
import contextlib
import pathlib
import struct
from typing import NamedTuple

from jaxtyping import Float, UInt8, UInt16
import numpy as np
import PIL.Image

from fcnjax import errors

EXTENSIONS = frozenset(
  {
    ".bmp",
    ".gif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
  }
)

# EXIF 2.3, tag 0x0112: how the stored picture is turned back for viewing.
_ORIENTATION = 0x0112
_TURNS = {
  2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
  3: PIL.Image.Transpose.ROTATE_180,
  4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
  5: PIL.Image.Transpose.TRANSPOSE,
  6: PIL.Image.Transpose.ROTATE_270,
  7: PIL.Image.Transpose.TRANSVERSE,
  8: PIL.Image.Transpose.ROTATE_90,
}
_GREY = ("1", "L", "LA", "La")
VOID = (224, 224, 192)  # VOC's colour of 255


class NoColourTable(errors.InputError):
  """A colour mask, and nobody said which colour is which class."""


class UnknownColour(errors.InputError):
  """A colour mask with a colour that is no class's."""


def read_image(
  path: str | pathlib.Path, *, channels: int | None = 3
) -> UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]:
  """Reads an image of any mode.

  Palettes are looked up, transparency is dropped (the colours below it are
  kept), CMYK and the like become RGB, 1 bit becomes 0 and 255.

  Args:
    path: an image file.
    channels: 3 (RGB; grey is repeated), 1 (grey; RGB becomes its luminance,
      ITU-R 601), 4 (RGB and transparency, kept as a channel), or None: 1 for
      grey files and 3 for all others.

  Returns:
    uint8 in [0, 255]; or float32 in [0, 255] where the file has 16 bits
    (65535 becomes 255) or floating-point pixels (taken as they are). Of colour
    PNGs of 16 bits the upper 8 are read. The array may be read-only.

  Raises:
    InputError: if the file is missing, damaged or no image, or `channels` is
      none of the above.
  """
  if channels not in (None, 1, 3, 4):
    raise errors.InputError(
      f"image files have 1, 3 or 4 channels, got {channels} (data.channels)."
    )
  with _opened(path) as image:
    if image.mode.startswith(("I", "F")):
      return _deep(image, path, channels)
    if channels is None:
      channels = 1 if image.mode in _GREY else 3
    if image.mode in ("P", "PA"):  # may hold transparency of its own
      image = image.convert("RGBA")
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    if image.mode != mode:  # Otherwise it would be copied.
      image = image.convert(mode)
    # Not np.array, which takes four times as long to copy what is ours anyhow.
    return np.asarray(image).reshape(image.height, image.width, channels)


def read_mask(
  path: str | pathlib.Path,
  *,
  colors: Sequence[Sequence[int]] | None = None,
) -> UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]:
  """Reads the numbers of a mask, without any mapping.

  Grey and palette files hold the numbers themselves; 1 bit is 0 and 1. Colour
  files whose three channels agree everywhere count as grey.

  Args:
    path: an image file.
    colors: RGB triples in [0, 255]; the position in the list is the number.
      Needed for colour masks, not used for others.

  Returns:
    The numbers in the file; uint16 only where one exceeds 255. The array may
    be read-only.

  Raises:
    InputError: if the file is missing, damaged or no image, or has a colour
      that is not in `colors`.
  """
  with _opened(path) as image:
    if image.mode in ("1", "L", "P"):
      return np.asarray(image).astype(np.uint8, copy=False)
    if image.mode in ("LA", "PA", "La"):
      return np.array(image)[..., 0]
    if image.mode.startswith(("I", "F")):
      return _whole_numbers(np.array(image), path)
    pixels = np.asarray(image.convert("RGB")).astype(np.int32)
  if colors is None:
    if (pixels == pixels[..., :1]).all():
      return pixels[..., 0].astype(np.uint8)
    raise NoColourTable(
      f"{path} is a colour mask; say which colour is which class"
      " (--config.data.colors=((r,g,b),...) in the order of the classes), or"
      " save the masks as indexed or grey PNG. If it is a photograph,"
      " data.masks is the wrong folder."
    )
  return _look_up(pixels, np.asarray(colors, np.int32), path)


def size(path: str | pathlib.Path) -> tuple[int, int]:
  """Returns height and width in pixels as they are read; decodes nothing.

  Raises:
    InputError: if the file is missing or no image.
  """
  return head(path).size


class Head(NamedTuple):
  """What a file says before its pixels.

  Attributes:
    format: Pillow's name of it, such as "PNG".
    mode: Pillow's name of the kind of pixels, such as "RGB".
    size: height and width in pixels as they are read, after turning.
    orientation: EXIF's, in [1, 8]; 1 = as stored.
    halved: whether it has 16 bits a channel, of which Pillow reads the upper 8:
      PNGs in colour.
  """

  format: str
  mode: str
  size: tuple[int, int]
  orientation: int
  halved: bool


def head(path: str | pathlib.Path) -> Head:
  """Returns what stands before the pixels; decodes nothing.

  Raises:
    InputError: if the file is missing or no image.
  """
  with _translated(path), PIL.Image.open(path) as image:
    width, height = image.size
    orientation = _orientation(image)
    size = (width, height) if orientation > 4 else (height, width)
    stored = str(image.tile[0][3]) if image.tile else ""
    halved = "16" in stored and image.mode[0] not in "IF"
    return Head(image.format or "", image.mode, size, orientation, halved)


def damage(path: str | pathlib.Path) -> str | None:
  """Says how a file is damaged.

  Returns:
    "missing", "empty", "broken" (no image, or its head is broken), "truncated"
    (its pixels cannot be decoded to the end), or None: it can be decoded.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    return "missing"
  if path.stat().st_size == 0:
    return "empty"
  try:
    head(path)
  except errors.InputError:
    return "broken"
  try:
    with _opened(path):
      return None
  except errors.InputError:
    return "truncated"


def write_index_png(
  path: str | pathlib.Path,
  labels: UInt8[np.ndarray, "h w"],
  colors: Sequence[Sequence[int]],
) -> None:
  """Writes labels as an indexed PNG: numbers for tools, colours for people.

  Args:
    path: where to; an existing file is replaced.
    labels: any values in [0, 255].
    colors: RGB triples in [0, 255], position = label. Labels beyond are black
      but for 255, which is shown in VOC's pale yellow unless it is given.

  Raises:
    InputError: if the file cannot be written.
  """
  table = np.zeros((256, 3), np.uint8)
  table[255] = VOID
  table[: len(colors)] = colors
  image = PIL.Image.fromarray(labels)  # mode L
  image.putpalette(table.tobytes())
  try:
    image.save(path, format="PNG")
  except OSError as error:
    raise errors.InputError(
      f"cannot write {path}: {error.strerror or error}."
    ) from error


def palette(count: int) -> tuple[tuple[int, int, int], ...]:
  """Returns the first colours of PASCAL VOC's palette, black first.

  Bit i of a class number goes to the highest free bit of red, green or blue
  in turn, so near numbers have far colours.
  """
  colors = []
  for number in range(count):
    red = green = blue = 0
    for bit in range(7, -1, -1):
      red |= (number & 1) << bit
      green |= (number >> 1 & 1) << bit
      blue |= (number >> 2 & 1) << bit
      number >>= 3
    colors.append((red, green, blue))
  return tuple(colors)


def class_colors(
  colors: Sequence[Sequence[int]], num_classes: int
) -> tuple[tuple[int, int, int], ...]:
  """Returns one RGB triple a class: the first given ones, or else VOC's.

  Raises:
    InputError: if too few are given, or one is no triple in [0, 255].
  """
  if colors and len(colors) < num_classes:
    raise errors.InputError(
      f"data.colors has {len(colors)} colours for {num_classes} classes; give"
      " one a class."
    )
  for color in colors:
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
      raise errors.InputError(
        f"data.colors holds {tuple(color)}; expected (red, green, blue), each"
        " in [0, 255]."
      )
  chosen = [tuple(map(int, color)) for color in colors[:num_classes]]
  return tuple(chosen) or palette(num_classes)


@contextlib.contextmanager
def _opened(path: str | pathlib.Path) -> Iterator[PIL.Image.Image]:
  """Opens and decodes an image, turned as its EXIF data say."""
  with _translated(path), PIL.Image.open(path) as image:
    orientation = _orientation(image)
    image.load()  # some formats settle their mode only here
    turn = _TURNS.get(orientation)
    yield image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def _translated(path: str | pathlib.Path) -> Iterator[None]:
  """Turns what a decoder may raise into one line that names the file."""
  try:
    yield
  except errors.InputError:
    raise
  except FileNotFoundError as error:
    raise errors.InputError(f"{path} does not exist.") from error
  except PIL.UnidentifiedImageError as error:
    empty = pathlib.Path(path).stat().st_size == 0
    what = "is an empty file" if empty else "is no image, or its head is broken"
    raise errors.InputError(
      f"{path} {what}; remove it or replace it by an image."
    ) from error
  except PIL.Image.DecompressionBombError as error:
    raise errors.InputError(
      f"{path} is too large to decode ({error}); cut it into parts."
    ) from error
  except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
    reason = " ".join(str(error).split()).rstrip(".")
    raise errors.InputError(
      f"{path} cannot be read: {reason}; the file is probably damaged, copy or"
      " export it again."
    ) from error


def _orientation(image: PIL.Image.Image) -> int:
  """Returns the EXIF orientation in [1, 8]; 1 = as stored.

  The base class's method reads what stands before the pixels; the PNG class's
  own would decode the picture to look for more behind them.
  """
  return PIL.Image.Image.getexif(image).get(_ORIENTATION, 1)


def _deep(image, path, channels):
  """Returns the pixels of a one-channel file of 16 bits or floats."""
  pixels = np.array(image)
  if image.mode.startswith("I"):
    pixels = _whole_numbers(pixels, path) / np.float32(257)
  elif not (
    np.isfinite(pixels).all() and 0 <= pixels.min() <= 255 >= pixels.max()
  ):
    raise errors.InputError(
      f"{path} has floating-point pixels outside [0, 255]; save it with 8 or"
      " 16 bits."
    )
  pixels = pixels.astype(np.float32)[..., None]
  if channels == 4:
    opaque = np.full_like(pixels, 255)
    return np.concatenate([pixels, pixels, pixels, opaque], -1)
  return np.repeat(pixels, channels or 1, axis=-1)


def _whole_numbers(pixels, path):
  """Returns pixels of a deep file as uint8 or, where needed, as uint16."""
  low, high = pixels.min(), pixels.max()
  if not (low >= 0 and high < 65536 and (pixels % 1 == 0).all()):
    raise errors.InputError(
      f"{path} has pixels from {low} to {high}; expected whole numbers in"
      " [0, 65535], save it with 8 or 16 bits."
    )
  return pixels.astype(np.uint8 if high < 256 else np.uint16)


def _look_up(pixels, colors, path):
  """Returns the position of every pixel's colour in the table."""
  weights = np.asarray([65536, 256, 1], np.int32)
  table, codes = colors @ weights, pixels @ weights
  order = np.argsort(table, kind="stable")
  found = np.searchsorted(table[order], codes).clip(max=len(table) - 1)
  unknown = table[order][found] != codes
  if unknown.any():
    values, counts = np.unique(codes[unknown], return_counts=True)
    code, count = int(values[counts.argmax()]), int(counts.max())
    more = f" and {len(values) - 1} other unknown colours" * (len(values) > 1)
    raise UnknownColour(
      f"{path} has {count} pixels of colour"
      f" {(code >> 16, code >> 8 & 255, code & 255)}{more}, not in the table of"
      f" {len(table)} colours (data.colors); add the colour, or save the masks"
      " without smoothing or lossy compression."
    )
  return order[found].astype(np.uint8 if len(table) <= 256 else np.uint16)
