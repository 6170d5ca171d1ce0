"""Sliding windows as shifts of the whole map, and their transpose.

A window of kh x kw places, `dilation` pixels apart, moves by `stride` over a
map with `padding` pixels in front. Its place number t, in row order, sees one
strided slice of the padded map; to sum what the places say is to add nine
shifted maps, which XLA makes one loop of.
"""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Num, UInt8
import numpy as np

from fcnjax.ops import spatial


class Windows(NamedTuple):
  """Where the windows lie; pairs are of rows and columns.

  Attributes:
    window: places.
    stride: pixels from one window to the next.
    dilation: pixels from one place to the next.
    padding: pixels in front of the map; behind are as many as are needed.
    size: of the map, pixels.
    count: number of windows.
  """

  window: tuple[int, int]
  stride: tuple[int, int]
  dilation: tuple[int, int]
  padding: tuple[int, int]
  size: tuple[int, int]
  count: tuple[int, int]


def halo(windows: Windows) -> tuple[int, int] | None:
  """Returns the rows that a part needs besides its own; see `spatial.halo`."""
  return spatial.halo(
    windows.size[0],
    windows.count[0],
    stride=windows.stride[0],
    reach=(windows.window[0] - 1) * windows.dilation[0] + 1,
    padding=windows.padding[0],
  )


def part(windows: Windows, x: Num[Array, "b h w c"]) -> Windows:
  """Returns where a part's windows lie, of a map without edges above or below.

  Args:
    windows: those of the whole map.
    x: the part with its halo, within `spatial.by_rows`.
  """
  rows = windows.count[0] // lax.axis_size(spatial.ROWS)
  return windows._replace(
    padding=(0, windows.padding[1]),
    size=x.shape[1:3],
    count=(rows, windows.count[1]),
  )


def shifts(
  x: Num[Array, "b h w c"], windows: Windows, *, fill: float = 0.0
) -> list[Num[Array, "b oh ow c"]]:
  """Returns what each place of the windows sees, in row order.

  Args:
    x: the map.
    windows: where they lie.
    fill: what is seen outside of the map.
  """
  edges = []
  for k, s, d, p, n, m in zip(*windows):
    reach = (m - 1) * s + (k - 1) * d + 1
    edges.append((p, reach - p - n, 0))  # Cuts what no window reaches.
  x = lax.pad(x, jnp.array(fill, x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
  return [
    x[
      :,
      i * windows.dilation[0] :: windows.stride[0],
      j * windows.dilation[1] :: windows.stride[1],
    ][:, : windows.count[0], : windows.count[1]]
    for i in range(windows.window[0])
    for j in range(windows.window[1])
  ]


def spread(
  place: Callable[..., Num[Array, "#b #oh #ow #c"]],
  *maps: Num[Array, "b oh ow c"],
  windows: Windows,
) -> Num[Array, "b h w c"]:
  """Returns the sum of what the places say, each put back where it looks.

  The transpose of `shifts`. Where windows stride, each pixel belongs to one
  phase of the stride, to which only every s-th place contributes.

  Args:
    place: (number of the place, *maps) -> what that place of each window adds;
      elementwise, and zero where the maps are.
    *maps: by window.
    windows: where they lie.
  """
  (kh, kw), (sh, sw) = windows.window, windows.stride
  cells = tuple(-(-n // s) for n, s in zip(windows.size, windows.stride))
  # Place i is (i d - p) // s cells, and as many pixels as rest, from its
  # window's own cell. The maps are padded once, and seen through slices.
  steps = [
    [divmod(i * d - p, s) for i in range(k)]
    for k, d, p, s in zip(
      windows.window, windows.dilation, windows.padding, windows.stride
    )
  ]
  first, last = [s[-1][0] for s in steps], [s[0][0] for s in steps]
  edges = [
    (f, n - m - e, 0) for f, e, n, m in zip(first, last, cells, windows.count)
  ]
  maps = [
    lax.pad(m, jnp.zeros((), m.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    for m in maps
  ]
  total = 0
  for t in range(kh * kw):
    (row, above), (column, beside) = steps[0][t // kw], steps[1][t % kw]
    top, left = first[0] - row, first[1] - column
    seen = (m[:, top : top + cells[0], left : left + cells[1]] for m in maps)
    value = place(t, *seen)
    if sh == sw == 1:
      total += value
      continue
    phase = (np.arange(sh) == above)[:, None] & (np.arange(sw) == beside)
    total += jnp.where(
      phase[None, None, :, None, :, None],
      value[:, :, None, :, None],
      jnp.zeros((), value.dtype),
    )
  if sh == sw == 1:
    return total
  b, _, _, _, _, c = total.shape
  total = total.reshape(b, cells[0] * sh, cells[1] * sw, c)
  return total[:, : windows.size[0], : windows.size[1]]


@functools.partial(jax.custom_vjp, nondiff_argnames=("windows",))
def put_back(
  values: Num[Array, "b oh ow c"],
  place: UInt8[Array, "b oh ow c"],
  windows: Windows,
) -> Num[Array, "b h w c"]:
  """Returns a map to whose pixels each window's value is added at its place.

  Args:
    values: one for each window.
    place: its number in the window, in row order.
    windows: where they lie.
  """
  none = jnp.zeros((), values.dtype)
  return spread(
    lambda t, values, place: jnp.where(place == np.uint8(t), values, none),
    values,
    place,
    windows=windows,
  )


def take(
  x: Num[Array, "b h w c"], place: UInt8[Array, "b oh ow c"], windows: Windows
) -> Num[Array, "b oh ow c"]:
  """Returns what each window sees at its place: the transpose of `put_back`."""
  none = jnp.zeros((), x.dtype)
  return sum(
    jnp.where(place == np.uint8(t), value, none)
    for t, value in enumerate(shifts(x, windows))
  )


put_back.defvjp(
  lambda values, place, windows: (put_back(values, place, windows), place),
  lambda windows, place, cotangent: (take(cotangent, place, windows), None),
)


def first_maximum(
  values: Sequence[Num[Array, "..."]],
  places: Sequence[int | UInt8[Array, "..."]],
) -> tuple[Num[Array, "*s"], UInt8[Array, "*s"]]:
  """Returns the largest of several arrays, elementwise, and its place.

  Of equal values the first wins. A NaN counts as larger than every number.

  Args:
    values: of one shape, as by `shifts`.
    places: the number of each, or that of each element.
  """
  best, place = values[0], jnp.asarray(places[0], jnp.uint8)
  place = jnp.broadcast_to(place, best.shape)
  for value, candidate in zip(values[1:], places[1:], strict=True):
    # Larger or NaN, unless a NaN was met before.
    better = ~(value <= best) & (best == best)
    best = jnp.where(better, value, best)
    place = jnp.where(better, jnp.asarray(candidate, jnp.uint8), place)
  return best, place
