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
from jaxtyping import Array, Float, Key
import numpy as np

from fcnjax.data import views

View = views.View
PerChannel = views.PerChannel
_EXACT = jax.lax.Precision.HIGHEST


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
) -> View:
  """Returns the example enlarged or shrunk by a random factor."""
  if not 0 < minimum <= maximum or step < 0:
    raise ValueError(
      "random_scale needs 0 < minimum <= maximum and step >= 0, got "
      f"minimum={minimum}, maximum={maximum}, step={step}."
    )
  greatest = maximum
  if step:
    count = int(math.floor((maximum - minimum) / step + 1e-6)) + 1
    greatest = minimum + step * (count - 1)
    drawn = jax.random.randint(key, (), 0, count)
    factor = minimum + step * drawn.astype(jnp.float32)
  else:
    factor = jax.random.uniform(key, (), minval=minimum, maxval=maximum)
  largest = _scaled(view.largest, greatest, short_side, np)
  if view.fixed and greatest == minimum:
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
) -> View:
  """Returns a window of a fixed size at a random place."""
  size = _size(size)
  room = jnp.asarray(view.size) - jnp.asarray(size)
  places = (jnp.abs(room) + 1).astype(jnp.float32)
  drawn = (jax.random.uniform(key, (2,)) * places).astype(jnp.int32)
  drawn = jnp.minimum(drawn, jnp.abs(room))
  return views.window(
    view, jnp.minimum(room, 0) + drawn, size, boundary=boundary, fill=fill
  )


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


