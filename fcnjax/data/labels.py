"""From the numbers in mask files to training labels, in one place.

A mask file holds raw values; training sees labels in [0, k) or 255 = ignore.
`LabelTable` is the only thing between the two. What a value outside the table
probably means is put into words here too.
"""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
import functools
from typing import NamedTuple

from jaxtyping import Integer, UInt8
import numpy as np

from fcnjax import errors, typing

# Cityscapes: labelIds -> trainIds (cityscapesScripts, helpers/labels.py).
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)


def named_map(name: str, *, num_classes: int) -> dict[int, int]:
  """Returns a label map that has a name.

  Args:
    name: "cityscapes_train_ids" (labelIds to 19 trainIds), or
      "zero_is_ignored" (0 becomes 255, value v becomes v - 1: ADE20K, SUN).
    num_classes: k.

  Raises:
    InputError: if there is no such name.
  """
  if name == "cityscapes_train_ids":
    ids = {raw: train for train, raw in enumerate(_CITYSCAPES_IDS)}
    return {raw: ids.get(raw, typing.IGNORE) for raw in range(34)}
  if name == "zero_is_ignored":
    shifted = {raw: raw - 1 for raw in range(1, num_classes + 1)}
    return {0: typing.IGNORE, **shifted}
  raise errors.InputError(
    f"no label map is called {name!r}; data.label_map is a table {{raw value:"
    " class}, 'cityscapes_train_ids' or 'zero_is_ignored'."
  )


def value_map(
  mask_values: Sequence[int],
  *,
  num_classes: int,
  label_map: Mapping | str | None = None,
) -> dict[int, int]:
  """Returns the label map that `mask_values` is short for.

  Raises:
    InputError: if they are not as many as the classes, or `label_map`, which
      says the same, is given as well.
  """
  if label_map:
    raise errors.InputError(
      "data.mask_values and data.label_map say the same; set one of them."
    )
  if not len(set(mask_values)) == len(mask_values) == num_classes:
    raise errors.InputError(
      f"data.mask_values is {tuple(mask_values)}; expected {num_classes}"
      " different values, one a class."
    )
  return {int(value): label for label, value in enumerate(mask_values)}


def class_names(
  num_classes: int | None, *, names: Sequence[str] | None = None
) -> tuple[str, ...]:
  """Returns the names, or "class 0", "class 1", ... where there are none.

  Raises:
    InputError: if neither is given, the numbers differ, or they are not in
      [2, 255].
  """
  if not num_classes and not names:
    raise errors.InputError(
      "how many classes do the masks have? Set data.num_classes (background"
      " counts as one) or data.class_names."
    )
  _require_count(len(names or ()) or num_classes)
  if names and num_classes and num_classes != len(names):
    raise errors.InputError(
      f"data.num_classes is {num_classes}, but data.class_names has"
      f" {len(names)} names; one of the two is enough."
    )
  return tuple(names or (f"class {label}" for label in range(num_classes)))


def _require_count(num_classes: int) -> None:
  if not 2 <= num_classes <= 255:
    raise errors.InputError(
      f"the number of classes must be in [2, 255], got {num_classes};"
      " background counts as one (data.num_classes)."
    )


