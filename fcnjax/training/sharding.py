"""The mesh, and where arrays live on it.

Two axes. "data": the examples of a batch are spread over it. "space": the rows
of each image are; the operators of fcnjax/ops then exchange what they need of
their neighbours' rows (see ops/spatial.py). Parameters, optimizer and averages
are on every device whole or, "sharded", cut over "data" and put together where
they are used. Axes are Auto: XLA places the collectives, so batch norm is
global and the loss is that of the global batch without naming an axis.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from fcnjax import errors, hosts
from fcnjax.ops import spatial
from fcnjax.training.state import TrainState

AXES = (spatial.EXAMPLES, spatial.ROWS)

# Parameters of fewer numbers are not cut: to put one together takes as long as
# its collective's latency, and they are a small part of all.
LEAST = 2**12


def create_mesh(*, data: int = -1, space: int = 1, batch_size: int) -> Mesh:
  """Returns a mesh of `data` x `space` devices, the axes "data" and "space".

  Of several processes every one holds whole images: its devices are next to
  each other along "space", and as many of each process are used.

  Args:
    data: over how many the batch is spread, as many of each process; -1 takes
      as many as it divides over.
    space: over how many the rows of an image are spread.
    batch_size: the global batch; must be a multiple of `data`.

  Raises:
    InputError: if there are not so many devices, the batch is no multiple, or a
      process would hold parts of images or nothing.
  """
  found, processes = jax.device_count(), hosts.count()
  if not 1 <= space <= found:
    raise errors.InputError(
      f"mesh.space: {space} devices asked for, {found} found; give 1 to "
      f"{found}."
    )
  own = jax.local_device_count()
  if processes > 1 and own % space:
    raise errors.InputError(
      f"mesh.space: {space}, but each of the {processes} processes has {own} "
      f"devices and holds whole images; use a divisor of {own}."
    )
  if batch_size % processes:
    raise errors.InputError(
      f"batch_size: {batch_size} images do not divide over {processes} "
      f"processes; use a multiple of {processes}."
    )
  possible = range(processes, found // space + 1, processes)
  count = data
  if data == -1:
    count = max(n for n in possible if batch_size % n == 0)
  if count not in possible:
    each = f" of {space} (mesh.space)" if space > 1 else ""
    many = f"a multiple of {processes} (processes), " if processes > 1 else ""
    raise errors.InputError(
      f"mesh.data: {data} devices{each} asked for, {found} found; give {many}"
      f"{processes} to {found // space}, or -1 for as many as divide the batch."
    )
  if batch_size % count:
    raise errors.InputError(
      f"batch_size: {batch_size} does not divide over {count} devices; use a "
      f"multiple of {count}, or --config.mesh.data=-1."
    )
  chosen = hosts.devices(count * space)
  if processes > 1:
    return Mesh(
      np.array(chosen).reshape(count, space), AXES, (AxisType.Auto,) * 2
    )
  return jax.make_mesh(
    (count, space), AXES, axis_types=(AxisType.Auto,) * 2, devices=chosen
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of what every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def by_example(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of what an example has: the first axis over "data"."""
  return NamedSharding(mesh, PartitionSpec(spatial.EXAMPLES))


