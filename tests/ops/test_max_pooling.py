"""Pools whose windows overlap or are dilated, against torch."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import averaging, pooling


@pytest.mark.parametrize(
  ("window", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0)]
)
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("size", [(7, 8), (9, 12), (3, 5)])
def test_overlapping_pools_equal_torch(window, stride, padding, rounding, size):
  torch = pytest.importorskip("torch")
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  words = {"stride": stride, "padding": padding}
  got = pooling.max_pool(x, window=window, rounding=rounding, **words)
  expected = torch.nn.functional.max_pool2d(
    torch.from_numpy(x).permute(0, 3, 1, 2),
    window,
    ceil_mode=rounding == "ceil",
    **words,
  ).permute(0, 2, 3, 1)
  np.testing.assert_array_equal(got, expected)


def test_overlapping_pools_learn():
  """Each maximum's share of the gradient goes to where it was."""
  x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
  words = {"window": 3, "stride": 1, "padding": 1}
  gradient = jax.grad(lambda x: pooling.max_pool(x, **words).sum())(x)
  expected = np.zeros((4, 4))
  for i in range(4):
    for j in range(4):
      expected[min(i + 1, 3), min(j + 1, 3)] += 1
  np.testing.assert_array_equal(gradient[0, ..., 0], expected)


@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_pools_equal_torch(dilation):
  torch = pytest.importorskip("torch")
  x = np.random.default_rng(0).normal(size=(1, 9, 11, 2)).astype(np.float32)
  got = pooling.max_pool(x, window=2, stride=1, dilation=dilation)
  expected = torch.nn.functional.max_pool2d(
    torch.from_numpy(x).permute(0, 3, 1, 2), 2, 1, dilation=dilation
  ).permute(0, 2, 3, 1)
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", [1, 3, 19])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_local_maxima_and_means_equal_xlas(size, dtype):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 7, 12, 5)), dtype)
  window = (1, size, size, 1)

  def largest(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, window, (1,) * 4, "SAME")

  def mean(x):
    x = x.astype(jnp.float32)
    total, count = (
      lax.reduce_window(a, 0.0, lax.add, window, (1,) * 4, "SAME")
      for a in (x, jnp.ones_like(x))
    )
    return (total / count).astype(dtype)

  for ours, theirs, bound in (
    (pooling.local_max, largest, 0),
    (averaging.local_mean, mean, 1e-5),
  ):
    value, pullback = jax.vjp(lambda x, f=ours: f(x, size), x)
    expected, expected_pullback = jax.vjp(theirs, x)
    assert value.dtype == x.dtype
    bound = bound if dtype == "float32" else 1e-2
    np.testing.assert_allclose(
      value.astype(jnp.float32), expected.astype(jnp.float32), atol=bound
    )
    cotangent = jnp.asarray(rng.normal(size=x.shape), dtype)
    ours, theirs = (
      np.asarray(f(cotangent)[0], np.float32)
      for f in (pullback, expected_pullback)
    )
    # In bfloat16 a pixel that is the largest of many sums their cotangents.
    bound = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(ours, theirs, atol=bound * np.abs(theirs).max())


def test_local_maxima_give_their_gradient_to_the_first():
  x = np.zeros((1, 3, 3, 1), np.float32)
  gradient = jax.grad(lambda x: pooling.local_max(x, 3)[0, 1, 1, 0])(x)
  assert gradient[0, 0, 0, 0] == gradient.sum() == 1


@pytest.mark.parametrize("size", [0, 2])
def test_local_maxima_are_of_odd_squares(size):
  for function in (pooling.local_max, averaging.local_mean):
    with pytest.raises(ValueError, match="size must be a positive odd"):
      function(np.zeros((1, 4, 4, 1), np.float32), size)


def test_pools_may_be_padded_along_one_side():
  torch = pytest.importorskip("torch")
  x = np.random.default_rng(0).normal(size=(1, 5, 6, 2)).astype(np.float32)
  got = pooling.max_pool(x, window=(1, 3), stride=1, padding=(0, 1))
  expected = torch.nn.functional.max_pool2d(
    torch.from_numpy(x).permute(0, 3, 1, 2), (1, 3), 1, padding=(0, 1)
  ).permute(0, 2, 3, 1)
  np.testing.assert_array_equal(got, expected)


def test_impossible_overlapping_pools():
  x = np.zeros((1, 2, 2, 1), np.float32)
  with pytest.raises(ValueError, match="padding must be at least"):
    pooling.max_pool(x, window=3, stride=2, padding=3)
  with pytest.raises(ValueError, match="no window"):
    pooling.max_pool(x, window=3, stride=2)
