"""What the objects of the embedded data set look like: outlines and relief."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

Plane = Float[np.ndarray, "h w"]


class Frame(NamedTuple):
  """Where the pixels of a box lie as an object sees it, turned and centred.

  Attributes:
    x: to the right, pixels.
    y: down, pixels.
    radius: the object's size, pixels; no outline is farther out than 1.25
      times that.
  """

  x: Plane
  y: Plane
  radius: float


class Kind(NamedTuple):
  """A class of objects.

  Attributes:
    name: of the class.
    color: RGB in [0, 255] that shows the class in overlays.
    outlines: one is drawn at random; signed distance in pixels.
    relief: brightness in [-1, 1].
  """

  name: str
  color: tuple[int, int, int]
  outlines: tuple[Callable[[Frame], Plane], ...]
  relief: Callable[[Frame], Plane]


# Outlines: signed distance to the edge in pixels, negative inside.


def disc(frame: Frame) -> Plane:
  return np.hypot(frame.x, frame.y) - 0.9 * frame.radius


def ring(frame: Frame) -> Plane:
  middle, half_width = 0.65 * frame.radius, 0.3 * frame.radius
  return np.abs(np.hypot(frame.x, frame.y) - middle) - half_width


def square(frame: Frame) -> Plane:
  return np.maximum(np.abs(frame.x), np.abs(frame.y)) - 0.8 * frame.radius


def triangle(frame: Frame) -> Plane:
  slanted = 0.866 * np.abs(frame.x) + 0.5 * frame.y
  return np.maximum(slanted, -frame.y) - 0.6 * frame.radius


def cross(frame: Frame) -> Plane:
  x, y = np.abs(frame.x), np.abs(frame.y)
  arm, half_width = 1.1 * frame.radius, 0.42 * frame.radius
  return np.maximum(np.minimum(x, y) - half_width, np.maximum(x, y) - arm)


# Relief: brightness, from -1 (dark) to 1 (bright); periods are in pixels.


def plain(frame: Frame) -> Plane:
  return np.zeros_like(frame.x)


def ripples(frame: Frame) -> Plane:
  return np.sin(1.1 * np.hypot(frame.x, frame.y))


def spokes(frame: Frame) -> Plane:
  return np.sin(12 * np.arctan2(frame.y, frame.x))


def grid(frame: Frame) -> Plane:
  lines = np.maximum(np.cos(0.8 * frame.x), np.cos(0.8 * frame.y))
  return np.clip(3.0 - 5.0 * lines, -1.0, 1.0)


def zigzag(frame: Frame) -> Plane:
  bends = 2.5 * np.abs((frame.y / 10.0) % 2.0 - 1.0)
  return np.clip(2.0 * np.sin(0.8 * frame.x + 2.0 * bends), -1.0, 1.0)


def stripes(frame: Frame) -> Plane:
  return np.clip(2.0 * np.sin(0.55 * frame.x), -1.0, 1.0)


def checks(frame: Frame) -> Plane:
  waves = np.sin(0.65 * frame.x) * np.sin(0.65 * frame.y)
  return np.clip(5.0 * waves, -1.0, 1.0)


def dots(frame: Frame) -> Plane:
  waves = np.cos(0.75 * frame.x) + np.cos(0.75 * frame.y)
  return np.clip(4.0 * waves - 2.4, -1.0, 1.0)


# Position + 1 = label; 0 is the background.
KINDS = (
  Kind("disc", (230, 70, 60), (disc,), ripples),
  Kind("ring", (245, 160, 40), (ring,), spokes),
  Kind("square", (240, 225, 70), (square,), grid),
  Kind("triangle", (95, 190, 85), (triangle,), zigzag),
  Kind("cross", (60, 190, 200), (cross,), plain),
  Kind("stripes", (65, 110, 220), (disc, square), stripes),
  Kind("checks", (150, 85, 200), (disc, square), checks),
  Kind("dots", (235, 120, 190), (disc, square), dots),
)
