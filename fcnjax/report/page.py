"""One self-contained page a run: what was trained, how it went, how it looks.

Everything is read from the workdir and anything may be missing; the page has
its images inside, needs no network, and can be sent by mail.
"""

import base64
from collections.abc import Mapping, Sequence
import contextlib
import html
import io
import json
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from fcnjax import errors
from fcnjax.metrics import confusion
from fcnjax.report import colours, figures, style

FILE = "report/index.html"  # in the workdir
_METRICS = {
  "mean_iou": "mean IoU",
  "pixel_accuracy": "pixel accuracy",
  "mean_accuracy": "mean accuracy",
  "frequency_weighted_iou": "frequency-weighted IoU",
  "boundary_f1": "boundary F1",
}
_OVERLAYS = 24  # Pictures on the page; the last ones by name.
_OVERLAY_WIDTH = 1440  # Pixels; wider pictures are scaled down.


def write(workdir: str | os.PathLike) -> pathlib.Path:
  """Writes report/index.html from what a run left in its workdir.

  Args:
    workdir: holds, each if there: `config.json`; `metrics.jsonl`, an object a
      line with `step`, `split` and figures; `evaluation.json`, what
      `confusion.record()` returns with, optionally, `classes` (names),
      `colors`, `split`, `step`, `images`, `boundary_f1` and `confusion_matrix`;
      and `overlays/*.png`.

  Returns:
    The path of the page.

  Raises:
    InputError: if the workdir does not exist or cannot be written to.
    OSError: if the disk is full; an earlier page is as it was.
  """
  root = pathlib.Path(workdir)
  if not root.is_dir():
    raise errors.InputError(
      f"no workdir at {root}; give the folder that a training run wrote."
    )
  config = _json(root / "config.json")
  evaluation = _json(root / "evaluation.json")
  rows = _rows(root / "metrics.jsonl")
  title = _title(root, config)
  body = "".join(
    (
      f"<h1>{html.escape(title)}</h1>{_subtitle(rows, evaluation)}",
      _tiles(rows, evaluation),
      _curves(rows),
      _classes(config, evaluation),
      _overlays(root / "overlays"),
      _config(config),
    )
  )
  target = root / FILE
  partial = target.with_name(f".index-{os.getpid()}")
  try:
    target.parent.mkdir(exist_ok=True)
    partial.write_text(style.document(title=title, body=body), encoding="utf-8")
    partial.replace(target)
  except OSError as error:
    with contextlib.suppress(OSError):
      partial.unlink()
    if error.errno in errors.FULL:
      raise
    raise errors.InputError(
      f"cannot write {target}: {error.strerror}; make the workdir writable."
    ) from error
  return target


