"""A train step of which every intermediate result is looked at."""

from collections.abc import Callable
import pathlib
import traceback
from typing import Any

import jax
from jax.experimental import checkify

from fcnjax import errors
from fcnjax.training.state import TrainState


def checked(
  train_step: Callable[[TrainState, Any], tuple[TrainState, Any]],
  *,
  out_shardings: Any = None,
) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
  """Returns the step, jitted, which ends where the first NaN is made.

  Divisions by zero are found, too. Infinity is found by what it becomes.

  Args:
    train_step: (state, batch) -> (state, metrics), not jitted.
    out_shardings: of its results, as `jax.jit` takes them.

  Raises:
    Stopped: names the primitive and the line that called it; by the step.
  """
  run = jax.jit(
    checkify.checkify(train_step, errors=checkify.float_checks),
    out_shardings=(None, out_shardings),
  )

  def step(state, batch):
    error, results = run(state, batch)
    with jax.transfer_guard("allow"):
      found, number = error.get_exception(), int(state.step) + 1
    if found is not None:
      raise errors.Stopped(
        f"--debug: step {number}: {str(found).strip()} {_place(found)}. The "
        "last checkpoint is what it was."
      ) from found
    return results

  return step


def _place(found: Any) -> str:
  """Returns the innermost lines of this package, and of its caller."""
  frames = traceback.extract_tb(found.traceback_info.as_python_traceback())
  own = [f"{f.filename}:{f.lineno}" for f in frames if _is_own(f.filename)]
  return f"({' < '.join(reversed(own[-3:]))})"


def _is_own(file: str) -> bool:
  path, package = pathlib.Path(file), pathlib.Path(__file__).parents[1]
  installed = {"site-packages", "dist-packages"} & set(path.parts)
  return package in path.parents or not installed
