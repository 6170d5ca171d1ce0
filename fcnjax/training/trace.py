"""A trace of a few steps: what the devices and the host did when."""

from collections.abc import Iterator
import contextlib
import pathlib
from typing import Any

import jax

# The first steps compile, and fill the pipeline.
_AFTER, _STEPS = 3, 3


class Trace:
  """Of the fourth to the sixth step after a start.

  The folder then holds files for TensorBoard's and XProf's profile page, and
  `perfetto_trace.json.gz` for ui.perfetto.dev.
  """

  def __init__(self, folder: pathlib.Path | None, *, first: int):
    """Begins nothing yet.

    Args:
      folder: of the files; None = no trace.
      first: the number of steps done at the start.
    """
    self._folder, self._running = folder, False
    self._steps = range(first + _AFTER + 1, first + _AFTER + _STEPS + 1)

  @contextlib.contextmanager
  def step(self, number: int) -> Iterator[None]:
    """Is around what hands a step to the devices."""
    if self._folder is not None and number == self._steps.start:
      jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
      self._running = True
    if not self._running:
      yield
      return
    with jax.profiler.StepTraceAnnotation("train", step_num=number):
      yield

  def end(self, number: int, values: Any) -> None:
    """Is called behind each step; waits for the last one that is traced."""
    if self._running and number == self._steps.stop - 1:
      jax.block_until_ready(values)
      self.close()

  def close(self) -> None:
    """Writes what there is; for runs that end before the last traced step."""
    if self._running:
      self._running = False
      jax.profiler.stop_trace()
