"""The loop: steps, logs, evaluations, checkpoints, and how it stops."""

from collections.abc import Callable, Iterator
from concurrent import futures
import signal
import time
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from fcnjax import errors, hosts
from fcnjax.training import sharding, trace as trace_lib, writers
from fcnjax.training.state import TrainState


class NonFiniteError(errors.Stopped):
  """A loss or a gradient is infinite or not a number."""

  everywhere = True


class Interrupted(Exception):  # noqa: N818
  """An evaluation was left, since the run is to end."""


class _Signals:
  """Notes SIGTERM and SIGINT; a second Ctrl-C ends the process at once.

  Attributes:
    own: the number of the signal that came to this process, or 0.
    received: the name of one that all processes know of, or None. Of several
      that is `agree`'s result: they must all stop at the same step.
  """

  def __init__(self):
    self.own = 0
    self._agreed = 0

  @property
  def received(self) -> str | None:
    number = self.own if hosts.count() == 1 else self._agreed
    return signal.Signals(number).name if number else None

  def agree(self, largest):
    """Takes `hosts.largest` of what was `own` on all processes."""
    self._agreed = self._agreed or int(largest)

  def __enter__(self):
    self._before = {}
    for number in (signal.SIGTERM, signal.SIGINT):
      try:
        self._before[number] = signal.signal(number, self._note)
      except ValueError:  # Not in the main thread: the caller's business.
        break
    return self

  def _note(self, number, frame):
    if number == signal.SIGINT:
      signal.signal(number, signal.SIG_DFL)
    self.own = number

  def check(self):
    """Leaves what can be left at any time, if a signal came."""
    if self.own:
      raise Interrupted

  def __exit__(self, *exc):
    for number, handler in self._before.items():
      signal.signal(number, handler)


