"""Examples on the device: computed where they are looked at, and only there.

What geometry.py is to tf.data, this is to the resident path: nothing here is
random, and for the same offsets, sizes and coordinates it gives the same maps.
But an example is no array. It is a view: a size, and a function from places to
pixels. A window asks the view below it at other places, a mirror too; so what
lies outside a crop is never computed, and under jit, where every shape must be
known, an enlarged image may have any size as long as a window of a known one
follows. Only what is interpolated twice, or looked at as a whole, is computed
into an array first, which is as large as the largest example may become.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from fcnjax import typing
from fcnjax.data import recipes

# image float32 [h, w, c] in [0, 255], label uint8 [h, w], and optionally
# weight float32 [h, w] and second_label, as label.
Maps = dict[str, Array]
# Pixels: known when compiling, or not.
Side = int | Int[Array, ""]
Size = tuple[Side, Side]
PerChannel = recipes.PerChannel
# Two integer arrays that broadcast to [h', w']: rows and columns.
Places = tuple[Array, Array]

BOUNDARIES = ("fill", "reflect")


@dataclasses.dataclass(frozen=True)
class View:
  """An example that is computed where it is looked at.

  Attributes:
    size: height and width in pixels.
    largest: int [n, 2], every size that it may have at most (one for each size
      that is stored).
    at: (rows, columns), in [0, size), that broadcast to [h', w'] -> the maps
      there: image [h', w', c], others [h', w'].
    stored: whether `at` reads pixels as they lie in memory.
  """

  size: Size
  largest: np.ndarray
  at: Callable[[Array, Array], Maps]
  stored: bool = False

  @property
  def fixed(self) -> bool:
    """Whether the size is known when compiling."""
    return _known(self.size)

  def whole(self) -> Maps:
    """Returns the maps as arrays of the largest size, [H, W, ...].

    Beyond the view's own size stand copies of the last row and column.
    """
    height, width = (int(side) for side in self.largest.max(axis=0))
    rows = jnp.minimum(jnp.arange(height), self.size[0] - 1)
    columns = jnp.minimum(jnp.arange(width), self.size[1] - 1)
    return self.at(rows[:, None], columns[None, :])


def of_pixels(
  pixels: Mapping[str, Array],
  *,
  size: Size,
  largest: np.ndarray,
  first: Side = 0,
  stride: Side | None = None,
) -> View:
  """Returns a view of pixels that lie row behind row.

  Args:
    pixels: image [n, c] of any type in [0, 255], label uint8 [n], and
      optionally weight [n] and second_label; there may be more before and
      behind the example's.
    size: height and width in pixels.
    largest: see `View`.
    first: where its pixel (0, 0) lies.
    stride: from a pixel to the one below; None = the width.
  """
  stride = size[1] if stride is None else stride

  def at(rows, columns):
    place = first + rows * stride + columns
    found = {
      key: jnp.take(values, place, axis=0, mode="clip")
      for key, values in pixels.items()
    }
    return found | {"image": found["image"].astype(jnp.float32)}

  return View(size, largest, at, stored=True)


def of_maps(maps: Mapping[str, Array]) -> View:
  """Returns a view of an example's arrays: image [h, w, c], others [h, w]."""
  height, width = (int(side) for side in maps["label"].shape)
  return of_pixels(
    {key: jnp.reshape(v, (-1, *v.shape[2:])) for key, v in maps.items()},
    size=(height, width),
    largest=np.array([[height, width]]),
  )


def computed(view: View) -> View:
  """Returns the view with its pixels computed, once for all who look."""
  if view.stored:
    return view
  return replaced(view, view.whole())


def replaced(view: View, whole: Mapping[str, Array]) -> View:
  """Returns a view of the same sizes, whose pixels are these.

  Args:
    view: whose sizes are kept.
    whole: maps as `View.whole` gives them, [H, W, ...].
  """
  return of_pixels(
    {key: jnp.reshape(v, (-1, *v.shape[2:])) for key, v in whole.items()},
    size=view.size,
    largest=view.largest,
    stride=int(view.largest[:, 1].max()),
  )


