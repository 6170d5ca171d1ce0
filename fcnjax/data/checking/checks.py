"""What is wrong with these masks, in words, before the first step.

A label out of range does not crash in JAX: 255 gives NaN, -1 trains as the
last class. So the values in the mask files are counted on the host, as they
are and as the labels they become, and what looks wrong is said with its
likely cause and the remedy (`mask_checks`).
"""

from collections.abc import Sequence
import dataclasses
import textwrap
from typing import NamedTuple

from jaxtyping import Float, Int64
import numpy as np

from fcnjax import errors, typing
from fcnjax.data import (
  findings as findings_lib,
  labels as labels_lib,
  weight_maps,
)
from fcnjax.data.checking import census, mask_checks


class RawCount(NamedTuple):
  """How often a raw value occurs, and the label it becomes (-1 = none)."""

  pixels: int
  files: int
  label: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What the masks of a source hold.

  Attributes:
    findings: what is wrong with them.
    classes: k names, position = label.
    checked: number of masks that were looked at.
    total: number of masks of the source.
    raw: {value in the files: how often}, of the readable masks, in order.
    pixels: pixels of each class.
    images: images in which each class occurs.
    image_pixels: all pixels of those images, ignored ones included: what
      median-frequency weights divide `pixels` by.
    ignored: ignored pixels.
  """

  findings: tuple[findings_lib.Finding, ...] = ()
  classes: tuple[str, ...]
  checked: int
  total: int
  raw: dict[int, RawCount]
  pixels: Int64[np.ndarray, " k"]
  images: Int64[np.ndarray, " k"]
  image_pixels: Int64[np.ndarray, " k"]
  ignored: int

  @property
  def errors(self) -> tuple[str, ...]:
    """What must be put right, a line each."""
    return tuple(f.line for f in findings_lib.of(self.findings, "error"))

  @property
  def warnings(self) -> tuple[str, ...]:
    """What is probably not meant, a line each."""
    return tuple(f.line for f in findings_lib.of(self.findings, "warning"))

  @property
  def known(self) -> int:
    """Pixels of classes, and ignored ones; at least 1."""
    return max(1, int(self.pixels.sum()) + self.ignored)

  @property
  def weights(self) -> Float[np.ndarray, " k"]:
    """SegNet's median-frequency weights; 0 for a class that is never seen."""
    return weight_maps.median_frequency_weights(self.pixels, self.image_pixels)


def check(
  source,
  *,
  num_classes: int | None = None,
  limit: int | None = None,
  images: bool = True,
  workers: int = 4,
  skip: bool = False,
) -> Report:
  """Counts the values of all masks and says what is wrong with them.

  Args:
    source: see `sources`.
    num_classes: what the model predicts; None = the source's number of
      classes. Unequal numbers are an error.
    limit: look at about this many examples only, spread evenly; None = all.
    images: whether the images are decoded as well, to find damaged ones.
    workers: threads that decode.
    skip: whether files that cannot be read are passed over.
  """
  looks = census.take(source, limit=limit, images=images, workers=workers)
  if skip:
    looks = [
      look for look in looks if not (look.image_fault or look.mask_fault)
    ] or looks
  return report(source, looks, num_classes=num_classes)


def report(
  source, looks: Sequence[census.Look], *, num_classes: int | None = None
) -> Report:
  """Returns what `check` does, from looks that were taken.

  Args:
    source: that they are of.
    looks: see `census.take`.
    num_classes: see `check`.
  """
  by_label = np.stack([_labels(look, source.table) for look in looks])
  by_class = by_label[:, : len(source.classes)]
  sizes = np.asarray([look.counts.sum() for look in looks], np.int64)
  counted = Report(
    classes=tuple(source.classes),
    checked=len(looks),
    total=len(source),
    raw=_raw_counts(looks, source.table),
    pixels=by_class.sum(axis=0),
    images=(by_class > 0).sum(axis=0),
    image_pixels=sizes @ (by_class > 0),
    ignored=int(by_label[:, typing.IGNORE].sum()),
  )
  found = mask_checks.find(
    counted, looks, by_class, source.table, num_classes=num_classes
  )
  return dataclasses.replace(counted, findings=tuple(found))


