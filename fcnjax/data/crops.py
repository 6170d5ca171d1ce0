"""Transforms that cut a window out of an example, or put one around it.

See transforms.py for what a transform is.
"""

from collections.abc import Sequence

import tensorflow as tf

from fcnjax import typing
from fcnjax.data import geometry

Example = geometry.Example
PerChannel = geometry.PerChannel


def random_crop(
  example: Example,
  seed: tf.Tensor | Sequence[int],
  *,
  size: Sequence[int],
  boundary: str = "fill",
  fill: PerChannel = 0.0,
  max_share: float = 1.0,
  tries: int = 10,
) -> Example:
  """Returns a window of a fixed size at a random place.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    size: height and width of the window in pixels.
    boundary: "fill" or "reflect"; used if the image is smaller than the
      window, which then lies around it, at random too.
    fill: the colour of the padding, one value or one a channel, in [0, 255].
    max_share: below 1, windows that one class rules are avoided: of the places
      that are drawn one after the other the first is taken where the most
      frequent class has at most this share of the pixels that have a class
      (label < 255). If there is none, it is the one where that share is
      least, and the first of those. No class at all counts as a share of 1.
    tries: how many places are drawn at most; used with max_share.

  Returns:
    The example at exactly that size.

  Raises:
    ValueError: if max_share is not in (0, 1] or tries is less than 1.
  """
  if not 0 < max_share <= 1 or tries < 1:
    raise ValueError(
      "random_crop needs 0 < max_share <= 1 and tries >= 1, got "
      f"max_share={max_share}, tries={tries}."
    )
  size = geometry.pixel_size(size)
  balanced = max_share < 1
  offset = crop_offset(
    tf.shape(example["label"]), seed, size, tries=tries if balanced else 0
  )
  if balanced:
    offset = _balanced(
      example["label"], offset, size, boundary=boundary, max_share=max_share
    )
  return geometry.window(example, offset, size, boundary=boundary, fill=fill)


def crop_offset(
  shape: tf.Tensor,
  seed: tf.Tensor | Sequence[int],
  size: tf.Tensor,
  *,
  tries: int = 0,
) -> tf.Tensor:
  """Returns where `random_crop`'s window begins: int32 [2], or [tries, 2]."""
  room = shape - size
  places = tf.cast(tf.abs(room) + 1, tf.float32)
  drawn = tf.random.stateless_uniform([tries, 2] if tries else [2], seed)
  drawn = tf.cast(drawn * places, tf.int32)
  return tf.minimum(room, 0) + tf.minimum(drawn, tf.abs(room))


def _balanced(
  label: tf.Tensor,
  offsets: tf.Tensor,
  size: tf.Tensor,
  *,
  boundary: str,
  max_share: float,
) -> tf.Tensor:
  """Returns the first of int32 [n, 2] offsets that no class rules, or the best.

  Windows are looked at until one is good enough.
  """

  def go_on(number, least, best):
    del best
    return (number < tf.shape(offsets)[0]) & (least > max_share)

  def look(number, least, best):
    window = geometry.window(
      {"label": label}, offsets[number], size, boundary=boundary
    )["label"]
    counts = tf.math.bincount(
      tf.cast(tf.reshape(window, [-1]), tf.int32), minlength=256, maxlength=256
    )[: typing.IGNORE]
    total = tf.reduce_sum(counts)
    share = tf.cast(tf.reduce_max(counts), tf.float32) / tf.cast(
      tf.maximum(total, 1), tf.float32
    )
    share = tf.where(total > 0, share, 1.0)
    better = share < least
    return (
      number + 1,
      tf.where(better, share, least),
      tf.where(better, offsets[number], best),
    )

  # 2 is more than any share.
  return tf.while_loop(go_on, look, (0, tf.constant(2.0), offsets[0]))[2]


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
  size = geometry.pixel_size(size)
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
  size = tf.maximum(shape, geometry.pixel_size(size))
  return geometry.window(
    example, (shape - size) // 2, size, boundary=boundary, fill=fill
  )
