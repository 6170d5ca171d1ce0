"""The mesh, and where arrays live on it.

One axis, "data": the examples of a batch are spread over it, everything else
is copied to every device. Axes are Auto: XLA places the collectives, so batch
norm is global and the loss is that of the global batch without naming an axis.
"""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from fcnjax import errors, hosts


def create_mesh(*, data: int = -1, batch_size: int) -> Mesh:
  """Returns a mesh of `data` devices along the axis "data".

  Args:
    data: number of devices, as many of each process; -1 takes as many as the
      batch divides over.
    batch_size: the global batch; must be a multiple of the devices.

  Raises:
    InputError: if there are not so many devices, or the batch is no multiple.
  """
  found, processes = jax.device_count(), hosts.count()
  if batch_size % processes:
    raise errors.InputError(
      f"batch_size: {batch_size} images do not divide over {processes} "
      f"processes; use a multiple of {processes}."
    )
  possible = range(processes, found + 1, processes)
  count = data
  if data == -1:
    count = max(n for n in possible if batch_size % n == 0)
  if count not in possible:
    each = f"a multiple of {processes} (processes), " if processes > 1 else ""
    raise errors.InputError(
      f"mesh.data: {data} devices asked for, {found} found; give {each}"
      f"{processes} to {found}, or -1 for as many as divide the batch."
    )
  if batch_size % count:
    raise errors.InputError(
      f"batch_size: {batch_size} does not divide over {count} devices; use a "
      f"multiple of {count}, or --config.mesh.data=-1."
    )
  return jax.make_mesh(
    (count,),
    ("data",),
    axis_types=(AxisType.Auto,),
    devices=hosts.devices(count),
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of what every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def by_example(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: its first axis over "data"."""
  return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(
  batch: dict[str, np.ndarray | jax.Array], mesh: Mesh
) -> dict[str, jax.Array]:
  """Returns the global batch, of which this process holds its own examples.

  Args:
    batch: of arrays of the host, which are copied; or global ones of devices,
      which stay where they are if that is right.
    mesh: over which the examples are spread.
  """
  sharding = by_example(mesh)

  def moved(value):
    if isinstance(value, jax.Array):
      return jax.device_put(value, sharding)
    return hosts.spread(value, sharding)

  return {name: moved(value) for name, value in batch.items()}


def local(tree: Any, mesh: Mesh) -> Any:
  """Returns arrays that this process's devices hold whole, without the others.

  What every device holds stays where it is; what is spread over the devices of
  several processes is copied to all first, for which all must call this.

  Args:
    tree: of global arrays.
    mesh: on which they lie.
  """
  if hosts.count() == 1:
    return tree
  here = replicated(mesh.local_mesh)

  def own(array):
    if not array.is_fully_replicated:
      array = jax.jit(_same, out_shardings=replicated(mesh))(array)
    shards = [shard.data for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(array.shape, here, shards)

  return jax.tree.map(own, tree)


def _same(array: jax.Array) -> jax.Array:
  return array
