"""A source that joins two: second images, or second masks, of the same scenes.

See sources.py for what a source is.
"""

import dataclasses
from typing import Any

from jaxtyping import Float, UInt8
import numpy as np

from fcnjax import errors, typing
from fcnjax.data import labels, sources

_FOLDERS = {"image": "images", "label": "masks"}


@dataclasses.dataclass(frozen=True)
class Second:
  """A source, and what a second one has of the same scenes.

  Whatever else it is asked for (names, classes, labels, ...) is the first's.

  Attributes:
    first: the source.
    second: with the same names in the same order.
    what: "image": the second's channels are put behind the first's; "label":
      its labels become "second_label".
    log: whether the second's images are depths in 16 bits (read as value / 257)
      whose natural logarithm is taken, of 1 where the depth is 0.
  """

  first: Any
  second: Any
  what: str
  log: bool = False

  def __post_init__(self):
    if list(self.first.names) != list(self.second.names):
      lonely = sorted(set(self.first.names) ^ set(self.second.names))
      raise errors.InputError(
        f"data.second_{_FOLDERS[self.what]} and data.{_FOLDERS[self.what]} are"
        f" not of the same scenes: {labels.listed(lonely, 'stem', most=3)} in"
        " one of them only; give both files of the same stems."
      )

  def __len__(self) -> int:
    return len(self.first)

  def __getitem__(self, index: int) -> typing.Example:
    example = self.first[index]
    if self.what == "label":
      return {**example, "second_label": self.second[index]["label"]}
    return {**example, "image": self._joined(example["image"], index)}

  def image(
    self, index: int
  ) -> UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]:
    """Returns the image, with the channels of both where there are two."""
    if self.what == "label":
      return self.first.image(index)
    return self._joined(self.first.image(index), index)

  def _joined(self, image: np.ndarray, index: int) -> np.ndarray:
    other = self.second.image(index)
    if other.shape[:2] != image.shape[:2]:
      other = sources.resize_image(other, image.shape[:2])
    if self.log:
      other = np.log(np.maximum(other.astype(np.float32) * 257, 1))
    return np.concatenate([image, other], axis=-1, dtype=np.float32)

  @property
  def channels(self) -> int:
    """Channels of the images."""
    more = self.second.channels if self.what == "image" else 0
    return self.first.channels + more

  def __getattr__(self, name: str) -> Any:
    return getattr(self.first, name)
