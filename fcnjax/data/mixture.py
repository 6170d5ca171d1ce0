"""Several sources as one, the examples of one behind those of the other.

How often each is seen is the order's business (`order.mixed`).
"""

from collections.abc import Sequence
import hashlib
from typing import Any

import numpy as np

from fcnjax import errors, typing


class Mixture:
  """Sources of the same classes; attributes as `sources.Files`.

  Attributes:
    parts: the sources.
    names: of all examples.
  """

  def __init__(self, parts: Sequence[Any]):
    """Compares the classes; copies nothing.

    Raises:
      InputError: if classes or channels differ.
    """
    self.parts = list(parts)
    first = self.parts[0]
    for number, part in enumerate(self.parts):
      for what in ("classes", "channels"):
        ours, theirs = getattr(first, what), getattr(part, what)
        if ours != theirs:
          raise errors.InputError(
            f"data.mix: data set {number} has the {what} {_words(theirs)}, "
            f"data set 0 {_words(ours)}; they must be the same."
          )
    self.names = [str(name) for part in self.parts for name in part.names]
    self._first = np.cumsum([0, *(len(part) for part in self.parts)])

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

  def labels_version(self) -> str:
    """Returns a word that changes when any label does, or any of the sources.

    Raises:
      AttributeError: if a source has none.
    """
    words = "\n".join(part.labels_version() for part in self.parts)
    return hashlib.sha256(words.encode()).hexdigest()

  def __getattr__(self, name: str) -> Any:
    if name == "parts":  # Not yet made.
      raise AttributeError(name)
    return getattr(self.parts[0], name)

  def _place(self, index: int) -> tuple[Any, int]:
    number = int(np.searchsorted(self._first, index, side="right")) - 1
    return self.parts[number], index - int(self._first[number])


def _words(value: Any) -> str:
  return ", ".join(value) if isinstance(value, tuple) else str(value)
