"""Maps whose rows are spread over devices, and sums over spread examples.

Within `jax.sharding.use_abstract_mesh(mesh)`, of a mesh that has an axis
"space", the operators here compute each device's rows by themselves, of those
rows and the few of its neighbours that they reach (a halo, by
collective-permute). Each so has, within a part, all the forms that it has for a
whole map, and XLA has none to partition: many of them are made of pads, slices
and reshapes of rows, for which it would gather the map on every device.

Where the rows do not divide, the map is put together, and each device computes
all of it. XLA could spread such rows, too, unevenly; but networks of valid
convolutions then had wrong gradients (jax 0.10.2 on a CPU, Shardy and GSPMD's
partitioner: U-Net's and the context module's), so it is not asked to.
"""

from collections.abc import Callable, Iterator
import contextlib
import contextvars
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Num
import numpy as np

EXAMPLES, ROWS = "data", "space"  # The axes of a mesh.


def parts() -> int:
  """Returns over how many devices rows are spread here; 1: they are not.

  That is so within `by_rows`, too, whose function sees one part.
  """
  mesh = jax.sharding.get_abstract_mesh()
  kinds = dict(zip(mesh.axis_names, mesh.axis_types))
  return mesh.shape[ROWS] if kinds.get(ROWS) == AxisType.Auto else 1


def own_examples(count: int) -> int:
  """Returns how many of so many examples each device has here.

  That is so for what says what is fastest, or fits, on one device.
  """
  devices = _over_examples()
  return count if count % devices else count // devices


def _over_examples():
  """Returns over how many devices XLA may spread examples here."""
  mesh = jax.sharding.get_abstract_mesh()
  kinds = dict(zip(mesh.axis_names, mesh.axis_types))
  return mesh.shape[EXAMPLES] if kinds.get(EXAMPLES) == AxisType.Auto else 1


def summed(function: Callable[..., Array], *maps: Array | np.ndarray) -> Array:
  """Returns what a function sums over examples and pixels, of all devices.

  Each device sums its own examples, and the sums are added once, in float32 at
  least. Of a sum that
  is made in a loop, XLA would add those of every turn over the devices.

  Args:
    function: (*maps) -> an array without an axis of examples.
    *maps: [b, ...], in which XLA may have spread b over "data".
  """
  devices = _over_examples()
  if devices == 1 or any(x.shape[0] % devices for x in maps):
    return function(*maps)

  def added(*own):
    sums = function(*own)
    wide = sums.astype(jnp.promote_types(sums.dtype, jnp.float32))
    return lax.psum(wide, EXAMPLES).astype(sums.dtype)

  return jax.shard_map(
    added,
    in_specs=PartitionSpec(EXAMPLES),
    out_specs=PartitionSpec(),
    check_vma=False,
  )(*maps)


class Maps(NamedTuple):
  """The rows of the maps that operators met: spread, and put together."""

  spread: list[int]
  together: list[int]


_MET: contextvars.ContextVar[Maps | None]
_MET = contextvars.ContextVar("maps met", default=None)


@contextlib.contextmanager
def met() -> Iterator[Maps]:
  """Gives what the operators meet that are traced within it."""
  found = Maps([], [])
  token = _MET.set(found)
  try:
    yield found
  finally:
    _MET.reset(token)


def together(function: Callable[[Array], Any], x: Array | np.ndarray) -> Any:
  """Returns function(x), of maps whose rows each device has all of."""
  if parts() == 1:
    return function(x)
  return jax.tree.map(_whole, function(_whole(x)))


def _whole(x):
  any_ = PartitionSpec.UNCONSTRAINED
  spec = PartitionSpec(any_, None, *(any_,) * (x.ndim - 2))
  return lax.with_sharding_constraint(x, spec)


def divides(*rows: int) -> bool:
  """Whether rows are spread here, and maps of so many each divide."""
  return _spread(rows[0], not any(n % parts() for n in rows))


def _spread(rows, fits):
  """Returns whether a map is computed in parts; notes where it is not."""
  if parts() == 1:
    return False
  found = _MET.get()
  # One row, as of a map's mean, has nothing to spread.
  if rows > 1 and found is not None:
    (found.spread if fits else found.together).append(rows)
  return fits


