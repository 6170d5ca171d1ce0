"""Cross-entropy and its normalisers against NumPy and torch."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import losses


def _batch(seed, *, k=5, shape=(3, 6, 7), ignored=0.2):
  random = np.random.default_rng(seed)
  logits = random.normal(size=(*shape, k)).astype(np.float32) * 3
  label = random.integers(0, k, shape)
  label = np.where(random.random(shape) < ignored, 255, label)
  return logits, label.astype(np.int32)


def _reference(logits, label, weights):
  """Σ w·ce in float64, one pixel after another."""
  total = 0.0
  for index in np.ndindex(label.shape):
    if label[index] == 255:
      continue
    scores = logits[index].astype(np.float64)
    log_sum = np.log(np.exp(scores - scores.max()).sum()) + scores.max()
    total += weights[index] * (log_sum - scores[label[index]])
  return total


@hypothesis.given(st.integers(0, 10**6))
def test_equals_numpy_with_all_weights(seed):
  logits, label = _batch(seed)
  random = np.random.default_rng(seed + 1)
  class_weights = random.random(5).astype(np.float32)
  weight = random.random(label.shape).astype(np.float32)
  weights = losses.pixel_weights(
    label, class_weights=class_weights, weight=weight
  )
  safe = np.where(label == 255, 0, label)
  expected = np.where(label == 255, 0, class_weights[safe] * weight)
  np.testing.assert_allclose(weights, expected, rtol=1e-6)
  got = losses.total_cross_entropy(logits, label, weights)
  want = _reference(logits, label, expected)
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_equals_torch_including_its_mean_over_weights():
  torch = pytest.importorskip("torch")
  logits, label = _batch(0)
  class_weights = np.linspace(0.5, 2, 5).astype(np.float32)
  weights = losses.pixel_weights(label, class_weights=class_weights)
  ours = losses.total_cross_entropy(logits, label, weights)
  ours /= losses.normalizer(label, weights, normalization="weights")
  theirs = torch.nn.functional.cross_entropy(
    torch.tensor(logits).permute(0, 3, 1, 2),
    torch.tensor(label).long(),
    weight=torch.tensor(class_weights),
    ignore_index=255,
  )
  np.testing.assert_allclose(ours, theirs.item(), rtol=1e-6)


@pytest.mark.parametrize(
  ("normalization", "expected"), [("weights", 6.0), ("pixels", 4.0), ("sum", 1)]
)
def test_normalizers(normalization, expected):
  label = jnp.array([[[0, 1, 1, 0, 255]]])
  weights = losses.pixel_weights(label, class_weights=np.float32([1, 2]))
  got = losses.normalizer(label, weights, normalization=normalization)
  assert got == expected


def test_an_unknown_normalization_names_the_known():
  label = jnp.zeros((1, 1, 1), jnp.int32)
  with pytest.raises(ValueError, match="'weights', 'pixels', 'sum'"):
    losses.normalizer(label, jnp.ones((1, 1, 1)), normalization="mean")


@pytest.mark.parametrize("normalization", losses.NORMALIZATIONS)
def test_nothing_but_ignored_pixels_gives_zero_and_no_gradient(normalization):
  logits, _ = _batch(0)
  label = jnp.full(logits.shape[:3], 255)

  def loss(logits):
    weights = losses.pixel_weights(label)
    total = losses.total_cross_entropy(logits, label, weights)
    return total / losses.normalizer(
      label, weights, normalization=normalization
    )

  value, gradient = jax.value_and_grad(loss)(logits)
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_ignored_pixels_have_no_gradient_and_the_others_sum_to_zero():
  logits, label = _batch(3)

  def loss(logits):
    return losses.total_cross_entropy(
      logits, label, losses.pixel_weights(label)
    )

  gradient = np.asarray(jax.grad(loss)(logits))
  np.testing.assert_array_equal(gradient[label == 255], 0)
  np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-6)
  assert np.abs(gradient[label != 255]).max() > 0.1


def test_nan_in_an_ignored_pixel_reaches_neither_loss_nor_gradient():
  logits, label = _batch(4)
  logits[label == 255] = np.nan

  def loss(logits):
    return losses.total_cross_entropy(
      logits, label, losses.pixel_weights(label)
    )

  value, gradient = jax.value_and_grad(loss)(logits)
  assert np.isfinite(value)
  assert np.isfinite(np.asarray(gradient)).all()


def test_huge_logits_stay_finite_in_bfloat16():
  logits = jnp.array([[[[1e4, -1e4]]]], jnp.bfloat16)
  loss = losses.cross_entropy(logits, jnp.array([[[1]]]))
  assert np.isfinite(np.asarray(loss)).all()
  np.testing.assert_allclose(loss[0, 0, 0], 2e4, rtol=1e-2)


def test_balance_by_sampling_keeps_each_class_in_proportion():
  """Of the mean over many draws: the weights of balance by weight."""
  _, label = _batch(3, k=3, shape=(4, 100, 100))
  words = {"class_weights": np.array((0.5, 1.0, 2.0))}
  drawn = losses.pixel_weights(
    label, balance="sample", sampling=0.5, key=jax.random.key(0), **words
  )
  assert set(np.unique(drawn)) == {0, 1}
  for k, share in enumerate((0.125, 0.25, 0.5)):
    count = (label == k).sum()
    spread = 4 * np.sqrt(share * (1 - share) / count)
    assert abs(float(drawn[label == k].mean()) - share) < spread
  assert not drawn[label == 255].any()
  again = losses.pixel_weights(
    label, balance="sample", sampling=0.5, key=jax.random.key(1), **words
  )
  assert np.any(again != drawn)


def test_another_balance_is_refused():
  with pytest.raises(ValueError, match="'weight', 'sample'.*got 'weights'"):
    losses.pixel_weights(np.zeros((1, 2, 2), np.int32), balance="weights")
