"""Which images have rows that can be spread over devices (mesh.space)."""

import math
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from fcnjax import errors
from fcnjax.ops import spatial
from fcnjax.training import sharding

# A network's coarsest map has 1 / 2^n of an image's rows, n at most this.
HALVINGS = 6


def check(
  mesh: Mesh,
  model: Any,
  shapes: Any,
  size: tuple[int, int],
  *,
  label_margin: int = 0,
) -> str:
  """Returns what is to be said of spreading training images, or "".

  The network is traced to see which of its maps divide; so what is needed is
  known for each network and its options.

  Args:
    mesh: of the run.
    model: as created.
    shapes: of its variables.
    size: height and width of a training image, pixels.
    label_margin: rows that the labels lack at each side.

  Raises:
    InputError: if image or labels do not divide over "space", or a map does
      not that would with other images; with the nearest rows that do.
  """
  space, rows = mesh.shape[spatial.ROWS], size[0]
  if space == 1:
    return ""

  def undivided(rows: int) -> list[int] | None:
    """Returns the rows of maps that XLA is left to spread; None: illegal."""
    labels = rows - 2 * label_margin
    if rows % space or labels % space or labels <= 0:
      return None
    image = jax.ShapeDtypeStruct(
      (mesh.shape[spatial.EXAMPLES], rows, size[1], model.in_channels),
      np.float32,
    )
    try:
      jax.eval_shape(model.apply, shapes, image)
    except ValueError:
      return None
    # A function of its own, so that nothing was traced before.
    apply = sharding.spread(lambda v, x: model.apply(v, x), mesh)
    with spatial.left_to_xla() as found:
      jax.eval_shape(apply, shapes, image)
    return found

  found = undivided(rows)
  if found == []:
    return ""
  step = next(
    (
      step
      for step in (space * 2**n for n in range(HALVINGS + 1))
      if undivided(math.ceil(rows / step) * step) == []
    ),
    None,
  )
  if step is None and found is not None:
    return (
      f"mesh.space: {len(found)} maps of this network, of {min(found)} to "
      f"{max(found)} rows, do not divide over {space} devices: XLA spreads "
      "them, with more communication and memory than those that do"
    )
  above = below = None
  if step is not None:
    below, above = rows // step * step, math.ceil(rows / step) * step
  else:  # Sides that valid convolutions take, say, are no multiples.
    first, reach = rows // space * space, 2**HALVINGS * space
    near = range(max(space, first - reach), first + reach, space)
    legal = [n for n in near if undivided(n) is not None]
    below = max((n for n in legal if n < rows), default=None)
    above = min((n for n in legal if n > rows), default=None)
  words = " or ".join(str(n) for n in (below, above) if n)
  remedy = "use another mesh.space."
  if words:
    remedy = (
      f"the nearest that do have {words} rows; change the crop "
      "(data.transforms) or mesh.space."
    )
  labels = (
    f", or their labels of {rows - 2 * label_margin}," if (label_margin) else ""
  )
  raise errors.InputError(
    f"mesh.space: training images of {rows} rows{labels} or the network's maps "
    f"of them do not divide over {space} devices; {remedy}"
  )
