"""A killed run ends as one that was never killed: figures and parameters."""

import functools
import random
import signal
import time

import numpy as np
import pytest

from tests.integration import small_runs

STEPS = 40
ARGUMENTS = [
  "--config=configs/unet.py:folder",
  f"--config.steps={STEPS}",
  "--config.batch_size=4",
  "--config.log_every=1",
  "--config.eval_every=20",
  "--config.checkpoint_every=7",
  "--config.model.options.width=2",
  "--config.model.options.depth=2",
  "--config.model.options.dropout=0.5",
  "--config.ema_decay=0.9",
  "--config.evaluation.overlays=1",
  "--config.data.sampling=class_balanced",
  "--config.data.mixing=(('cut_mix',{}),)",
  "--config.data.transforms="
  "(('random_crop',{'size':(32,32)}),('flip',{}),('photometric',{}))",
]


# As in a terminal: what runs in the background may ignore Ctrl-C.
IN_A_TERMINAL = (
  "-c",
  "import signal, sys; from fcnjax.cli import main;"
  "signal.signal(signal.SIGINT, signal.default_int_handler);"
  "sys.exit(main.main(['train', *sys.argv[1:]]))",
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
  """Programs compiled once: those that are loaded must compute the same."""
  return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  """Starts a run on 24 images of a folder."""
  data = small_runs.folder(tmp_path_factory.mktemp("data"))
  return functools.partial(_start, data=data)


def _start(workdir, program=("train.py",), *, data, compiled=""):
  words = [*program, f"--workdir={workdir}", *ARGUMENTS, *data]
  return small_runs.start(*words, compiled=compiled)


def _finish(process):
  _, error = process.communicate(timeout=300)
  assert process.returncode == 0, error


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, start, compiled):
  workdir = tmp_path_factory.mktemp("whole")
  _finish(start(workdir, compiled=compiled))
  assert any(compiled.iterdir())
  return small_runs.records(workdir), small_runs.state(workdir, STEPS)


def _assert_same(workdir, uninterrupted):
  records, state = uninterrupted
  assert small_runs.records(workdir) == records
  ours = small_runs.state(workdir, STEPS)
  assert len(ours) == len(state)
  for a, b in zip(ours, state):
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_sigkill_at_a_random_step(
  seed, start, uninterrupted, compiled, tmp_path
):
  """Of 25 more tells docs/reliability.md."""
  step = random.Random(seed).randint(1, STEPS - 1)
  process = start(tmp_path, compiled=compiled)
  deadline = time.monotonic() + 200
  while len(small_runs.records(tmp_path)) < step and process.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.002)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL, "it ended before the kill"
  _finish(start(tmp_path, compiled=compiled))
  _assert_same(tmp_path, uninterrupted)


@pytest.mark.parametrize("seconds", [1.5, 3.5])
def test_ctrl_c_before_the_first_step_is_no_traceback(seconds, start, tmp_path):
  """While libraries are imported, and while the network is compiled."""
  process = start(tmp_path, IN_A_TERMINAL)
  time.sleep(seconds)
  assert not small_runs.records(tmp_path)
  process.send_signal(signal.SIGINT)
  _, error = process.communicate(timeout=60)
  assert process.returncode == -signal.SIGINT
  assert "Traceback" not in error


@pytest.mark.slow
def test_sigterm_saves_and_ends(start, uninterrupted, compiled, tmp_path):
  process = start(tmp_path, compiled=compiled)
  while len(small_runs.records(tmp_path)) < 10:
    time.sleep(0.002)
  process.send_signal(signal.SIGTERM)
  _, error = process.communicate(timeout=60)
  assert process.returncode == 75
  assert "SIGTERM at step" in error
  _finish(start(tmp_path, compiled=compiled))
  _assert_same(tmp_path, uninterrupted)
