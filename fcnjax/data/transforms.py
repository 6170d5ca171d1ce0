"""Augmentation of an example: image, label and weight move together.

Every transform is `op(example, seed, *, ...) -> example`, a pure function that
works eagerly and inside `Dataset.map`. An example is a dict of

  image   float32 [h, w, c], values in [0, 255], any number of channels;
  label   uint8 [h, w], classes in [0, k) or 255 = ignore;
  weight  float32 [h, w], optional: what the loss multiplies a pixel with;
  second_label  as label, optional: of a second task.

The seed is an int32 or int64 tensor [2]. How pixels move, and what `boundary`
and `fill` do, is told in geometry.py.
"""

from collections.abc import Sequence
import math
from typing import Any

import tensorflow as tf

from fcnjax.data import elastic as elastic_lib, geometry, photometric

Example = geometry.Example
PerChannel = geometry.PerChannel


def resize(
  example: Example,
  seed: tf.Tensor | Sequence[int] = (0, 0),
  *,
  size: Sequence[int],
  antialias: bool = False,
) -> Example:
  """Returns the example at another size.

  Args:
    example: image, label and optional weight.
    seed: unused.
    size: height and width in pixels.
    antialias: widens the image's filter when shrinking; the weight's too.

  Returns:
    The example of that size: image and weight bilinear, label nearest.
  """
  del seed
  return geometry.resized(example, _size(size), antialias=antialias)


def random_scale(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  minimum: float = 0.5,
  maximum: float = 2.0,
  step: float = 0.0,
  short_side: int = 0,
) -> Example:
  """Returns the example enlarged or shrunk by a random factor.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    minimum: the smallest factor; positive.
    maximum: the greatest factor.
    step: 0 draws any factor in between; otherwise one of minimum,
      minimum + step, ... up to maximum.
    short_side: what the factor multiplies: 0, the image as it is; otherwise
      the image whose shorter side has this many pixels.

  Returns:
    The example with sides of round(factor * side) pixels, at least 1.

  Raises:
    ValueError: if the factors are not positive and ascending.
  """
  size = scaled_size(
    tf.shape(example["label"]),
    seed,
    minimum=minimum,
    maximum=maximum,
    step=step,
    short_side=short_side,
  )
  return geometry.resized(example, size)


def scaled_size(
  size: tf.Tensor,
  seed: tf.Tensor | Sequence[int],
  *,
  minimum: float = 0.5,
  maximum: float = 2.0,
  step: float = 0.0,
  short_side: int = 0,
) -> tf.Tensor:
  """Returns the size int32 [2] that `random_scale` gives one of `size`."""
  if not 0 < minimum <= maximum or step < 0:
    raise ValueError(
      "random_scale needs 0 < minimum <= maximum and step >= 0, got "
      f"minimum={minimum}, maximum={maximum}, step={step}."
    )
  if step:
    count = int(math.floor((maximum - minimum) / step + 1e-6)) + 1
    drawn = tf.random.stateless_uniform([], seed, 0, count, dtype=tf.int32)
    factor = minimum + step * tf.cast(drawn, tf.float32)
  else:
    factor = tf.random.stateless_uniform([], seed, minimum, maximum)
  size = tf.cast(size, tf.float32)
  if short_side:
    factor *= short_side / tf.reduce_min(size)
  return tf.maximum(tf.cast(tf.round(size * factor), tf.int32), 1)


