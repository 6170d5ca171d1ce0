"""Warps on the device: warps.py, without TensorFlow.

Names, parameters and meanings are those of warps.py; see there.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
import numpy as np

from fcnjax.data import device_photometric, views

View = views.View
PerChannel = views.PerChannel


def rotate(
  view: View,
  key: Key[Array, ""],
  *,
  degrees: float = 10.0,
  quarter_turns: bool = False,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> View:
  """Returns the example turned about its centre."""
  if quarter_turns:
    turns = jax.random.randint(key, (), 0, 4)
    if probability != 1:
      turns = turns * device_photometric.happens(key, probability)
    view = views.turned(view, turns)
  if not degrees:
    return view
  return elastic(
    view,
    jax.random.fold_in(key, 1),
    sigma=0.0,
    degrees=degrees,
    boundary=boundary,
    fill=fill,
    probability=probability,
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
  probability: float = 1.0,
) -> View:
  """Returns the example smoothly deformed; optionally turned and moved too.

  Source: U-Net (MICCAI 2015) section 3.1: a 3 x 3 grid, 10 pixels, bicubic.
  """
  fold = jax.random.fold_in
  angle = offset = nodes = None
  happens = 1.0
  if probability != 1:
    happens = device_photometric.happens(key, probability).astype(jnp.float32)
  if degrees:
    limit = math.radians(degrees)
    angle = happens * jax.random.uniform(
      fold(key, 1), (), minval=-limit, maxval=limit
    )
  if shift:
    offset = happens * jax.random.uniform(
      fold(key, 2), (2,), minval=-shift, maxval=shift
    )
  if sigma:
    if grid < 3:
      raise ValueError(f"grid must have at least 3 nodes a side, got {grid}.")
    nodes = happens * sigma * jax.random.normal(fold(key, 3), (grid, grid, 2))

  def coordinates(rows, columns):
    centre = [(jnp.asarray(s, jnp.float32) - 1) / 2 for s in view.size]
    y = rows.astype(jnp.float32) - centre[0]
    x = columns.astype(jnp.float32) - centre[1]
    if angle is not None:
      cosine, sine = jnp.cos(angle), jnp.sin(angle)
      y, x = cosine * y + sine * x, cosine * x - sine * y
    if nodes is not None:
      field = bicubic_surface(nodes, view.size, rows, columns)
      y, x = y + field[..., 0], x + field[..., 1]
    if offset is not None:
      centre = [c + o for c, o in zip(centre, offset)]
    y, x = y + centre[0], x + centre[1]
    return jnp.broadcast_arrays(y, x)

  return views.warp(view, coordinates, boundary=boundary, fill=fill)


def perspective(
  view: View,
  key: Key[Array, ""],
  *,
  distortion: float = 0.1,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
  probability: float = 1.0,
) -> View:
  """Returns the example as a plane that is seen from somewhere else."""
  if not 0 <= distortion < 0.25:
    raise ValueError(f"distortion must be in [0, 0.25), got {distortion}.")
  if not distortion:
    return view
  corners = jax.random.uniform(
    key, (4, 2), minval=-distortion, maxval=distortion
  )
  if probability != 1:
    corners = corners * device_photometric.happens(key, probability)

  def coordinates(rows, columns):
    last = [jnp.maximum(jnp.asarray(s - 1, jnp.float32), 1) for s in view.size]
    y, x = rows.astype(jnp.float32), columns.astype(jnp.float32)
    down, right = _homography(corners, y / last[0], x / last[1])
    return y + down * last[0], x + right * last[1]

  return views.warp(view, coordinates, boundary=boundary, fill=fill)


def _homography(
  corners: Float[Array, "4 2"], y: Array, x: Array
) -> tuple[Array, Array]:
  """Returns by how much a homography moves places of the unit square.

  warps.py's, term by term; see there.
  """
  a, b, c, d = corners
  along = b - c + jnp.array([-1.0, 0.0])
  across = d - c + jnp.array([0.0, -1.0])
  rest = a - b + c - d
  area = along[1] * across[0] - along[0] * across[1]
  right = (rest[1] * across[0] - rest[0] * across[1]) / area
  down = (along[1] * rest[0] - along[0] * rest[1]) / area
  by_x = b - a + right * (b + jnp.array([0.0, 1.0]))
  by_y = d - a + down * (d + jnp.array([1.0, 0.0]))
  bent = right * x + down * y
  return tuple(
    (by_x[i] * x + by_y[i] * y + a[i] - bent * place) / (1 + bent)
    for i, place in enumerate((y, x))
  )


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
