"""The second start loads what the first compiled; without a home it runs."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
from fcnjax.cli import compilation_cache
folder = compilation_cache.enable()
import jax
hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event.endswith("cache_hits")))
jax.jit(lambda x: x * 2 + 1)(1.0)
print(sum(hits), folder)
"""


def _run(folder, **environment):
  """Returns (programs found, the folder) and everything that was kept."""
  words = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
  del words["JAX_COMPILATION_CACHE_DIR"]
  words["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    env=words | environment,
    cwd=folder,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert not done.stderr
  hits, where = done.stdout.split()
  return int(hits), where, sorted(folder.rglob("*-cache"))


def test_the_second_run_finds_what_the_first_compiled(tmp_path):
  home = {"XDG_CACHE_HOME": str(tmp_path)}
  hits, folder, kept = _run(tmp_path, **home)
  assert hits == 0
  assert kept
  assert pathlib.Path(folder).parent == tmp_path / "fcnjax" / "compiled"
  assert pathlib.Path(folder).stat().st_mode & 0o077 == 0
  again, same, still = _run(tmp_path, **home)
  assert (again, same, still) == (len(kept), folder, kept)


def test_what_is_a_month_old_is_forgotten(tmp_path):
  home = {"XDG_CACHE_HOME": str(tmp_path)}
  kept = _run(tmp_path, **home)[2]
  os.utime(kept[0], (0, 0))
  hits, _, again = _run(tmp_path, **home)
  assert hits == len(kept) - 1
  assert again == kept  # It was compiled anew.
  assert again[0].stat().st_mtime > 0


@pytest.mark.parametrize(
  "words",
  [
    {"XDG_CACHE_HOME": "file"},  # In which no folder can be made.
    {"JAX_COMPILATION_CACHE_DIR": ""},
    {"HOME": "file", "XDG_CACHE_HOME": ""},
  ],
)
def test_without_a_place_nothing_is_kept(words, tmp_path):
  (tmp_path / "file").touch()
  words = {k: v and str(tmp_path / v) for k, v in words.items()}
  assert _run(tmp_path, **words) == (0, "None", [])
  assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_users_own_folder_wins(tmp_path):
  own = str(tmp_path / "own")
  home = {"XDG_CACHE_HOME": str(tmp_path / "home")}
  _, folder, kept = _run(tmp_path, JAX_COMPILATION_CACHE_DIR=own, **home)
  assert folder == own
  assert kept
  assert {str(path.parent) for path in kept} == {own}
