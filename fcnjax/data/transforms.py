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

from fcnjax.data import crops, geometry, photometric, warps

Example = geometry.Example
PerChannel = geometry.PerChannel
_fold = tf.random.experimental.stateless_fold_in


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
  return geometry.resized(
    example, geometry.pixel_size(size), antialias=antialias
  )


def random_scale(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  minimum: float = 0.5,
  maximum: float = 2.0,
  step: float = 0.0,
  short_side: int = 0,
  aspect: float = 1.0,
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
    aspect: at least 1; the ratio of height to width is multiplied by a number
      in [1 / aspect, aspect], whose logarithm is uniform; the area is not.

  Returns:
    The example with sides of round(factor * side) pixels, at least 1.

  Raises:
    ValueError: if the factors are not positive and ascending, or aspect < 1.
  """
  size = scaled_size(
    tf.shape(example["label"]),
    seed,
    minimum=minimum,
    maximum=maximum,
    step=step,
    short_side=short_side,
    aspect=aspect,
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
  aspect: float = 1.0,
) -> tf.Tensor:
  """Returns the size int32 [2] that `random_scale` gives one of `size`."""
  if not 0 < minimum <= maximum or step < 0 or aspect < 1:
    raise ValueError(
      "random_scale needs 0 < minimum <= maximum, step >= 0 and aspect >= 1, "
      f"got minimum={minimum}, maximum={maximum}, step={step}, "
      f"aspect={aspect}."
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
  if aspect != 1:
    limit = math.log(aspect) / 2
    drawn = tf.random.stateless_uniform([], _fold(seed, 1), -limit, limit)
    factor *= tf.exp(tf.stack([drawn, -drawn]))
  return tf.maximum(tf.cast(tf.round(size * factor), tf.int32), 1)


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
  axes = flipped_axes(
    seed, horizontal=horizontal, vertical=vertical, probability=probability
  )
  return geometry.mirrored(example, axes)


def flipped_axes(
  seed: tf.Tensor | Sequence[int],
  *,
  horizontal: bool = True,
  vertical: bool = False,
  probability: float = 0.5,
) -> tf.Tensor:
  """Returns the axes (y, x) that `flip` reverses: bool [2]."""
  drawn = tf.random.stateless_uniform([2], seed) < probability
  return drawn & tf.constant([vertical, horizontal])


def jitter(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  pixels: int = 32,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> Example:
  """Returns the example moved by up to `pixels` in both directions.

  Source: FCN (CVPR 2015) section 4.3: "jittering" by up to 32 pixels, the
  coarsest scale of prediction. The size stays.
  """
  offset = tf.random.stateless_uniform(
    [2], seed, -pixels, pixels + 1, dtype=tf.int32
  )
  if probability != 1:
    offset *= tf.cast(photometric.happens(seed, probability), tf.int32)
  return geometry.window(
    example, offset, tf.shape(example["label"]), boundary=boundary, fill=fill
  )


def cut_out(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  count: int = 1,
  minimum: float = 0.1,
  maximum: float = 0.3,
  keep_label: bool = False,
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> Example:
  """Returns the example with random rectangles erased from it.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    count: of the rectangles, which may overlap; 0 erases nothing.
    minimum: the least height and width, as a share of the image's.
    maximum: the greatest; both sides are drawn by themselves. A rectangle lies
      in the image as a whole, everywhere with the same probability.
    keep_label: whether label and weight stay, so that the network has to tell
      from the surroundings what was there. Otherwise the label is 255 there,
      and the weight 0.
    fill: the colour of the rectangles, one value or one a channel, in [0, 255].
    probability: with which anything is erased, in [0, 1].

  Raises:
    ValueError: if the shares are not ascending in [0, 1], or count is negative.

  Source: Cutout (arXiv:1708.04552) and Random Erasing (AAAI 2020).
  """
  if not 0 <= minimum <= maximum <= 1 or count < 0:
    raise ValueError(
      "cut_out needs count >= 0 and 0 <= minimum <= maximum <= 1, got "
      f"count={count}, minimum={minimum}, maximum={maximum}."
    )
  if not count:
    return example
  shares = tf.random.stateless_uniform([count, 2], seed, minimum, maximum)
  places = tf.random.stateless_uniform([count, 2], _fold(seed, 1))
  size = tf.shape(example["label"])
  sides = tf.cast(tf.round(shares * tf.cast(size, tf.float32)), tf.int32)
  room = size - sides
  first = tf.cast(places * tf.cast(room + 1, tf.float32), tf.int32)
  first = tf.minimum(first, room)
  if probability != 1:
    sides *= tf.cast(photometric.happens(seed, probability), tf.int32)
  rows, columns = tf.range(size[0])[:, None], tf.range(size[1])[None, :]
  mask = tf.zeros(size, tf.bool)
  for (y, x), (height, width) in zip(
    map(tf.unstack, tf.unstack(first)), map(tf.unstack, tf.unstack(sides))
  ):
    mask |= (
      (rows >= y) & (rows < y + height) & (columns >= x) & (columns < x + width)
    )
  return geometry.erased(example, mask, fill=fill, keep_label=keep_label)


def scaled_crop(
  example: Example,
  seeds: Sequence[tf.Tensor],
  *,
  scale: dict[str, Any],
  crop: dict[str, Any],
  flip: dict[str, Any] | None = None,
) -> Example:
  """Returns what `random_scale`, `random_crop` and `flip` give, to rounding.

  Of the enlarged example only what the crop shows is interpolated; its image
  may still be of bytes.

  Args:
    example: image, label and optional weight.
    seeds: of each of them.
    scale: parameters of `random_scale`.
    crop: parameters of `random_crop`, whose boundary is "fill".
    flip: parameters of `flip`; None does not flip.
  """
  size = geometry.pixel_size(crop["size"])
  scaled = scaled_size(tf.shape(example["label"]), seeds[0], **scale)
  axes = (False, False) if flip is None else flipped_axes(seeds[2], **flip)
  return geometry.resized_window(
    example,
    scaled,
    crops.crop_offset(scaled, seeds[1], size),
    size,
    flipped=axes,
    fill=crop.get("fill", 0.0),
  )


# The names of configs, in the order in which a recipe usually has them.
TRANSFORMS = {
  "resize": resize,
  "random_scale": random_scale,
  "elastic": warps.elastic,
  "rotate": warps.rotate,
  "perspective": warps.perspective,
  "jitter": jitter,
  "random_crop": crops.random_crop,
  "center_crop": crops.center_crop,
  "pad_to": crops.pad_to,
  "flip": flip,
  "photometric": photometric.photometric,
  "grey_values": photometric.grey_values,
  "blur": photometric.blur,
  "noise": photometric.noise,
  "cut_out": cut_out,
}
