"""Which images have rows that can be spread over devices (mesh.space)."""

from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from fcnjax import errors
from fcnjax.ops import spatial
from fcnjax.training import sharding

# No network's coarsest map has fewer than a 64th of an image's rows.
STRIDE = 64


def check(mesh: Mesh, model: Any, shapes: Any, size: tuple[int, int]) -> None:
  """Refuses training images whose rows the network cannot spread.

  The network is traced to see which of its maps divide; so what is needed is
  known for each network and its options.

  Args:
    mesh: of the run.
    model: as created.
    shapes: of its variables.
    size: height and width of a training image, pixels.

  Raises:
    InputError: with the nearest numbers of rows that can be spread, or that
      there are none.
  """
  space, rows = mesh.shape[spatial.ROWS], size[0]
  if space == 1:
    return

  def met(rows: int) -> spatial.Maps:
    shape = (mesh.shape[spatial.EXAMPLES], rows, size[1], model.in_channels)
    # A function of its own, so that nothing was traced before.
    apply = sharding.spread(lambda v, x: model.apply(v, x)["logits"], mesh)
    with spatial.met() as found:
      logits = jax.eval_shape(
        apply, shapes, jax.ShapeDtypeStruct(shape, np.float32)
      )
    if rows % space or logits.shape[1] % space:
      found.together.append(rows)
    return found

  if not met(rows).together:
    return
  try:
    found = met(space * STRIDE)
  except ValueError:  # Of a size that valid convolutions cannot take.
    found = None
  if found is None or found.together:
    raise errors.InputError(
      f"mesh.space: {space}, but this network has maps whose rows never divide "
      "(valid convolutions, or an image padded by many pixels); set "
      "--config.mesh.space=1 and spread the batch (mesh.data)."
    )
  step = space * (space * STRIDE // min(found.spread))
  below, above = rows // step * step, -(-rows // step) * step
  words = " or ".join(str(n) for n in (below, above) if n)
  raise errors.InputError(
    f"mesh.space: training images of {rows} rows do not divide over {space} "
    f"devices in all of this network's maps; the nearest that do have {words} "
    "rows: change the crop (data.transforms), or mesh.space."
  )