def fit(
  state: TrainState,
  train_step: Callable[[TrainState, Any], tuple[TrainState, Any]],
  batches: Iterator[dict[str, np.ndarray]],
  *,
  mesh: Mesh,
  steps: int,
  batch_size: int,
  log_every: int,
  eval_every: int,
  checkpoint_every: int,
  writer: writers.Writer,
  progress: writers.Progress,
  evaluate: Callable[..., dict[str, Any]],
  save: Callable[..., None],
  non_finite: Callable[[int, dict[str, float]], None],
  evaluate_first: bool = False,
  at: Callable[[str], None] = lambda what: None,
  trace: trace_lib.Trace | None = None,
  prepare: Callable[[TrainState], TrainState] | None = None,
  more: Callable[[], dict[str, float]] = dict,
) -> TrainState:
  """Returns the state after step `steps`.

  Everything at step t happens in this order, so that a checkpoint of step t
  comes after all lines of step t: log, evaluate, save. While the device works
  on step t, batch t + 1 is moved to it; then the figures of step t - 1 are
  fetched: the device never waits for either. Nothing else may pass between
  host and device while steps are made.

  The lines of the split "train" have, besides the step's figures:
  images_per_second, and data_wait, the share of the time in which the device
  had ended a step and the next batch was not handed to it yet. Both are
  measured by when the device ends its steps. What the host takes for a batch
  while the device works is no waiting, nor is what the first batch takes.

  Args:
    state: where to start; `state.step` steps are done. It is donated.
    train_step: jitted; (state, batch) -> (state, metrics).
    batches: begins with the batch of the next step, in the host's memory or
      already where it belongs.
    mesh: where the batch goes.
    steps: number of steps of the whole run.
    batch_size: global; for images a second.
    log_every: steps between lines of the split "train".
    eval_every: steps between evaluations; the last step is always evaluated.
    checkpoint_every: steps between checkpoints; evaluated steps are saved too.
    writer: for the figures.
    progress: for the terminal.
    evaluate: (state, step, check) -> the figures of the split "val". It calls
      `check` often, which raises Interrupted where the run is to end: a grace
      time may be shorter than an evaluation. Of several processes it does so
      where the signal came, and all must raise it.
    save: (step, state, figures or None): begins to save a checkpoint.
    non_finite: called with a step's number and figures if its loss, gradient or
      parameters are not finite; raises where that ends the run.
    evaluate_first: whether the state that the run starts with is still to be
      evaluated, since the run ended in the midst of that.
    at: is told what the run waits for from now on, for a watchdog.
    trace: of some of the steps.
    prepare: what is done to a state before it is evaluated, saved and trained
      on (batch-norm statistics).
    more: figures of the batches, for the lines of the split "train".

  Raises:
    NonFiniteError: by `non_finite`. No checkpoint after that step is written;
      the last good one stays.
    Terminated: after SIGTERM or Ctrl-C, when the state was given to `save`.
    Exception: whatever `batches` raises instead of a batch, after the steps
      before it were made, logged and saved; and the InputError of `evaluate`,
      after the state was saved; but at once where other processes have theirs.
  """
  first = int(state.step)
  # (step, metrics, the processes' signals, when the device ended it, when the
  # next batch was there), not yet fetched.
  pending = None
  waited, began, logged = 0.0, time.perf_counter(), first
  trace = trace or trace_lib.Trace(None, first=first)

  def fetch():
    nonlocal pending, waited, began, logged
    if pending is None:
      return
    step, metrics, heard, ended, ready = pending
    pending = None
    at(f"the devices, at step {step}")
    (metrics, heard), ended = jax.device_get((metrics, heard)), ended.result()
    signals.agree(heard)
    finite = metrics.pop("finite")
    figures = {name: float(value) for name, value in metrics.items()}
    if not finite:
      with jax.transfer_guard("allow"):  # It looks at the batch.
        non_finite(step, figures)
    if step % log_every == 0 or step == steps:
      elapsed = ended - began
      figures["images_per_second"] = (step - logged) * batch_size / elapsed
      figures["data_wait"] = waited / elapsed
      figures |= more()
      writer.write(step, "train", figures)
      progress.figures(step, figures)
      waited, began, logged = 0.0, ended, step
    waited += max(0.0, ready - ended)

  def move(step):
    """Returns the batch of a step, and what was raised in its place."""
    at(f"the batch of step {step}")
    try:
      return sharding.to_devices(next(batches), mesh), None
    except Exception as error:
      if hosts.count() > 1:
        raise
      return None, error

  def settle(step, *, due):
    """Evaluates what is due, saves, and ends the run where that was asked."""
    nonlocal state, began
    fetch()
    figures = failure = None
    if due:
      paused = time.perf_counter()
      if prepare is not None:
        at(f"the statistics of batch norm at step {step}")
        state = prepare(state)

      def check():
        at(f"the evaluation at step {step}")
        signals.check()

      try:
        figures = evaluate(state, step, check)
      except Interrupted:
        pass
      except errors.InputError as error:  # A file; the steps are as they are.
        if hosts.count() > 1:
          raise
        failure = error
      began += time.perf_counter() - paused
    at(f"the checkpoint of step {step}")
    save(step, state, figures)
    if failure is not None:
      raise failure
    signals.agree(hosts.largest(signals.own))
    if signals.received:
      raise errors.Terminated(
        f"{signals.received} at step {step}: saved; the same command resumes."
      )

  with _Signals() as signals, futures.ThreadPoolExecutor(1) as clock:
    if evaluate_first:
      settle(first, due=True)
    batch, failure = move(first + 1) if first < steps else (None, None)
    for step in range(first + 1, steps + 1):
      if failure is not None:
        raise failure
      last = step == steps
      at(f"step {step}, which may be being compiled")
      with jax.transfer_guard("disallow"):
        with trace.step(step):
          state, metrics = train_step(state, batch)
        heard = hosts.largest(signals.own)
        ended = clock.submit(_when_ready, metrics)
        if not last:
          batch, failure = move(step + 1)
        ready = time.perf_counter()
        fetch()  # of the step before
      pending = (step, metrics, heard, ended, ready)
      trace.end(step, metrics)
      progress.step()

      due = last or step % eval_every == 0
      ends = signals.received or failure is not None
      if due or step % checkpoint_every == 0 or ends:
        settle(step, due=due)
  return state


def _when_ready(values: Any) -> float:
  """Returns when the device has made the values; for a thread of its own."""
  jax.block_until_ready(values)
  return time.perf_counter()