@dataclasses.dataclass(frozen=True)
class LabelTable:
  """What every raw value of a mask becomes.

  Attributes:
    num_classes: k.
    targets: [65536]; position = raw value; a label in [0, k), 255 = ignore,
      or -1 = no mask may hold this value.
  """

  num_classes: int
  targets: Integer[np.ndarray, "65536"]

  @classmethod
  def build(
    cls,
    num_classes: int,
    *,
    label_map: Mapping | str | None = None,
    ignore: int | Collection[int] = typing.IGNORE,
  ) -> "LabelTable":
    """Builds the table.

    Args:
      num_classes: k, in [2, 255].
      label_map: {raw value: label in [0, k) or 255}, or the name of one (see
        `named_map`). With it, only its values and the ignored ones may occur;
        without it raw values are labels. Where it and `ignore` name the same
        value it counts, so {0: 0, 255: 1} works.
      ignore: raw value, or values, that become 255.

    Raises:
      InputError: if a number is out of range.
    """
    _require_count(num_classes)
    ignored = [ignore] if isinstance(ignore, int) else list(ignore)
    if not label_map:
      kept = [label for label in range(num_classes) if label not in ignored]
      label_map = {label: label for label in kept}
    elif isinstance(label_map, str):
      label_map = named_map(label_map, num_classes=num_classes)
    targets = np.full(65536, -1, np.int16)
    targets[[value for value in ignored if 0 <= value < 65536]] = typing.IGNORE
    for raw, label in _numbers(label_map).items():
      if not 0 <= raw < 65536 or not (
        0 <= label < num_classes or label == typing.IGNORE
      ):
        raise errors.InputError(
          f"data.label_map sends {raw} to {label}; expected a raw value in"
          f" [0, 65535] and a class in [0, {num_classes}) or 255 (ignored)."
        )
      targets[raw] = label
    return cls(num_classes=num_classes, targets=targets)

  @functools.cached_property
  def _of_bytes(self) -> tuple[bytes, bytes]:
    """The raw values below 256 that may occur, and what each of 256 becomes."""
    targets = self.targets[:256]
    known = np.flatnonzero(targets >= 0).astype(np.uint8)
    return known.tobytes(), targets.astype(np.uint8).tobytes()

  def look_up(
    self, raw: Integer[np.ndarray, "*n"]
  ) -> Integer[np.ndarray, "*n"]:
    """Returns the labels of raw values; -1 for those that may not occur."""
    if raw.dtype in (np.uint8, np.uint16):  # Position = value, always.
      return self.targets[raw]
    inside = (raw >= 0) & (raw < len(self.targets))
    return np.where(inside, self.targets[np.where(inside, raw, 0)], -1)

  def describe(self) -> str:
    """Returns one line of at most 80 columns: what raw values become.

    For example "masks: 0–20 are classes; 255 ignored" or "masks: 0→0, 255→1;
    7–8 ignored". What is longer ends with "…".
    """
    classes: list[list[int]] = []  # runs: first raw value, shift, length
    ignored: list[list[int]] = []
    for raw in np.flatnonzero(self.targets >= 0).tolist():
      label = int(self.targets[raw])
      is_class = label != typing.IGNORE
      runs, shift = (classes, label - raw) if is_class else (ignored, 0)
      if runs and runs[-1][:2] == [raw - runs[-1][2], shift]:
        runs[-1][2] += 1
      else:
        runs.append([raw, shift, 1])
    if any(shift for _, shift, _ in classes):
      spans = [f"{_span(r, n)}→{_span(r + s, n)}" for r, s, n in classes]
      text = f"masks: {', '.join(spans)}"
    else:
      spans = [_span(raw, length) for raw, _, length in classes]
      text = f"masks: {', '.join(spans) or 'none'} are classes"
    if ignored:
      spans = [_span(raw, length) for raw, _, length in ignored]
      text += f"; {', '.join(spans)} ignored"
    return text if len(text) <= 80 else text[:79] + "…"

  def apply(
    self, raw: Integer[np.ndarray, "h w"], *, name: str
  ) -> UInt8[np.ndarray, "h w"]:
    """Maps a mask.

    Args:
      raw: the values in the file.
      name: the mask's file, for the message.

    Returns:
      Labels in [0, k) or 255.

    Raises:
      InputError: if a value may not occur.
    """
    if raw.dtype == np.uint8:
      # Bytes are looked up much faster by Python than by NumPy.
      known, becomes = self._of_bytes
      values = raw.tobytes()
      if not values.translate(None, known):
        if any(value != becomes[value] for value in known):
          values = values.translate(becomes)
        return np.frombuffer(bytearray(values), np.uint8).reshape(raw.shape)
    labels = self.look_up(raw)
    if (labels < 0).any():
      values = np.unique(raw).tolist()
      wrong = np.unique(raw[labels < 0]).tolist()
      cause = likely_cause(values, num_classes=self.num_classes, files=(name,))
      raise errors.InputError(
        f"mask {name} holds {listed(wrong, 'value')}, num_classes"
        f" {self.num_classes}: {cause}"
      )
    return labels.astype(np.uint8)


def _span(first: int, length: int) -> str:
  """Returns "3", or "3–5" for three numbers from 3 on."""
  return f"{first}–{first + length - 1}" if length > 1 else str(first)