def random_crop(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  size: Sequence[int],
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> Example:
  """Returns a window of a fixed size at a random place.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    size: height and width of the window in pixels.
    boundary: "fill" or "reflect"; used if the image is smaller than the
      window, which then lies around it, at random too.
    fill: the colour of the padding, one value or one a channel, in [0, 255].

  Returns:
    The example at exactly that size.
  """
  size = _size(size)
  offset = crop_offset(tf.shape(example["label"]), seed, size)
  return geometry.window(example, offset, size, boundary=boundary, fill=fill)


def crop_offset(
  shape: tf.Tensor, seed: tf.Tensor | Sequence[int], size: tf.Tensor
) -> tf.Tensor:
  """Returns where `random_crop`'s window of a size begins: int32 [2]."""
  room = shape - size
  places = tf.cast(tf.abs(room) + 1, tf.float32)
  drawn = tf.random.stateless_uniform([2], seed) * places
  drawn = tf.minimum(tf.cast(drawn, tf.int32), tf.abs(room))
  return tf.minimum(room, 0) + drawn


def center_crop(
  example: Example,
  seed: tf.Tensor | Sequence[int] = (0, 0),
  *,
  size: Sequence[int],
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> Example:
  """Returns the middle of the example at exactly `size`; pads what lacks."""
  del seed
  size = _size(size)
  offset = (tf.shape(example["label"]) - size) // 2
  return geometry.window(example, offset, size, boundary=boundary, fill=fill)


def pad_to(
  example: Example,
  seed: tf.Tensor | Sequence[int] = (0, 0),
  *,
  size: Sequence[int],
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> Example:
  """Returns the example in the middle of a frame of at least `size`.

  Nothing is cut: a side that is longer already stays as it is.
  """
  del seed
  shape = tf.shape(example["label"])
  size = tf.maximum(shape, _size(size))
  return geometry.window(
    example, (shape - size) // 2, size, boundary=boundary, fill=fill
  )


def flip(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  horizontal: bool = True,
  vertical: bool = False,
  probability: float = 0.5,
) -> Example:
  """Returns the example mirrored left-right (and top-bottom) or not.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    horizontal: whether left and right may change places.
    vertical: whether top and bottom may change places.
    probability: of each of the two, in [0, 1].
  """
  drawn = tf.random.stateless_uniform([2], seed) < probability
  return geometry.mirrored(example, drawn & tf.constant([vertical, horizontal]))


def rotate(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  degrees: float = 10.0,
  quarter_turns: bool = False,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
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
  """
  if quarter_turns:
    turns = tf.random.stateless_uniform([], seed, 0, 4, dtype=tf.int32)
    example = geometry.turned(example, turns)
  if not degrees:
    return example
  return elastic(
    example,
    tf.random.experimental.stateless_fold_in(seed, 1),
    sigma=0.0,
    degrees=degrees,
    boundary=boundary,
    fill=fill,
  )


def jitter(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  pixels: int = 32,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> Example:
  """Returns the example moved by up to `pixels` in both directions.

  Source: FCN (CVPR 2015) section 4.3: "jittering" by up to 32 pixels, the
  coarsest scale of prediction. The size stays.
  """
  offset = tf.random.stateless_uniform(
    [2], seed, -pixels, pixels + 1, dtype=tf.int32
  )
  return geometry.window(
    example, offset, tf.shape(example["label"]), boundary=boundary, fill=fill
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

  Source: U-Net (MICCAI 2015) section 3.1: a 3 x 3 grid, 10 pixels, bicubic.
  """
  size = tf.shape(example["label"])
  centre = (tf.cast(size, tf.float32) - 1) / 2
  coordinates = geometry.pixel_grid(size) - centre
  fold = tf.random.experimental.stateless_fold_in
  if degrees:
    limit = math.radians(degrees)
    angle = tf.random.stateless_uniform([], fold(seed, 1), -limit, limit)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    y, x = coordinates[..., 0], coordinates[..., 1]
    coordinates = tf.stack(
      [cosine * y + sine * x, cosine * x - sine * y], axis=-1
    )
  coordinates += centre
  if shift:
    coordinates += tf.random.stateless_uniform(
      [2], fold(seed, 2), -shift, shift
    )
  if sigma:
    coordinates += elastic_lib.displacement_field(
      fold(seed, 3), size, grid=grid, sigma=sigma
    )
  return geometry.warp(example, coordinates, boundary=boundary, fill=fill)


def _size(size: Sequence[int]) -> tf.Tensor:
  """Returns (height, width) as a tensor."""
  if len(size) != 2 or min(size) < 1:
    raise ValueError(f"size must be (height, width), got {tuple(size)}.")
  return tf.constant([int(side) for side in size], tf.int32)


def scaled_crop(
  example: Example,
  seeds: Sequence[tf.Tensor],
  *,
  scale: dict[str, Any],
  crop: dict[str, Any],
) -> Example:
  """Returns what `random_scale` and then `random_crop` give, to rounding.

  Of the enlarged example only what the crop shows is interpolated; its image
  may still be of bytes.

  Args:
    example: image, label and optional weight.
    seeds: of the two.
    scale: parameters of `random_scale`.
    crop: parameters of `random_crop`, whose boundary is "fill".
  """
  size = _size(crop["size"])
  scaled = scaled_size(tf.shape(example["label"]), seeds[0], **scale)
  return geometry.resized_window(
    example,
    scaled,
    crop_offset(scaled, seeds[1], size),
    size,
    fill=crop.get("fill", 0.0),
  )


# The names of configs, in the order in which a recipe usually has them.
TRANSFORMS = {
  "resize": resize,
  "random_scale": random_scale,
  "elastic": elastic,
  "rotate": rotate,
  "jitter": jitter,
  "random_crop": random_crop,
  "center_crop": center_crop,
  "pad_to": pad_to,
  "flip": flip,
  "photometric": photometric.photometric,
}
