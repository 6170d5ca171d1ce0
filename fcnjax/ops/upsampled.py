"""What is made of interpolated scores, without all of them in memory at once.

Scores [b, h, w, k] of a network, interpolated to the image's size, are the
largest array of a training step: 159 MB for 19 classes at 1024x2048, and
several times that with what a loss computes of them. Here they exist one tile
at a time: as many rows and columns as fit into a processor's cache. A tile is
interpolated by two small matrix products, in every convention and by any
factor, with the classes before the columns, so that what is reduced over
classes runs along memory.
"""

from collections.abc import Callable
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped
import numpy as np

from fcnjax.ops import implementations, resizing, spatial

IMPLEMENTATIONS = ("auto", "plain", "tiles")

# A function of a tile's scores, f32 [rows, b, k, columns], and the same places
# of other images, [rows, b, columns].
TileFunction = Callable[..., Any]


# From how many bytes of interpolated scores on tiles are faster on a CPU
# (docs/performance.md, "upsampled loss" and "upsampled arg max").
LOSS_BYTES = 32 * 2**20
ARGMAX_BYTES = 4 * 2**20
# Elsewhere only the memory that they save is known.
ELSEWHERE_BYTES = 256 * 2**20


def uses_tiles(
  shape: tuple[int, ...],
  size: tuple[int, int],
  implementation: str,
  *,
  least: int,
) -> bool:
  """Returns whether scores of `shape` are taken to `size` by tiles.

  "auto": where that is growing, and the result has at least `least` bytes on a
  CPU, or `ELSEWHERE_BYTES` on another platform. Of maps that are spread over
  devices those of each device count, and tiles need rows that divide.

  Args:
    shape: of the scores, [b, h, w, k].
    size: height and width of the result in pixels.
    implementation: "tiles", "plain" or "auto".
    least: bytes of float32 scores, `LOSS_BYTES` or `ARGMAX_BYTES`.

  Raises:
    ValueError: if the implementation is unknown.
  """
  implementations.check(implementation, IMPLEMENTATIONS)
  if implementation != "auto":
    return implementation == "tiles"
  parts = spatial.parts()
  if parts > 1 and not spatial.divides(shape[1], size[0]):
    return False
  grows = size[0] > shape[1] and size[1] > shape[2]
  on_cpu = jax.default_backend() == "cpu"
  least = least if on_cpu else ELSEWHERE_BYTES
  count = spatial.own_examples(shape[0])
  return grows and 4 * count * shape[3] * math.prod(size) >= least * parts


def map_tiles(
  function: TileFunction,
  scores: Float[Array | np.ndarray, "b h w k"],
  *images: Shaped[Array | np.ndarray, "b oh ow"],
  size: tuple[int, int],
  convention: resizing.Convention = "half_pixel",
  tile: tuple[int, int] | None = None,
) -> Shaped[Array, "b oh ow"]:
  """Returns what a function makes of scores interpolated to `size`.

  Args:
    function: (scores f32 [r, b, k, t], *images [r, b, t]) -> values [r, b, t],
      pixel by pixel. Behind the edges it is given zeros for the images.
    scores: any float dtype, interpolated in float32.
    *images: cut into the same tiles.
    size: height and width of the interpolated scores in pixels.
    convention: where the pixels are; see `resizing`.
    tile: rows r and columns t; None: chosen by the platform and the shape.

  Returns:
    The values of all pixels.

  Raises:
    ValueError: if `size` is not positive or the convention is unknown.
  """

  def sweep(plan, scores, *images):
    def step(scores, tile):
      _, upsampled, *parts = _upsampled(scores, tile, plan)
      return scores, function(upsampled, *parts)

    coarse = _classes_first(scores)
    _, values = lax.scan(step, coarse, (*plan.places, *_cut(images, plan)))
    return _joined(values, plan)

  return _by_parts(sweep, scores, images, size, convention, tile)


def map_tiles_with_gradient(
  function: TileFunction,
  scores: Float[Array | np.ndarray, "b h w k"],
  *images: Shaped[Array | np.ndarray, "b oh ow"],
  size: tuple[int, int],
  convention: resizing.Convention = "half_pixel",
  tile: tuple[int, int] | None = None,
) -> tuple[Shaped[Array, "b oh ow"], Float[Array, "b h w k"]]:
  """Returns a function's values and the gradient that it gives, in one sweep.

  Args:
    function: as that of `map_tiles`, but returns (values [r, b, t], gradient
      f32 [r, b, k, t] of a sum over pixels by the interpolated scores). The
      gradient must be 0 where the images are.
    scores: see `map_tiles`.
    *images: see `map_tiles`.
    size: see `map_tiles`.
    convention: see `map_tiles`.
    tile: see `map_tiles`.

  Returns:
    The values of all pixels, and the gradient by `scores`, float32.
  """

  def sweep(plan, scores, *images):
    coarse = _classes_first(scores)

    def step(total, tile):
      (where, rows, columns), upsampled, *parts = _upsampled(coarse, tile, plan)
      values, gradient = function(upsampled, *parts)
      gradient = _product("rs,rbkt->sbkt", rows, gradient)
      gradient = _product("tu,sbkt->sbku", columns, gradient)
      before = lax.dynamic_slice(total, where, gradient.shape)
      total = lax.dynamic_update_slice(total, before + gradient, where)
      return total, values

    total, values = lax.scan(
      step, jnp.zeros_like(coarse), (*plan.places, *_cut(images, plan))
    )
    gradient = total.transpose(1, 0, 3, 2)
    return _joined(values, plan), spatial.returned(gradient, plan.halo)

  return _by_parts(sweep, scores, images, size, convention, tile)


