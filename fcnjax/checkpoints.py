"""Checkpoints of a run: asynchronous, atomic, sealed, and kept by a policy.

The only file that knows Orbax. Orbax writes and reads the arrays of one
checkpoint; this file says where, when it is complete, and how long it stays:

  40             complete: its arrays, and a seal (fcnjax/seals.py)
  60.incomplete  being written, or left behind by a run that was killed
  40.damaged     complete once, and found to be otherwise since
  20.deleted     being deleted

A name changes in one move, so that a kill at any instruction leaves every
checkpoint that was complete. What has its seal and was about to get its name is
complete: it is read where it lies, and named when the run resumes. What is
damaged or incomplete is passed over, and never deleted, but that a step's
incomplete folder makes way when that step is saved again.
"""

from concurrent import futures
import contextlib
import logging
import pathlib
import shutil
from typing import Any

from orbax.checkpoint import v1 as ocp

from fcnjax import errors, hosts, seals, trees

# What a thread of Orbax raises, `save` and `wait` raise; each of them would log
# it besides, with its stack.
logging.getLogger("absl").addFilter(
  lambda record: "_SignalingThread" not in str(record.msg)
)


class SaveError(errors.Stopped):
  """A checkpoint could not be written; those before it are as they were."""


class Checkpoints:
  """The checkpoints of one workdir.

  Kept are the latest `keep`, the one with the best mean IoU (the latest of
  equals), and those of every `every` steps. Where a run has several processes,
  each calls every method, in the same order; the first one writes the names.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    *,
    keep: int = 2,
    every: int = 0,
    writing: bool = True,
  ):
    """Opens the directory.

    Args:
      directory: is created if it is missing, for writing only.
      keep: number of latest checkpoints that are kept, at least 1.
      every: checkpoints of multiples of so many steps are kept; 0 = of none.
      writing: whether this is the run itself, which renames what is damaged.
        Readers touch nothing: the run may be saving at this moment.

    Raises:
      InputError: if there is nothing to read.
    """
    self.directory = directory.resolve()
    self._keep, self._every, self._writing = keep, every, writing
    self._thread = futures.ThreadPoolExecutor(1, "checkpoints")
    self._saving: futures.Future[None] | None = None
    self._sound: set[int] = set()
    self._scores: dict[int, float | None] = {}
    self._evaluated: dict[int, bool] = {}  # of the first process
    self.damaged: dict[int, str] = {}  # step -> what is wrong, in words
    self._scores = dict(hosts.of_first(self._opened))

  def _opened(self) -> list[tuple[int, float | None]]:
    """Returns the steps and mean IoUs of what lies there; for the first."""
    if self._writing:
      self.directory.mkdir(parents=True, exist_ok=True)
      self._name_what_is_whole()
      for deleted in self.directory.glob("*.deleted*"):
        shutil.rmtree(deleted, ignore_errors=True)
    elif not self.directory.is_dir():
      raise errors.InputError(
        f"{self.directory} is missing: the run has saved no checkpoint yet."
      )
    names = {int(p.name) for p in self.directory.iterdir() if _is_step(p.name)}
    found = []
    for step in sorted(names | set(self.incomplete)):
      try:
        seal = seals.read(self._place(step))
        found.append((step, seal["mean_iou"]))
        self._evaluated[step] = seal.get(
          "evaluated", seal["mean_iou"] is not None
        )
      except seals.BrokenError as error:
        self._pass_over(step, error)
    return found

  def _folder(self, step: int) -> pathlib.Path:
    return self.directory / str(step)

  def _part(self, step: int) -> pathlib.Path:
    return self.directory / f"{step}.incomplete"

  def _place(self, step: int) -> pathlib.Path:
    """Where a checkpoint is read: it may be sealed, and not yet named."""
    named = self._folder(step)
    return named if named.exists() else self._part(step)

  def _name_what_is_whole(self) -> None:
    """Ends what a kill has cut off between a seal and a name.

    If the step was saved before, that one may have lost its name already.
    """
    for step in self.incomplete:
      if not self._folder(step).exists():
        with contextlib.suppress(seals.BrokenError):
          seals.check(self._part(step))
          _rename(self._part(step), self._folder(step))

  @property
  def steps(self) -> list[int]:
    """The steps that were saved, in ascending order."""
    return sorted(self._scores)

  @property
  def set_aside(self) -> list[str]:
    """The names of the damaged checkpoints, of earlier starts too."""
    return sorted(path.name for path in self.directory.glob("*.damaged*"))

  @property
  def incomplete(self) -> list[int]:
    """The steps whose writing was begun and not ended."""
    names = self.directory.glob("*.incomplete")
    return sorted(int(p.stem) for p in names if _is_step(p.stem))

  @property
  def latest(self) -> int | None:
    """The last step whose checkpoint is sound, or None."""
    return self._first_sound(sorted(self._scores, reverse=True))

  @property
  def best(self) -> int | None:
    """The step with the highest mean IoU, the latest of equals.

    Without any mean IoU it is the latest step, and None without any step.
    """
    scored = [s for s, score in self._scores.items() if score is not None]
    found = self._first_sound(
      sorted(scored, key=lambda s: (self._scores[s], s), reverse=True)
    )
    return self.latest if found is None else found

  def _first_sound(self, steps: list[int]) -> int | None:
    """Returns the first of the steps whose checkpoint is as it was written."""
    for step in steps:
      if self._is_sound(step):
        return step
      del self._scores[step]
    return None

  def _is_sound(self, step: int) -> bool:
    return hosts.of_first(lambda: self._checked(step))

  def _checked(self, step: int) -> bool:
    if step not in self._sound:
      try:
        seals.check(self._place(step))
      except seals.BrokenError as error:
        self._pass_over(step, error)
        return False
      self._sound.add(step)
    return True

  def _pass_over(self, step: int, error: seals.BrokenError) -> None:
    """Notes what is damaged and, since it will be saved again, renames it."""
    if not self._folder(step).exists():
      return  # Incomplete; or the run that is being read has just deleted it.
    self.damaged[step] = str(error)
    if self._writing:
      _rename(self._folder(step), _free_name(self.directory, f"{step}.damaged"))

  def evaluated(self, step: int) -> bool:
    """Whether a step was evaluated before it was saved."""
    return hosts.of_first(lambda: self._evaluated[step])

  def save(
    self,
    step: int,
    state: Any,
    *,
    mean_iou: float | None = None,
    evaluated: bool = False,
  ) -> None:
    """Begins to save; a save before it is waited for and its failure raised.

    Args:
      step: one that was saved before is replaced.
      state: tree of arrays; is copied before this returns.
      mean_iou: of the state; None if it was not evaluated, or has none.
      evaluated: whether it was.

    Raises:
      SaveError: if it could not be written.
      LostError: if another process of the run has ended.
    """
    self.wait()
    part = self._part(step)
    try:
      if hosts.is_first():
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
      hosts.wait(f"checkpoint {step}")
      writing = ocp.save_async(part / "state", state)
    except Exception as error:
      raise self._failed(step, error) from error
    self._saving = self._thread.submit(
      self._complete, step, part, writing, mean_iou, evaluated
    )

  def _complete(self, step, part, writing, mean_iou, evaluated) -> None:
    """Seals what Orbax has written and gives it its name; for the thread."""
    try:
      writing.result()
      if hosts.is_first():
        facts = {"step": step, "mean_iou": mean_iou, "evaluated": evaluated}
        seals.write(part, facts)
        replaced = self._begin_to_delete(step)
        _rename(part, self._folder(step))
        shutil.rmtree(replaced, ignore_errors=True)
    except Exception as error:
      raise self._failed(step, error) from error
    self._scores[step], self._evaluated[step] = mean_iou, evaluated
    self._sound.add(step)
    for old in self._superfluous():
      del self._scores[old]
      self._sound.discard(old)
      if hosts.is_first():
        shutil.rmtree(self._begin_to_delete(old), ignore_errors=True)

  def _superfluous(self) -> list[int]:
    kept = set(self.steps[-self._keep :])
    scored = {s: v for s, v in self._scores.items() if v is not None}
    if scored:
      kept.add(max(scored, key=lambda s: (scored[s], s)))
    if self._every:
      kept |= {step for step in self.steps if step % self._every == 0}
    return [step for step in self.steps if step not in kept]

  def _begin_to_delete(self, step: int) -> pathlib.Path:
    """Takes a checkpoint's name from it; returns what is to be removed."""
    deleted = _free_name(self.directory, f"{step}.deleted")
    if self._folder(step).exists():
      _rename(self._folder(step), deleted)
    return deleted

  def _failed(self, step: int, error: Exception) -> errors.Stopped:
    if lost := hosts.lost(error):
      return lost
    words = " ".join(str(error).split())
    last = max(self._scores, default=0)
    return SaveError(
      f"the checkpoint of step {step} cannot be written to {self.directory} "
      f"({_shortened(words)}); mend that (free space, say), and the same "
      f"command resumes at step {last}."
    )

  def wait(self) -> None:
    """Waits until everything is saved, on all processes.

    Raises:
      SaveError: if it could not be written.
    """
    if self._saving is not None:
      saving, self._saving = self._saving, None
      saving.result()
      hosts.wait("checkpoint saved")

  def restore(self, step: int, abstract: Any) -> Any:
    """Returns the state of `step`, placed by `abstract`'s shardings.

    Args:
      step: one that was saved.
      abstract: tree of jax.ShapeDtypeStruct, with shardings.

    Raises:
      InputError: if the checkpoint is damaged, or of another network.
    """
    if not self._is_sound(step):
      raise errors.InputError(
        f"{self._folder(step)} is damaged ({self.damaged.get(step)}); give "
        "another checkpoint."
      )
    found = trees.difference(self.tree(step), abstract)
    if found:
      raise errors.InputError(
        f"{self._folder(step)} is of another network or optimizer "
        f"({found}); give another --workdir, or the config it was trained with."
      )
    return ocp.load(self._place(step) / "state", abstract)

  def tree(self, step: int) -> Any:
    """Returns the tree of a checkpoint; its leaves have shape and dtype."""
    return ocp.metadata(self._place(step) / "state").metadata

  def close(self) -> None:
    """Waits, then lets go of the directory."""
    try:
      self.wait()
    finally:
      self._thread.shutdown()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind, error, trace) -> None:
    """Closes; of several processes that do not all fail, each for itself."""
    if (
      error is None or hosts.count() == 1 or getattr(error, "everywhere", False)
    ):
      self.close()
      return
    # The others wait for something else by now, or are gone.
    known = isinstance(error, errors.InputError | errors.Stopped)
    if known and self._saving is not None:
      futures.wait([self._saving])
    self._thread.shutdown(wait=False)


def _is_step(name: str) -> bool:
  return name.isascii() and name.isdecimal()


def _rename(old: pathlib.Path, new: pathlib.Path) -> None:
  """Renames, and makes that outlast a power failure."""
  old.rename(new)
  seals.sync(new.parent)


def _free_name(directory: pathlib.Path, name: str) -> pathlib.Path:
  path, number = directory / name, 1
  while path.exists():
    path, number = directory / f"{name}.{number}", number + 1
  return path


def _shortened(words: str) -> str:
  # The reason stands at the end.
  return words if len(words) <= 300 else f"{words[:130]} … {words[-170:]}"
