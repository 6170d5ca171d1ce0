"""A full disk ends a run with one line, and costs it nothing; so does a
read-only one.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _mounting() -> list[str] | None:
  """Returns the command under which file systems can be mounted, if any."""
  trial = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
  for words in (["unshare", "-m"], ["unshare", "-rm"]):
    try:
      done = subprocess.run([*words, *trial], capture_output=True)
    except OSError:
      return None
    if done.returncode == 0:
      return words
  return None


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """What disks.py found."""
  root = tmp_path_factory.mktemp("disks")
  environment = dict(os.environ)
  environment["JAX_COMPILATION_CACHE_DIR"] = str(root / "compiled")
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  mounting = _mounting()
  limit = [] if mounting else ["--limit"]
  done = subprocess.run(
    [
      *(mounting or []),
      *(sys.executable, "-m", "tests.faults.disks", root, *limit),
    ],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=400,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert "Traceback" not in done.stderr  # of any thread
  return json.loads(done.stdout.splitlines()[-1])


def test_a_run_on_a_full_disk_ends_with_one_line_and_goes_on(found):
  starts = [*found["full"], found["process"]]
  for start in starts:
    if start["code"] != 0:
      assert start["code"] == 1, start
      (line,) = start["said"]
      assert line.startswith("fcnjax: "), start
      assert "No space left" in line or "too large" in line, start
    assert start["sound"] is not None, start
    assert start["again"] == 0, start
    assert start["difference"] == "", start
  # It was full at the start, while checkpoints were written, and at the end.
  ended = [start["sound"] for start in starts if start["code"]]
  assert [] in ended
  assert any(ended)
  states = len({tuple(steps) for steps in ended})
  assert states >= (2 if found["limited"] else 3)
  assert found["process"]["code"] == 1


def test_what_can_only_be_read_is_told_and_left_alone(found):
  said = found["read_only"]
  for name in ("new", "going on", "finished", "evaluate", "predict there"):
    code, lines = said[name]
    assert code == 2, said[name]
    assert "cannot be written" in lines[-1], lines
  # It reads the run, and writes elsewhere.
  assert said["predict"][0] == 0
  assert found["masks"] == ["00.png"]
  assert found["unchanged"]