def sum_tiles(
  function: TileFunction,
  scores: Float[Array | np.ndarray, "b h w k"],
  *images: Shaped[Array | np.ndarray, "b oh ow"],
  size: tuple[int, int],
  convention: resizing.Convention = "half_pixel",
  tile: tuple[int, int] | None = None,
) -> Shaped[Array, "..."]:
  """Returns the sum over all tiles of what a function makes of each.

  Args:
    function: (scores f32 [r, b, k, t], inside bool [r, b, t], *images
      [r, b, t]) -> an array, always of one shape; `inside` tells the pixels
      that the image has.
    scores: see `map_tiles`.
    *images: see `map_tiles`.
    size: see `map_tiles`.
    convention: see `map_tiles`.
    tile: see `map_tiles`.
  """
  plan = _plan(scores.shape, size, convention, tile)
  inside = np.ones((scores.shape[0], *size), bool)
  coarse = _classes_first(scores)

  def of_tile(tile):
    _, upsampled, *parts = _upsampled(coarse, tile, plan)
    return function(upsampled, *parts)

  tiles = (*plan.places, *_cut((inside, *images), plan))
  first = jax.eval_shape(of_tile, jax.tree.map(lambda x: x[0], tiles))
  total, _ = lax.scan(
    lambda total, tile: (total + of_tile(tile), None),
    jnp.zeros(first.shape, first.dtype),
    tiles,
  )
  return total


def upsampled_argmax(
  scores: Float[Array | np.ndarray, "b h w k"],
  size: tuple[int, int],
  *,
  convention: resizing.Convention = "half_pixel",
  implementation: str = "auto",
) -> Int[Array, "b oh ow"]:
  """Returns the class of the largest score, of scores interpolated to `size`.

  Args:
    scores: any float dtype, interpolated in float32.
    size: height and width of the result in pixels.
    convention: where the pixels are; see `resizing`.
    implementation: "plain": of all interpolated scores at once; "tiles"; or
      "auto", see `uses_tiles` (`ARGMAX_BYTES`).

  Returns:
    int32 classes in [0, k), of equal scores the first. The implementations
    round differently: scores that are equal to the last bits may swap.

  Raises:
    ValueError: if `size` is not positive, or a word is unknown.
  """
  scores = jnp.asarray(scores)
  if not uses_tiles(scores.shape, size, implementation, least=ARGMAX_BYTES):
    scores = resizing.resize_bilinear(
      scores.astype(jnp.float32), size, convention=convention
    )
    return jnp.argmax(scores, axis=-1).astype(jnp.int32)

  def largest(tile):
    return jnp.argmax(tile, axis=2).astype(jnp.int32)

  return map_tiles(largest, scores, size=size, convention=convention)


class _Plan(NamedTuple):
  """How an image is cut into tiles.

  Attributes:
    size: of the image, pixels.
    tile: rows and columns of a tile.
    counts: tiles in a column and in a row of them.
    slab: rows and columns of the scores that a tile is interpolated from.
    places: for each tile, with n tiles: the first row and column [n] of its
      slab, and, for its rows and for its columns, the neighbour before in the
      slab [n, r] and the share of the neighbour behind [n, r].
    halo: rows of the scores that are others', above and below, where rows are
      spread over devices and this is the plan of one.
  """

  size: tuple[int, int]
  tile: tuple[int, int]
  counts: tuple[int, int]
  slab: tuple[int, int]
  places: tuple[np.ndarray | Array, ...]
  halo: tuple[int, int] = (0, 0)


