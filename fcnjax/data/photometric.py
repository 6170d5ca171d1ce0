"""Random changes of an image's colours and grey values; nothing moves.

All of them concern the first three channels as red, green and blue, or, of an
image of one or two channels, the first as grey. What lies behind (depth, alpha,
a second image) is no colour and stays as it is.
"""

from collections.abc import Callable, Sequence
import math

import tensorflow as tf

from fcnjax.data import geometry

_fold = tf.random.experimental.stateless_fold_in


def photometric(
  example: geometry.Example,
  seed: tf.Tensor | Sequence[int],
  *,
  brightness: float = 0.125,
  contrast: float = 0.25,
  saturation: float = 0.25,
  hue: float = 0.0,
  gamma: float = 0.0,
  probability: float = 1.0,
) -> geometry.Example:
  """Returns the example with its image's colours changed.

  Each strength s draws one u, uniform in [-s, s]; 0 leaves that part out.
  An image of one or two channels has no saturation and no hue.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    brightness: adds 255 u.
    contrast: multiplies the distance from each channel's mean by 1 + u.
    saturation: multiplies the distance from the pixel's grey by 1 + u.
    hue: turns the colour circle by u whole turns; at most 0.5.
    gamma: raises the value, as a part of 255, to the power exp(u).
    probability: with which anything changes, in [0, 1].

  Returns:
    The example; colours cut to [0, 255].
  """
  strengths = [brightness, contrast, saturation, hue, gamma]
  if not any(strengths):
    return example
  drawn = tf.random.stateless_uniform([5], seed, -1.0, 1.0)
  drawn *= tf.constant(strengths, tf.float32)

  def change(image):
    if gamma:
      base = tf.clip_by_value(image / 255, 0.0, 1.0)
      image = 255 * tf.pow(base, tf.exp(drawn[4]))
    # What is left is one affine function of a pixel's channels.
    channels = image.shape[-1]
    matrix, bias = tf.eye(channels), tf.zeros([channels])
    if (saturation or hue) and channels == 3:
      matrix = _colour_matrix(drawn[2], drawn[3])
    if contrast:
      mean = tf.reduce_mean(tf.reduce_mean(image, axis=0), axis=0)
      bias -= drawn[1] * tf.linalg.matvec(matrix, mean)
      matrix *= 1 + drawn[1]
    if brightness:
      bias += 255 * drawn[0]
    # Not a transposition nor a bias_add: a graph would fuse these with the
    # product, to other bits than eagerly.
    shape = tf.shape(image)
    flat = tf.reshape(image, [-1, channels])
    flat = tf.matmul(flat, matrix, transpose_b=True)
    # A sum of long rows, which takes a third of the time of short ones.
    rows = tf.reshape(flat, [shape[0], -1]) + tf.tile(bias, shape[1:2])
    return tf.reshape(rows, shape)

  return _changed(example, seed, change, probability)


def grey_values(
  example: geometry.Example,
  seed: tf.Tensor | Sequence[int],
  *,
  strength: float = 0.5,
  segments: int = 4,
  probability: float = 1.0,
) -> geometry.Example:
  """Returns the example with a random monotone curve on each channel's values.

  The curve leads from 0 to 0 and from 255 to 255, in straight segments over
  equal parts of [0, 255]. Their slopes are in the ratios of exp(u), with one u,
  uniform in [-strength, strength], for each segment and channel. So bright
  stays brighter than dark, but by how much varies from grey to grey.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    strength: 0 changes nothing.
    segments: of the curve; at least 2.
    probability: with which anything changes, in [0, 1].

  Returns:
    The example; colours cut to [0, 255].

  Raises:
    ValueError: if there are fewer than two segments.

  Source: U-Net (MICCAI 2015) section 3.1 asks for robustness to "gray value
  variations" and leaves open which; this definition is ours.
  """
  if segments < 2:
    raise ValueError(f"segments must be at least 2, got {segments}.")
  if not strength:
    return example
  channels = _colours(example["image"])
  slopes = tf.exp(
    tf.random.stateless_uniform([segments, channels], seed, -strength, strength)
  )
  rises = 255 * slopes / tf.reduce_sum(slopes, axis=0)

  def change(image):
    place = tf.clip_by_value(image, 0.0, 255.0) * (segments / 255)
    curve = tf.zeros_like(image)
    for i in range(segments):
      curve += rises[i] * tf.clip_by_value(place - i, 0.0, 1.0)
    return curve

  return _changed(example, seed, change, probability)


