"""A train step of which every intermediate result is looked at."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import checkify

from fcnjax import errors
from fcnjax.training.state import TrainState


def checked(
  train_step: Callable[[TrainState, Any], tuple[TrainState, Any]], **words: Any
) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
  """Returns the step, jitted, which ends where the first NaN is made.

  Divisions by zero are found, too. Infinity is found by what it becomes.

  Args:
    train_step: (state, batch) -> (state, metrics), not jitted.
    **words: of `jax.jit`; `out_shardings` is that of both results.

  Raises:
    Stopped: names the primitive and the line that called it; by the step.
  """
  run = jax.jit(
    checkify.checkify(train_step, errors=checkify.float_checks), **words
  )

  def step(state, batch):
    error, results = run(state, batch)
    with jax.transfer_guard("allow"):
      found, number = error.get(), int(state.step) + 1
    if found:
      raise errors.Stopped(
        f"--debug: step {number}: {found} The state before it was not "
        "saved: its last checkpoint is what it was."
      )
    return results

  return step
