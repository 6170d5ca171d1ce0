"""Writes docs/performance.md from the files of benchmarks/results/.

  python benchmarks/performance.py

Nothing is measured, and nothing is written that no file holds.
"""

from collections.abc import Iterable
import json
import math
import pathlib
from typing import Any

import sections

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"

# By the end of a file's name.
PLATFORMS = {
  "cpu_amd": "AMD CPU",
  "cpu_intel": "Intel CPU",
  "cpu": "another CPU",
  "gpu": "GPU",
}


def main() -> None:
  """Writes the page."""
  PAGE.write_text(page())
  print(PAGE)


def page(results: pathlib.Path = RESULTS) -> str:
  """Returns the page that belongs to a folder of results."""
  lines = [
    "# Performance",
    "",
    "Written by `python benchmarks/performance.py` from",
    "`benchmarks/results/*_{cpu_…,gpu}.json`. Times are medians of",
    "interleaved runs: each round has one of each, so that only what is in the",
    "same table should be compared.",
  ]
  for name, section in sections.SECTIONS.items():
    files = [(kind, results / f"{name}_{kind}.json") for kind in PLATFORMS]
    files = [(kind, path) for kind, path in files if path.exists()]
    if not files and name in ("models_all", "depthwise", "kernels"):
      continue
    lines += ["", f"## {section.title}", ""]
    if not files:
      script = section.script or f"{name}.py"
      lines += [f"No result of `benchmarks/{script}` has been recorded yet."]
      continue
    lines += [section.text]
    for kind, path in files:
      record = json.loads(path.read_text())
      lines += ["", f"### {section.title}: {PLATFORMS[kind]}", ""]
      rows = _with_shares(record)
      lines += [*_origin(record), "", *_table(section, rows)]
      lines += _means(section, rows)
    if not (results / f"{name}_gpu.json").exists():
      lines += ["", "GPU: open, no result has been recorded yet."]
  return "\n".join(lines) + "\n"


def _origin(record: dict[str, Any]) -> list[str]:
  """Returns device, versions, date, command and ceilings as a list."""
  versions = record.get("versions", {})
  found = [
    ("Device", record.get("device")),
    ("Versions", ", ".join(f"{k} {v}" for k, v in versions.items())),
    ("Date", record.get("date")),
    ("Command", f"`{record['command']}`" if "command" in record else None),
    ("Precision", record.get("precision")),
    ("Note", record.get("note")),
  ]
  for word, key in (
    ("Matrix rate", "matrix_rate"),
    ("Copy bandwidth", "copy_bandwidth"),
  ):
    if key in record:
      unit = "FLOP/s" if key == "matrix_rate" else "B/s"
      found.append((word, f"{_text(key, record[key] / 1e9)} G{unit}"))
  return [f"* {word}: {value}" for word, value in found if value]


def _with_shares(record: dict[str, Any]) -> list[dict[str, Any]]:
  """Returns the rows with their shares of what the device can do."""
  rows = [dict(row) for row in record.get("rows", [])]
  for row in rows:
    for share, value, ceiling in (
      ("rate_share", "rate", "matrix_rate"),
      ("bandwidth_share", "bandwidth", "copy_bandwidth"),
    ):
      if row.get(value) is not None and ceiling in record:
        row[share] = row[value] / record[ceiling]
  return rows


def _largest(
  section: sections.Section, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
  """Returns a row for those that are equal but in what is the largest's."""
  if not section.largest:
    return rows
  names = [
    key for _, key in section.columns if key not in (*section.largest, "count")
  ]
  groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
  for row in rows:
    groups.setdefault(tuple(row.get(key) for key in names), []).append(row)
  return [
    {
      **dict(zip(names, values)),
      **{key: max(row[key] for row in found) for key in section.largest},
      "count": len(found),
    }
    for values, found in groups.items()
  ]


def _table(section: sections.Section, rows: list[dict[str, Any]]) -> list[str]:
  rows = _largest(section, rows)
  columns = section.columns or _columns(rows)
  columns = [
    (head, key)
    for head, key in columns
    if any(row.get(key) is not None for row in rows)
  ]
  if not columns:
    return ["No rows."]
  lines = [_line(head for head, _ in columns), "|---" * len(columns) + "|"]
  for row in rows:
    lines.append(_line(_text(key, row.get(key)) for _, key in columns))
  return lines


def _columns(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
  """Returns what the rows hold besides lists and objects, in their order."""
  keys = {
    key: None
    for row in rows
    for key, value in row.items()
    if not isinstance(value, list | dict)
  }
  return [(key.replace("_", " "), key) for key in keys]


def _means(section: sections.Section, rows: list[dict[str, Any]]) -> list[str]:
  if section.mean is None:
    return []
  key, kind = section.mean
  values: dict[str, list[float]] = {}
  for row in rows:
    if row.get(key) and "note" not in row:
      values.setdefault(row.get(kind, ""), []).append(row[key])
  words = [
    f"{name} {math.exp(sum(map(math.log, found)) / len(found)):.2f}"
    for name, found in values.items()
  ]
  return ["", f"Geometric means: {', '.join(words)}."] if words else []


def _line(cells: Iterable[str]) -> str:
  return "| " + " | ".join(cells) + " |"


def _text(key: str, value: Any) -> str:
  """Returns a value as a cell has it."""
  if value is None:
    return ""
  if isinstance(value, list):
    return "×".join(map(str, value))
  if not isinstance(value, float):
    return str(value).replace("|", "\\|")
  if not math.isfinite(value):
    return str(value)
  if key.endswith("share"):
    return f"{value:.0%}"
  if "ratio" in key:
    return f"{value:.2f}"
  if key in ("difference", "losses", "gradient"):
    return f"{value:.0e}"
  digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
  return f"{value:.{digits}f}"


if __name__ == "__main__":
  main()
