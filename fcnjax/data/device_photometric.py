"""Colours and grey values on the device: photometric.py, without TensorFlow.

Names, parameters and meanings are those of photometric.py; see there.
"""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key
import numpy as np

from fcnjax.data import views

View = views.View
_EXACT = jax.lax.Precision.HIGHEST


def photometric(
  view: View,
  key: Key[Array, ""],
  *,
  brightness: float = 0.125,
  contrast: float = 0.25,
  saturation: float = 0.25,
  hue: float = 0.0,
  gamma: float = 0.0,
  probability: float = 1.0,
) -> View:
  """Returns the example with its image's colours changed."""
  strengths = [brightness, contrast, saturation, hue, gamma]
  if not any(strengths):
    return view
  drawn = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
  drawn = drawn * jnp.asarray(strengths, jnp.float32)

  def recoloured(image):
    if gamma:
      base = jnp.clip(image / 255, 0.0, 1.0)
      image = 255 * jnp.power(base, jnp.exp(drawn[4]))
    if (saturation or hue) and image.shape[-1] == 3:
      change = _colour_matrix(drawn[2], drawn[3]) - jnp.eye(3)
      image += jnp.einsum("...j,ij->...i", image, change, precision=_EXACT)
    return image

  mean = None
  if contrast:
    # The mean is that of the whole image, whatever is cut from it later.
    view = views.computed(view)
    image = recoloured(_colours(view.whole()["image"]))
    rows, columns = (jnp.arange(side) for side in image.shape[:2])
    own = (rows < view.size[0])[:, None] & (columns < view.size[1])[None, :]
    total = jnp.sum(jnp.where(own[..., None], image, 0.0), axis=(0, 1))
    area = jnp.asarray(view.size[0] * view.size[1], jnp.float32)
    mean = (total / area)[None, None]

  def change(image, rows, columns):
    del rows, columns
    image = recoloured(image)
    if contrast:
      image += (image - mean) * drawn[1]
    if brightness:
      image += 255 * drawn[0]
    return image

  return _changed(view, key, change, probability)


def grey_values(
  view: View,
  key: Key[Array, ""],
  *,
  strength: float = 0.5,
  segments: int = 4,
  probability: float = 1.0,
) -> View:
  """Returns the example with a random monotone curve on each channel's values.

  Source: U-Net (MICCAI 2015) section 3.1, "gray value variations".
  """
  if segments < 2:
    raise ValueError(f"segments must be at least 2, got {segments}.")
  if not strength:
    return view
  shape = (segments, _channels(view))
  slopes = jnp.exp(
    jax.random.uniform(key, shape, minval=-strength, maxval=strength)
  )
  rises = 255 * slopes / jnp.sum(slopes, axis=0)[None]

  def change(image, rows, columns):
    del rows, columns
    place = jnp.clip(image, 0.0, 255.0) * (segments / 255)
    return sum(
      rises[i][None, None] * jnp.clip(place - i, 0.0, 1.0)
      for i in range(segments)
    )

  return _changed(view, key, change, probability)


def noise(
  view: View,
  key: Key[Array, ""],
  *,
  sigma: float = 10.0,
  probability: float = 1.0,
) -> View:
  """Returns the example with Gaussian noise, independent for each value.

  It is drawn for the whole example, so it costs less behind a crop.
  """
  if not sigma:
    return view
  own = jax.random.uniform(key, (), minval=0.0, maxval=sigma)
  height, width = (int(side) for side in view.largest.max(axis=0))
  drawn = jax.random.normal(
    jax.random.fold_in(key, 1), (height, width, _channels(view))
  )

  def change(image, rows, columns):
    return image + own * drawn[rows, columns]

  return _changed(view, key, change, probability)


