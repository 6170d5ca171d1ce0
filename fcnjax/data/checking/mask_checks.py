"""What is wrong with masks, each fault with its name, cause and remedy."""

from collections.abc import Iterator, Sequence

import numpy as np

from fcnjax import typing
from fcnjax.data import findings, labels as labels_lib
from fcnjax.data.checking import census, file_checks, mask_traces


def find(
  report,
  looks: Sequence[census.Look],
  by_class: np.ndarray,
  table: labels_lib.LabelTable,
  *,
  num_classes: int | None,
) -> Iterator[findings.Finding]:
  """Yields what is found in masks, errors first.

  Args:
    report: a `checks.Report` with what was counted.
    looks: see `census.take`.
    by_class: [n, k], pixels of each class in each of them.
    table: how raw values become labels.
    num_classes: what the model predicts; None = k.
  """
  classes = len(report.classes)
  if num_classes is not None and num_classes != classes:
    yield findings.Finding(
      code="other_number_of_classes",
      severity="error",
      message=(f"the model has {num_classes} classes and the data {classes}."),
      remedy=(
        "Set --config.data.num_classes or --config.data.class_names to what the"
        " masks hold."
      ),
    )
  yield from file_checks.damaged(looks)
  photographs = _photographs(looks, classes)
  if photographs:
    yield photographs
    return
  blended = {
    kind: [look for look in looks if look.blended == kind]
    for kind in ("jpeg", "smoothed", "photograph")
  }
  if len(blended["jpeg"]) > len(blended["smoothed"]) / 3:
    # Masks of a set are saved alike, and smoothed ones hardly pass for JPEG.
    blended["jpeg"] += blended.pop("smoothed")
  wrong = [value for value, count in report.raw.items() if count.label < 0]
  caused = {look.index for found in blended.values() for look in found}
  misread = [
    *_colours(looks, classes),
    *_blended(blended, wrong),
    *_values(report, looks, wrong, caused),
    *_twice(report, table),
  ]
  yield from misread
  if report.pixels.any():
    yield from _single(report, looks, table)
    if not misread:  # Else what follows is a consequence.
      yield from _classes(report, looks, by_class)


def _photographs(looks, classes) -> findings.Finding | None:
  """Finds folders of photographs, and folders that were exchanged."""
  photographs = [
    look
    for look in looks
    if look.blended == "photograph"
    or (
      look.mask_fault
      and look.mask_fault.code == "no_colour_table"
      and look.all_colours > 1000
    )
  ]
  if len(photographs) <= len(looks) / 2:
    return None
  pictures = [look.picture for look in looks if look.picture]
  flat = sum(picture.shades <= classes + 2 for picture in pictures)
  first = photographs[0]
  if pictures and flat > len(pictures) / 2:
    return findings.Finding(
      code="exchanged_folders",
      severity="error",
      message=(
        f"{len(photographs)} of {len(looks)} masks"
        f" {labels_lib.verb(len(photographs), 'looks', 'look')} like"
        f" photographs (first: {first.mask_file}), {flat} of the images like"
        " masks: the folders are exchanged."
      ),
      remedy="Exchange --config.data.images and --config.data.masks.",
      files=_files(photographs),
      examples=_examples(photographs),
    )
  return findings.Finding(
    code="photographs_as_masks",
    severity="error",
    message=(
      f"{len(photographs)} of {len(looks)} masks"
      f" {labels_lib.verb(len(photographs), 'looks', 'look')} like photographs"
      f" (first: {first.mask_file})."
    ),
    remedy="Set --config.data.masks to the folder of the masks.",
    files=_files(photographs),
    examples=_examples(photographs),
  )


