"""Pools whose windows overlap or are dilated, against torch."""

import jax
import numpy as np
import pytest

from fcnjax.ops import pooling


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


def test_impossible_overlapping_pools():
  x = np.zeros((1, 2, 2, 1), np.float32)
  with pytest.raises(ValueError, match="padding must be in"):
    pooling.max_pool(x, window=3, stride=2, padding=3)
  with pytest.raises(ValueError, match="no window"):
    pooling.max_pool(x, window=3, stride=2)
