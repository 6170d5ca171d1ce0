"""Several sources as one, the examples of one behind those of the other.

How often each is seen is the order's business (`order.mixed`).
"""

from collections.abc import Sequence
import hashlib
from typing import Any

import numpy as np

from fcnjax import errors, typing
from fcnjax.data import labels


class Mixture:
  """Sources of the same classes, as one source.

  It has what can be said of all of them, and nothing of one alone: what reads
  files asks the parts.

  Attributes:
    parts: the sources.
    names: of all examples; those of two parts may be the same.
    classes: k names, position = label.
    colors: k RGB triples in [0, 255]; the first part's.
    channels: of the images.
    firsts: the position of each part's first example.
  """

  def __init__(self, parts: Sequence[Any]):
    """Compares the classes; copies nothing.

    Raises:
      InputError: if classes or channels differ.
    """
    self.parts = list(parts)
    first = self.parts[0]
    for number, part in enumerate(self.parts, start=1):
      compare(first, part, number)
    self.classes = tuple(first.classes)
    self.colors, self.channels = first.colors, first.channels
    self.names = [str(name) for part in self.parts for name in part.names]
    self._first = np.cumsum([0, *(len(part) for part in self.parts)])
    self.firsts = self._first[:-1].tolist()

  def __len__(self) -> int:
    return int(self._first[-1])

  def __getitem__(self, index: int) -> typing.Example:
    part, place = self._place(index)
    return part[place]

  def image(self, index: int) -> np.ndarray:
    """Returns an image as its own source does."""
    part, place = self._place(index)
    return part.image(place)

  def raw_label(self, index: int) -> np.ndarray:
    """Returns the values of a mask, to be read by its own source's table."""
    part, place = self._place(index)
    return part.raw_label(place)

  def label_file(self, index: int) -> str:
    """Returns the name of a mask file, for messages."""
    part, place = self._place(index)
    return part.label_file(place)

  @property
  def table(self) -> labels.LabelTable:
    """How raw values become labels, where all parts have the same table.

    Raises:
      InputError: if they have not.
    """
    tables = [part.table for part in self.parts]
    if any((table.targets != tables[0].targets).any() for table in tables):
      raise errors.InputError(
        "data.mix: the masks of the data sets are read by different tables "
        "(data.label_map, data.mask_values, data.ignore); read each set alone."
      )
    return tables[0]

  def labels_version(self) -> str | None:
    """Returns a word that changes when any label does, or any of the sources.

    None if a source has none.
    """
    versions = [
      getattr(part, "labels_version", lambda: None)() for part in self.parts
    ]
    if None in versions:
      return None
    return hashlib.sha256("\n".join(versions).encode()).hexdigest()

  def class_statistics(self) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns what was counted of all sources before.

    Returns:
      Pixels of each class and of the images that hold it, int64 [k]; None if
      a source has not been counted.
    """
    known = [
      getattr(part, "class_statistics", lambda: None)() for part in self.parts
    ]
    if any(counts is None for counts in known):
      return None
    pixels, image_pixels = zip(*known)
    return np.sum(pixels, axis=0), np.sum(image_pixels, axis=0)

  def _place(self, index: int) -> tuple[Any, int]:
    number = int(np.searchsorted(self._first, index, side="right")) - 1
    return self.parts[number], index - int(self._first[number])


def compare(first: Any, part: Any, number: int) -> None:
  """Compares a source with the first that it is mixed with.

  Args:
    first: the first one.
    part: the other.
    number: which one that is, counted from 1.

  Raises:
    InputError: if classes or channels differ.
  """
  for what in ("classes", "channels"):
    ours, theirs = getattr(first, what), getattr(part, what)
    if ours != theirs:
      raise errors.InputError(
        f"data.mix: data set {number} has the {what} {_words(theirs)}, data "
        f"set 1 {_words(ours)}; they must be the same."
      )


def _words(value: Any) -> str:
  return ", ".join(value) if isinstance(value, tuple) else str(value)
