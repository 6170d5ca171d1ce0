"""A data set's diagnosis: all splits looked at, counted, compared.

`examine` reads everything once; `text` and `record` tell what was found, to
people and to programs, and `report.data_page` shows it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from fcnjax import errors
from fcnjax.data import findings as findings_lib, labels as labels_lib
from fcnjax.data.checking import census, checks, file_checks, leaks, set_checks

SCHEMA = 1  # of `record`; raised when a key changes its meaning
KEYS = {"schema", "summary", "findings", "splits"}  # of `record`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
  """One split that was looked at.

  Attributes:
    name: such as "train", "val", "test", or "train, set 1" of several.
    source: what was looked at.
    looks: see `census.take`.
    report: what its masks hold; `findings` of the masks only.
  """

  name: str
  source: Any
  looks: Sequence[census.Look]
  report: checks.Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
  """What was found.

  Attributes:
    splits: those that could be opened, the training split first.
    findings: each once, the worst first.
  """

  splits: tuple[Split, ...]
  findings: tuple[findings_lib.Finding, ...]


def examine(
  sources: Mapping[str, Any],
  *,
  words: set_checks.Words | None = None,
  told: Sequence[findings_lib.Finding] = (),
  training: Sequence[str] = ("train",),
  workers: int | None = None,
  progress: census.Progress = lambda looks, total: looks,
) -> Diagnosis:
  """Reads every file once and says all that is wrong.

  Args:
    sources: {split: source}.
    words: what the config says of the images.
    told: what was found while the sources were opened.
    training: the splits that are trained on, together. The others are compared
      with what of them is there; their classes must be the same.
    workers: threads; None = one a processor core.
    progress: shows how far it is.
  """
  splits = []
  for name, source in sources.items():
    looks = census.take(
      source, deep=True, workers=workers or census.cores(), progress=progress
    )
    report = checks.report(source, looks)
    splits.append(Split(name=name, source=source, looks=looks, report=report))
  trained = [split for split in splits if split.name in training]
  as_bytes = file_checks.trained_as_bytes([split.looks for split in trained])
  found = list(told)
  for split in splits:
    own = [
      *split.report.findings,
      *file_checks.compared(
        split.looks, as_bytes=as_bytes and split.name in training
      ),
      *file_checks.sizes(split.looks),
      *set_checks.of_split(split.report, split.looks),
    ]
    found += [dataclasses.replace(f, splits=(split.name,)) for f in own]
  if trained:
    found += _of_training(
      trained, [split for split in splits if split not in trained], words
    )
  return Diagnosis(
    splits=tuple(splits), findings=tuple(findings_lib.merged(found))
  )


def _of_training(
  trained: Sequence[Split], others: Sequence[Split], words
) -> list[findings_lib.Finding]:
  """Returns what is found in all that is trained on, and shared with it."""
  looks = [look for split in trained for look in split.looks]
  report = dataclasses.replace(
    trained[0].report, pixels=sum(split.report.pixels for split in trained)
  )
  found = []
  if words is not None:
    # Positions in one of several sources say nothing.
    several = {"examples": ()} if len(trained) > 1 else {}
    names = tuple(split.name for split in trained)
    found += [
      dataclasses.replace(finding, splits=names, **several)
      for finding in set_checks.of_training(report, looks, words)
    ]
  for split in others:
    shared = leaks.between(
      report, split.report, looks, split.looks, split=split.name
    )
    found += [dataclasses.replace(f, splits=(split.name,)) for f in shared]
  return found


def counts(diagnosis: Diagnosis) -> str:
  """Returns how much was found, as in "2 errors, 1 warning"."""
  words = []
  for severity in findings_lib.SEVERITIES:
    count = len(findings_lib.of(diagnosis.findings, severity))
    if count:
      words.append(f"{count} {severity}{'s' * (count > 1)}")
  return ", ".join(words) or "nothing looks wrong"


def text(diagnosis: Diagnosis) -> str:
  """Returns the diagnosis for people: a table a split, then the findings.

  Lines have at most 80 columns unless a file's name is longer.
  """
  parts = []
  for split in diagnosis.splits:
    report = split.report
    statistics = set_checks.statistics(split.looks)
    parts.append(
      f"{split.name}: {labels_lib.counted(report.total, 'image')},"
      f" {set_checks.kinds(split.looks)}\n"
      + (
        f"  mean {_figures(statistics[0])}, standard deviation"
        f" {_figures(statistics[1])}\n"
        if statistics
        else ""
      )
      + f"\n{checks.table(report)}"
    )
  return "\n".join([*parts, checks.said(diagnosis.findings)])


def require(diagnosis: Diagnosis) -> None:
  """Ends a command where training, or its score, would be wrong.

  Raises:
    InputError: how many errors there are.
  """
  count = len(findings_lib.of(diagnosis.findings, "error"))
  if count:
    raise errors.InputError(
      f"the data have {count} error{'s' * (count > 1)} that must be put right"
      " before training; they are listed above."
    )


def record(diagnosis: Diagnosis) -> dict[str, Any]:
  """Returns the diagnosis for programs, ready for JSON; see docs/data.md."""
  return {
    "schema": SCHEMA,
    "summary": {
      f"{severity}s": len(findings_lib.of(diagnosis.findings, severity))
      for severity in findings_lib.SEVERITIES
    },
    "findings": [
      {
        "code": finding.code,
        "severity": finding.severity,
        "splits": list(finding.splits),
        "message": finding.message,
        "remedy": finding.remedy,
        "files": list(finding.files),
      }
      for finding in diagnosis.findings
    ],
    "splits": {split.name: _split(split) for split in diagnosis.splits},
  }


def histogram(split: Split) -> np.ndarray:
  """Returns the pixels of each grey value in all images, [256]."""
  total = np.zeros(256, np.int64)
  for look in split.looks:
    if look.picture:
      total += look.picture.histogram
  return total


def _split(split: Split) -> dict[str, Any]:
  report = split.report
  statistics = set_checks.statistics(split.looks)
  return {
    "images": report.total,
    "looked_at": report.checked,
    "ignored_share": report.ignored / report.known,
    "classes": [
      {
        "label": label,
        "name": name,
        "pixels": int(report.pixels[label]),
        "share": float(report.pixels[label] / report.known),
        "images": int(report.images[label]),
        "median_frequency_weight": float(weight),
      }
      for label, (name, weight) in enumerate(
        zip(report.classes, report.weights, strict=True)
      )
    ],
    "raw_values": [
      {"value": int(value), **count._asdict()}
      for value, count in report.raw.items()
    ],
    "image_statistics": {
      "mean": statistics[0].tolist() if statistics else None,
      "std": statistics[1].tolist() if statistics else None,
      "histogram": histogram(split).tolist(),
      "sizes": _sizes(split.looks),
    },
  }


def _sizes(looks) -> dict[str, Any] | None:
  """Returns least, median and greatest height, width and aspect ratio."""
  sides = [look.picture.size for look in looks if look.picture]
  if not sides:
    return None
  height, width = np.asarray(sides, np.float64).T
  return {
    name: [float(f(values)) for f in (np.min, np.median, np.max)]
    for name, values in (
      ("height", height),
      ("width", width),
      ("aspect", width / height),
    )
  }


def _figures(values) -> str:
  return " ".join(f"{value:.1f}" for value in values)
