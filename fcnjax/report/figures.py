"""Curves of a run and its confusion matrix, as PNG files in memory.

Figures are made without pyplot: nothing global, no window, any thread.
"""

from collections.abc import Iterable, Mapping, Sequence
import io
from typing import Any

from jaxtyping import Real
from matplotlib import figure
from matplotlib.backends import backend_agg
import numpy as np

_COLOURS = ("#2563a8", "#c2571a", "#2f855a", "#7a4fa3", "#8a6d1f", "#555555")
_GREY = "#6b7280"


def curves(
  rows: Iterable[Mapping[str, Any]],
  *,
  figures: Sequence[str],
  title: str = "",
  size: tuple[float, float] = (6.0, 3.6),
) -> bytes | None:
  """Draws figures of `metrics.jsonl` over the steps, a line per split and name.

  Args:
    rows: objects with `step`, `split` and figures; rows without a figure, and
      values that are not finite, are left out.
    figures: names of the figures to draw into one picture, such as ("loss",).
    title: what stands above.
    size: width and height in inches of 150 pixels.

  Returns:
    A PNG, or None if no row holds any of the figures.
  """
  lines = _lines(rows, figures)
  if not lines:
    return None
  picture, axes = _axes(size, title)
  splits = {split for split, _ in lines}
  for i, ((split, name), points) in enumerate(lines.items()):
    words = [split] if len(splits) > 1 or len(figures) == 1 else []
    words += (
      [name.replace("_", " ").replace("iou", "IoU")] if len(figures) > 1 else []
    )
    steps, values = zip(*sorted(points), strict=True)
    axes.plot(
      steps,
      values,
      label=" ".join(words),
      color=_COLOURS[i % len(_COLOURS)],
      linewidth=1.6,
      marker="o" if len(points) < 40 else None,
      markersize=3,
    )
  axes.set_xlabel("step", color=_GREY)
  axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
  axes.legend(frameon=False, fontsize=8)
  return _png(picture)


def confusion(
  matrix: Real[np.ndarray, "k k"],
  class_names: Sequence[str],
  *,
  title: str = "",
) -> bytes:
  """Draws a confusion matrix, each row as shares of the true class.

  Args:
    matrix: counts [k, k], rows the truth and columns the prediction.
    class_names: k names.
    title: what stands above.

  Returns:
    A PNG. Shares are written into the cells of up to 15 classes.
  """
  k = len(matrix)
  counts = np.asarray(matrix, np.float64)
  truth = counts.sum(axis=1, keepdims=True)
  share = np.divide(counts, truth, out=np.zeros_like(counts), where=truth > 0)
  side = min(max(3.6, 0.42 * k + 1.6), 12.0)
  picture, axes = _axes((side, side), title)
  axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
  font = 8 if k <= 25 else 5
  axes.set_xticks(range(k), class_names, rotation=90, fontsize=font)
  axes.set_yticks(range(k), class_names, fontsize=font)
  axes.set_xlabel("predicted", color=_GREY)
  axes.set_ylabel("true", color=_GREY)
  axes.tick_params(length=0)
  for i, j in np.argwhere(share >= 0.005) if k <= 15 else ():
    color = "white" if share[i, j] > 0.5 else "#1f2937"
    text = f"{100 * share[i, j]:.0f}"
    axes.text(j, i, text, ha="center", va="center", color=color, fontsize=7)
  return _png(picture)


def _lines(
  rows: Iterable[Mapping[str, Any]], figures: Sequence[str]
) -> dict[tuple[str, str], list[tuple[int | float, int | float]]]:
  """Points (step, value) by split and name, in the order of first sight."""
  lines: dict[tuple[str, str], list[tuple[int | float, int | float]]] = {}
  for row in rows:
    step = row.get("step")
    for name in figures:
      value = row.get(name)
      if _finite(step) and _finite(value):
        split = str(row.get("split", ""))
        lines.setdefault((split, name), []).append((step, value))
  return lines


def _finite(value: Any) -> bool:
  return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _axes(size: tuple[float, float], title: str):
  picture = figure.Figure(figsize=size, dpi=150, layout="constrained")
  axes = picture.add_subplot()
  if title:
    axes.set_title(title, fontsize=10, loc="left")
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(labelsize=8, colors=_GREY)
  return picture, axes


def _png(picture: figure.Figure) -> bytes:
  target = io.BytesIO()
  backend_agg.FigureCanvasAgg(picture).print_png(target)
  return target.getvalue()
