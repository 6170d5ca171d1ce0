"""Several examples in one: where parts of others are pasted into an example.

The parts are boxes, float32 [m, 4] of (top, left, bottom, right) in [0, 1] of
height and width; box i is filled with what example i of the others has in the
same place, and later boxes cover earlier ones. A box without an area pastes
nothing. Image, label and weight are pasted alike, so that no value is new.
"""

from collections.abc import Callable

from jaxtyping import Float
import numpy as np

from fcnjax import errors
from fcnjax.data import recipes

Boxes = list[tuple[float, float, float, float]]
Plan = Callable[[int], Float[np.ndarray, "m 4"]]

_NOTHING = (0.0, 0.0, 0.0, 0.0)
_WORD = 5  # Last of the seeds' words; see order.py.


def cut_mix(
  boxes: Boxes,
  generator: np.random.Generator,
  *,
  probability: float = 0.5,
  alpha: float = 1.0,
) -> Boxes:
  """Adds a box of another example, anywhere.

  Its sides are sqrt(1 - v) of the image's, v from Beta(alpha, alpha), around a
  centre that is drawn uniformly, cut at the borders.

  Args:
    boxes: so far.
    generator: of the random numbers.
    probability: of there being a box, in [0, 1].
    alpha: of the Beta distribution; positive.

  Source: CutMix, Yun et al., ICCV 2019, section 3.1; for segmentation, where
  the labels are pasted too, French et al., BMVC 2020.
  """
  if alpha <= 0:
    raise ValueError(f"alpha must be positive, got {alpha}.")
  drawn = generator.random(3)
  side = np.sqrt(1 - generator.beta(alpha, alpha))
  if drawn[2] >= probability:
    return [*boxes, _NOTHING]
  low = np.clip(drawn[:2] - side / 2, 0, 1)
  high = np.clip(drawn[:2] + side / 2, 0, 1)
  return [*boxes, (*map(float, low), *map(float, high))]


def mosaic(
  boxes: Boxes,
  generator: np.random.Generator,
  *,
  probability: float = 0.5,
  minimum: float = 0.25,
) -> Boxes:
  """Adds three boxes, so that each quadrant shows another example.

  Args:
    boxes: so far.
    generator: of the random numbers.
    probability: of there being any, in [0, 1].
    minimum: the least share of height and width that a quadrant has, in
      [0, 0.5]; where they meet is drawn uniformly.

  Source: after the mosaic of YOLOv4, Bochkovskiy et al. 2020, section 3.4.
  """
  if not 0 <= minimum <= 0.5:
    raise ValueError(f"minimum must lie in [0, 0.5], got {minimum}.")
  y, x = map(float, generator.uniform(minimum, 1 - minimum, 2))
  if generator.random() >= probability:
    return [*boxes, *[_NOTHING] * 3]
  return [*boxes, (0.0, x, y, 1.0), (y, 0.0, 1.0, x), (y, x, 1.0, 1.0)]


# The names of configs.
MIXERS = {"cut_mix": cut_mix, "mosaic": mosaic}


def plan(mixing: recipes.Transforms, seed: int) -> Plan:
  """Returns a function of a position to the boxes of its example.

  Args:
    mixing: (name, parameters) of MIXERS, in the order of application.
    seed: of the random numbers, which come from it and the position.

  Raises:
    InputError: for an unknown name or a wrong parameter.
  """
  chosen = recipes.operations(mixing, MIXERS, 0.0, word="data.mixing")

  def at(position: int) -> np.ndarray:
    generator = np.random.default_rng((seed % 2**64, position, _WORD))
    boxes: Boxes = []
    for _, operation, parameters in chosen:
      boxes = operation(boxes, generator, **parameters)
    return np.asarray(boxes, np.float32).reshape(-1, 4)

  try:
    at(0)
  except (TypeError, ValueError) as error:
    raise errors.InputError(f"data.mixing: {error}") from error
  return at
