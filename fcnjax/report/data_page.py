"""One self-contained page of a data set: what is wrong, and how it looks.

Findings come first, each with its remedy and pictures of the worst examples;
then, for each split, its classes, grey values and some examples. The page has
everything inside and can be sent by mail.
"""

import base64
from collections.abc import Iterable, Sequence
import html
import io
from typing import Any

import numpy as np
import PIL.Image

from fcnjax import errors, typing
from fcnjax.data import findings, labels as labels_lib
from fcnjax.data.checking import diagnosis as diagnosis_lib, set_checks
from fcnjax.report import overlays, style

TITLE = "fcnjax check-data"  # by which the page is known again
_EXAMPLES = 8  # pictures of each split
_WIDTH = 320  # pixels of a picture
_FILES = 200  # that are named of a finding; check.json has all
_WRONG = (255, 0, 255)  # the colour of values that may not occur


def document(diagnosis: diagnosis_lib.Diagnosis) -> str:
  """Returns the page.

  Args:
    diagnosis: what was found; its sources are asked for the examples that the
      page shows.

  Returns:
    HTML without any reference to another file.
  """
  images = sum(split.report.total for split in diagnosis.splits)
  summary = diagnosis_lib.counts(diagnosis)
  tiles = [(f"{images:,}", "images")] + [
    (f"{split.report.total:,}", f"in {split.name}")
    for split in diagnosis.splits
  ]
  body = "".join(
    (
      "<h1>Data</h1>",
      f'<p class="quiet">{html.escape(summary[0].upper() + summary[1:])}.</p>',
      _tiles(tiles),
      _findings(diagnosis),
      *(_split(split) for split in diagnosis.splits),
    )
  )
  return style.document(title=TITLE, body=body)


def _tiles(tiles: Iterable[tuple[str, str]]) -> str:
  shown = "".join(
    f'<div class="tile"><b>{html.escape(value)}</b>{html.escape(name)}</div>'
    for value, name in tiles
  )
  return f'<div class="tiles">{shown}</div>'


def _findings(diagnosis: diagnosis_lib.Diagnosis) -> str:
  if not diagnosis.findings:
    return ""
  sources = {split.name: split.source for split in diagnosis.splits}
  return "<h2>Findings</h2>" + "".join(
    _finding(finding, sources) for finding in diagnosis.findings
  )


def _finding(finding: findings.Finding, sources: dict[str, Any]) -> str:
  where = f" · {', '.join(finding.splits)}" if finding.splits else ""
  head = f"{finding.severity} · {finding.code}{where}"
  remedy = f"<br><b>{html.escape(finding.remedy)}</b>" if finding.remedy else ""
  source = sources.get(finding.splits[0]) if finding.splits else None
  pictures = _pictures(source, finding.examples) if source is not None else ""
  return (
    f'<section class="finding {finding.severity}">'
    f'<p class="quiet">{html.escape(head)}</p>'
    f"<p>{html.escape(finding.message)}{remedy}</p>"
    f"{pictures}{_files(finding.files)}</section>"
  )


def _files(files: Sequence[str]) -> str:
  if len(files) < 2:
    return ""
  shown = "\n".join(files[:_FILES])
  if len(files) > _FILES:
    shown += f"\n… and {len(files) - _FILES} more, in check.json"
  return (
    f"<details><summary>{len(files)} files</summary>"
    f"<pre>{html.escape(shown)}</pre></details>"
  )


