"""Stopped where no step is made, and again before that was made up for."""

import contextlib
import shutil
import signal

import jax

from fcnjax import checkpoints
from fcnjax.cli import main
from tests.faults import tiny
from tests.integration import small_runs


def test_an_evaluation_that_no_checkpoint_knows_is_made_again(
  data, undisturbed, tmp_path
):
  """Stopped while it evaluated, then killed before it was saved.

  Its line is in metrics.jsonl; its score must be the checkpoint's, too.
  """
  own = tmp_path / "run"
  shutil.copytree(undisturbed, own)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with contextlib.closing(_opened(own)) as saved:
    best = saved.best
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
      saved.tree(tiny.STEPS),
    )
    state = saved.restore(tiny.STEPS, abstract)
    saved.save(tiny.STEPS, state, evaluated=False)
    saved.wait()
    assert not saved.evaluated(tiny.STEPS)
  (own / "evaluation.json").unlink()
  assert main.main(tiny.words(data, own)) == 0
  tiny.assert_same(own, undisturbed)
  with contextlib.closing(_opened(own)) as saved:
    assert saved.evaluated(tiny.STEPS)
    assert saved.best == best


STOPPED = """
import os, signal, sys
from fcnjax.cli import evaluate, main

score = evaluate.score

def stopped(*words, **more):
  try:  # As a library does that goes on after whatever Python raises.
    os.kill(os.getpid(), signal.SIGTERM)
  except BaseException:
    pass
  return score(*words, **more)

evaluate.score = stopped
sys.exit(main.main(sys.argv[1:]))
"""


def test_sigterm_where_no_step_is_made(data, undisturbed, tmp_path):
  """While the best checkpoint is scored: code 75, and the rest is made up."""
  process = small_runs.start(
    "-c", STOPPED, *tiny.words(data, tmp_path), devices=8
  )
  said, error = process.communicate(timeout=200)
  assert process.returncode == 75, error
  assert "no step was being made" in error.splitlines()[-1]
  assert "compiling the first step" in said  # Not lost, though it was buffered.
  assert not (tmp_path / "evaluation.json").exists()
  before = signal.getsignal(signal.SIGTERM)
  assert main.main(tiny.words(data, tmp_path)) == 0
  assert signal.getsignal(signal.SIGTERM) is before
  tiny.assert_same(tmp_path, undisturbed)


TWICE = """
import os, signal, sys, time
from fcnjax import checkpoints
from fcnjax.cli import main

def before(name, action):
  own = getattr(checkpoints.Checkpoints, name)

  def patched(self, *words, **more):
    action()
    return own(self, *words, **more)

  setattr(checkpoints.Checkpoints, name, patched)

def stop():
  os.kill(os.getpid(), signal.SIGTERM)

before("save", stop)
before("_complete", lambda: time.sleep(1))
before("close", stop)
sys.exit(main.main(sys.argv[1:]))
"""


def test_a_second_sigterm_waits_for_what_the_first_one_saves(data, tmp_path):
  process = small_runs.start("-c", TWICE, *tiny.words(data, tmp_path))
  _, error = process.communicate(timeout=200)
  assert process.returncode == 75, error
  line = error.splitlines()[-1]
  with contextlib.closing(_opened(tmp_path)) as saved:
    assert f"SIGTERM at step {saved.latest}: saved" in line
    assert not saved.incomplete


def _opened(workdir):
  return checkpoints.Checkpoints(workdir / "checkpoints")
