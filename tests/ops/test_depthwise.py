"""Depthwise convolutions against torch and XLA's grouped ones."""

import functools

import hypothesis
from hypothesis import given, strategies as st
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import depthwise


def _normal(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _value_and_pullback(function, *primals):
  value, pullback = jax.vjp(jax.jit(function), *primals)
  return value, pullback(_normal(value.shape, seed=7).astype(value.dtype))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 5])
@pytest.mark.parametrize("size", [(7, 9), (8, 12)])
def test_depthwise_conv_equals_torch_and_the_reference(stride, dilation, size):
  torch = pytest.importorskip("torch")
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 5)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 5)).astype(np.float32)
  words = {"stride": stride, "dilation": dilation}

  def loss(function, x, kernel):
    return (function(x, kernel, **words) ** 2).sum()

  got = depthwise.depthwise_conv(x, kernel, **words)
  expected = torch.nn.functional.conv2d(
    torch.from_numpy(x).permute(0, 3, 1, 2),
    torch.from_numpy(kernel).permute(2, 0, 1)[:, None],
    stride=stride,
    dilation=dilation,
    padding=dilation,
    groups=5,
  ).permute(0, 2, 3, 1)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
  reference = depthwise.depthwise_conv_reference
  ours, theirs = (
    jax.grad(functools.partial(loss, function), (0, 1))(x, kernel)
    for function in (depthwise.depthwise_conv, reference)
  )
  for a, b in zip(ours, theirs):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@hypothesis.settings(max_examples=15)
@given(st.data())
def test_depthwise_of_any_shape_equals_the_reference(data):
  draw, integers = data.draw, st.integers
  kernel = _normal((*(draw(integers(1, 4)) for _ in range(2)), 3), seed=1)
  stride, dilation = draw(integers(1, 3)), draw(integers(1, 3))
  padding = draw(integers(0, 4))
  size = [
    draw(integers(max(1, (k - 1) * dilation + 1 - 2 * padding), 11))
    for k in kernel.shape[:2]
  ]
  x = _normal((2, *size, 3))
  words = {"stride": stride, "dilation": dilation, "padding": padding}
  ours, theirs = (
    _value_and_pullback(
      functools.partial(depthwise.depthwise_conv, implementation=word, **words),
      x,
      kernel,
    )
    for word in ("shifts", "native")
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    ours,
    theirs,
  )


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_gradients_are_finite_differences(stride):
  test_util.check_grads(
    jax.jit(functools.partial(depthwise.depthwise_conv, stride=stride)),
    (_normal((1, 5, 4, 2)), _normal((3, 3, 2), seed=1)),
    order=2,
    modes=["rev"],
    eps=1e-2,
    rtol=1e-2,
  )


def test_depthwise_sums_in_float32():
  """In bfloat16 256 + 1 is 256; nine taps are added before it is rounded."""
  x = jnp.ones((1, 3, 3, 1), jnp.bfloat16).at[0, 0, 0].set(256)
  kernel = jnp.ones((3, 3, 1), jnp.bfloat16)
  assert depthwise.depthwise_conv(x, kernel)[0, 1, 1, 0] == 264
  gradient = jax.grad(
    lambda k: depthwise.depthwise_conv(x, k)[0, 1, 1].sum().astype("float32")
  )(kernel)
  assert gradient.dtype == jnp.bfloat16


def test_depthwise_conv_refuses():
  x = np.zeros((1, 4, 4, 3), np.float32)
  with pytest.raises(ValueError, match="2 channels and the features 3"):
    depthwise.depthwise_conv(x, np.zeros((3, 3, 2), np.float32))
  with pytest.raises(ValueError, match="reaches beyond"):
    depthwise.depthwise_conv(x, np.zeros((7, 7, 3), np.float32), padding=0)
