"""Transforms that move pixels by a field of coordinates.

See transforms.py for what a transform is.
"""

from collections.abc import Sequence
import math

import tensorflow as tf

from fcnjax.data import elastic as elastic_lib, geometry, photometric

Example = geometry.Example
PerChannel = geometry.PerChannel
_fold = tf.random.experimental.stateless_fold_in


def rotate(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  degrees: float = 10.0,
  quarter_turns: bool = False,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> Example:
  """Returns the example turned about its centre.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    degrees: the angle is uniform in [-degrees, degrees]; the size stays, the
      corners are cut. 0 samples nothing.
    quarter_turns: turns by 0, 90, 180 or 270 degrees first, without any
      interpolation; swaps the sides of an image that is not square.
    boundary: "fill" or "reflect".
    fill: the colour of the padding, one value or one a channel, in [0, 255].
    probability: with which it is turned at all, in [0, 1].
  """
  if quarter_turns:
    turns = tf.random.stateless_uniform([], seed, 0, 4, dtype=tf.int32)
    if probability != 1:
      turns *= tf.cast(photometric.happens(seed, probability), tf.int32)
    example = geometry.turned(example, turns)
  if not degrees:
    return example
  return elastic(
    example,
    _fold(seed, 1),
    sigma=0.0,
    degrees=degrees,
    boundary=boundary,
    fill=fill,
    probability=probability,
  )


def elastic(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  grid: int = 3,
  sigma: float = 10.0,
  degrees: float = 0.0,
  shift: float = 0.0,
  boundary: str = "reflect",
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> Example:
  """Returns the example smoothly deformed; optionally turned and moved too.

  One field of coordinates moves image, label and weight, and everything is
  sampled once, so that turning and moving blur nothing further.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    grid: nodes a side of the grid of random displacements; at least 3.
    sigma: their standard deviation in pixels; 0 deforms nothing.
    degrees: a rotation about the centre, uniform in [-degrees, degrees].
    shift: a translation, uniform in [-shift, shift] pixels along both axes.
    boundary: "reflect", as U-Net extrapolates at borders, or "fill".
    fill: the colour of the padding, one value or one a channel, in [0, 255].
    probability: with which anything moves, in [0, 1].

  Source: U-Net (MICCAI 2015) section 3.1: a 3 x 3 grid, 10 pixels, bicubic.
  """
  size = tf.shape(example["label"])
  centre = (tf.cast(size, tf.float32) - 1) / 2
  happens = 1.0
  if probability != 1:
    happens = tf.cast(photometric.happens(seed, probability), tf.float32)
  coordinates = geometry.pixel_grid(size) - centre
  if degrees:
    limit = math.radians(degrees)
    angle = tf.random.stateless_uniform([], _fold(seed, 1), -limit, limit)
    angle *= happens
    cosine, sine = tf.cos(angle), tf.sin(angle)
    y, x = coordinates[..., 0], coordinates[..., 1]
    coordinates = tf.stack(
      [cosine * y + sine * x, cosine * x - sine * y], axis=-1
    )
  offset = centre
  if shift:
    offset += happens * tf.random.stateless_uniform(
      [2], _fold(seed, 2), -shift, shift
    )
  if sigma:
    coordinates += happens * elastic_lib.displacement_field(
      _fold(seed, 3), size, grid=grid, sigma=sigma
    )
  return geometry.warp(
    example, coordinates + offset, boundary=boundary, fill=fill
  )


def perspective(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  distortion: float = 0.1,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> Example:
  """Returns the example as a plane that is seen from somewhere else.

  The corners show what lies at other places of the example: those of the
  corners, moved along both axes by up to `distortion` of the side. What lies in
  between follows from the homography of these four pairs, so that straight
  lines stay straight.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    distortion: in [0, 0.25), as a share of height and width between the centres
      of the corner pixels; any such corners span a convex quadrilateral.
    boundary: "fill" or "reflect".
    fill: the colour of the padding, one value or one a channel, in [0, 255].
    probability: with which anything moves, in [0, 1].

  Raises:
    ValueError: if the distortion is out of range.
  """
  if not 0 <= distortion < 0.25:
    raise ValueError(f"distortion must be in [0, 0.25), got {distortion}.")
  if not distortion:
    return example
  corners = tf.random.stateless_uniform([4, 2], seed, -distortion, distortion)
  if probability != 1:
    corners *= tf.cast(photometric.happens(seed, probability), tf.float32)
  size = tf.shape(example["label"])
  grid = geometry.pixel_grid(size)
  last = tf.cast(tf.maximum(size - 1, 1), tf.float32)
  moved = _homography(corners, grid / last)
  return geometry.warp(
    example, grid + moved * last, boundary=boundary, fill=fill
  )


def _homography(corners: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
  """Returns by how much a homography moves places of the unit square.

  Args:
    corners: float32 [4, 2], by how much the corners (0, 0), (0, 1), (1, 1) and
      (1, 0) are moved.
    places: float32 [h, w, 2].

  Returns:
    float32 [h, w, 2]; exactly 0 if no corner moves.

  Source: Heckbert, Fundamentals of Texture Mapping and Image Warping (1989),
  section 2.2.3, square to quadrilateral, written as differences from identity.
  """
  a, b, c, d = tf.unstack(corners)
  along = b - c + tf.constant([-1.0, 0.0])
  across = d - c + tf.constant([0.0, -1.0])
  rest = a - b + c - d
  area = along[1] * across[0] - along[0] * across[1]
  right = (rest[1] * across[0] - rest[0] * across[1]) / area
  down = (along[1] * rest[0] - along[0] * rest[1]) / area
  y, x = places[..., :1], places[..., 1:]
  by_x = b - a + right * (b + tf.constant([0.0, 1.0]))
  by_y = d - a + down * (d + tf.constant([1.0, 0.0]))
  bent = right * x + down * y
  return (by_x * x + by_y * y + a - bent * places) / (1 + bent)
