"""Killed at any call of a save, a run has its last checkpoint or the new."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from fcnjax import checkpoints
from tests.faults import saving

ROOT = pathlib.Path(__file__).parents[2]
MEGABYTES = 1_500_000  # numbers of a state of 6 MB


@pytest.fixture(scope="module")
def killed():
  """Returns a function that does one job of saving.py."""
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  with subprocess.Popen(
    [sys.executable, "-W", "ignore", "-m", "tests.faults.saving"],
    cwd=ROOT,
    env=environment,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:

    def job(folder, plan, **words):
      words = {"folder": str(folder), "plan": plan, **words}
      process.stdin.write(json.dumps(words) + "\n")
      process.stdin.flush()
      return json.loads(process.stdout.readline())

    yield job
    process.stdin.close()


def _begun(killed, folder, plan, **words):
  """Saves some checkpoints to the end."""
  done = killed(folder, plan, **words)
  assert not done["killed"]
  assert done["saved"] == [step for step, _ in plan]


def _assert_whole(saved, step, size=100):
  """Compares a checkpoint with what was saved as its step."""
  wanted = saving.state(step, size)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=device),
    wanted,
  )
  found = saved.restore(step, abstract)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def _names(folder):
  return sorted(path.name for path in folder.iterdir())


def _look(folder, *, least, most, best, size=100):
  """Checks what a reader and then the run itself find; returns the latest."""
  before = _names(folder)
  for writing in (False, True):
    saved = checkpoints.Checkpoints(folder, keep=saving.KEEP, writing=writing)
    with contextlib.closing(saved):
      latest = saved.latest
      assert least <= latest <= most
      assert saved.damaged == {}
      assert saved.best == best(latest)
      _assert_whole(saved, latest, size)
      if saved.best != latest:
        _assert_whole(saved, saved.best, size)
      if not writing:
        assert _names(folder) == before  # A reader changes nothing.
  return latest


def _goes_on(folder, step, size=100):
  """Saves the next step, whatever lies there."""
  saved = checkpoints.Checkpoints(folder, keep=saving.KEEP)
  saved.save(step, saving.state(step, size))
  saved.close()
  with contextlib.closing(
    checkpoints.Checkpoints(folder, writing=False)
  ) as saved:
    assert saved.latest == step
    _assert_whole(saved, step, size)
  assert not any(folder.glob("*.deleted"))


def test_at_every_call_of_a_save(killed, tmp_path):
  """The best is an old one, then the new one; only the latest is kept."""
  _begun(killed, tmp_path / "begun", [[1, 0.9], [2, 0.1]])
  assert _names(tmp_path / "begun") == ["1", "2"]
  plan = [[3, 0.95]]
  shutil.copytree(tmp_path / "begun", tmp_path / "whole")
  calls = killed(tmp_path / "whole", plan)["calls"]
  assert _names(tmp_path / "whole") == ["3"]
  assert calls > 15
  left = set()
  for kill in range(1, calls + 1):
    folder = tmp_path / str(kill)
    shutil.copytree(tmp_path / "begun", folder)
    done = killed(folder, plan, kill=kill)
    # Threads may come in another order, and make a call less or more.
    assert done["killed"] or kill > calls - 3
    left |= {pathlib.Path(name).suffix for name in _names(folder)}
    least = max([2, *done["saved"]])
    latest = _look(
      folder, least=least, most=3, best=lambda step: 3 if step == 3 else 1
    )
    if kill % 4 == 0:
      _goes_on(folder, latest + 1)
  assert left == {"", ".incomplete", ".deleted"}


def test_at_every_call_of_saving_a_step_again(killed, tmp_path):
  """As after an evaluation that was left; there is no other checkpoint."""
  _begun(killed, tmp_path / "begun", [[3, None]])
  plan = [[3, 0.5]]
  shutil.copytree(tmp_path / "begun", tmp_path / "whole")
  calls = killed(tmp_path / "whole", plan)["calls"]
  nameless = None
  for kill in range(1, calls + 1):
    folder = tmp_path / str(kill)
    shutil.copytree(tmp_path / "begun", folder)
    killed(folder, plan, kill=kill)
    if "3" not in _names(folder):
      nameless = shutil.copytree(folder, tmp_path / f"nameless{kill}")
    _look(folder, least=3, most=3, best=lambda step: 3)
    assert "3" in _names(folder)  # The run has given it its name.
    _goes_on(folder, 4)
  # Between two moves of names; and then the run that gives it back is killed.
  assert nameless is not None
  shutil.copytree(nameless, tmp_path / "named")
  calls = killed(tmp_path / "named", [])["calls"]
  assert _names(tmp_path / "named") == ["3"]
  for kill in range(1, calls + 1):
    folder = tmp_path / f"opened{kill}"
    shutil.copytree(nameless, folder)
    assert killed(folder, [], kill=kill)["killed"]
    _look(folder, least=3, most=3, best=lambda step: 3)


def test_at_random_times_while_megabytes_are_written(killed, tmp_path):
  """Also within the calls that Python does not see."""
  chance = random.Random(0)
  _begun(killed, tmp_path / "begun", [[1, 0.9], [2, 0.1]], size=MEGABYTES)
  plan = [[3, None], [4, 0.95]]
  shutil.copytree(tmp_path / "begun", tmp_path / "whole")
  takes = killed(tmp_path / "whole", plan, size=MEGABYTES)["seconds"]
  torn = 0
  for number in range(12):
    folder = tmp_path / str(number)
    shutil.copytree(tmp_path / "begun", folder)
    done = killed(
      folder, plan, size=MEGABYTES, seconds=chance.uniform(0, takes)
    )
    torn += any(folder.glob("*.incomplete"))
    least = max([2, *done["saved"]])
    _look(
      folder,
      least=least,
      most=4,
      best=lambda step: 4 if step == 4 else 1,
      size=MEGABYTES,
    )
    shutil.rmtree(folder)
  assert torn >= 3
