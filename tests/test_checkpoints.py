"""Latest and best, exact round trips, and differences in words."""

import json

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
  assert sorted(int(p.name) for p in tmp_path.iterdir()) == [5, 6, 7]


def test_a_reader_leaves_a_save_that_is_under_way_alone(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(1, _state(1))
  saved.close()
  under_way = tmp_path / "2.orbax-checkpoint-tmp"
  (under_way / "state").mkdir(parents=True)
  reader = checkpoints.Checkpoints(tmp_path, writing=False)
  assert reader.steps == [1]
  reader.close()
  assert under_way.is_dir()
  with pytest.raises(errors.InputError, match="no checkpoint yet"):
    checkpoints.Checkpoints(tmp_path / "nothing", writing=False)
  assert not (tmp_path / "nothing").exists()


def test_an_unfinished_save_is_not_the_latest(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(1, _state(1))
  saved.close()
  # What a kill during a write leaves behind.
  (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
  (tmp_path / "2.orbax-checkpoint-tmp" / "state").mkdir()
  again = checkpoints.Checkpoints(tmp_path)
  assert again.latest == 1
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


def test_merge_takes_what_fits_and_names_what_does_not():
  theirs = {"params": {"conv": jnp.ones((2, 2)), "score": jnp.ones((2, 5))}}
  ours = {"params": {"conv": jnp.zeros((2, 2)), "score": jnp.zeros((2, 3))}}
  with pytest.raises(errors.InputError, match="params/score"):
    checkpoints.merge(theirs, ours)
  merged, lines = checkpoints.merge(theirs, ours, drop=("score",))
  np.testing.assert_array_equal(merged["params"]["conv"], 1)
  np.testing.assert_array_equal(merged["params"]["score"], 0)
  assert lines == ["params/score: stays fresh"]


def test_metrics_are_json(tmp_path):
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(3, _state(3), mean_iou=0.25)
  saved.close()
  files = list((tmp_path / "3" / "metrics").rglob("metrics"))
  assert any(json.loads(f.read_text()) == {"mean_iou": 0.25} for f in files)


def test_a_kernel_that_sees_more_channels_starts_from_the_mean_of_the_others():
  random = np.random.default_rng(0)
  kernel = random.normal(size=(3, 3, 3, 2)).astype(np.float32)
  theirs = {"conv1_1": {"kernel": jnp.asarray(kernel)}}
  ours = {"conv1_1": {"kernel": jnp.zeros((3, 3, 5, 2))}}
  with pytest.raises(errors.InputError, match="conv1_1/kernel"):
    checkpoints.merge(theirs, ours)
  merged, lines = checkpoints.merge(theirs, ours, widen=("conv1_1",))
  expected = np.repeat(kernel.mean(2, keepdims=True), 2, axis=2)
  expected = np.concatenate([kernel, expected], axis=2)
  np.testing.assert_allclose(merged["conv1_1"]["kernel"], expected, rtol=1e-6)
  assert lines == [
    "conv1_1/kernel: more channels, which start from the mean of the others"
  ]
  # Fewer channels, or another number of outputs, is another network.
  for shape in ((3, 3, 2, 2), (3, 3, 5, 4)):
    other = {"conv1_1": {"kernel": jnp.zeros(shape)}}
    with pytest.raises(errors.InputError, match="does not fit"):
      checkpoints.merge(theirs, other, widen=("conv1_1",))


def test_a_pattern_of_init_widen_is_checked():
  with pytest.raises(errors.InputError, match="init_widen: '\\['"):
    checkpoints.merge({}, {}, widen=("[",))