def _by_parts(sweep, scores, images, size, convention, tile):
  """Returns sweep(plan, scores, *images); each device's of its own rows."""
  scores = jnp.asarray(scores)
  _check(size)
  if not spatial.divides(scores.shape[1], size[0]):
    return sweep(_plan(scores.shape, size, convention, tile), scores, *images)
  halo, positions = resizing.positions_of_parts(
    scores.shape[1], size[0], convention
  )
  own = (size[0] // spatial.parts(), size[1])

  def part(scores, *images):
    plan = _plan(scores.shape, own, convention, tile, positions)
    return sweep(plan._replace(halo=halo), scores, *images)

  return spatial.by_rows(part, scores, *map(jnp.asarray, images), halo=halo)


def _check(size):
  if min(size) < 1:
    raise ValueError(f"size must be positive, got {tuple(size)}.")


def _plan(shape, size, convention, tile, positions=None) -> _Plan:
  """Returns the plan; positions [parts, rows]: it is that of one part."""
  _check(size)
  tile = tile or _tile(shape[0] * shape[3])
  tile = tuple(min(side, n) for side, n in zip(tile, size))
  sources = [
    resizing.source_positions(n, m, convention)[None]
    for n, m in zip(shape[1:3], size)
  ]
  if positions is not None:
    sources[0] = positions
  axes = [
    _axis(n, source, side) for n, source, side in zip(shape[1:3], sources, tile)
  ]
  of_rows = (lambda x: x[0]) if positions is None else spatial.place
  top, *rows = (of_rows(x) for x in axes[0][1:])
  left, *columns = (x[0] for x in axes[1][1:])
  counts = len(top), len(left)
  repeat = np.repeat if positions is None else jnp.repeat
  places = [repeat(x, counts[1], axis=0) for x in (top, *rows)]
  places[1:1] = [np.concatenate([left] * counts[0])]
  places += [np.concatenate([x] * counts[0]) for x in columns]
  slab = tuple(axis[0] for axis in axes)
  return _Plan(tuple(size), tile, counts, slab, tuple(places))


def _tile(channels: int) -> tuple[int, int]:
  """Returns rows and columns: a megabyte of scores on a CPU, 32 elsewhere."""
  on_cpu = jax.default_backend() == "cpu"
  columns, floats = (128, 2**18) if on_cpu else (512, 2**23)
  return max(8, floats // (columns * channels) // 8 * 8), columns


def _axis(n, position, side):
  """Returns what `_Plan` holds of one axis: slab, first, before and share.

  The latter three of every part, from the positions [parts, pixels].
  """
  parts, m = position.shape
  before = np.floor(position).astype(np.int32)
  share = (position - before).astype(np.float32)
  rest = ((0, 0), (0, -m % side))
  before = np.pad(before, rest, mode="edge").reshape(parts, -1, side)
  share = np.pad(share, rest).reshape(parts, -1, side)
  slab = min(n, int((before[..., -1] - before[..., 0]).max()) + 2)
  first = np.minimum(before[..., 0], n - slab).astype(np.int32)
  return slab, first, before - first[..., None], share


def _upsampled(coarse, tile, plan):
  """Returns (place and matrices of a tile), its scores, and the rest of it."""
  top, left, row, row_share, column, column_share, *parts = tile
  rows = _matrix(row, row_share, plan.slab[0])
  columns = _matrix(column, column_share, plan.slab[1])
  zero = jnp.zeros_like(top)
  where = (top, zero, zero, left)
  slab = (plan.slab[0], *coarse.shape[1:3], plan.slab[1])
  x = lax.dynamic_slice(coarse, where, slab)
  x = _product("tu,sbku->sbkt", columns, x)
  x = _product("rs,sbkt->rbkt", rows, x)
  return (where, rows, columns), x, *parts


def _matrix(before, share, width):
  """Returns the interpolation of one axis as a matrix [len(before), width]."""
  place = jnp.arange(width, dtype=before.dtype)[None]
  before, share = before[:, None], share[:, None]
  matrix = jnp.where(place == before, 1 - share, 0.0)
  return matrix + jnp.where(place == before + 1, share, 0.0)


_product = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)


def _classes_first(scores):
  """[b h w k] -> f32 [h b k w]."""
  return jnp.asarray(scores, jnp.float32).transpose(1, 0, 3, 2)


def _cut(images, plan):
  """[b oh ow] -> [n r b t], zeros behind the edges."""
  rests = [-n % side for n, side in zip(plan.size, plan.tile)]
  (down, across), (r, t) = plan.counts, plan.tile
  tiles = []
  for image in images:
    x = jnp.pad(jnp.asarray(image), ((0, 0), *((0, rest) for rest in rests)))
    x = x.reshape(-1, down, r, across, t).transpose(1, 3, 2, 0, 4)
    tiles.append(x.reshape(down * across, r, -1, t))
  return tiles


def _joined(tiles, plan):
  """[n r b t] -> [b oh ow]."""
  (down, across), (r, t) = plan.counts, plan.tile
  x = tiles.reshape(down, across, r, -1, t).transpose(3, 0, 2, 1, 4)
  x = x.reshape(-1, down * r, across * t)
  return x[:, : plan.size[0], : plan.size[1]]