def _colours(looks, classes) -> Iterator[findings.Finding]:
  """Finds colour masks that cannot be read."""
  without = _faulty(looks, "no_colour_table")
  if without:
    found = _counts(without)
    table = mask_traces.table_of(list(found), num_classes=classes)
    file = without[0].mask_file
    if table:
      void = f" --config.data.ignore={classes}" * (len(table) > classes)
      colors = ",".join(str(color).replace(" ", "") for color in table)
      yield census.finding(
        "voc_palette_as_rgb",
        "error",
        f"colours of VOC's palette, saved as RGB, in {len(without)} of"
        f" {len(looks)} masks (first: {file}).",
        f'Use --config.data.colors="({colors})"{void} or save the masks as'
        " indexed PNG.",
        without,
        part="mask",
      )
    elif found:
      often = sorted(found, key=found.get, reverse=True)[:5]
      yield census.finding(
        "colour_masks",
        "error",
        f"{len(without)} of {len(looks)} masks"
        f" {labels_lib.verb(len(without), 'is', 'are')} in colour (first:"
        f" {file}),"
        f" with {labels_lib.counted(len(found), 'colour')}, most often"
        f" {', '.join(map(str, often))}.",
        "Say which colour is which class:"
        ' --config.data.colors="((r,g,b),...)", in the order of the classes.',
        without,
        part="mask",
      )
    else:
      yield census.finding(
        "colour_masks",
        "error",
        without[0].mask_fault.message,
        "",
        without,
        part="mask",
      )
  unknown = _faulty(looks, "unknown_colour")
  if unknown:
    more = f" So have {len(unknown) - 1} others." * (len(unknown) > 1)
    many = max(look.all_colours for look in unknown)
    yield census.finding(
      "blended_colours" if many > 3 * classes + 20 else "unknown_colours",
      "error",
      unknown[0].mask_fault.message + more,
      "",
      sorted(unknown, key=lambda look: -look.all_colours),
      part="mask",
    )


def _blended(blended, wrong) -> Iterator[findings.Finding]:
  """Finds masks with values that nobody drew."""
  words = {
    "jpeg": (
      "jpeg_compressed_masks",
      "values that JPEG compression leaves at edges",
    ),
    "smoothed": (
      "smoothed_masks",
      "values that smoothing, or compression, leaves between two classes",
    ),
    "photograph": ("photographs_among_masks", "a photograph's values"),
  }
  for kind, found in blended.items():
    if not found:
      continue
    code, seen = words[kind]
    outside = [look for look in found if np.isin(wrong, look.values).any()]
    yield census.finding(
      code,
      "error" if outside else "warning",
      f"{seen}, in {labels_lib.counted(len(found), 'mask')} (first:"
      f" {found[0].mask_file}: {len(found[0].values)} values).",
      "Save them as PNG from their source; resize masks by nearest neighbour.",
      sorted(found, key=lambda look: -len(look.values)),
      part="mask",
    )


def _values(report, looks, wrong, caused) -> Iterator[findings.Finding]:
  """Finds values that no mask may hold, and those that mean something else."""
  classes, values = len(report.classes), list(report.raw)
  holds = [
    look
    for look in looks
    if look.index not in caused and np.isin(wrong, look.values).any()
  ]
  if holds:
    own = np.unique(np.concatenate([look.values for look in holds]))
    wrong = [value for value in wrong if value in own]
    seen = values if not caused else own.tolist()
    cause = labels_lib.likely_cause(
      seen, num_classes=classes, files=_files(holds)
    )
    yield census.finding(
      cause.code,
      "error",
      f"{labels_lib.listed(wrong, 'value')} in {len(holds)} of"
      f" {report.checked} masks (first: {holds[0].mask_file}), num_classes"
      f" {classes}: {cause.words}.",
      cause.remedy,
      holds,
      part="mask",
    )
  elif values and set(values) <= {0, 255} and classes == 2 and report.ignored:
    if not report.pixels[1]:
      cause = labels_lib.likely_cause(values, num_classes=classes)
      yield census.finding(
        cause.code,
        "error",
        f"the masks hold only {' and '.join(map(str, values))}, and 255 is"
        f" ignored, so that {report.classes[1]!r} is never seen (first:"
        f" {looks[0].mask_file}): {cause.words}.",
        cause.remedy,
        looks,
        part="mask",
      )
  elif values and not report.pixels.any() and not wrong:
    yield census.finding(
      "all_ignored",
      "error",
      f"every pixel of all {report.checked} masks is ignored (first:"
      f" {looks[0].mask_file}), they hold"
      f" {labels_lib.listed(values, 'value')}.",
      "Correct --config.data.ignore or --config.data.label_map.",
      looks,
      part="mask",
    )


