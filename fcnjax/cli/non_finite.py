"""What a run does about a step whose loss is infinite or not a number."""

from collections.abc import Callable, Sequence
import pathlib
from typing import Any

import jax
import numpy as np

from fcnjax import errors, hosts
from fcnjax.cli import batches as batches_lib
from fcnjax.training import loop, writers

# What ends, or saves, the run.
#   "stop":    it ends, and its last checkpoint stays;
#   "skip":    the step changes nothing, and is counted;
#   "restore": it goes back to its last checkpoint, and on from there at half
#              the learning rate.
POLICIES = {word: word for word in ("stop", "skip", "restore")}

# A run that skips more steps than a twentieth, or starts over more often, is
# one that learns nothing.
SHARE, FEW, TIMES = 0.05, 20, 6


def handler(
  policy: str,
  folder: pathlib.Path,
  made: batches_lib.Batches,
  progress: writers.Progress,
) -> Callable[[int, dict[str, float]], None]:
  """Returns the `non_finite` of `loop.fit`.

  It saves the step's batch to `folder`/step_N.npz, where it can be looked at
  with `numpy.load`, and names its files.

  Args:
    policy: a word of POLICIES.
    folder: is made when it is needed.
    made: the training batches.
    progress: where a skipped step is told.
  """

  def non_finite(step: int, metrics: dict[str, float]) -> None:
    names = made.names(step - 1)
    file = _save(folder, step, made, names)
    shown = ", ".join(names[:16]) + (", …" if len(names) > 16 else "")
    found = (
      f"the loss is {metrics['loss']} and the gradient's norm "
      f"{metrics['gradient_norm']} at step {step} (batch: {shown}; kept in "
      f"{file})"
    )
    skipped = int(metrics.get("skipped_steps", 0))
    if policy == "skip" and skipped <= max(FEW, SHARE * step):
      progress.say(f"{found}: skipped, as {skipped} steps were until now")
      return
    many = f"{skipped} steps were skipped; " if policy == "skip" else ""
    raise loop.NonFiniteError(
      f"{found}; {many}lower optimizer.learning_rate, set optimizer.clip_norm, "
      "or look at these files. The last good checkpoint stays."
    )

  return non_finite


def _save(
  folder: pathlib.Path,
  step: int,
  made: batches_lib.Batches,
  names: list[str],
) -> pathlib.Path:
  """Saves the batch again: it is a function of the step."""
  again = made.start(step - 1)
  try:
    batch = next(again)
  finally:
    again.close()
  folder.mkdir(exist_ok=True)
  file = folder / hosts.named(f"step_{step}.npz")
  arrays = {name: _local(array) for name, array in batch.items()}
  np.savez_compressed(file, names=np.array(names), **arrays)
  return file


def _local(array: Any) -> np.ndarray:
  """Returns the examples of a global array that this process holds."""
  if array.is_fully_addressable:
    return np.asarray(array)
  return _joined(array.addressable_shards)


def _joined(shards: Sequence[jax.Shard]) -> np.ndarray:
  """Returns whole examples of their parts: [examples, rows, ...]."""
  own: dict[int, dict[int, np.ndarray]] = {}
  for shard in shards:
    example, row = (part.start or 0 for part in (*shard.index, slice(0))[:2])
    own.setdefault(example, {})[row] = np.asarray(shard.data)
  rows = [[own[e][row] for row in sorted(own[e])] for e in sorted(own)]
  return np.concatenate(
    [x[0] if len(x) == 1 else np.concatenate(x, axis=1) for x in rows]
  )


def lower_rate(state: Any, error: errors.Stopped, times: int) -> Any:
  """Returns the state at half the learning rate for each time it was restored.

  Args:
    state: as its checkpoint holds it.
    error: why it was restored; is raised if that happened too often.
    times: how often this checkpoint was restored, this time included.
  """
  if times > TIMES:
    raise error
  return state.replace(scale=state.scale * np.float32(0.5**times))
