"""Augmentation on the device: transforms.py, without TensorFlow.

Every transform is `op(view, key, *, ...) -> view`, a pure function for use
under jit, with the names, parameters and meanings of transforms.py; see there.
For the same random numbers it gives the same example: image and weight up to
rounding, labels but where a place lies between two pixels by a rounding. The
numbers themselves are JAX's, and so others than TensorFlow's.
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
import numpy as np

from fcnjax import typing
from fcnjax.data import device_photometric, device_warps, views

View = views.View
PerChannel = views.PerChannel


def resize(
  view: View,
  key: Key[Array, ""] | None = None,
  *,
  size: Sequence[int],
  antialias: bool = False,
) -> View:
  """Returns the example at another size."""
  del key
  return views.resized(view, _size(size), antialias=antialias)


def random_scale(
  view: View,
  key: Key[Array, ""],
  *,
  minimum: float = 0.5,
  maximum: float = 2.0,
  step: float = 0.0,
  short_side: int = 0,
  aspect: float = 1.0,
) -> View:
  """Returns the example enlarged or shrunk by a random factor."""
  if not 0 < minimum <= maximum or step < 0 or aspect < 1:
    raise ValueError(
      "random_scale needs 0 < minimum <= maximum, step >= 0 and aspect >= 1, "
      f"got minimum={minimum}, maximum={maximum}, step={step}, "
      f"aspect={aspect}."
    )
  greatest = maximum
  if step:
    count = int(math.floor((maximum - minimum) / step + 1e-6)) + 1
    greatest = minimum + step * (count - 1)
    drawn = jax.random.randint(key, (), 0, count)
    factor = minimum + step * drawn.astype(jnp.float32)
  else:
    factor = jax.random.uniform(key, (), minval=minimum, maxval=maximum)
  if aspect != 1:
    limit = math.log(aspect) / 2
    drawn = jax.random.uniform(
      jax.random.fold_in(key, 1), (), minval=-limit, maxval=limit
    )
    factor = factor * jnp.exp(jnp.stack([drawn, -drawn]))
  largest = _scaled(view.largest, greatest * math.sqrt(aspect), short_side, np)
  if view.fixed and greatest == minimum and aspect == 1:
    height, width = (int(side) for side in largest[0])
    return views.resized(view, (height, width))
  size = _scaled(jnp.asarray(view.size), factor, short_side, jnp)
  size = jnp.minimum(size, largest.max(axis=0))
  return views.resized(view, (size[0], size[1]), largest=largest)


def random_crop(
  view: View,
  key: Key[Array, ""],
  *,
  size: Sequence[int],
  boundary: str = "fill",
  fill: PerChannel = 0.0,
  max_share: float = 1.0,
  tries: int = 10,
) -> View:
  """Returns a window of a fixed size at a random place."""
  if not 0 < max_share <= 1 or tries < 1:
    raise ValueError(
      "random_crop needs 0 < max_share <= 1 and tries >= 1, got "
      f"max_share={max_share}, tries={tries}."
    )
  size = _size(size)
  room = (jnp.asarray(view.size) - jnp.asarray(size))[None]
  places = (jnp.abs(room) + 1).astype(jnp.float32)
  balanced = max_share < 1
  drawn = jax.random.uniform(key, (tries, 2) if balanced else (2,))
  drawn = (jnp.reshape(drawn, (-1, 2)) * places).astype(jnp.int32)
  offsets = jnp.minimum(room, 0) + jnp.minimum(drawn, jnp.abs(room))
  best = 0
  if balanced:

    def share(offset):
      window = views.window(view, offset, size, boundary=boundary)
      counts = jnp.bincount(window.whole()["label"].ravel(), length=256)
      counts = counts[: typing.IGNORE].astype(jnp.float32)
      total = jnp.sum(counts)
      return jnp.where(
        total > 0, jnp.max(counts) / jnp.maximum(total, 1.0), 1.0
      )

    # One after the other: a window is not small.
    shares = jax.lax.map(share, offsets)
    good = shares <= max_share
    best = jnp.where(good.any(), jnp.argmax(good), jnp.argmin(shares))
  return views.window(view, offsets[best], size, boundary=boundary, fill=fill)


def center_crop(
  view: View,
  key: Key[Array, ""] | None = None,
  *,
  size: Sequence[int],
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> View:
  """Returns the middle of the example at exactly `size`; pads what lacks."""
  del key
  size = _size(size)
  offset = (jnp.asarray(view.size) - jnp.asarray(size)) // 2
  return views.window(view, offset, size, boundary=boundary, fill=fill)


def pad_to(
  view: View,
  key: Key[Array, ""] | None = None,
  *,
  size: Sequence[int],
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> View:
  """Returns the example in the middle of a frame of at least `size`."""
  del key
  size = _size(size)
  largest = np.maximum(view.largest, size)
  if view.fixed:
    height, width = (int(side) for side in largest[0])
  else:
    height, width = (jnp.maximum(a, b) for a, b in zip(view.size, size))
  offset = (jnp.asarray(view.size) - jnp.asarray((height, width))) // 2
  return views.window(
    view,
    offset,
    (height, width),
    largest=largest,
    boundary=boundary,
    fill=fill,
  )


def flip(
  view: View,
  key: Key[Array, ""],
  *,
  horizontal: bool = True,
  vertical: bool = False,
  probability: float = 0.5,
) -> View:
  """Returns the example mirrored left-right (and top-bottom) or not."""
  drawn = jax.random.uniform(key, (2,)) < probability
  return views.mirrored(view, drawn & jnp.array([vertical, horizontal]))


def jitter(
  view: View,
  key: Key[Array, ""],
  *,
  pixels: int = 32,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> View:
  """Returns the example moved by up to `pixels` in both directions."""
  offset = jax.random.randint(key, (2,), -pixels, pixels + 1)
  if probability != 1:
    offset = offset * device_photometric.happens(key, probability)
  return views.window(
    view, offset, view.size, largest=view.largest, boundary=boundary, fill=fill
  )


def cut_out(
  view: View,
  key: Key[Array, ""],
  *,
  count: int = 1,
  minimum: float = 0.1,
  maximum: float = 0.3,
  keep_label: bool = False,
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> View:
  """Returns the example with random rectangles erased from it."""
  if not 0 <= minimum <= maximum <= 1 or count < 0:
    raise ValueError(
      "cut_out needs count >= 0 and 0 <= minimum <= maximum <= 1, got "
      f"count={count}, minimum={minimum}, maximum={maximum}."
    )
  if not count:
    return view
  shares = jax.random.uniform(key, (count, 2), minval=minimum, maxval=maximum)
  places = jax.random.uniform(jax.random.fold_in(key, 1), (count, 2))
  size = jnp.asarray(view.size)[None]
  sides = jnp.round(shares * size.astype(jnp.float32)).astype(jnp.int32)
  room = size - sides
  first = (places * (room + 1).astype(jnp.float32)).astype(jnp.int32)
  first = jnp.minimum(first, room)
  if probability != 1:
    sides = sides * device_photometric.happens(key, probability)

  def mask(rows, columns):
    inside = False
    for i in range(count):
      y, x = rows - first[i, 0], columns - first[i, 1]
      inside |= (y >= 0) & (y < sides[i, 0]) & (x >= 0) & (x < sides[i, 1])
    return inside

  return views.erased(view, mask, fill=fill, keep_label=keep_label)


def _scaled(size, factor, short_side, numpy):
  """Returns sides of round(factor * side) pixels, at least 1; [..., 2]."""
  size = size.astype(numpy.float32)
  factor = numpy.asarray(factor, numpy.float32)
  if short_side:
    factor = factor * (
      numpy.float32(short_side) / size.min(axis=-1, keepdims=True)
    )
  return numpy.maximum(numpy.round(size * factor).astype(numpy.int32), 1)


def _size(size: Sequence[int]) -> tuple[int, int]:
  """Returns (height, width), checked."""
  if len(size) != 2 or min(size) < 1:
    raise ValueError(f"size must be (height, width), got {tuple(size)}.")
  return int(size[0]), int(size[1])


# The names of configs, in the order in which a recipe usually has them.
TRANSFORMS = {
  "resize": resize,
  "random_scale": random_scale,
  "elastic": device_warps.elastic,
  "rotate": device_warps.rotate,
  "perspective": device_warps.perspective,
  "jitter": jitter,
  "random_crop": random_crop,
  "center_crop": center_crop,
  "pad_to": pad_to,
  "flip": flip,
  "photometric": device_photometric.photometric,
  "grey_values": device_photometric.grey_values,
  "blur": device_photometric.blur,
  "noise": device_photometric.noise,
  "cut_out": cut_out,
}
