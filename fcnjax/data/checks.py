"""What is wrong with these masks, in words, before the first step.

A label out of range does not crash in JAX: 255 gives NaN, -1 trains as the
last class. So the values in the mask files are counted on the host, as they
are and as the labels they become, and what looks wrong is said with its
likely cause and the remedy.
"""

from collections.abc import Iterator
from concurrent import futures
import dataclasses
import textwrap
from typing import NamedTuple

from jaxtyping import Int64
import numpy as np

from fcnjax import errors, typing
from fcnjax.data import labels as labels_lib


class RawCount(NamedTuple):
  """How often a raw value occurs, and the label it becomes (-1 = none)."""

  pixels: int
  files: int
  label: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What the masks of a source hold.

  Attributes:
    errors: what must be put right, a line each.
    warnings: what is probably not meant, a line each.
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

  errors: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()
  classes: tuple[str, ...]
  checked: int
  total: int
  raw: dict[int, RawCount]
  pixels: Int64[np.ndarray, " k"]
  images: Int64[np.ndarray, " k"]
  image_pixels: Int64[np.ndarray, " k"]
  ignored: int


class _Mask(NamedTuple):
  """One mask: its values, the pixels of each, and what is wrong with it."""

  file: str
  values: Int64[np.ndarray, " n"]
  counts: Int64[np.ndarray, " n"]
  error: str | None


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
  total = len(source)
  step = 1 if limit is None else max(1, -(-total // limit))
  with futures.ThreadPoolExecutor(workers) as pool:
    masks = list(
      pool.map(
        lambda index: _look(source, index, images=images),
        range(0, total, step),
      )
    )
  if skip:
    masks = [mask for mask in masks if mask.error is None] or masks
  by_label = np.stack([_labels(mask, source.table) for mask in masks])
  by_class = by_label[:, : len(source.classes)]
  sizes = np.asarray([mask.counts.sum() for mask in masks], np.int64)
  report = Report(
    classes=tuple(source.classes),
    checked=len(masks),
    total=total,
    raw=_raw_counts(masks, source.table),
    pixels=by_class.sum(axis=0),
    images=(by_class > 0).sum(axis=0),
    image_pixels=sizes @ (by_class > 0),
    ignored=int(by_label[:, typing.IGNORE].sum()),
  )
  return dataclasses.replace(
    report,
    errors=tuple(_errors(report, masks, num_classes=num_classes)),
    warnings=tuple(_warnings(report, masks, by_class)),
  )


def require(report: Report) -> None:
  """Lets nothing begin on masks with errors.

  Raises:
    InputError: the first error, and how many more there are.
  """
  if report.errors:
    more = len(report.errors) - 1
    tail = f" ({more} more: see fcnjax check-data.)" if more else ""
    raise errors.InputError(report.errors[0] + tail)


def text(report: Report) -> str:
  """Returns the report for people: a table of the classes, then the faults.

  Lines have at most 80 columns unless a file's name is longer.
  """
  known = max(1, int(report.pixels.sum()) + report.ignored)
  lines = [
    f"{report.checked} of {report.total} masks looked at,"
    f" {100 * report.ignored / known:.1f} % of their pixels ignored.",
    "",
    f"{'label':>5}  {'class':28}{'pixels':>10}{'images':>9}  values in files",
  ]
  rows = [
    (label, name, int(report.pixels[label]), str(report.images[label]))
    for label, name in enumerate(report.classes)
  ]
  rows.append((typing.IGNORE, "(ignored)", report.ignored, ""))
  for label, name, pixels, images in rows:
    values = [str(v) for v, count in report.raw.items() if count.label == label]
    share = 100 * pixels / known
    lines.append(
      f"{label:5d}  {_cut(name, 27):28}{share:8.3f} %{images:>9}"
      f"  {_cut(' '.join(values), 24)}"
    )
  for word, faults in (("Error", report.errors), ("Warning", report.warnings)):
    for fault in faults:
      lines += ["", *_wrapped(f"{word}: {fault}")]
  if not report.errors and not report.warnings:
    lines += ["", "Nothing looks wrong."]
  return "\n".join(lines) + "\n"


def _look(source, index: int, *, images: bool) -> _Mask:
  """Reads one mask, and its image to see whether it can be read."""
  error, values, counts = None, np.zeros(0, np.int64), np.zeros(0, np.int64)
  try:
    values, counts = _counted(source.raw_label(index))
    if images:
      source.image(index)
  except errors.InputError as caught:
    error = str(caught)
  return _Mask(source.label_file(index), values, counts, error)


def _counted(raw):
  """Returns the values and how often each occurs."""
  if raw.dtype not in (np.uint8, np.uint16):
    return np.unique(raw, return_counts=True)
  pixels = np.bincount(raw.ravel())  # Faster, for what lies in files.
  values = pixels.nonzero()[0]
  return values, pixels[values]


def _labels(mask: _Mask, table: labels_lib.LabelTable):
  """Returns the pixels of each label, [256]; wrong values are left out."""
  targets = table.look_up(mask.values)
  pixels = np.zeros(256, np.int64)
  np.add.at(pixels, targets[targets >= 0], mask.counts[targets >= 0])
  return pixels


def _raw_counts(masks, table) -> dict[int, RawCount]:
  counts: dict[int, RawCount] = {}
  for mask in masks:
    labels = table.look_up(mask.values)
    for value, pixels, label in zip(
      mask.values.tolist(), mask.counts.tolist(), labels.tolist(), strict=True
    ):
      before = counts.get(value, RawCount(0, 0, label))
      counts[value] = before._replace(
        pixels=before.pixels + pixels, files=before.files + 1
      )
  return dict(sorted(counts.items()))


def _errors(report, masks, *, num_classes) -> Iterator[str]:
  """Yields what must be put right."""
  classes = len(report.classes)
  if num_classes is not None and num_classes != classes:
    yield (
      f"the model has {num_classes} classes and the data {classes}; set"
      " data.num_classes or data.class_names to what the masks hold."
    )
  broken = [mask.error for mask in masks if mask.error]
  yield from broken[:3]
  if len(broken) > 3:
    yield f"{len(broken) - 3} more files cannot be used, for such reasons."

  values = list(report.raw)
  wrong = [value for value in values if report.raw[value].label < 0]
  if wrong:
    holds = [mask.file for mask in masks if np.isin(wrong, mask.values).any()]
    cause = labels_lib.likely_cause(values, num_classes=classes, files=holds)
    yield (
      f"{labels_lib.listed(wrong, 'value')} in {len(holds)} of"
      f" {report.checked} masks (first: {holds[0]}), num_classes {classes}:"
      f" {cause}"
    )
  elif values and set(values) <= {0, 255} and classes == 2 and report.ignored:
    if not report.pixels[1]:
      yield (
        f"the masks hold only {' and '.join(map(str, values))}, and 255 is"
        f" ignored, so that {report.classes[1]!r} is never seen (first:"
        f" {masks[0].file}):"
        f" {labels_lib.likely_cause(values, num_classes=classes)}"
      )
  elif values and not report.pixels.any():
    yield (
      f"every pixel of all {report.checked} masks is ignored (first:"
      f" {masks[0].file}), they hold {labels_lib.listed(values, 'value')};"
      " correct data.ignore or data.label_map."
    )


def _warnings(report, masks, by_class) -> Iterator[str]:
  """Yields what is probably not meant; silent where nothing was counted."""
  if not report.pixels.any():
    return
  read = [mask.error is None for mask in masks]
  empty = [
    mask.file
    for mask, pixels, good in zip(masks, by_class, read, strict=True)
    if good and not pixels.any()
  ]
  if empty:
    yield (
      f"{len(empty)} of {report.checked} masks are ignored from corner to"
      f" corner and teach nothing: {labels_lib.listed(empty, 'file', most=3)}."
    )
  lossy = [m.file for m in masks if m.file.lower().endswith((".jpg", ".jpeg"))]
  if lossy:
    yield (
      f"{len(lossy)} masks are JPEG files (first: {lossy[0]}), which change"
      " values at edges; save masks as PNG from their source."
    )
  seen = [name for name, n in zip(report.classes, report.pixels) if n]
  never = [name for name, n in zip(report.classes, report.pixels) if not n]
  if len(seen) == 1:
    yield (
      f"all masks hold the one class {seen[0]!r}; predicting it everywhere"
      " would be perfect. Are these the right masks?"
    )
  elif never:
    hint = ""
    if not report.pixels[0]:
      hint = " If the masks count from 1, use data.label_map='zero_is_ignored'."
    yield (
      f"{len(never)} of {len(report.classes)} classes are never seen:"
      f" {', '.join(never[:5])}{' and more' * (len(never) > 5)}.{hint}"
    )
  single = int(((by_class > 0).sum(axis=1) == 1).sum())
  if len(seen) > 1 and single > 0.9 * report.checked:
    yield (
      f"{single} of {report.checked} masks hold one class only; were the masks"
      " written whole?"
    )
  known = int(report.pixels.sum()) + report.ignored
  if report.ignored > 0.5 * known:
    yield (
      f"{100 * report.ignored / known:.0f} % of the pixels are ignored; is"
      " data.ignore right?"
    )


def _cut(words: str, width: int) -> str:
  return words if len(words) <= width else words[: width - 3] + "..."


def _wrapped(line: str) -> list[str]:
  return textwrap.wrap(
    line,
    80,
    subsequent_indent="  ",
    break_long_words=False,
    break_on_hyphens=False,
  )
