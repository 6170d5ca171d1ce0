"""Checkpoints of a run: asynchronous, atomic, the latest and the best.

The only file that knows Orbax.
"""

from collections.abc import Sequence
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from fcnjax import errors
from fcnjax.training import optimizers


def _flat(tree: Any) -> dict[str, Any]:
  """Returns {path: leaf}; paths as the optimizer's groups see them."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {optimizers.path_of(path): leaf for path, leaf in leaves}


def difference(saved: Any, wanted: Any) -> str:
  """Returns in words what differs between two trees of arrays, or "".

  Args:
    saved: tree of anything with a shape, as it lies in a checkpoint.
    wanted: tree of anything with a shape, as the network has it.
  """
  saved, wanted = _flat(saved), _flat(wanted)
  parts = []
  for word, names in (
    ("missing", sorted(wanted.keys() - saved.keys())),
    ("unknown", sorted(saved.keys() - wanted.keys())),
    (
      "of another shape",
      [
        f"{name} {tuple(saved[name].shape)} for {tuple(wanted[name].shape)}"
        for name in sorted(saved.keys() & wanted.keys())
        if tuple(saved[name].shape) != tuple(wanted[name].shape)
      ],
    ),
  ):
    if names:
      more = f" and {len(names) - 3} more" if len(names) > 3 else ""
      parts.append(f"{len(names)} {word}: {', '.join(names[:3])}{more}")
  return "; ".join(parts)


def merge(
  theirs: Any,
  ours: Any,
  *,
  drop: Sequence[str] = (),
  widen: Sequence[str] = (),
  where: str = "init_from",
) -> tuple[Any, list[str]]:
  """Returns `ours` with every array of `theirs` that has its path and shape.

  Args:
    theirs: variables of another network.
    ours: variables of this one.
    drop: regular expressions; a path that one of them is found in may stay as
      it is in `ours`, or be left behind in `theirs`.
    widen: regular expressions of kernels [h, w, c, d] that may take more
      channels c in `ours`: those start from the mean of the others, as FCN's
      depth channel does from red, green and blue.
    where: what `theirs` is, for the message.

  Returns:
    The merged variables, and a line for each path that was dropped or widened.

  Raises:
    InputError: names what does not fit and is not dropped, or a pattern that
      is no regular expression.
  """
  for word, patterns in (("init_drop", drop), ("init_widen", widen)):
    for pattern in patterns:
      try:
        re.compile(pattern)
      except re.error as error:
        raise errors.InputError(
          f"{word}: {pattern!r} is no regular expression ({error})."
        ) from error
  old, new = _flat(theirs), _flat(ours)
  wider = {
    name: _widened(old[name], new[name].shape[2])
    for name in old.keys() & new.keys()
    if _is_wider(new[name].shape, old[name].shape)
    and any(re.search(pattern, name) for pattern in widen)
  }
  old |= wider
  fits = {
    name
    for name in old.keys() & new.keys()
    if tuple(old[name].shape) == tuple(new[name].shape)
  }
  dropped = sorted((old.keys() | new.keys()) - fits)
  unnamed = [
    name
    for name in dropped
    if not any(re.search(pattern, name) for pattern in drop)
  ]
  if unnamed:
    raise errors.InputError(
      f"{where} does not fit: {', '.join(unnamed[:4])}"
      f"{' …' if len(unnamed) > 4 else ''}; name what may stay fresh or be "
      "left behind in init_drop, as in --config.init_drop=\"('score',)\"."
    )
  lines = [
    f"{name}: {'stays fresh' if name in new else 'left behind'}"
    for name in dropped
  ] + [
    f"{name}: more channels, which start from the mean of the others"
    for name in sorted(wider)
  ]

  def choose(path, leaf):
    name = optimizers.path_of(path)
    if name not in fits:
      return leaf
    return jax.device_put(old[name].astype(leaf.dtype), leaf.sharding)

  return jax.tree_util.tree_map_with_path(choose, ours), lines


def _is_wider(ours: Sequence[int], theirs: Sequence[int]) -> bool:
  """Whether two kernels differ in the incoming channels alone, ours more."""
  same = len(ours) == len(theirs) == 4 and ours[2] > theirs[2]
  return same and (*ours[:2], ours[3]) == (*theirs[:2], theirs[3])


def _widened(kernel: Any, channels: int) -> Any:
  """Returns a kernel [h, w, channels, d]; what is new is the mean."""
  mean = kernel.mean(axis=2, keepdims=True)
  return jnp.concatenate(
    [kernel, jnp.repeat(mean, channels - kernel.shape[2], axis=2)], axis=2
  )


class Checkpoints:
  """The checkpoints of one workdir.

  Kept are the latest `keep` and the one with the best `mean_iou`. A
  checkpoint appears under its step's name only when it is complete.
  """

  def __init__(
    self, directory: pathlib.Path, *, keep: int = 2, writing: bool = True
  ):
    """Opens the directory.

    Args:
      directory: is created if it is missing, for writing only.
      keep: number of latest checkpoints that are kept, at least 1.
      writing: whether this is the run itself, which clears away what an
        interrupted save left behind. Readers touch nothing: the run may be
        saving at this moment.

    Raises:
      InputError: if there is nothing to read.
    """
    if not writing and not directory.is_dir():
      raise errors.InputError(
        f"{directory} is missing: the run has saved no checkpoint yet."
      )
    policies = ocp.training.preservation_policies
    self._directory = directory
    self._saving = None
    self._checkpointer = ocp.training.Checkpointer(
      directory.resolve(),
      # Which steps are saved is decided by the training loop alone.
      save_decision_policy=None,
      preservation_policy=policies.AnyPreservationPolicy(
        [
          policies.LatestN(keep),
          policies.BestN(
            get_metric_fn=lambda metrics: metrics["mean_iou"],
            n=1,
            keep_checkpoints_without_metrics=False,
          ),
        ]
      ),
      cleanup_tmp_directories=writing,
    )

  @property
  def steps(self) -> list[int]:
    """The steps that were saved, in ascending order."""
    return sorted(c.step for c in self._checkpointer.checkpoints)

  @property
  def latest(self) -> int | None:
    """The last step that was saved, or None."""
    found = self._checkpointer.latest
    return None if found is None else found.step

  @property
  def best(self) -> int | None:
    """The step with the highest mean IoU, the latest of equals.

    Without any mean IoU it is the latest step, and None without any step.
    """
    scored = [c for c in self._checkpointer.checkpoints if c.metrics]
    if not scored:
      return self.latest
    return max(scored, key=lambda c: (c.metrics["mean_iou"], c.step)).step

  def save(
    self, step: int, state: Any, *, mean_iou: float | None = None
  ) -> None:
    """Begins to save; a save before it is waited for and its failure raised."""
    self.wait()
    self._saving = self._checkpointer.save_async(
      step,
      state,
      force=True,
      metrics=None if mean_iou is None else {"mean_iou": mean_iou},
    )

  def wait(self) -> None:
    """Waits until everything is saved; raises what went wrong."""
    if self._saving is not None:
      saving, self._saving = self._saving, None
      saving.result()

  def restore(self, step: int, abstract: Any) -> Any:
    """Returns the state of `step`, placed by `abstract`'s shardings.

    Args:
      step: one that was saved.
      abstract: tree of jax.ShapeDtypeStruct, with shardings.

    Raises:
      InputError: if the checkpoint is of another network.
    """
    found = difference(self.tree(step), abstract)
    if found:
      raise errors.InputError(
        f"{self._directory / str(step)} is of another network or optimizer "
        f"({found}); give another --workdir, or the config it was trained with."
      )
    return self._checkpointer.load(step, abstract)

  def tree(self, step: int) -> Any:
    """Returns the tree of a checkpoint; its leaves have shape and dtype."""
    return self._checkpointer.metadata(step).metadata

  def close(self) -> None:
    """Waits, then lets go of the directory."""
    self.wait()
    self._checkpointer.close()
