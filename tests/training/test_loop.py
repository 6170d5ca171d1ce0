"""The order of things in the loop, and the ways it stops."""

import itertools
import json
import os
import signal
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import errors
from fcnjax.training import loop, sharding, state as states, writers


@jax.jit
def _step(state, batch):
  loss = batch["image"].mean()
  metrics = {"loss": loss, "gradient_norm": loss, "finite": jnp.isfinite(loss)}
  return state.replace(step=state.step + 1), metrics


def _batches(values):
  for value in values:
    yield {"image": np.full((2, 1, 1, 1), value, np.float32)}


class _Recorder:
  def __init__(self, path):
    self.path = path
    self.events = []

  def evaluate(self, state, step, check):
    # What is in the file when an evaluation or a save begins?
    self.events.append(("evaluate", step, self.logged()))
    return {"mean_iou": step / 10}

  def save(self, step, state, figures):
    assert int(state.step) == step
    self.events.append(("save", step, self.logged()))

  def logged(self):
    lines = self.path.read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def _fit(
  tmp_path,
  values=None,
  *,
  start=0,
  steps=6,
  prepare=None,
  train_step=_step,
  non_finite=lambda step, metrics: pytest.fail(f"{step}: {metrics}"),
  evaluate_first=False,
  checkpoint_every=3,
):
  values = itertools.repeat(1.0) if values is None else values
  mesh = sharding.create_mesh(data=1, batch_size=2)
  writer = writers.Writer(tmp_path, resume=start)
  recorder = _Recorder(tmp_path / "metrics.jsonl")
  state = states.TrainState(
    jnp.int32(start), {}, {}, {}, jnp.float32(1), jnp.int32(0)
  )
  try:
    loop.fit(
      jax.device_put(state, sharding.replicated(mesh)),
      train_step,
      _batches(values),
      mesh=mesh,
      steps=steps,
      batch_size=2,
      log_every=2,
      eval_every=4,
      checkpoint_every=checkpoint_every,
      writer=writer,
      progress=writers.Progress(start=start, total=steps),
      evaluate=recorder.evaluate,
      save=recorder.save,
      non_finite=non_finite,
      evaluate_first=evaluate_first,
      prepare=prepare,
    )
  finally:
    writer.close()
  return recorder


def test_lines_come_before_the_evaluation_and_the_checkpoint(tmp_path):
  recorder = _fit(tmp_path)
  assert recorder.events == [
    ("save", 3, [2]),
    ("evaluate", 4, [2, 4]),
    ("save", 4, [2, 4]),
    ("evaluate", 6, [2, 4, 6]),
    ("save", 6, [2, 4, 6]),
  ]


def test_metrics_are_those_of_their_step(tmp_path):
  recorder = _fit(tmp_path, iter([0.5, 1.5, 2.5, 3.5, 4.5, 5.5]))
  records = [json.loads(x) for x in recorder.path.read_text().splitlines()]
  assert [(r["step"], r["loss"]) for r in records] == [
    (2, 1.5),
    (4, 3.5),
    (6, 5.5),
  ]
  for record in records:
    assert record["split"] == "train"
    assert record["images_per_second"] > 0
    assert 0 <= record["data_wait"] <= 1


@pytest.mark.parametrize(
  ("batch_seconds", "share", "images_per_second"),
  # A step takes 2 s: batches of 1.5 s are there before it ends, of those of 3 s
  # it waits for the third.
  [(1.5, 0.0, 2 / 2), (3.0, 1 / 3, 2 / 3)],
)
def test_waiting_is_what_the_device_waits(
  tmp_path, monkeypatch, batch_seconds, share, images_per_second
):
  now, ends = 0.0, [0.0]

  def values():
    nonlocal now
    while True:
      now += batch_seconds
      yield 1.0

  def train_step(state, batch):
    ends.append(max(now, ends[-1]) + 2.0)
    metrics = {"loss": ends[-1], "gradient_norm": 0.0, "finite": True}
    return _step(state, batch)[0], metrics

  monkeypatch.setattr(loop.time, "perf_counter", lambda: now)

  def when_ready(metrics):
    return metrics["loss"]

  def device_get(values):  # Which waits for the device.
    nonlocal now
    metrics, _ = values
    now = max(now, metrics["loss"])
    return values

  monkeypatch.setattr(loop, "_when_ready", when_ready)
  monkeypatch.setattr(loop.jax, "device_get", device_get)

  def evaluate(self, state, step, check):
    nonlocal now
    now += 100.0  # Which is nobody's waiting.
    return {"mean_iou": 0.0}

  monkeypatch.setattr(_Recorder, "evaluate", evaluate)
  recorder = _fit(tmp_path, values(), train_step=train_step)
  records = [json.loads(x) for x in recorder.path.read_text().splitlines()]
  for record in records[1:]:  # The first line's time holds the first batch.
    np.testing.assert_allclose(record["data_wait"], share)
    np.testing.assert_allclose(record["images_per_second"], images_per_second)


