"""A step that does not fit is told before it is compiled, and after."""

import jax
import numpy as np
import pytest

import fcnjax
from fcnjax import errors, profile
from fcnjax.cli import defaults, device_memory
from fcnjax.training import sharding


def _found(**words):
  config = defaults.get_config()
  config.update(words)
  model = fcnjax.create_model("fcn32s_alexnet", num_classes=3)
  image = jax.ShapeDtypeStruct((1, 64, 96, 3), np.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
  found = device_memory.estimate(
    config, model, (64, 96), params, {"params": params, "ema": params},
    mesh=sharding.create_mesh(data=2, batch_size=4),
  )  # fmt: skip
  return model, params, found


@pytest.mark.parametrize(
  ("batch_size", "accumulate", "images"), [(8, 1, 4), (8, 2, 2), (6, 2, 2)]
)
def test_the_estimate_is_state_gradients_and_images(
  batch_size, accumulate, images
):
  model, params, found = _found(batch_size=batch_size, accumulate=accumulate)
  count = profile.parameters(model, (64, 96))
  one = sum(profile.training_memory(model, (64, 96)))
  assert found == (3 * 4 * count, images * one)


def test_what_fits_is_not_told(monkeypatch):
  assert device_memory.limit() is None  # of a CPU, for which nothing is said
  assert device_memory.warning(lambda: (10, 20)) == ""
  monkeypatch.setattr(device_memory, "limit", lambda: 78 * 10**9)
  assert device_memory.warning(lambda: (10**9, 77 * 10**9)) == ""
  line = device_memory.warning(lambda: (1 * 10**9, 92 * 10**9))
  assert "may need 93.0 GB" in line
  assert "which has 78.0 GB" in line
  assert "--config.remat=stage" in line


def test_want_of_memory_is_one_line():
  with (
    pytest.raises(errors.Stopped, match=r"at most 3\.0 GB .*accumulate"),
    device_memory.of_training(lambda: (10**9, 2 * 10**9)),
  ):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
  with (
    pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"),
    device_memory.of_prediction(),
  ):
    raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_a_device_that_is_really_full_is_told():
  """XLA refuses to allocate 256 TB on any machine."""
  huge = jax.jit(lambda: jax.numpy.zeros((2**23, 2**23), np.float32) + 1)
  with (
    pytest.raises(errors.Stopped, match="out of memory on a device"),
    device_memory.of_prediction(),
  ):
    jax.block_until_ready(huge())