def halo(
  rows: int, count: int, *, stride: int, reach: int, padding: int
) -> tuple[int, int] | None:
  """Returns how many rows above and below its own a part's windows see.

  Args:
    rows: of the map.
    count: windows along its rows.
    stride: rows from one window to the next.
    reach: rows from a window's first to its last, both included.
    padding: rows above the map where the first window begins.

  Returns:
    Two numbers, negative for rows of its own that no window sees; or None, if
    rows are not spread here, or the windows of a part are not those that begin
    in it.
  """
  fits = count * stride == rows and rows % (parts() * stride) == 0
  if not _spread(rows, fits):
    return None
  return padding, reach - stride - padding


def by_rows(
  function: Callable[..., Any],
  *maps: Num[Array, "..."],
  shared: tuple[Array, ...] = (),
  halo: tuple[int, int] = (0, 0),
  fill: float = 0.0,
) -> Any:
  """Returns the maps that a function makes, each device of its own rows.

  Args:
    function: (*parts of the maps, *shared) -> arrays [b', h', ...] of what
      belongs to a part's own rows; in this order they are the result's rows.
    *maps: [b, h, ...], whose rows divide over `parts()`.
    shared: what each device sees whole.
    halo: rows above and below its own that the first map's part has besides;
      negative for such as it lacks.
    fill: what is seen beyond the first and the last row.
  """
  mesh = jax.sharding.get_abstract_mesh()
  data = mesh.shape[EXAMPLES]
  spread = all(x.shape[0] % data == 0 for x in maps)
  spec = PartitionSpec(EXAMPLES if spread else None, ROWS)

  def part(*arrays):
    return function(_extended(arrays[0], *halo, fill), *arrays[1:])

  # Without the check of what varies, rules for derivatives within need not
  # tell it: what is shared has its gradients summed at the end.
  return jax.shard_map(
    part,
    in_specs=(spec,) * len(maps) + (PartitionSpec(),) * len(shared),
    out_specs=spec,
    check_vma=False,
  )(*maps, *shared)


def place(values: Num[np.ndarray, "n *shape"]) -> Num[Array, "*shape"]:
  """Returns, within `by_rows`, what belongs to the part: values[its number]."""
  return jnp.asarray(values)[lax.axis_index(ROWS)]


def returned(
  x: Num[Array, "b h *rest"], halo: tuple[int, int]
) -> Num[Array, "b h2 *rest"]:
  """Returns, within `by_rows`, what is said of a part's own rows.

  The transpose of giving a part its halo: what parts say of rows in their halos
  is added where these belong.

  Args:
    x: of a part with its halo.
    halo: as `by_rows` was given it.
  """
  if halo == (0, 0):
    return x
  shape = (x.shape[0], x.shape[1] - sum(halo), *x.shape[2:])
  own = jax.ShapeDtypeStruct(shape, x.dtype)
  return jax.linear_transpose(lambda x: _extended(x, *halo, 0.0), own)(x)[0]


def _extended(x, above, below, fill):
  """Returns a part with rows of those before and behind, or less of its own."""
  rows = x.shape[1]
  own = x[:, max(0, -above) : rows - max(0, -below)]
  before = [_received(x, above, hop, 1, fill) for hop in _hops(above, rows)]
  after = [_received(x, below, hop, -1, fill) for hop in _hops(below, rows)]
  pieces = [*reversed(before), own, *after]
  return jnp.concatenate(pieces, axis=1) if len(pieces) > 1 else own


def _hops(wanted, rows):
  """Returns how far the devices are that have the rows, the nearest first."""
  return range(1, -(-max(0, wanted) // rows) + 1)


def _received(x, wanted, hop, direction, fill):
  """Returns the rows of the device `hop` before (1) or behind (-1)."""
  devices, rows = lax.axis_size(ROWS), x.shape[1]
  count = min(rows, wanted - (hop - 1) * rows)
  sent = x[:, rows - count :] if direction == 1 else x[:, :count]
  if hop >= devices:
    return jnp.full_like(sent, fill)
  pairs = [
    (i, i + direction * hop)
    for i in range(devices)
    if 0 <= i + direction * hop < devices
  ]
  got = lax.ppermute(sent, ROWS, pairs)  # zeros where nobody sends
  if fill == 0:
    return got
  number = lax.axis_index(ROWS)
  inner = number >= hop if direction == 1 else number < devices - hop
  return jnp.where(inner, got, jnp.asarray(fill, x.dtype))