def blur(
  view: View,
  key: Key[Array, ""],
  *,
  sigma: float = 1.5,
  probability: float = 1.0,
) -> View:
  """Returns the example with its image convolved with a Gaussian.

  The whole example is computed, so it costs less behind a crop.
  """
  if not sigma:
    return view
  radius = math.ceil(3 * sigma)
  own = jax.random.uniform(key, (), minval=0.0, maxval=sigma)
  # Narrower than this, nothing is left of the neighbours in float32.
  own = jnp.maximum(own, 0.05)
  taps = jnp.exp(-0.5 * (jnp.arange(-radius, radius + 1.0) / own) ** 2)
  taps = taps / jnp.sum(taps)
  view = views.computed(view)
  blurred = _colours(view.whole()["image"])
  for axis in (0, 1):
    blurred = _convolved(blurred, taps, view.size[axis], axis)

  def change(image, rows, columns):
    del image
    return blurred[rows, columns]

  return _changed(view, key, change, probability)


def _convolved(
  image: Float[Array, "h w c"],
  taps: Float[Array, "t"],
  length: views.Side,
  axis: int,
) -> Float[Array, "h w c"]:
  """Returns the image convolved along an axis, mirrored at `length`."""
  places = jnp.arange(image.shape[axis]) - len(taps) // 2

  def add(i, total):
    index = views.reflect(places + i, length)
    return total + taps[i] * jnp.take(image, index, axis=axis, mode="clip")

  return jax.lax.fori_loop(0, len(taps), add, jnp.zeros_like(image))


def happens(key: Key[Array, ""], probability: float) -> Bool[Array, ""]:
  """Returns whether a transform of this key happens.

  Raises:
    ValueError: if the probability is not in [0, 1].
  """
  if not 0 <= probability <= 1:
    raise ValueError(f"probability must be in [0, 1], got {probability}.")
  return jax.random.uniform(jax.random.fold_in(key, 9), ()) < probability


def _changed(
  view: View,
  key: Key[Array, ""],
  change: Callable[[Array, Array, Array], Array],
  probability: float,
) -> View:
  """Returns the example with its colours changed and cut to [0, 255], or not.

  Args:
    view: the example.
    key: of the transform.
    change: float32 [h, w, 1 or 3], rows, columns -> the same.
    probability: with which anything changes.
  """
  drawn = None if probability == 1 else happens(key, probability)

  def at(rows, columns):
    maps = view.at(rows, columns)
    before = _colours(maps["image"])
    after = jnp.clip(change(before, rows, columns), 0.0, 255.0)
    if drawn is not None:
      after = jnp.where(drawn, after, before)
    rest = maps["image"][..., before.shape[-1] :]
    return maps | {"image": jnp.concatenate([after, rest], axis=-1)}

  return View(view.size, view.largest, at)


def _colours(image: Float[Array, "h w c"]) -> Float[Array, "h w d"]:
  """Returns the channels that are colours: three, or one."""
  return image[..., : 3 if image.shape[-1] >= 3 else 1]


def _channels(view: View) -> int:
  """Returns how many channels are colours."""
  place = jnp.zeros((1, 1), jnp.int32)
  return _colours(view.at(place, place)["image"]).shape[-1]


def _colour_matrix(
  saturation: Float[Array, ""], hue: Float[Array, ""]
) -> Float[Array, "3 3"]:
  """Returns the 3x3 RGB matrix that turns and stretches YIQ's colour plane."""
  to_yiq = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
  )
  angle = 2 * math.pi * hue
  a, b = (1 + saturation) * jnp.cos(angle), (1 + saturation) * jnp.sin(angle)
  # From YIQ, change, to YIQ: the plane's two axes are changed, grey is kept.
  rest = np.linalg.inv(to_yiq)
  grey = rest[:, :1] @ to_yiq[:1]
  along = rest[:, 1:] @ to_yiq[1:]
  across = rest[:, 2:] @ to_yiq[1:2] - rest[:, 1:2] @ to_yiq[2:]
  grey, along, across = (m.astype(np.float32) for m in (grey, along, across))
  return grey + a * along + b * across