def window(
  view: View,
  offset: Int[Array, "2"],
  size: Size,
  *,
  largest: np.ndarray | None = None,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> View:
  """Returns a window of the example, which may reach beyond it.

  Args:
    view: the example.
    offset: the row and column where the window begins.
    size: its height and width in pixels.
    largest: see `View`; needed where the size is not known.
    boundary: "fill" gives the colour `fill`, label 255 and weight 0 where the
      example has no pixel; "reflect" mirrors it.
    fill: one value, or one a channel, in [0, 255].

  Raises:
    ValueError: for an unknown boundary.
  """
  _check(boundary)

  def at(rows, columns):
    y, x = offset[0] + rows, offset[1] + columns
    if boundary == "reflect":
      return view.at(reflect(y, view.size[0]), reflect(x, view.size[1]))
    inside = (y >= 0) & (y < view.size[0]) & (x >= 0) & (x < view.size[1])
    y, x = (jnp.clip(i, 0, side - 1) for i, side in zip((y, x), view.size))
    return _filled(view.at(y, x), inside, fill)

  return View(size, np.array([size]) if largest is None else largest, at)


def mirrored(view: View, axes: Bool[Array, "2"]) -> View:
  """Returns the example reversed along the axes (y, x) that are true."""

  def at(rows, columns):
    return view.at(
      jnp.where(axes[0], view.size[0] - 1 - rows, rows),
      jnp.where(axes[1], view.size[1] - 1 - columns, columns),
    )

  return dataclasses.replace(view, at=at)


def turned(view: View, turns: Int[Array, ""]) -> View:
  """Returns the example turned counter-clockwise by 0 to 3 quarters."""
  height, width = view.size

  def at(rows, columns):
    rows, columns = jnp.broadcast_arrays(rows, columns)
    up, back = height - 1 - columns, width - 1 - columns
    y = jnp.stack([rows, columns, height - 1 - rows, up])
    x = jnp.stack([columns, width - 1 - rows, back, rows])
    return view.at(y[turns], x[turns])

  if view.fixed and height == width:
    return dataclasses.replace(view, at=at)
  odd = turns % 2 == 1
  return View(
    (jnp.where(odd, width, height), jnp.where(odd, height, width)),
    np.concatenate([view.largest, view.largest[:, ::-1]]),
    at,
  )


def resized(
  view: View,
  size: Size,
  *,
  largest: np.ndarray | None = None,
  antialias: bool = False,
) -> View:
  """Returns the example at another size: bilinear, the labels nearest.

  Args:
    view: the example.
    size: height and width in pixels.
    largest: see `View`; needed where the size is not known.
    antialias: whether image and weight are averaged when they shrink; the size
      must be known.
  """
  if view.fixed and _known(size) and view.size == size:
    return view
  largest = np.array([size]) if largest is None else largest
  scales = [_ratio(old, new) for old, new in zip(view.size, size)]
  view = computed(view)

  def place(index, axis):
    last = view.size[axis] - 1
    place = (index + 0.5) * scales[axis] - 0.5
    lower = jnp.floor(place)
    return (
      jnp.clip(lower.astype(jnp.int32), 0, last),
      jnp.clip(jnp.ceil(place).astype(jnp.int32), 0, last),
      place - lower,
    )

  def nearest(index, axis):
    place = jnp.floor((index + 0.5) * scales[axis]).astype(jnp.int32)
    return jnp.minimum(place, view.size[axis] - 1)

  def at(rows, columns):
    return _interpolated(
      view,
      place(rows, 0),
      place(columns, 1),
      (nearest(rows, 0), nearest(columns, 1)),
    )

  resized = View(size, largest, at)
  return _averaged(view, resized, scales) if antialias else resized


def warp(
  view: View,
  coordinates: Callable[[Array, Array], tuple[Array, Array]],
  *,
  size: Size | None = None,
  boundary: str = "reflect",
  fill: PerChannel = 0.0,
) -> View:
  """Returns the example sampled at other places.

  Args:
    view: the example.
    coordinates: (rows, columns) -> float32 (y, x) of the source in pixels,
      where integers are the centres of pixels.
    size: of the result, known when compiling; None = the example's.
    boundary: "reflect" mirrors what lies outside; "fill" gives the colour
      `fill`, label 255 and weight 0 to each pixel whose nearest source pixel
      does not exist.
    fill: one value, or one a channel, in [0, 255].

  Raises:
    ValueError: for an unknown boundary.
  """
  _check(boundary)
  largest = view.largest if size is None else np.array([size])
  view = computed(view)

  def split(place, axis):
    if boundary == "reflect":
      place = reflect(place, view.size[axis])
    last = view.size[axis] - 1
    place = jnp.clip(place, 0.0, _float(last))
    lower = place.astype(jnp.int32)
    return (
      lower,
      jnp.minimum(lower + 1, last),
      place - lower.astype(jnp.float32),
    )

  def at(rows, columns):
    y, x = coordinates(rows, columns)
    top, below, down = split(y, 0)
    left, beside, right = split(x, 1)
    moved = _interpolated(
      view,
      (top, below, down),
      (left, beside, right),
      (
        jnp.where(down < 0.5, top, below),
        jnp.where(right < 0.5, left, beside),
      ),
    )
    if boundary == "reflect":
      return moved
    height, width = (_float(side) for side in view.size)
    inside = (y >= -0.5) & (y < height - 0.5) & (x >= -0.5) & (x < width - 0.5)
    return _filled(moved, inside, fill)

  return View(view.size if size is None else size, largest, at)


def erased(
  view: View,
  mask: Callable[[Array, Array], Bool[Array, "..."]],
  *,
  fill: PerChannel,
  keep_label: bool,
) -> View:
  """Returns the example with nothing where the mask is true.

  Args:
    view: the example.
    mask: (rows, columns) -> whether the pixels there are erased.
    fill: the colour there: one value, or one a channel, in [0, 255].
    keep_label: whether labels and weight stay as they are; otherwise they
      become 255 and 0.
  """

  def at(rows, columns):
    maps = view.at(rows, columns)
    changed = _filled(maps, ~mask(rows, columns), fill)
    return maps | {"image": changed["image"]} if keep_label else changed

  return View(view.size, view.largest, at)


def reflect(index: Array, length: Side) -> Array:
  """Returns indices or coordinates mirrored into [0, length - 1].

  The border pixel is not repeated: -1 becomes 1.
  """
  last = jnp.asarray(length - 1, index.dtype)
  period = jnp.maximum(2 * last, 1)
  index = jnp.mod(index, period)
  return jnp.minimum(jnp.minimum(index, period - index), last)


def _interpolated(
  view: View,
  rows: tuple[Array, Array, Array],
  columns: tuple[Array, Array, Array],
  nearest: Places,
) -> Maps:
  """Returns image and weight between four pixels, labels of the nearest.

  `rows` are the row above, the row below, and the share of the way down.
  """
  (top, below, down), (left, beside, right) = rows, columns
  corners = [view.at(y, x) for y in (top, below) for x in (left, beside)]
  moved = view.at(*nearest)
  for key in moved:
    if moved[key].dtype == jnp.uint8:
      continue
    along, across = down, right
    if moved[key].ndim == 3:
      along, across = down[..., None], right[..., None]
    # Written as differences, it gives the pixel itself at its centre.
    upper, upper_right, lower, lower_right = (corner[key] for corner in corners)
    upper = upper + (upper_right - upper) * across
    lower = lower + (lower_right - lower) * across
    moved[key] = upper + (lower - upper) * along
  return moved


def _averaged(view: View, resized: View, scales: Sequence[Array]) -> View:
  """Returns the resized view with image and weight filtered by a triangle.

  Its half-width is one pixel of the smaller image, never less than one of the
  larger one; weights beyond the border are left out, the others sum to one.
  """
  moved, source = resized.whole(), view.whole()
  matrices = []
  for axis in (0, 1):
    centre = (jnp.arange(resized.size[axis])[:, None] + 0.5) * scales[axis]
    pixel = jnp.arange(source["label"].shape[axis])[None, :]
    distance = jnp.abs(pixel + 0.5 - centre) / jnp.maximum(scales[axis], 1.0)
    weight = jnp.where(
      pixel < view.size[axis], jnp.maximum(1 - distance, 0.0), 0.0
    )
    matrices.append(weight / weight.sum(axis=1, keepdims=True))
  for key, values in source.items():
    if values.dtype != jnp.uint8:
      moved[key] = jnp.einsum(
        "ih,hw...,jw->ij...",
        matrices[0],
        values,
        matrices[1],
        precision=jax.lax.Precision.HIGHEST,
      )
  return of_maps(moved)


def _filled(maps: Maps, inside: Bool[Array, "..."], fill: PerChannel) -> Maps:
  """Returns the maps with what stands for nothing where not `inside`."""
  outside: dict[str, Any] = {
    "image": jnp.reshape(jnp.asarray(fill, jnp.float32), (1, 1, -1)),
    "label": jnp.uint8(typing.IGNORE),
    "second_label": jnp.uint8(typing.IGNORE),
    "weight": jnp.float32(0),
  }
  return {
    key: jnp.where(
      inside[..., None] if values.ndim == 3 else inside, values, outside[key]
    )
    for key, values in maps.items()
  }


def _ratio(old: Side, new: Side) -> Float[Array, ""]:
  """Returns old / new, rounded once.

  Which pixel is the nearest hangs on it. By a divisor that it knows, XLA does
  not divide: it multiplies by its reciprocal, and so rounds twice. Here it does
  not know that no length is 0.
  """
  return _float(old) / jnp.where(jnp.asarray(old) > 0, _float(new), 1.0)


def _known(size: Size) -> bool:
  return all(isinstance(side, int) for side in size)


def _float(side: Side) -> Float[Array, ""]:
  return jnp.asarray(side, jnp.float32)


def _check(boundary: str) -> None:
  if boundary not in BOUNDARIES:
    raise ValueError(
      f"boundary must be one of {', '.join(BOUNDARIES)}, got {boundary!r}."
    )
