"""Where a run writes: metrics.jsonl, TensorBoard events, the terminal."""

from collections.abc import Iterator
import contextlib
import functools
import json
import math
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np
import tqdm


def keep_until(
  path: pathlib.Path, step: int, *, evaluated: bool = True
) -> None:
  """Drops the lines of metrics.jsonl after `step`, and a torn last line.

  A run that was killed may have written beyond its last checkpoint; resumed,
  it writes those lines again. The file is replaced in one move.

  Args:
    path: of the file; may be missing.
    step: of the checkpoint.
    evaluated: whether the checkpoint knows of its step's evaluation; if not,
      lines of it are dropped as well.
  """
  if not path.is_file():
    return
  end = (step, evaluated)
  kept = [
    r for r in _records(path) if (r["step"], r["split"] != "train") <= end
  ]
  new = path.with_suffix(".jsonl.new")
  with new.open("w") as file:
    file.writelines(json.dumps(record) + "\n" for record in kept)
    file.flush()
    os.fsync(file.fileno())
  new.replace(path)


def _records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  if not path.is_file():
    return
  # A line may be torn, or damaged into anything.
  for line in path.read_text(errors="replace").splitlines():
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
      record = json.loads(line)
      if type(record["step"]) is int and isinstance(record["split"], str):
        yield record


def _plain(value: Any) -> Any:
  """Returns a JSON number, list or string; NaN and infinity become null."""
  if isinstance(value, np.ndarray | list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, np.integer):
    return int(value)
  if isinstance(value, float | np.floating):
    return float(value) if math.isfinite(value) else None
  return value


class Writer:
  """metrics.jsonl, TensorBoard events and one line in the terminal each.

  Only one process of a run writes; the others' writer does nothing.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    resume: int,
    evaluated: bool = True,
    active: bool = True,
  ):
    """Opens the files of `workdir`.

    Args:
      workdir: exists already.
      resume: the step that the run resumes from; later lines are dropped.
      evaluated: see `keep_until`.
      active: whether this process writes.
    """
    self._active = active
    if not active:
      return
    self._workdir, self._resume = workdir, resume
    path = workdir / "metrics.jsonl"
    keep_until(path, resume, evaluated=evaluated)
    self._file = path.open("a")

  @functools.cached_property
  def _events(self) -> "_Events":
    """Opened by the first figures, not before the first step."""
    return _Events(self._workdir, resume=self._resume)

  def write(self, step: int, split: str, figures: dict[str, Any]) -> None:
    """Appends one object: step, split, then the figures."""
    if not self._active:
      return
    record = {"step": step, "split": split}
    record |= {name: _plain(value) for name, value in figures.items()}
    self._file.write(json.dumps(record) + "\n")
    self._file.flush()
    for name, value in record.items():
      if isinstance(value, int | float) and name != "step":
        self._events.scalar(f"{split}/{name}", value, step)
    self._events.flush()

  def images(self, step: int, split: str, panels: dict[str, Any]) -> None:
    """Writes uint8 [h, w, 3] pictures as TensorBoard images."""
    if not self._active:
      return
    for name, panel in panels.items():
      self._events.image(f"{split}/{name}", panel, step)
    self._events.flush()

  def sync(self) -> None:
    """Makes the lines until now outlast a power failure."""
    if self._active:
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Makes everything durable and closes the files."""
    if not self._active:
      return
    self.sync()
    self._file.close()
    if "_events" in vars(self):
      self._events.close()


class _Events:
  """TensorBoard's events, written in the caller's thread.

  tensorboardX's own writer has a thread that dies of a full disk, and a queue
  that then waits for it for ever.
  """

  def __init__(self, folder: pathlib.Path, *, resume: int):
    # Protobuf, and torch where that is installed: seconds.
    from tensorboardX import event_file_writer, summary
    from tensorboardX.proto import event_pb2

    self._summary, self._proto = summary, event_pb2
    # The name holds the time, in seconds, which may come twice.
    before = len(list(folder.glob("events.out.tfevents.*")))
    self._file = event_file_writer.EventsWriter(
      str(folder / "events"), f".{before}"
    )
    if resume:  # What an earlier start wrote from here on is hidden.
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._write(step=resume + 1, session_log=start)

  def _write(self, **fields):
    self._file.write_event(self._proto.Event(wall_time=time.time(), **fields))

  def scalar(self, name, value, step):
    self._write(step=step, summary=self._summary.scalar(name, value))

  def image(self, name, panel, step):
    picture = self._summary.image(name, panel, dataformats="HWC")
    self._write(step=step, summary=picture)

  def flush(self):
    self._file.flush()

  def close(self):
    self._file.close()


class Progress:
  """A progress bar in a terminal, plain lines elsewhere."""

  def __init__(self, *, start: int, total: int, active: bool = True):
    """Starts at step `start` of `total`."""
    self._bar = None
    self._active = active
    self._total = total
    if active and sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        initial=start, total=total, unit="step", ncols=79, leave=True,
        bar_format="{n_fmt}/{total_fmt} |{bar}| {remaining}{postfix}",
      )  # fmt: skip

  def step(self) -> None:
    """Counts one step."""
    if self._bar is not None:
      self._bar.update()

  def back_to(self, step: int, why: str) -> None:
    """Counts from an earlier step on; says why."""
    self.say(f"{why}: back at step {step}, at a lower learning rate")
    if self._bar is not None:
      self._bar.n = step
      self._bar.refresh()

  def figures(self, step: int, figures: dict[str, float]) -> None:
    """Shows loss, images a second and the share of time spent on data."""
    loss = f"loss {figures['loss']:.4g}"
    speed = f"{figures['images_per_second']:.1f} images/s"
    wait = f"data {100 * figures['data_wait']:.0f}%"
    if figures.get("bad_examples"):
      wait += f"  {figures['bad_examples']} bad examples skipped"
    if self._bar is not None:
      self._bar.set_postfix_str(f"{loss} {speed} {wait}")
    else:
      self.say(f"step {step}/{self._total}  {loss}  {speed}  {wait}")

  def say(self, line: str) -> None:
    """Prints one line, above the bar where there is one."""
    if not self._active:
      return
    if self._bar is not None:
      self._bar.write(line, file=sys.stderr)
    else:
      print(line, file=sys.stderr, flush=True)

  def close(self) -> None:
    """Leaves the bar where it stands."""
    if self._bar is not None:
      self._bar.close()
