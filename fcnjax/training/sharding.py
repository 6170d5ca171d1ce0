"""The mesh, and where arrays live on it.

One axis, "data": the examples of a batch are spread over it, everything else
is copied to every device. Axes are Auto: XLA places the collectives, so batch
norm is global and the loss is that of the global batch without naming an axis.
"""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from fcnjax import errors


def create_mesh(*, data: int = -1, batch_size: int) -> Mesh:
  """Returns a mesh of `data` devices along the axis "data".

  Args:
    data: number of devices; -1 takes as many as the batch divides over.
    batch_size: the global batch; must be a multiple of the devices.

  Raises:
    InputError: if there are not so many devices, or the batch is no multiple.
  """
  devices = jax.devices()
  count = data
  if data == -1:
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
  if not 1 <= count <= len(devices):
    raise errors.InputError(
      f"mesh.data: {data} devices asked for, {len(devices)} found; give 1 to "
      f"{len(devices)}, or -1 for as many as divide the batch."
    )
  if batch_size % count:
    raise errors.InputError(
      f"batch_size: {batch_size} does not divide over {count} devices; use a "
      f"multiple of {count}, or --config.mesh.data=-1."
    )
  return jax.make_mesh(
    (count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count]
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
    return jax.make_array_from_process_local_data(sharding, value)

  return {name: moved(value) for name, value in batch.items()}