def _twice(report, table) -> Iterator[findings.Finding]:
  """Finds labels that are mapped as if they were raw values."""
  k = len(report.classes)
  raw = [value for value in report.raw if value != typing.IGNORE]
  if (
    raw
    and (table.targets[:k] != np.arange(k)).any()
    and typing.IGNORE in report.raw
    and table.targets[typing.IGNORE] == typing.IGNORE
    and max(raw) < k
    and not report.pixels[k - 1]
  ):
    yield findings.Finding(
      code="label_map_applied_twice",
      severity="warning",
      message=(
        f"the masks hold 0 to {max(raw)} and 255, which are labels already, and"
        " --config.data.label_map changes them once more."
      ),
      remedy="Leave --config.data.label_map out.",
    )


def _single(report, looks, table) -> Iterator[findings.Finding]:
  """Finds single masks that are probably not meant."""
  empty = [
    look
    for look in looks
    if look.mask_fault is None
    and (table.look_up(look.values) == typing.IGNORE).all()
  ]
  if empty:
    yield census.finding(
      "ignored_masks",
      "warning",
      f"{len(empty)} of {report.checked} masks"
      f" {labels_lib.verb(len(empty), 'is', 'are')} ignored from corner to"
      f" corner and {labels_lib.verb(len(empty), 'teaches', 'teach')} nothing"
      f" (first: {empty[0].mask_file}).",
      "Take them out, or correct --config.data.ignore.",
      empty,
      part="mask",
    )
  lossy = [look for look in looks if _is_jpeg(look) and look.blended != "jpeg"]
  if lossy:
    yield census.finding(
      "jpeg_masks",
      "warning",
      f"{labels_lib.counted(len(lossy), 'JPEG file')} among the masks (first:"
      f" {lossy[0].mask_file}); JPEG changes values at edges.",
      "Save masks as PNG from their source.",
      lossy,
      part="mask",
    )


def _classes(report, looks, by_class) -> Iterator[findings.Finding]:
  """Finds classes that are missing, and masks that hold too few."""
  seen = [name for name, n in zip(report.classes, report.pixels) if n]
  never = [name for name, n in zip(report.classes, report.pixels) if not n]
  if len(seen) == 1:
    yield findings.Finding(
      code="one_class_only",
      severity="warning",
      message=(
        f"all masks hold the one class {seen[0]!r}; predicting it everywhere"
        " would be perfect."
      ),
      remedy="Are these the right masks (--config.data.masks)?",
    )
  elif never:
    hint = (
      "Are they rare, or is --config.data.num_classes larger than what the"
      " masks hold?"
    )
    if not report.pixels[0]:
      hint = (
        "If the masks count from 1, use --config.data.label_map=zero_is_ignored"
      )
    yield findings.Finding(
      code="classes_never_seen",
      severity="warning",
      message=(
        f"{len(never)} of {len(report.classes)} classes are never seen:"
        f" {', '.join(never[:5])}{' and more' * (len(never) > 5)}."
      ),
      remedy=hint,
    )
  single = [
    look
    for look, pixels in zip(looks, by_class, strict=True)
    if np.count_nonzero(pixels) == 1
  ]
  if len(seen) > 1 and len(single) > 0.9 * report.checked:
    yield census.finding(
      "masks_of_one_value",
      "warning",
      f"{len(single)} of {report.checked} masks"
      f" {labels_lib.verb(len(single), 'holds', 'hold')} one class only.",
      "Were the masks written whole?",
      single,
      part="mask",
    )
  if report.ignored > 0.5 * report.known:
    yield findings.Finding(
      code="mostly_ignored",
      severity="warning",
      message=(
        f"{100 * report.ignored / report.known:.0f} % of the pixels are"
        " ignored."
      ),
      remedy="Is --config.data.ignore right?",
    )


def _is_jpeg(look: census.Look) -> bool:
  saved = look.mask_saved
  named = look.mask_file.lower().endswith((".jpg", ".jpeg"))
  return named if saved is None else saved.format in ("JPEG", "MPO")


def _faulty(looks, code) -> list[census.Look]:
  return [
    look for look in looks if look.mask_fault and look.mask_fault.code == code
  ]


def _counts(looks) -> dict[tuple[int, int, int], int]:
  total: dict[tuple[int, int, int], int] = {}
  for look in looks:
    for color, count in look.colours.items():
      total[color] = total.get(color, 0) + count
  return total


def _files(looks) -> tuple[str, ...]:
  return tuple(look.mask_file for look in looks)


def _examples(looks) -> tuple[int, ...]:
  return tuple(look.index for look in looks[:4])
