"""A step that makes a NaN says where; one that makes none is the same."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from fcnjax import errors
from fcnjax.cli import main
from fcnjax.training import debug, state as states


def _state(value):
  return states.create({"params": {"x": jnp.float32(value)}}, optax.identity())


def _step(state, batch):
  x = state.params["x"] + batch["image"]
  loss = jnp.where(x > 0, jnp.log(x), 0.0)  # The mask hides the NaN from x.
  return state.replace(step=state.step + 1), {"loss": loss}


def test_a_hidden_nan_is_found_and_its_place_told():
  run = debug.checked(_step)
  state = _state(1.0)
  one = jnp.float32(1)
  with jax.transfer_guard("disallow"):
    new, metrics = run(state, {"image": one})
  expected = jax.jit(_step)(state, {"image": one})
  chex.assert_trees_all_equal((new, metrics), expected)
  with pytest.raises(errors.Stopped, match="step 1: nan .*primitive: log") as e:
    run(state, {"image": jnp.float32(-3)})
  assert "test_debug.py" in str(e.value)


def test_a_step_over_several_devices_is_looked_at(tmp_path):
  """By XLA's own partition: checkify sees no further than one device's part."""
  words = [
    "train",
    "--debug",
    "--config=configs/unet.py",
    f"--workdir={tmp_path}",
  ]
  options = {
    "steps": 1,
    "batch_size": 4,
    "mesh.data": 2,
    "mesh.space": 2,
    "model.options.width": 2,
    "model.options.depth": 1,
    "data.resident": "on",
    "data.image_size": (32, 32),
    "data.transforms": (("random_crop", {"size": (16, 16)}),),
    "evaluation.overlays": 0,
  }
  words += [f"--config.{name}={value}" for name, value in options.items()]
  assert main.main(words) == 0
