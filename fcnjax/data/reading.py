"""Reading what stands at a position, and what to do if it cannot be read."""

from collections.abc import Callable
from concurrent import futures
import sys
import threading
from typing import Any

import numpy as np

from fcnjax import errors
from fcnjax.data import examples, mixing, order as orders

ON_BAD_EXAMPLE = ("raise", "skip")


class Reader:
  """Gives the maps of the examples that an order asks for.

  Threads may read at will. Which example stands in for a bad one is a function
  of (seed, position), as long as what is bad stays bad.

  Attributes:
    seed: of the order and of what stands in for bad examples.
    first: the maps of the first example that can be read, a model of all. Of
      several sources its image is float32 if the first of any is.
    bad: index of each example found bad so far -> why it is.
  """

  def __init__(
    self,
    source: Any,
    *,
    order: orders.Order | None = None,
    seed: int,
    on_bad_example: str = "raise",
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
  ):
    """Reads one example, or one of each source of a mixture.

    Args:
      source: see `sources`.
      order: position -> index; None = `order.uniform`.
      seed: see above.
      on_bad_example: "raise", or "skip": another one, drawn from the whole
        source, stands in; each bad one is said once.
      say: what says it.

    Raises:
      InputError: if there is no example, or the first is bad and not to be
        skipped.
    """
    if on_bad_example not in ON_BAD_EXAMPLE:
      raise errors.InputError(
        f"data.on_bad_example: {on_bad_example!r} is unknown; use "
        f"{' or '.join(ON_BAD_EXAMPLE)}."
      )
    count = len(source)
    if not count:
      raise errors.InputError("The training set has no examples.")
    self.seed = seed
    self._source, self._count = source, count
    self._order = order or orders.uniform(count, seed)
    self._skips, self._say = on_bad_example == "skip", say
    self._lock = threading.Lock()
    self.bad: dict[int, str] = {}
    self.first: dict[str, np.ndarray] = {}
    found = (self._tried(index) for index in range(count))
    first = next((maps for maps in found if maps is not None), None)
    if first is None:
      raise errors.InputError(next(iter(self.bad.values())))
    for index in getattr(source, "firsts", ())[1:]:
      other = self._tried(index)
      if other is not None and other["image"].dtype == np.float32:
        first["image"] = first["image"].astype(np.float32)
    self.first = first

  def index(self, position: int) -> int:
    """Returns what stands at a position, as far as is known."""
    index = self._order(position)
    if index in self.bad:
      others = orders.stand_ins(self.seed, position, self._count)
      index = next(other for other in others if other not in self.bad)
    return index

  def maps(self, position: int) -> dict[str, np.ndarray]:
    """Returns what is at a position; see `examples.training_maps`.

    Raises:
      InputError: if it is bad and not to be skipped, or more than a tenth of
        the source (and more than one) is bad.
    """
    while True:
      maps = self._tried(self.index(position))
      if maps is not None:
        return maps

  def every(self, workers: int) -> list[dict[str, np.ndarray] | None]:
    """Returns the maps of all examples of the source; None for a bad one.

    Args:
      workers: threads that read.
    """
    pool = futures.ThreadPoolExecutor(workers)
    try:
      return list(pool.map(self._tried, range(self._count)))
    finally:
      pool.shutdown(cancel_futures=True)

  def indices(
    self, step: int, batch_size: int, plan: mixing.Plan | None = None
  ) -> list[int]:
    """Returns which examples one (global) batch has, in its order.

    What is pasted into them follows.

    Args:
      step: of the batch.
      batch_size: examples a step, of all processes together.
      plan: of the boxes that are pasted.
    """
    own = range(step * batch_size, (step + 1) * batch_size)
    pasted = [
      position + (number + 1) * orders.FAR
      for position in own
      for number, box in enumerate(plan(position) if plan else ())
      if box.any()
    ]
    return [self.index(position) for position in (*own, *pasted)]

  def names(
    self, step: int, batch_size: int, plan: mixing.Plan | None = None
  ) -> list[str]:
    """Returns the names of the examples that `indices` tells."""
    names = self._source.names
    return [str(names[i]) for i in self.indices(step, batch_size, plan)]

  def figures(self) -> dict[str, int]:
    """Returns what is to be logged: how many bad ones were met so far."""
    return {"bad_examples": len(self.bad)} if self._skips else {}

  def _tried(self, index: int) -> dict[str, np.ndarray] | None:
    try:
      return examples.training_maps(self._source, index, self.first)
    except errors.InputError as error:
      if not self._skips:
        raise
      self._note(index, error)
      return None

  def _note(self, index: int, error: errors.InputError) -> None:
    with self._lock:
      if index not in self.bad:
        self.bad[index] = str(error)
        name = self._source.names[index]
        self._say(f"data.on_bad_example: {name} is skipped: {error}")
      if len(self.bad) > max(1, self._count // 10):
        raise errors.InputError(
          f"data.on_bad_example=skip: {len(self.bad)} of {self._count} "
          "examples are bad, more than a tenth; repair them (fcnjax check-data "
          f"lists them). The first: {next(iter(self.bad.values()))}"
        ) from error