def _split(split: diagnosis_lib.Split) -> str:
  report = split.report
  kinds = set_checks.kinds(split.looks)
  step = max(1, report.total // _EXAMPLES)
  places = [look.index for look in split.looks][::step][:_EXAMPLES]
  statistics = set_checks.statistics(split.looks)
  words = f"{labels_lib.counted(report.total, 'image')}, {kinds}."
  if statistics:
    mean, std = (
      ", ".join(f"{value:.1f}" for value in values) for values in statistics
    )
    words += f" Mean {mean}; standard deviation {std}."
  return (
    f"<h2>{html.escape(split.name)}</h2>"
    f'<p class="quiet">{html.escape(words)}</p>'
    f"{_classes(split)}{_histogram(split)}{_pictures(split.source, places)}"
  )


def _classes(split: diagnosis_lib.Split) -> str:
  """The table of the classes, which is also the legend of the pictures."""
  report = split.report
  lines = []
  rows = [
    (f"{label} {name}", split.source.colors[label], label)
    for label, name in enumerate(report.classes)
  ]
  for name, color, label in [*rows, ("255 ignored", None, typing.IGNORE)]:
    ignored = label == typing.IGNORE
    pixels = report.ignored if ignored else int(report.pixels[label])
    share = pixels / report.known
    red, green, blue = (255, 255, 255) if color is None else map(int, color)
    swatch = f'<i style="background:rgb({red},{green},{blue})"></i>'
    values = [str(v) for v, count in report.raw.items() if count.label == label]
    cells = (
      f"<td>{100 * share:.3f} %"
      f'<s style="width:{100 * share:.1f}%"></s></td>'
      f"<td>{'' if ignored else report.images[label]}</td>"
      f"<td>{'' if ignored else f'{report.weights[label]:.3f}'}</td>"
      f"<td>{html.escape(_cut(' '.join(values)))}</td>"
    )
    lines.append(f"<tr><td>{swatch}{html.escape(name)}</td>{cells}</tr>")
  wrong = [str(v) for v, count in report.raw.items() if count.label < 0]
  note = (
    f'<p class="quiet">Values that are no class, in magenta:'
    f" {html.escape(_cut(' '.join(wrong)))}</p>"
    if wrong
    else ""
  )
  return (
    '<div class="wide"><table><tr><th>class</th><th>of the pixels</th>'
    "<th>images</th><th>median-frequency weight</th><th>values in files</th>"
    f"</tr>{''.join(lines)}</table></div>{note}"
  )


def _histogram(split: diagnosis_lib.Split) -> str:
  """The grey values of all images, drawn as an area."""
  counts = diagnosis_lib.histogram(split).astype(np.float64)
  if not counts.any():
    return ""
  # A few saturated values would press the rest flat.
  top = max(np.sort(counts)[-4], counts.max() / 8)
  heights = np.minimum(counts / top, 1.0)
  points = " ".join(
    f"{place},{100 - 98 * height:.1f}"
    for place, height in enumerate(heights.tolist())
  )
  return (
    '<figure><svg class="histogram" viewBox="0 0 255 100"'
    ' preserveAspectRatio="none" role="img"'
    ' aria-label="histogram of grey values">'
    f'<polygon points="0,100 {points} 255,100"/></svg>'
    "<figcaption>Grey values 0 to 255 of all images and channels</figcaption>"
    "</figure>"
  )


def _pictures(source: Any, places: Sequence[int]) -> str:
  """Examples as overlays, of those that can be read."""
  shown = []
  for place in places:
    file = html.escape(source.label_file(place))
    try:
      jpeg = _jpeg(_overlay(source, place))
    except errors.InputError:
      continue  # It is among the findings.
    shown.append(
      f'<figure><img alt="{file}" loading="lazy" src="data:image/jpeg;base64,'
      f'{base64.b64encode(jpeg).decode()}"><figcaption>{file}</figcaption>'
      "</figure>"
    )
  return f'<div class="thumbs">{"".join(shown)}</div>' if shown else ""


def _overlay(source: Any, place: int) -> np.ndarray:
  """Returns the image beside its mask's colours, RGB."""
  image = overlays.rgb(source.image(place))
  image = _shrunk(image)
  try:
    labels = source.table.look_up(source.raw_label(place))
  except errors.InputError:
    return image
  # Wrong values have a class of their own behind the others.
  k = len(source.classes)
  labels = np.where(labels < 0, k, labels)
  labels = overlays.nearest(labels.astype(np.int64), image.shape[:2])
  colors = (*source.colors[:k], _WRONG)
  return np.concatenate(
    [image, overlays.overlay(image, labels, colors, 0.7)], 1
  )


def _shrunk(image: np.ndarray) -> np.ndarray:
  picture = PIL.Image.fromarray(np.ascontiguousarray(image))
  picture.thumbnail((_WIDTH, 2 * _WIDTH))
  return np.asarray(picture)


def _jpeg(pixels: np.ndarray) -> bytes:
  jpeg = io.BytesIO()
  PIL.Image.fromarray(pixels).save(jpeg, "JPEG", quality=82)
  return jpeg.getvalue()


def _cut(words: str, most: int = 40) -> str:
  return words if len(words) <= most else f"{words[: most - 1]}…"