def test_nothing_is_saved_or_logged_after_nan(tmp_path, monkeypatch):
  saved = []
  monkeypatch.setattr(
    _Recorder, "save", lambda self, step, *_: saved.append(step)
  )

  def non_finite(step, metrics):
    assert np.isnan(metrics["loss"])
    raise loop.NonFiniteError(f"step {step}")

  with pytest.raises(loop.NonFiniteError, match="step 4"):
    _fit(tmp_path, iter([1, 1, 1, np.nan, 1, 1]), non_finite=non_finite)
  assert saved == [3]
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == [2]


def test_a_run_may_go_on_after_nan(tmp_path):
  found = []

  def non_finite(step, metrics):
    # What looks at the batch moves it: steps forbid that, this may.
    jax.jit(lambda x: x + 1)(np.ones(2))
    found.append(step)

  recorder = _fit(
    tmp_path, iter([1, np.nan, 1, 1, np.nan, 1]), non_finite=non_finite
  )
  assert found == [2, 5]
  assert recorder.logged() == [2, 4, 6]


def test_sigterm_saves_this_step_and_ends(tmp_path):
  def values():
    yield from (1, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    yield from (1, 1, 1, 1)

  before = signal.getsignal(signal.SIGTERM)
  # It came while the third batch was fetched: one ahead.
  with pytest.raises(errors.Terminated, match="SIGTERM at step 2"):
    _fit(tmp_path, values())
  assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_leaves_an_evaluation_which_comes_first_when_resumed(
  tmp_path, monkeypatch
):
  events, passes = [], 0

  def evaluate(self, state, step, check):
    nonlocal passes
    passes += 1
    if passes == 1:
      os.kill(os.getpid(), signal.SIGTERM)
    check()
    events.append(("evaluate", step))
    return {"mean_iou": 0.5}

  def save(self, step, state, figures):
    events.append(("save", step, figures and figures["mean_iou"]))

  monkeypatch.setattr(_Recorder, "evaluate", evaluate)
  monkeypatch.setattr(_Recorder, "save", save)
  with pytest.raises(errors.Terminated, match="SIGTERM at step 4"):
    _fit(tmp_path)
  assert events == [("save", 3, None), ("save", 4, None)]
  del events[:]
  _fit(tmp_path, start=4, evaluate_first=True)
  assert events == [
    ("evaluate", 4),
    ("save", 4, 0.5),
    ("evaluate", 6),
    ("save", 6, 0.5),
  ]


def test_a_batch_is_moved_before_the_loop_waits_for_figures(
  tmp_path, monkeypatch
):
  events = []

  def values():
    for number in range(1, 10):
      events.append(f"batch {number}")
      yield float(number)

  def train_step(state, batch):
    events.append(f"step {int(jax.device_get(batch['image']).max())}")
    return _step(state, batch)

  def write(self, step, split, figures):
    events.append(f"figures {step}")

  monkeypatch.setattr(writers.Writer, "write", write)
  _fit(tmp_path, values(), steps=4, train_step=train_step)
  assert events == [
    *("batch 1", "step 1", "batch 2", "step 2", "batch 3", "step 3"),
    *("batch 4", "figures 2", "step 4", "figures 4"),  # and no batch 5
  ]


def test_a_bad_file_ends_the_run_after_the_steps_before_it(
  tmp_path, monkeypatch
):
  """They are logged and saved: nothing is lost when the file is mended."""

  def values():
    yield from (0.5, 1.5)
    raise ValueError("photo3.jpg is torn")

  saved = []
  monkeypatch.setattr(
    _Recorder, "save", lambda self, *words: saved.append(words)
  )
  with pytest.raises(ValueError, match="photo3.jpg is torn"):
    _fit(tmp_path, values())
  ((step, state, figures),) = saved
  assert (step, int(state.step), figures) == (2, 2, None)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  (record,) = [json.loads(line) for line in lines]
  assert (record["step"], record["loss"]) == (2, 1.5)


def _several(monkeypatch, largest):
  """Makes the loop, and nothing below it, believe in another process."""
  stand_in = types.SimpleNamespace(count=lambda: 2, largest=largest)
  monkeypatch.setattr(loop, "hosts", stand_in)


def test_of_several_processes_all_stop_where_one_was_told(
  tmp_path, monkeypatch
):
  """The other process is a number that it sends with step 3."""
  sent = iter([0, 0, signal.SIGTERM])
  _several(monkeypatch, lambda own: max(own, next(sent, 0)))
  saved = []
  monkeypatch.setattr(
    _Recorder, "save", lambda self, step, *words: saved.append(step)
  )
  with pytest.raises(errors.Terminated, match="SIGTERM at step 4"):
    _fit(tmp_path, steps=9, checkpoint_every=9)
  assert saved == [4]  # the figures of 3 come while 4 is made


def test_of_several_processes_one_with_a_bad_file_ends_at_once(
  tmp_path, monkeypatch
):
  """The others do not save with it: they have their batches."""

  def values():
    yield 1.0
    raise ValueError("photo3.jpg is torn")

  _several(monkeypatch, lambda own: own)
  monkeypatch.setattr(_Recorder, "save", lambda *words: pytest.fail("it saved"))
  with pytest.raises(ValueError, match="photo3.jpg is torn"):
    _fit(tmp_path, values())


def test_a_bad_first_file_is_no_step(tmp_path):
  def values():
    raise ValueError("photo1.jpg is torn")
    yield

  with pytest.raises(ValueError, match="photo1.jpg is torn"):
    _fit(tmp_path, values())
  assert not (tmp_path / "metrics.jsonl").read_text()


def test_nothing_is_moved_behind_the_loops_back(tmp_path):
  """By a step that takes a number of the host, as a learning rate might be."""

  def train_step(state, batch):
    return _step(state, {"image": batch["image"] * np.float32(2)})

  with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
    _fit(tmp_path, train_step=train_step)


def test_batches_that_lie_on_the_devices_stay_there():
  mesh = sharding.create_mesh(data=2, batch_size=4)
  batch = {"image": np.ones((4, 3), np.float32)}
  moved = sharding.to_devices(batch, mesh)
  again = sharding.to_devices(moved, mesh)
  assert moved["image"].sharding == sharding.by_example(mesh)

  def places(array):
    return [x.data.unsafe_buffer_pointer() for x in array.addressable_shards]

  assert places(again["image"]) == places(moved["image"])
  other = jax.device_put(batch["image"], sharding.replicated(mesh))
  spread = sharding.to_devices({"image": other}, mesh)["image"]
  assert spread.sharding == sharding.by_example(mesh)
  np.testing.assert_array_equal(spread, batch["image"])


def test_a_file_that_cannot_be_evaluated_costs_no_step(tmp_path, monkeypatch):
  def evaluate(self, state, step, check):
    raise errors.InputError("photo9.jpg is torn")

  saved = []
  monkeypatch.setattr(_Recorder, "evaluate", evaluate)
  monkeypatch.setattr(
    _Recorder, "save", lambda self, *words: saved.append((words[0], words[2]))
  )
  with pytest.raises(errors.InputError, match="photo9.jpg is torn"):
    _fit(tmp_path)
  assert saved == [(3, None), (4, None)]


def test_every_evaluated_and_saved_state_is_prepared(tmp_path):
  calls = []
  _fit(tmp_path, prepare=lambda state: calls.append(int(state.step)) or state)
  assert calls == [4, 6]  # and 3, which is saved only, is not
