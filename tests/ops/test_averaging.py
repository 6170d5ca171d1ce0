"""Adaptive average pooling against torch and against a mean for each bin."""

import hypothesis
from hypothesis import given, strategies as st
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import averaging

_pool = jax.jit(averaging.adaptive_avg_pool, static_argnames="bins")


def _image(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@hypothesis.settings(max_examples=15, deadline=None)
@given(
  st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 9)] * 2)
)
def test_any_size_and_number_equal_torch(size, bins):
  """Also more bins than pixels."""
  torch = pytest.importorskip("torch")
  x = _image((2, *size, 3))
  y = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
  expected = torch.nn.functional.adaptive_avg_pool2d(y, bins)
  got, pull = jax.vjp(lambda x: _pool(x, bins=bins), x)
  np.testing.assert_allclose(
    got, np.moveaxis(expected.detach().numpy(), 1, -1), atol=1e-6
  )
  cotangent = _image(got.shape, seed=1)
  expected.backward(torch.from_numpy(np.moveaxis(cotangent, -1, 1).copy()))
  np.testing.assert_allclose(
    pull(cotangent)[0], np.moveaxis(y.grad.numpy(), 1, -1), atol=2e-6
  )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bins", [1, 2, 3, 6, (5, 2)])
def test_equals_the_mean_of_each_bin(bins, dtype):
  """The bins of PSPNet's pyramid; a bfloat16 is rounded once, at the end."""
  x = jnp.asarray(_image((2, 13, 17, 4)), dtype)
  got = _pool(x, bins=bins)
  assert got.dtype == x.dtype
  expected = averaging.adaptive_avg_pool_reference(x.astype(jnp.float32), bins)
  half_a_step = 2**-8 if dtype == "bfloat16" else 0
  np.testing.assert_allclose(
    np.float32(got), expected, rtol=half_a_step, atol=2e-6
  )


def test_many_bfloat16_pixels_are_summed_in_float32():
  """A bfloat16 sum of ones stays at 256."""
  x = jnp.ones((1, 100, 100, 1), jnp.bfloat16)
  np.testing.assert_array_equal(np.float32(_pool(x, bins=1)), 1)


def test_the_gradient_agrees_with_finite_differences():
  x = _image((1, 5, 7, 2))
  test_util.check_grads(
    lambda x: _pool(x, bins=(2, 3)), (x,), order=1, modes=["rev", "fwd"]
  )


def test_bins_are_positive():
  with pytest.raises(ValueError, match=r"bins must be .* got \(0, 0\)"):
    averaging.adaptive_avg_pool(np.zeros((1, 4, 4, 1), np.float32), 0)
