"""One network's parameters in another's place."""

import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import errors, trees


def test_merge_takes_what_fits_and_names_what_does_not():
  theirs = {"params": {"conv": jnp.ones((2, 2)), "score": jnp.ones((2, 5))}}
  ours = {"params": {"conv": jnp.zeros((2, 2)), "score": jnp.zeros((2, 3))}}
  with pytest.raises(errors.InputError, match="params/score"):
    trees.merge(theirs, ours)
  merged, lines = trees.merge(theirs, ours, drop=("score",))
  np.testing.assert_array_equal(merged["params"]["conv"], 1)
  np.testing.assert_array_equal(merged["params"]["score"], 0)
  assert lines == ["params/score: stays fresh"]


def test_a_kernel_that_sees_more_channels_starts_from_the_mean_of_the_others():
  random = np.random.default_rng(0)
  kernel = random.normal(size=(3, 3, 3, 2)).astype(np.float32)
  theirs = {"conv1_1": {"kernel": jnp.asarray(kernel)}}
  ours = {"conv1_1": {"kernel": jnp.zeros((3, 3, 5, 2))}}
  with pytest.raises(errors.InputError, match="conv1_1/kernel"):
    trees.merge(theirs, ours)
  merged, lines = trees.merge(theirs, ours, widen=("conv1_1",))
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
      trees.merge(theirs, other, widen=("conv1_1",))


def test_a_pattern_of_init_widen_is_checked():
  with pytest.raises(errors.InputError, match="init_widen: '\\['"):
    trees.merge({}, {}, widen=("[",))