def by_row(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of images and labels: [examples, rows, ...]."""
  if mesh.shape[spatial.ROWS] == 1:
    return by_example(mesh)
  return NamedSharding(mesh, PartitionSpec(*AXES))


def of_state(
  state: TrainState, mesh: Mesh, *, shard_parameters: bool, least: int = LEAST
) -> TrainState:
  """Returns the shardings of a state's arrays, in a tree of its form.

  Args:
    state: of anything with a shape.
    mesh: of the run.
    shard_parameters: whether parameters, what the optimizer keeps for each, and
      their average are cut over "data": along the longest axis that divides,
      the last of equals. The other collections are whole.
    least: numbers in an array that is cut.
  """
  whole, data = replicated(mesh), mesh.shape[spatial.EXAMPLES]

  def of(leaf):
    axes = [a for a, n in enumerate(leaf.shape) if n % data == 0 and n >= data]
    if not shard_parameters or math.prod(leaf.shape) < least or not axes:
      return whole
    longest = max(axes, key=lambda a: (leaf.shape[a], a))
    return NamedSharding(
      mesh, PartitionSpec(*(None,) * longest, spatial.EXAMPLES)
    )

  everywhere = jax.tree.map(lambda _: whole, state)
  return everywhere.replace(
    params=jax.tree.map(of, state.params),
    opt_state=jax.tree.map(of, state.opt_state),
    ema=jax.tree.map(of, state.ema),
  )


def gatherer(params: Any) -> Callable[[Any], Any]:
  """Returns a function that puts cut parameters together, for a train step.

  XLA does so where each is used. Their gradient is cut like them: summed over
  the devices, each of which keeps its part alone.

  Args:
    params: their shardings, from `of_state`.
  """

  def gathered(arrays: Any) -> Any:
    return jax.tree.map(
      lambda x, own: x if own.is_fully_replicated else _gathered(x, own),
      arrays,
      params,
    )

  return gathered


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gathered(x, own):
  return lax.with_sharding_constraint(x, replicated(own.mesh))


_gathered.defvjp(
  lambda x, own: (_gathered(x, own), None),
  lambda own, kept, cotangent: (lax.with_sharding_constraint(cotangent, own),),
)


def whole(tree: Any, mesh: Mesh) -> Any:
  """Returns arrays that every device holds whole: what is cut, put together."""
  if all(x.sharding.is_fully_replicated for x in jax.tree.leaves(tree)):
    return tree
  return jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)


def spread(
  function: Callable[..., Any], mesh: Mesh | None
) -> Callable[..., Any]:
  """Returns a function whose operators know over what their maps are spread.

  Args:
    function: to be traced: a train step, a network.
    mesh: of the run; None, or one of a single device, changes nothing.
  """
  if mesh is None or mesh.size == 1:
    return function

  @functools.wraps(function)
  def within(*args, **words):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args, **words)

  return within


def jitted(
  train_step: Callable[..., tuple[TrainState, Any]],
  mesh: Mesh,
  placement: TrainState,
) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
  """Returns a train step, compiled for a state that lies so on a mesh.

  Args:
    train_step: (state, batch, *, gathered) -> (state, metrics): that of
      `step.py`, with everything but these given.
    mesh: of the run.
    placement: of the state, from `of_state`.

  Returns:
    (state, batch) -> (state, metrics), jitted. The state is donated, and stays
    where it lay; every device holds the metrics.
  """
  return jax.jit(
    functools.partial(
      spread(train_step, mesh), gathered=gatherer(placement.params)
    ),
    donate_argnums=0,
    out_shardings=(placement, replicated(mesh)),
  )


def placed(image: np.ndarray | jax.Array, mesh: Mesh) -> np.ndarray | jax.Array:
  """Returns images [b, h, w, c] spread as they divide, for prediction."""
  over = [
    axis if n % mesh.shape[axis] == 0 else None
    for axis, n in zip(AXES, image.shape)
  ]
  if over == list(AXES):
    return jax.device_put(image, by_row(mesh))
  if mesh.shape[spatial.ROWS] == 1:
    return image
  return jax.device_put(image, NamedSharding(mesh, PartitionSpec(*over)))


def to_devices(
  batch: dict[str, np.ndarray | jax.Array], mesh: Mesh
) -> dict[str, jax.Array]:
  """Returns the global batch, of which this process holds its own examples.

  Args:
    batch: images, labels and weights of the host, which are copied; or global
      ones of devices, which stay where they are if that is right.
    mesh: over which the examples, and their rows, are spread.
  """
  sharding = by_row(mesh)

  def moved(value):
    if isinstance(value, jax.Array):
      return jax.device_put(value, sharding)
    return hosts.spread(value, sharding)

  return {name: moved(value) for name, value in batch.items()}


def local(tree: Any, mesh: Mesh) -> Any:
  """Returns arrays that this process's devices hold whole, without the others.

  What every device holds stays where it is; what is cut is put together first,
  for which all processes must call this.

  Args:
    tree: of global arrays.
    mesh: on which they lie.
  """
  tree = whole(tree, mesh)
  if hosts.count() == 1:
    return tree
  here = replicated(mesh.local_mesh)

  def own(array):
    shards = [shard.data for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(array.shape, here, shards)

  return jax.tree.map(own, tree)