def rotate(
  view: View,
  key: Key[Array, ""],
  *,
  degrees: float = 10.0,
  quarter_turns: bool = False,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> View:
  """Returns the example turned about its centre."""
  if quarter_turns:
    view = views.turned(view, jax.random.randint(key, (), 0, 4))
  if not degrees:
    return view
  return elastic(
    view,
    jax.random.fold_in(key, 1),
    sigma=0.0,
    degrees=degrees,
    boundary=boundary,
    fill=fill,
  )


def jitter(
  view: View,
  key: Key[Array, ""],
  *,
  pixels: int = 32,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> View:
  """Returns the example moved by up to `pixels` in both directions."""
  offset = jax.random.randint(key, (2,), -pixels, pixels + 1)
  return views.window(
    view, offset, view.size, largest=view.largest, boundary=boundary, fill=fill
  )


def elastic(
  view: View,
  key: Key[Array, ""],
  *,
  grid: int = 3,
  sigma: float = 10.0,
  degrees: float = 0.0,
  shift: float = 0.0,
  boundary: str = "reflect",
  fill: PerChannel = 0.0,
) -> View:
  """Returns the example smoothly deformed; optionally turned and moved too.

  Source: U-Net (MICCAI 2015) section 3.1: a 3 x 3 grid, 10 pixels, bicubic.
  """
  fold = jax.random.fold_in
  angle = offset = nodes = None
  if degrees:
    limit = math.radians(degrees)
    angle = jax.random.uniform(fold(key, 1), (), minval=-limit, maxval=limit)
  if shift:
    offset = jax.random.uniform(fold(key, 2), (2,), minval=-shift, maxval=shift)
  if sigma:
    if grid < 3:
      raise ValueError(f"grid must have at least 3 nodes a side, got {grid}.")
    nodes = sigma * jax.random.normal(fold(key, 3), (grid, grid, 2))

  def coordinates(rows, columns):
    centre = [(jnp.asarray(s, jnp.float32) - 1) / 2 for s in view.size]
    y = rows.astype(jnp.float32) - centre[0]
    x = columns.astype(jnp.float32) - centre[1]
    if angle is not None:
      cosine, sine = jnp.cos(angle), jnp.sin(angle)
      y, x = cosine * y + sine * x, cosine * x - sine * y
    y, x = y + centre[0], x + centre[1]
    if offset is not None:
      y, x = y + offset[0], x + offset[1]
    if nodes is not None:
      field = bicubic_surface(nodes, view.size, rows, columns)
      y, x = y + field[..., 0], x + field[..., 1]
    return jnp.broadcast_arrays(y, x)

  return views.warp(view, coordinates, boundary=boundary, fill=fill)


def bicubic_surface(
  nodes: Float[Array, "n m c"],
  size: views.Size,
  rows: Array,
  columns: Array,
) -> Float[Array, "h w c"]:
  """Returns the surface through a regular grid of nodes, at some pixels.

  elastic.py's, term by term; no matrix product, which some devices compute in
  fewer bits.

  Args:
    nodes: at least 3 x 3; the corners lie on the centres of corner pixels.
    size: height and width of the whole surface in pixels.
    rows: integers that broadcast with the columns to [h, w].
    columns: likewise.
  """
  vertical = _bicubic_weights(rows, size[0], nodes.shape[0])
  horizontal = _bicubic_weights(columns, size[1], nodes.shape[1])
  along = sum(
    vertical[..., i, None, None] * nodes[i][None, None]
    for i in range(nodes.shape[0])
  )
  return sum(
    along[..., j, :] * horizontal[..., j, None] for j in range(nodes.shape[1])
  )


def _bicubic_weights(
  pixels: Array, length: views.Side, nodes: int
) -> Float[Array, "..."]:
  """Returns [..., nodes]: each pixel as a sum of nodes."""
  last = jnp.maximum(jnp.asarray(length, jnp.float32) - 1, 1.0)
  place = pixels.astype(jnp.float32) * (nodes - 1) / last
  # Nodes -1 and `nodes` exist only here; they are folded back below.
  ghosts = jnp.arange(-1.0, nodes + 1.0)[None, None]
  distance = jnp.abs(place[..., None] - ghosts)
  near = (1.5 * distance - 2.5) * distance**2 + 1
  far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
  weights = jnp.where(distance <= 1, near, jnp.where(distance < 2, far, 0.0))
  ghost = np.zeros((1, 1, nodes), np.float32)
  ghost[..., :3] = 3, -3, 1
  return (
    weights[..., 1:-1]
    + weights[..., :1] * ghost
    + weights[..., -1:] * ghost[..., ::-1]
  )


def photometric(
  view: View,
  key: Key[Array, ""],
  *,
  brightness: float = 0.125,
  contrast: float = 0.25,
  saturation: float = 0.25,
  hue: float = 0.0,
  gamma: float = 0.0,
) -> View:
  """Returns the example with its image's colours changed; nothing moves."""
  strengths = [brightness, contrast, saturation, hue, gamma]
  if not any(strengths):
    return view
  drawn = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
  drawn = drawn * jnp.asarray(strengths, jnp.float32)

  def recoloured(image):
    if gamma:
      base = jnp.clip(image / 255, 0.0, 1.0)
      image = 255 * jnp.power(base, jnp.exp(drawn[4]))
    if (saturation or hue) and image.shape[-1] >= 3:
      colours = image[..., :3]
      change = _colour_matrix(drawn[2], drawn[3]) - jnp.eye(3)
      colours += jnp.einsum("...j,ij->...i", colours, change, precision=_EXACT)
      image = jnp.concatenate([colours, image[..., 3:]], axis=-1)
    return image

  mean = None
  if contrast:
    # The mean is that of the whole image, whatever is cut from it later.
    view = views.computed(view)
    image = recoloured(view.whole()["image"])
    rows, columns = (jnp.arange(side) for side in image.shape[:2])
    own = (rows < view.size[0])[:, None] & (columns < view.size[1])[None, :]
    total = jnp.sum(jnp.where(own[..., None], image, 0.0), axis=(0, 1))
    area = jnp.asarray(view.size[0] * view.size[1], jnp.float32)
    mean = (total / area)[None, None]

  def at(rows, columns):
    maps = view.at(rows, columns)
    image = recoloured(maps["image"])
    if contrast:
      image += (image - mean) * drawn[1]
    if brightness:
      image += 255 * drawn[0]
    return maps | {"image": jnp.clip(image, 0.0, 255.0)}

  return View(view.size, view.largest, at)


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
  "elastic": elastic,
  "rotate": rotate,
  "jitter": jitter,
  "random_crop": random_crop,
  "center_crop": center_crop,
  "pad_to": pad_to,
  "flip": flip,
  "photometric": photometric,
}
