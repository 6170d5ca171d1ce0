"""Mean and spread of Monte-Carlo samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from fcnjax import models
from fcnjax.inference import monte_carlo

IMAGE = np.zeros((2, 5, 7, 3), np.float32)


def _noisy(image, key):
  return 3 * jax.random.normal(key, (*image.shape[:3], 4))


def test_equals_mean_and_variance_of_all_samples_at_once():
  logits, uncertainty = monte_carlo.average(_noisy, IMAGE, samples=9, seed=3)
  keys = jax.random.split(jax.random.key(3), 9)
  shares = np.stack(
    [scipy.special.softmax(_noisy(IMAGE, key), axis=-1) for key in keys]
  )
  np.testing.assert_allclose(np.exp(logits), shares.mean(0), rtol=1e-5)
  expected = shares.var(0).mean(-1)
  np.testing.assert_allclose(uncertainty, expected, rtol=1e-4)


def test_the_bound_is_met_by_certain_samples_that_contradict_each_other():
  turns = iter(range(4))

  def sample(image, key):
    del key
    return jnp.full((*image.shape[:3], 4), -1e4).at[..., next(turns)].set(1e4)

  _, uncertainty = monte_carlo.average(sample, IMAGE, samples=4)
  np.testing.assert_allclose(uncertainty, (4 - 1) / 4**2, rtol=1e-6)


def test_a_class_that_no_sample_sees_is_finite():
  def sample(image, key):
    return _noisy(image, key).at[..., 0].set(-1e9)

  logits, _ = monte_carlo.average(sample, IMAGE, samples=2)
  assert np.isfinite(logits).all()


@pytest.mark.parametrize("samples", [-1, 0, 1])
def test_too_few_are_refused(samples):
  with pytest.raises(ValueError, match=f"at least 2, got {samples}"):
    monte_carlo.average(_noisy, IMAGE, samples=samples)


def test_a_network_without_dropout_is_refused():
  with pytest.raises(ValueError, match="has no dropout"):
    monte_carlo.average(
      lambda image, key: np.zeros((2, 5, 7, 4)), IMAGE, samples=2
    )


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("bayesian_segnet", {"widths": (4,) * 5}),
    ("unet_same", {"width": 4, "depth": 2, "dropout": 0.5}),
    ("fcn32s_alexnet", {"widths": (4, 4, 6, 6, 4), "fc_channels": 8}),
    ("dilation_frontend", {"widths": (4,) * 5, "fc_channels": 8}),
  ],
)
def test_networks_sample_where_a_key_is_given(name, options):
  model = models.create_model(name, num_classes=3, **options)
  image = np.random.default_rng(0).normal(size=(1, 32, 32, 3))
  variables = jax.jit(model.init)(jax.random.key(0), image)
  # Scores that start from zero would hide what dropout does.
  variables = jax.tree.map(lambda x: x + 0.05, variables)

  apply = jax.jit(functools.partial(model.apply, train=False))

  def logits(seed):
    keys = {} if seed is None else {"dropout": jax.random.key(seed)}
    return apply(variables, image, rngs=keys)["logits"]

  np.testing.assert_array_equal(logits(None), logits(None))
  np.testing.assert_array_equal(logits(1), logits(1))
  assert np.any(logits(1) != logits(2))
  assert np.any(logits(1) != logits(None))