def require(report: Report) -> None:
  """Lets nothing begin on masks with errors.

  Raises:
    InputError: the first error, and how many more there are.
  """
  if report.errors:
    more = len(report.errors) - 1
    tail = f" ({more} more: see fcnjax check-data.)" if more else ""
    raise errors.InputError(report.errors[0] + tail)


def table(report: Report) -> str:
  """Returns the classes, a line each of at most 80 columns.

  A class has its share of all pixels, the images that hold it, its
  median-frequency weight, and the values in the files that become it.
  """
  lines = [
    f"{'label':>5}  {'class':24}{'pixels':>10}{'images':>8}{'weight':>9}"
    "  values in files"
  ]
  rows = [
    (label, name, int(report.pixels[label]), str(report.images[label]), weight)
    for label, (name, weight) in enumerate(
      zip(report.classes, _figures(report.weights), strict=True)
    )
  ]
  rows.append((typing.IGNORE, "(ignored)", report.ignored, "", ""))
  for label, name, pixels, images, weight in rows:
    values = [str(v) for v, count in report.raw.items() if count.label == label]
    share = 100 * pixels / report.known
    lines.append(
      f"{label:5d}  {_cut(name, 23):24}{share:8.3f} %{images:>8}{weight:>9}"
      f"  {_cut(' '.join(values), 20)}".rstrip()
    )
  lines.append("weight: that of --config.loss.class_weights=median_frequency")
  return "\n".join(lines) + "\n"


def said(found: Sequence[findings_lib.Finding], *, files: int = 5) -> str:
  """Returns findings for people.

  Lines have at most 80 columns unless a file's name is longer.

  Args:
    found: in the order in which they are said.
    files: how many files are named of each.
  """
  lines = []
  for finding in found:
    where = f" ({', '.join(finding.splits)})" if finding.splits else ""
    word = f"{finding.severity.capitalize()}{where}: "
    lines += ["", *_wrapped(word + finding.message)]
    if finding.remedy:
      lines += _wrapped(finding.remedy, indent="  ")
    others = [file for file in finding.files if file not in finding.message]
    if others:
      named = labels_lib.listed(others, "file", most=files)
      lines += (
        _wrapped(f"Also {named}", indent="  ")
        if len(others) < len(finding.files)
        else _wrapped(f"{named[0].upper()}{named[1:]}", indent="  ")
      )
    lines.append(f"  [{finding.code}]")
  return "\n".join(lines[1:] or ["Nothing looks wrong."]) + "\n"


def text(report: Report) -> str:
  """Returns the report for people: a table of the classes, then the faults.

  Lines have at most 80 columns unless a file's name is longer.
  """
  ignored = 100 * report.ignored / report.known
  return (
    f"{report.checked} of {report.total} masks looked at,"
    f" {ignored:.1f} % of their pixels ignored.\n\n"
    f"{table(report)}\n{said(report.findings)}"
  )


def _labels(look: census.Look, table: labels_lib.LabelTable):
  """Returns the pixels of each label, [256]; wrong values are left out."""
  targets = table.look_up(look.values)
  pixels = np.zeros(256, np.int64)
  np.add.at(pixels, targets[targets >= 0], look.counts[targets >= 0])
  return pixels


def _raw_counts(looks, table) -> dict[int, RawCount]:
  counts: dict[int, RawCount] = {}
  for look in looks:
    labels = table.look_up(look.values)
    for value, pixels, label in zip(
      look.values.tolist(), look.counts.tolist(), labels.tolist(), strict=True
    ):
      before = counts.get(value, RawCount(0, 0, label))
      counts[value] = before._replace(
        pixels=before.pixels + pixels, files=before.files + 1
      )
  return dict(sorted(counts.items()))


def _figures(weights: np.ndarray) -> list[str]:
  """Returns weights in at most eight columns; "–" for what is never seen."""
  return [f"{w:.3f}" if 0 < w < 1000 else f"{w:.3g}" if w else "–"
          for w in weights]  # fmt: skip


def _cut(words: str, width: int) -> str:
  return words if len(words) <= width else words[: width - 3] + "..."


def _wrapped(line: str, *, indent: str = "") -> list[str]:
  return textwrap.wrap(
    line,
    80,
    initial_indent=indent,
    subsequent_indent="  ",
    break_long_words=False,
    break_on_hyphens=False,
  )
