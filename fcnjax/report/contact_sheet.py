"""Pictures with their classes painted over them, many on one sheet."""

from collections.abc import Sequence
import dataclasses
import math

from jaxtyping import Bool, Integer, Real, UInt8
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from fcnjax.report import overlays

_PAPER, _INK, _QUIET = (255, 255, 255), (31, 41, 55), (107, 114, 128)
_TINT = 0.45  # of the image, by the colours of the classes
_HATCH = (150, 150, 150), (205, 205, 205)
_CELL = 256  # pixels a picture has at most along both sides
_GAP, _MARGIN = 12, 24
_TITLE, _TEXT = 20, 14  # font sizes in pixels
_LINE = 20  # from one line of text to the next


@dataclasses.dataclass(frozen=True)
class Picture:
  """One of the pictures of a sheet.

  Attributes:
    image: numbers in [0, 255], [h, w, c].
    label: classes in [0, k) or 255, [h, w]; smaller than the image, it lies in
      its middle; None = the image alone is shown.
    caption: what stands below it.
  """

  image: Real[np.ndarray, "h w c"]
  label: Integer[np.ndarray, "h2 w2"] | None
  caption: str


@dataclasses.dataclass(frozen=True)
class Row:
  """Pictures side by side, and what stands above them."""

  name: str
  pictures: Sequence[Picture]