def noise(
  example: geometry.Example,
  seed: tf.Tensor | Sequence[int],
  *,
  sigma: float = 10.0,
  probability: float = 1.0,
) -> geometry.Example:
  """Returns the example with Gaussian noise, independent for each value.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    sigma: the greatest standard deviation, in grey values of 255; an image's
      own is uniform in [0, sigma].
    probability: with which anything changes, in [0, 1].

  Returns:
    The example; colours cut to [0, 255].
  """
  if not sigma:
    return example
  own = tf.random.stateless_uniform([], seed, 0.0, sigma)

  def change(image):
    return image + own * tf.random.stateless_normal(
      tf.shape(image), _fold(seed, 1)
    )

  return _changed(example, seed, change, probability)


def blur(
  example: geometry.Example,
  seed: tf.Tensor | Sequence[int],
  *,
  sigma: float = 1.5,
  probability: float = 1.0,
) -> geometry.Example:
  """Returns the example with its image convolved with a Gaussian.

  The Gaussian is sampled at the pixels, cut at three times the greatest sigma
  and sums to one; borders are mirrored.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    sigma: the greatest standard deviation in pixels; an image's own is uniform
      in [0, sigma].
    probability: with which anything changes, in [0, 1].

  Returns:
    The example; colours cut to [0, 255].
  """
  if not sigma:
    return example
  radius = math.ceil(3 * sigma)
  own = tf.random.stateless_uniform([], seed, 0.0, sigma)
  # Narrower than this, nothing is left of the neighbours in float32.
  own = tf.maximum(own, 0.05)
  taps = tf.exp(-0.5 * tf.square(tf.range(-radius, radius + 1.0) / own))
  taps /= tf.reduce_sum(taps)

  def change(image):
    planes = tf.transpose(image, [2, 0, 1])[..., None]
    for axis in (1, 2):
      length = tf.shape(planes)[axis]
      places = geometry.reflect(tf.range(-radius, length + radius), length)
      kernel = tf.reshape(taps, [-1, 1, 1, 1] if axis == 1 else [1, -1, 1, 1])
      planes = tf.nn.conv2d(
        tf.gather(planes, places, axis=axis), kernel, strides=1, padding="VALID"
      )
    return tf.transpose(planes[..., 0], [1, 2, 0])

  return _changed(example, seed, change, probability)


def happens(seed: tf.Tensor | Sequence[int], probability: float) -> tf.Tensor:
  """Returns whether a transform of this seed happens, a boolean.

  Raises:
    ValueError: if the probability is not in [0, 1].
  """
  if not 0 <= probability <= 1:
    raise ValueError(f"probability must be in [0, 1], got {probability}.")
  return tf.random.stateless_uniform([], _fold(seed, 9)) < probability


def _colours(image: tf.Tensor) -> int:
  """Returns how many of the first channels are colours."""
  return 3 if image.shape[-1] >= 3 else 1


def _changed(
  example: geometry.Example,
  seed: tf.Tensor | Sequence[int],
  change: Callable[[tf.Tensor], tf.Tensor],
  probability: float,
) -> geometry.Example:
  """Returns the example with its colours changed and cut to [0, 255], or not.

  Args:
    example: image, label and optional weight.
    seed: of the transform.
    change: float32 [h, w, 1 or 3] -> the same.
    probability: with which anything changes.
  """
  image = example["image"]
  count = _colours(image)
  only = image.shape[-1] == count
  before = image if only else image[..., :count]
  after = geometry.clipped(change(before), 0.0, 255.0)
  if probability != 1:
    after = tf.where(happens(seed, probability), after, before)
  if only:  # Nothing to copy.
    return {**example, "image": after}
  return {**example, "image": tf.concat([after, image[..., count:]], axis=-1)}


def _colour_matrix(saturation: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
  """Returns the 3x3 RGB matrix that turns and stretches YIQ's colour plane."""
  to_yiq = tf.constant(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
  )
  angle = 2 * math.pi * hue
  a, b = (1 + saturation) * tf.cos(angle), (1 + saturation) * tf.sin(angle)
  change = tf.stack([[1.0, 0.0, 0.0], [0.0, a, -b], [0.0, b, a]])
  return tf.linalg.inv(to_yiq) @ change @ to_yiq
