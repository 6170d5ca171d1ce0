"""Latest and best, exact round trips, and differences in words."""

import pathlib
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import checkpoints, errors
from fcnjax.training import optimizers, sharding, state as states


def _state(step=0, width=4):
  random = np.random.default_rng(step)
  params = {
    "head": {
      "kernel": jnp.asarray(random.normal(size=(3, width)), jnp.float32),
      "bias": jnp.zeros(width),
    }
  }
  variables = {"params": params, "batch_stats": {"bn": {"mean": jnp.ones(2)}}}
  state = states.create(variables, optimizers.adamw(0.1, params), ema=True)
  return state.replace(step=jnp.int32(step))


def _abstract(state, devices=1):
  mesh = sharding.create_mesh(data=devices, batch_size=8)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding.replicated(mesh)
    ),
    state,
  )


def test_round_trip_is_exact_and_lands_on_other_devices(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(7, _state(7))
  saved.close()
  again = checkpoints.Checkpoints(tmp_path)
  assert again.latest == 7
  state = again.restore(7, _abstract(_state(), devices=8))
  chex.assert_trees_all_equal(state, _state(7))
  assert len(jax.tree.leaves(state.params)[0].sharding.device_set) == 8
  again.close()


def test_the_latest_and_the_best_are_kept(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path, keep=2)
  for step, score in ((1, 0.3), (2, 0.9), (3, 0.5), (4, None), (5, 0.9)):
    saved.save(step, _state(step), mean_iou=score)
  saved.wait()
  # Of equals the latest counts, here as in what Orbax keeps.
  assert (saved.latest, saved.best) == (5, 5)
  assert saved.steps == [4, 5]
  saved.save(6, _state(6), mean_iou=0.1)
  saved.save(7, _state(7), mean_iou=0.2)
  saved.wait()
  assert (saved.latest, saved.best, saved.steps) == (7, 5, [5, 6, 7])
  saved.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["5", "6", "7"]


def test_a_checkpoint_of_every_so_many_steps_stays(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path, keep=1, every=4)
  for step in range(1, 10):
    saved.save(step, _state(step))
  saved.close()
  assert saved.steps == [4, 8, 9]


def test_a_reader_leaves_a_save_that_is_under_way_alone(tmp_path):
  _saved(tmp_path, 1)
  under_way = tmp_path / "2.incomplete"
  (under_way / "state").mkdir(parents=True)
  (tmp_path / "0.deleted").mkdir()
  _cut(tmp_path / "1" / "seal.json")
  reader = checkpoints.Checkpoints(tmp_path, writing=False)
  assert (reader.steps, reader.latest) == ([], None)
  assert reader.damaged == {1: "seal.json cannot be read"}
  reader.close()
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == ["0.deleted", "1", "2.incomplete"]
  with pytest.raises(errors.InputError, match="no checkpoint yet"):
    checkpoints.Checkpoints(tmp_path / "nothing", writing=False)
  assert not (tmp_path / "nothing").exists()


def test_what_a_kill_left_behind_is_no_checkpoint(tmp_path):
  _saved(tmp_path, 1, 2)
  # Killed while 3 was written, and before it while 0 was deleted.
  (tmp_path / "3.incomplete" / "state").mkdir(parents=True)
  (tmp_path / "3.incomplete" / "state" / "torn").touch()
  (tmp_path / "0.deleted").mkdir()
  again = checkpoints.Checkpoints(tmp_path)
  assert (again.latest, again.incomplete, again.damaged) == (2, [3], {})
  # It stays until its step is saved again.
  assert (tmp_path / "3.incomplete" / "state" / "torn").exists()
  assert not (tmp_path / "0.deleted").exists()
  again.save(3, _state(3))
  again.close()
  assert (again.latest, again.incomplete) == (3, [])
  again = checkpoints.Checkpoints(tmp_path)
  chex.assert_trees_all_equal(again.restore(3, _abstract(_state())), _state(3))
  again.close()


def test_what_cannot_be_removed_stays_and_disturbs_nothing(
  tmp_path, monkeypatch
):
  """As on NFS, where another process still reads a file of it."""
  with monkeypatch.context() as patched:
    patched.setattr(shutil, "rmtree", lambda *_, **__: None)
    saved = checkpoints.Checkpoints(tmp_path, keep=1)
    for step in (1, 2, 2, 2):
      saved.save(step, _state(step))
    saved.close()
    again = checkpoints.Checkpoints(tmp_path)
    assert again.steps == [2]
    again.close()
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == ["1.deleted", "2", "2.deleted", "2.deleted.1"]
  checkpoints.Checkpoints(tmp_path).close()
  assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_what_was_sealed_before_a_kill_is_read_and_then_named(tmp_path):
  """Also where the one it was to replace has lost its name already."""
  _saved(tmp_path, 3)
  for name in ("3.incomplete", "3.deleted"):
    shutil.copytree(tmp_path / "3", tmp_path / name)
  shutil.rmtree(tmp_path / "3")
  reader = checkpoints.Checkpoints(tmp_path, writing=False)
  assert (reader.steps, reader.latest, reader.best) == ([3], 3, 3)
  chex.assert_trees_all_equal(reader.restore(3, _abstract(_state())), _state(3))
  reader.close()
  again = checkpoints.Checkpoints(tmp_path)
  assert (again.latest, again.incomplete, again.damaged) == (3, [], {})
  again.close()
  assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_what_was_sealed_and_then_spoilt_is_incomplete(tmp_path):
  _saved(tmp_path, 2, 3)
  (tmp_path / "3").rename(tmp_path / "3.incomplete")
  _flip(next((tmp_path / "3.incomplete" / "state" / "state" / "d").iterdir()))
  for writing in (False, True):
    saved = checkpoints.Checkpoints(tmp_path, writing=writing)
    assert (saved.latest, saved.incomplete, saved.damaged) == (2, [3], {})
    saved.close()


def _saved(path, *steps, **words):
  saved = checkpoints.Checkpoints(path, **words)
  for step in steps:
    saved.save(step, _state(step), mean_iou=step / 10)
  saved.close()


def _cut(path):
  path.write_bytes(path.read_bytes()[:-1])


def _flip(path):
  whole = bytearray(path.read_bytes())
  whole[len(whole) // 2] ^= 4
  path.write_bytes(whole)


@pytest.mark.parametrize("spoil", [_cut, _flip, pathlib.Path.unlink])
def test_a_spoilt_file_of_any_kind_is_passed_over_and_kept(tmp_path, spoil):
  """Every file of a checkpoint, one after another."""
  _saved(tmp_path / "all", 1, 2)
  files = [
    path.relative_to(tmp_path / "all" / "2")
    for path in (tmp_path / "all" / "2").rglob("*")
    if path.is_file() and path.stat().st_size
  ]
  assert len(files) > 8
  for number, file in enumerate(files):
    copy = tmp_path / str(number)
    shutil.copytree(tmp_path / "all", copy)
    spoil(copy / "2" / file)
    spoilt = _contents(copy / "2")
    again = checkpoints.Checkpoints(copy)
    assert (again.latest, again.best, again.steps) == (1, 1, [1])
    assert file.name in again.damaged[2]
    assert _contents(copy / "2.damaged") == spoilt
    # The run comes to the same step, and all is as before.
    again.save(2, _state(2), mean_iou=0.2)
    again.close()
    again = checkpoints.Checkpoints(copy)
    assert (again.latest, again.best) == (2, 2)
    state = again.restore(2, _abstract(_state()))
    chex.assert_trees_all_equal(state, _state(2))
    again.close()


def _contents(folder):
  return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_damaged_checkpoint_cannot_be_asked_for(tmp_path):
  _saved(tmp_path, 1, 2)
  _flip(next((tmp_path / "1" / "state" / "state" / "d").iterdir()))
  reader = checkpoints.Checkpoints(tmp_path, writing=False)
  with pytest.raises(errors.InputError, match=r"1 is damaged \(state/state/d"):
    reader.restore(1, _abstract(_state()))
  reader.close()


def test_a_step_that_is_saved_again_is_replaced(tmp_path):
  """As when an evaluation was left, and done later."""
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(1, _state(1))
  saved.save(2, _state(2), mean_iou=0.1)
  saved.wait()
  assert saved.best == 2
  saved.save(1, _state(5), mean_iou=0.3)
  saved.wait()
  assert saved.best == 1
  saved.close()
  again = checkpoints.Checkpoints(tmp_path)
  chex.assert_trees_all_equal(again.restore(1, _abstract(_state())), _state(5))
  assert again.best == 1
  again.close()


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path):
  """No file may be longer than so many bytes, as if the disk ended there."""
  program = (
    "import pathlib, resource, sys; from fcnjax import checkpoints, errors\n"
    "import jax.numpy as jnp\n"
    "saved = checkpoints.Checkpoints(pathlib.Path(sys.argv[1]))\n"
    "saved.save(1, {'x': jnp.zeros(100)})\n"
    "saved.wait()\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    "import numpy as np\n"
    "big = jnp.asarray(np.random.default_rng(0).normal(size=100_000))\n"
    "try:\n"
    "  saved.save(2, {'x': big})\n"
    "  saved.close()\n"
    "except errors.Stopped as error:\n"
    "  print(error, saved.latest)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program, str(tmp_path)],
    capture_output=True,
    text=True,
    timeout=100,
    check=True,
  )
  assert "checkpoint of step 2 cannot be written" in done.stdout, done.stderr
  assert "File too large" in done.stdout
  assert "resumes at step 1. 1" in done.stdout
  again = checkpoints.Checkpoints(tmp_path)
  assert (again.steps, again.latest, again.incomplete) == ([1], 1, [2])
  again.close()


def test_another_network_is_told_in_words(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(1, _state(1))
  saved.wait()
  other = _state(1, width=5)
  with pytest.raises(errors.InputError, match=r"\(3, 4\) for \(3, 5\)"):
    saved.restore(1, _abstract(other))
  renamed = _state(1).replace(params={"tail": _state(1).params["head"]})
  with pytest.raises(errors.InputError, match="2 missing: .*2 unknown: "):
    saved.restore(1, _abstract(renamed))
  saved.close()
