"""Colours of classes."""

from collections.abc import Sequence

from jaxtyping import Integer, UInt8
import numpy as np

from fcnjax.data import images

Colour = tuple[int, int, int]  # Red, green, blue in [0, 255].

# What PASCAL VOC paints where a pixel has no class: colour 255 of its palette.
NO_CLASS = (224, 224, 192)

# The VOC colours, the same that indexed PNGs are written with.
palette = images.palette


def paint(
  labels: Integer[np.ndarray, "h w"],
  colors: Sequence[Sequence[int]],
  *,
  no_class: Colour = NO_CLASS,
) -> UInt8[np.ndarray, "h w 3"]:
  """Paints every pixel in the colour of its class.

  Args:
    labels: classes in [0, len(colors)), or anything else for "no class".
    colors: one (r, g, b) in [0, 255] per class.
    no_class: colour of what is no class, such as 255.

  Returns:
    RGB in [0, 255].
  """
  k = len(colors)
  lookup = np.array([*colors, no_class], np.uint8).reshape(k + 1, 3)
  return lookup[np.where((labels >= 0) & (labels < k), labels, k)]