def _json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a file; empty if it is missing, broken or no object."""
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError):
    return {}
  return content if isinstance(content, dict) else {}


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """The objects of a file, one a line; a broken line (a kill) is left out."""
  rows = []
  try:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
  except OSError:
    return []
  for line in lines:
    try:
      row = json.loads(line)
    except (ValueError, RecursionError):
      continue
    if isinstance(row, dict):
      rows.append(row)
  return rows


def _title(root: pathlib.Path, config: Mapping[str, Any]) -> str:
  model = config.get("model")
  name = model.get("name") if isinstance(model, dict) else None
  return f"{name or 'run'} · {root.resolve().name}"


def _subtitle(rows: Sequence[Mapping], evaluation: Mapping[str, Any]) -> str:
  words = []
  steps = [r["step"] for r in rows if isinstance(r.get("step"), (int, float))]
  if steps:
    words.append(f"{max(steps):,.0f} steps")
  if evaluation:
    what = f"evaluated on {evaluation.get('split', 'the validation split')}"
    if evaluation.get("images") is not None:
      what += f", {evaluation['images']} images"
    if evaluation.get("step") is not None:
      what += f", at step {evaluation['step']}"
    words.append(what)
  if not words:
    words.append("Nothing has been measured yet: no metrics.jsonl.")
  return f'<p class="quiet">{html.escape(" · ".join(words))}</p>'


def _tiles(rows: Sequence[Mapping], evaluation: Mapping[str, Any]) -> str:
  """The headline figures: of the evaluation, else of the last measured row."""
  source = evaluation
  if not any(key in source for key in _METRICS):
    measured = [row for row in rows if any(key in row for key in _METRICS)]
    source = measured[-1] if measured else {}
  tiles = [
    f'<div class="tile"><b>{_percent(source[key])}</b>{name}</div>'
    for key, name in _METRICS.items()
    if key in source
  ]
  return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _curves(rows: Sequence[Mapping]) -> str:
  pictures = [
    ("loss", figures.curves(rows, figures=("loss",), title="loss")),
    (
      "scores",
      figures.curves(rows, figures=tuple(_METRICS), title="scores"),
    ),
  ]
  images = [
    f'<img alt="{name} over the steps" src="{_data(png, "png")}">'
    for name, png in pictures
    if png
  ]
  if not images:
    return ""
  return f'<h2>Curves</h2><div class="pair">{"".join(images)}</div>'


def _classes(config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
  """The per-class table, which is also the legend of the overlays."""
  iou = evaluation.get("iou")
  data = config.get("data")
  data = data if isinstance(data, dict) else {}
  names = evaluation.get("classes") or data.get("class_names") or ()
  k = len(iou) if isinstance(iou, list) else len(names)
  if not k:
    return ""
  if len(names) != k:
    names = [str(i) for i in range(k)]
  colors = evaluation.get("colors") or ()
  if len(colors) != k:
    colors = colours.palette(k)
  columns = {
    "iou": "IoU",
    "accuracy": "accuracy",
    "truth_share": "of truth",
    "prediction_share": "of pred.",
  }
  columns = {
    key: name
    for key, name in columns.items()
    if isinstance(evaluation.get(key), list) and len(evaluation[key]) == k
  }
  head = "".join(f"<th>{name}</th>" for name in columns.values())
  lines = []
  for i, name in enumerate(names):
    red, green, blue = (int(c) for c in colors[i])
    swatch = f'<i style="background:rgb({red},{green},{blue})"></i>'
    cells = "".join(_cell(evaluation[key][i]) for key in columns)
    lines.append(f"<tr><td>{swatch}{html.escape(str(name))}</td>{cells}</tr>")
  table = (
    f'<div class="wide"><table><tr><th>class</th>{head}</tr>'
    f"{''.join(lines)}</table></div>"
  )
  return (
    "<h2>Classes</h2>"
    + _warnings(evaluation, names)
    + table
    + _matrix(evaluation.get("confusion_matrix"), names)
  )


def _cell(value: int | float | None) -> str:
  if value is None or np.isnan(value):
    return '<td class="quiet">–</td>'
  bar = f'<s style="width:{100 * min(max(value, 0), 1):.1f}%"></s>'
  return f"<td>{_percent(value)}{bar}</td>"


def _warnings(evaluation: Mapping[str, Any], names: Sequence[str]) -> str:
  keys = ("iou", "truth_share", "prediction_share")
  if not all(isinstance(evaluation.get(key), list) for key in keys):
    return ""
  scores = {key: np.array(evaluation[key], np.float64) for key in keys}
  scores["absent"] = evaluation.get("absent") or []
  return "".join(
    f'<p class="warning">{html.escape(line)}</p>'
    for line in confusion.warnings(scores, [str(name) for name in names])
  )


def _matrix(matrix: Any, names: Sequence[str]) -> str:
  if not isinstance(matrix, list) or len(matrix) != len(names):
    return ""
  png = figures.confusion(
    np.array(matrix), [str(n) for n in names], title="% of the true class"
  )
  alt = "confusion matrix"
  return f'<img class="matrix" alt="{alt}" src="{_data(png, "png")}">'


def _overlays(folder: pathlib.Path) -> str:
  """Image, truth and prediction; as JPEG, to keep the page small."""
  items = []
  for path in sorted(folder.glob("*.png"))[-_OVERLAYS:]:
    try:
      with Image.open(path) as image:
        picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError):
      continue
    picture.thumbnail((_OVERLAY_WIDTH, _OVERLAY_WIDTH))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=88)
    name = html.escape(path.stem)
    items.append(
      f'<figure><img alt="{name}" loading="lazy"'
      f' src="{_data(jpeg.getvalue(), "jpeg")}">'
      f"<figcaption>{name}</figcaption></figure>"
    )
  if not items:
    return ""
  note = (
    '<p class="quiet">Image, truth and prediction, left to right, as of the'
    " last evaluation during training.</p>"
  )
  return f"<h2>Predictions</h2>{note}{''.join(items)}"


def _config(config: Mapping[str, Any]) -> str:
  if not config:
    return ""
  text = html.escape(json.dumps(config, indent=2))
  return (
    "<h2>Configuration</h2><details><summary>config.json</summary>"
    f"<pre>{text}</pre></details>"
  )


def _percent(value: Any) -> str:
  if not isinstance(value, (int, float)) or np.isnan(value):
    return "–"
  return f"{100 * value:.1f} %"


def _data(content: bytes, kind: str) -> str:
  return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
