"""A clock that is set back changes no number and stops nothing."""

import itertools
import time

from fcnjax.cli import compilation_cache, main
from fcnjax.training import writers
from tests.faults import tiny


def _set_back(monkeypatch):
  """time.time() goes back by an hour with every call.

  Not ahead: Orbax counts the time of a save by it, and gives up.
  """
  true, hours = time.time, itertools.count()
  monkeypatch.setattr(time, "time", lambda: true() - 3600 * next(hours))


def test_a_run_under_a_clock_that_is_set_back(
  undisturbed, data, tmp_path, monkeypatch
):
  workdir = tmp_path / "run"
  _set_back(monkeypatch)
  assert main.main(tiny.words(data, workdir)) == 0
  tiny.assert_same(workdir, undisturbed)
  assert not (workdir / "hang.txt").exists()


def test_events_of_one_second_are_two_files(tmp_path, monkeypatch):
  """The clock is set back to the second of an earlier start."""
  monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
  for start in range(3):
    writer = writers.Writer(tmp_path, resume=start)
    writer.write(start + 1, "train", {"loss": 0.5})
    writer.close()
  files = list(tmp_path.glob("events.out.tfevents.*"))
  assert len(files) == 3
  assert all(b"train/loss" in file.read_bytes() for file in files)


def test_a_clock_set_back_forgets_no_compiled_program(tmp_path, monkeypatch):
  """And one set far ahead forgets programs, which are compiled anew."""
  kept = tmp_path / "fcnjax" / "compiled" / "some" / "program-cache"
  kept.parent.mkdir(parents=True)
  kept.touch()
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(compilation_cache.jax.config, "update", lambda *_: None)
  true = time.time
  monkeypatch.setattr(time, "time", lambda: true() - 10 * 365 * 86400)
  compilation_cache.enable()
  assert kept.exists()
  monkeypatch.setattr(time, "time", lambda: true() + 365 * 86400)
  compilation_cache.enable()
  assert not kept.exists()