def _numbers(label_map: Mapping) -> dict[int, int]:
  """Returns a label map in numbers; configs write the keys as strings."""
  try:
    return {int(raw): int(label) for raw, label in label_map.items()}
  except (TypeError, ValueError) as error:
    raise errors.InputError(
      f"data.label_map is {dict(label_map)}; expected {{raw value: class}} in"
      " whole numbers."
    ) from error


class Cause(NamedTuple):
  """What raw values that do not fit probably are.

  Attributes:
    code: the name of the fault; see `findings`.
    words: what they look like; the rest of a sentence, without a full stop.
    remedy: a sentence.
  """

  code: str
  words: str
  remedy: str

  def __str__(self) -> str:
    return f"{self.words}. {self.remedy}"


def likely_cause(
  values: Collection[int], *, num_classes: int, files: Sequence[str] = ()
) -> Cause:
  """Says what raw values that do not fit probably are, and the remedy.

  Args:
    values: all raw values seen, those that fit included.
    num_classes: k.
    files: names of mask files, whose endings tell something.
  """
  found = sorted(set(values))
  classes = [value for value in found if value != typing.IGNORE]
  highest = max(classes, default=-1)
  if any(name.lower().endswith((".jpg", ".jpeg")) for name in files):
    return Cause(
      "jpeg_masks",
      "JPEG changes the values of a mask",
      "Save masks as PNG from their source.",
    )
  if found in ([0, 255], [255]) and num_classes == 2:
    return Cause(
      "black_and_white_masks",
      "these look like black-and-white masks",
      "Use --config.data.mask_values=0,255",
    )
  if num_classes in (19, 20) and 19 < highest <= 33:
    return Cause(
      "cityscapes_label_ids",
      "these look like Cityscapes labelIds",
      "Use --config.data.label_map=cityscapes_train_ids",
    )
  if highest == num_classes and 0 not in found:
    return Cause(
      "shifted_by_one",
      f"the values are 1 to {num_classes} instead of 0 to {num_classes - 1}",
      "Use --config.data.label_map=zero_is_ignored, which takes one from each.",
    )
  if highest == num_classes == 150:
    return Cause(
      "ade_zero_is_other",
      "these look like ADE20K's masks, in which 0 is all that is no class",
      "Use --config.data.label_map=zero_is_ignored",
    )
  if highest == num_classes:
    return Cause(
      "one_value_too_many",
      f"the values go up to {num_classes}, one too many",
      f"If {num_classes} does not count, use"
      f" --config.data.ignore={num_classes}; if 0 does not, as in ADE20K,"
      " --config.data.label_map=zero_is_ignored; if all are classes,"
      f" --config.data.num_classes={num_classes + 1}.",
    )
  if len(found) == num_classes:
    offer = ",".join(map(str, found))
    return Cause(
      "other_values",
      "there are as many values as classes",
      "If they are the classes in this order, use"
      f" --config.data.mask_values={offer}",
    )
  if len(found) > max(32, 2 * num_classes):
    return Cause(
      "photographs_or_smoothed",
      f"{len(found)} different values look like a photograph or a mask with"
      " smoothed edges",
      "Check that --config.data.masks is the folder of the masks, and save them"
      " without smoothing.",
    )
  return Cause(
    "values_out_of_range",
    "no usual encoding has them",
    'Name what each value means in --config.data.label_map="{raw: class}",'
    " with 255 for values to ignore, or correct --config.data.num_classes.",
  )


def counted(number: int, noun: str) -> str:
  """Returns "1 mask" or "3 masks"."""
  return f"{number:,} {noun}{'s' if number != 1 else ''}"


def verb(number: int, one: str, several: str) -> str:
  """Returns the form of a verb: "looks" of one thing, "look" of several."""
  return one if number == 1 else several


def listed(
  items: Sequence, noun: str, *, most: int = 5, plural: str | None = None
) -> str:
  """Returns "value 3", or "values 3, 4, 5, 6, 7 and 12 more"."""
  shown = ", ".join(str(item) for item in items[:most])
  more = f" and {len(items) - most} more" if len(items) > most else ""
  word = noun if len(items) == 1 else plural or f"{noun}s"
  return f"{word} {shown}{more}"