def draw(
  rows: Sequence[Row],
  *,
  title: str,
  classes: Sequence[str],
  colors: Sequence[Sequence[int]],
) -> UInt8[np.ndarray, "h w 3"]:
  """Draws a sheet: a title, the rows, and a legend of the classes.

  Every picture is scaled so that it just fits a square of 256 pixels. Classes
  are painted over it, with a line where they meet; what is ignored (255, or any
  other number that is no class) is hatched in grey. Where a label is smaller
  than its image, a white frame shows what it covers.

  Args:
    rows: at least one.
    title: above all.
    classes: k names.
    colors: k RGB triples in [0, 255].

  Returns:
    RGB in [0, 255].
  """
  columns = max(len(row.pictures) for row in rows)
  cells = [[_painted(p, colors) for p in row.pictures] for row in rows]
  width = 2 * _MARGIN + columns * _CELL + (columns - 1) * _GAP
  heights = [max(c.shape[0] for c in row) + 2 * _LINE + _GAP for row in cells]
  legend = _legend(rows, classes)
  across = max(1, (width - 2 * _MARGIN) // _legend_width(legend))
  down = math.ceil(len(legend) / across)
  top = _MARGIN + 2 * _LINE
  height = top + sum(heights) + down * _LINE + _MARGIN

  sheet = PIL.Image.new("RGB", (width, height), _PAPER)
  pen = PIL.ImageDraw.Draw(sheet)
  room = width - 2 * _MARGIN
  _write(pen, (_MARGIN, _MARGIN - 4), title, room, _TITLE)
  y = top
  for row, painted, taken in zip(rows, cells, heights):
    _write(pen, (_MARGIN, y), row.name, room)
    for i, (picture, cell) in enumerate(zip(row.pictures, painted)):
      x = _MARGIN + i * (_CELL + _GAP)
      sheet.paste(PIL.Image.fromarray(cell), (x, y + _LINE + 2))
      below = y + _LINE + cell.shape[0] + 5
      _write(pen, (x, below), picture.caption, _CELL, color=_QUIET)
    y += taken
  for i, (name, color, shown) in enumerate(legend):
    column, line = divmod(i, down)
    x, top = _MARGIN + column * (room // across), y + line * _LINE + 4
    swatch = PIL.Image.fromarray(
      _hatch((14, 14))
      if color is None
      else np.full((14, 14, 3), colors[color], np.uint8)
    )
    sheet.paste(swatch, (x, top))
    pen.rectangle((x, top, x + 13, top + 13), outline=_QUIET)
    ink = _INK if shown else _QUIET
    _write(pen, (x + 20, top - 2), name, room // across - 26, color=ink)
  return np.asarray(sheet)


def _painted(
  picture: Picture, colors: Sequence[Sequence[int]]
) -> UInt8[np.ndarray, "h w 3"]:
  """Returns the picture as it stands on the sheet."""
  image = overlays.rgb(picture.image)
  height, width = image.shape[:2]
  scale = _CELL / max(height, width)
  size = tuple(max(1, round(side * scale)) for side in (height, width))
  # Small images are shown with their pixels, large ones are averaged.
  way = PIL.Image.Resampling.NEAREST if scale >= 1 else PIL.Image.Resampling.BOX
  image = np.array(PIL.Image.fromarray(image).resize(size[::-1], way))
  if picture.label is None:
    return image
  label = picture.label
  beside = [(a - b) // 2 for a, b in zip((height, width), label.shape)]
  first = [round(b * scale) for b in beside]
  last = [
    max(f + 1, round((b + side) * scale))
    for f, b, side in zip(first, beside, label.shape)
  ]
  label = overlays.nearest(label, (last[0] - first[0], last[1] - first[1]))
  inner = image[first[0] : last[0], first[1] : last[1]]
  painted = overlays.overlay(inner, label, colors, _TINT)
  known = (label >= 0) & (label < len(colors))
  mixed = 0.35 * inner + 0.65 * _hatch(label.shape)
  painted = np.where(known[..., None], painted, mixed).astype(np.uint8)
  painted[_edges(label, known)] = 255
  image[first[0] : last[0], first[1] : last[1]] = painted
  if any(first):
    y, x = max(0, first[0] - 1), max(0, first[1] - 1)
    image[y : last[0] + 1, [x, min(last[1], size[1] - 1)]] = 255
    image[[y, min(last[0], size[0] - 1)], x : last[1] + 1] = 255
  return image


def _edges(
  label: Integer[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
  """Returns where a class has another one below or to the right.

  The hatch around what is ignored is line enough.
  """
  edges = np.zeros(label.shape, bool)
  edges[:-1] |= (label[:-1] != label[1:]) & known[:-1] & known[1:]
  edges[:, :-1] |= (
    (label[:, :-1] != label[:, 1:]) & known[:, :-1] & known[:, 1:]
  )
  return edges


def _hatch(size: Sequence[int]) -> UInt8[np.ndarray, "h w 3"]:
  """Returns slanted stripes of two greys."""
  y, x = np.indices(tuple(size))
  return np.array(_HATCH, np.uint8)[(x + y) // 4 % 2]


def _legend(
  rows: Sequence[Row], classes: Sequence[str]
) -> list[tuple[str, int | None, bool]]:
  """Returns name, colour's number (None = hatched) and whether it is shown.

  Of more than 40 classes only those that are shown are listed.
  """
  labels = [p.label for r in rows for p in r.pictures if p.label is not None]
  shown = set(np.concatenate([np.unique(label) for label in labels]))
  listed = [
    (name, i, i in shown)
    for i, name in enumerate(classes)
    if len(classes) <= 40 or i in shown
  ]
  ignored = any(not 0 <= value < len(classes) for value in shown)
  return [*listed, ("ignored", None, ignored)]


def _legend_width(legend: Sequence[tuple[str, int | None, bool]]) -> int:
  """Returns the pixels that the longest entry takes, at most a cell."""
  font = _font(_TEXT)
  longest = max(font.getlength(_plain(name)) for name, _, _ in legend)
  return min(_CELL, math.ceil(longest) + 44)


def _write(pen, place, text, room, size=_TEXT, color=_INK) -> None:
  """Writes a line, shortened in the middle to so many pixels."""
  font, text = _font(size), _plain(text)
  short, kept = text, len(text)
  while font.getlength(short) > room and kept > 2:
    kept -= 1
    short = f"{text[: kept // 2]}...{text[len(text) - (kept + 1) // 2 :]}"
  pen.text(place, short, font=font, fill=color)


def _plain(text: str) -> str:
  """Returns one line of characters that the font has (Latin ones)."""
  return "".join(c if " " <= c < "\u0180" else "?" for c in text)


def _font(size: int) -> PIL.ImageFont.FreeTypeFont:
  """Returns Pillow's own font: the same on all machines."""
  return PIL.ImageFont.load_default(size)
