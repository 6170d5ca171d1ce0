"""Random changes of an image's colours and grey values."""

from collections.abc import Sequence
import math

import tensorflow as tf

from fcnjax.data import geometry


def photometric(
  example: geometry.Example,
  seed: tf.Tensor | Sequence[int],
  *,
  brightness: float = 0.125,
  contrast: float = 0.25,
  saturation: float = 0.25,
  hue: float = 0.0,
  gamma: float = 0.0,
) -> geometry.Example:
  """Returns the example with its image's colours changed; nothing moves.

  Each strength s draws one u, uniform in [-s, s]; 0 leaves that part out.
  Saturation and hue concern the first three channels as red, green and blue;
  an image of one or two channels has grey-value variation only.

  Args:
    example: image, label and optional weight.
    seed: the stateless seed.
    brightness: adds 255 u.
    contrast: multiplies the distance from each channel's mean by 1 + u.
    saturation: multiplies the distance from the pixel's grey by 1 + u.
    hue: turns the colour circle by u whole turns; at most 0.5.
    gamma: raises the value, as a part of 255, to the power exp(u).

  Returns:
    The example; image values cut to [0, 255].
  """
  strengths = [brightness, contrast, saturation, hue, gamma]
  drawn = tf.random.stateless_uniform([5], seed, -1.0, 1.0)
  drawn *= tf.constant(strengths, tf.float32)
  image = example["image"]
  if gamma:
    base = tf.clip_by_value(image / 255, 0.0, 1.0)
    image = 255 * tf.pow(base, tf.exp(drawn[4]))
  # What is left is one affine function of a pixel's channels.
  channels = image.shape[-1]
  matrix, bias = tf.eye(channels), tf.zeros([channels])
  if (saturation or hue) and channels >= 3:
    change = _colour_matrix(drawn[2], drawn[3]) - tf.eye(3)
    matrix += tf.pad(tf.transpose(change), [[0, channels - 3]] * 2)
  if contrast:
    mean = tf.reduce_mean(image, axis=[0, 1])
    bias -= drawn[1] * tf.linalg.matvec(matrix, mean, transpose_a=True)
    matrix *= 1 + drawn[1]
  if brightness:
    bias += 255 * drawn[0]
  if brightness or contrast or saturation or hue:
    flat = tf.reshape(image, [-1, channels]) @ matrix
    image = tf.reshape(tf.nn.bias_add(flat, bias), tf.shape(image))
  if any(strengths):
    image = tf.clip_by_value(image, 0.0, 255.0)
  return {**example, "image": image}


def _colour_matrix(saturation: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
  """Returns the 3x3 RGB matrix that turns and stretches YIQ's colour plane."""
  to_yiq = tf.constant(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
  )
  angle = 2 * math.pi * hue
  a, b = (1 + saturation) * tf.cos(angle), (1 + saturation) * tf.sin(angle)
  change = tf.stack([[1.0, 0.0, 0.0], [0.0, a, -b], [0.0, b, a]])
  return tf.linalg.inv(to_yiq) @ change @ to_yiq
