"""What is chosen for a GPU computes what is chosen for a CPU; run on a CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import losses
from fcnjax.ops import (
  activation,
  convolution,
  depthwise,
  max_pooling,
  pooling,
  transposed,
  upsampled,
)

IMAGE = (2, 9, 11, 8)


@pytest.fixture(name="both")
def _both(monkeypatch):
  """Returns (function, arrays) -> (a CPU's results, a GPU's)."""

  def run(function, *arrays):
    jax.clear_caches()
    here = jax.jit(function)(*arrays)
    with monkeypatch.context() as patch:
      patch.setattr(jax, "default_backend", lambda: "gpu")
      jax.clear_caches()
      there = jax.jit(function)(*arrays)
    return here, there

  yield run
  jax.clear_caches()


def _normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def _with_gradients(function, *arrays):
  """The value, and the gradients of a sum of different weights."""

  def weighted(*arrays):
    value = function(*arrays)
    return (value * jnp.cos(jnp.arange(value.size).reshape(value.shape))).sum()

  return function(*arrays), *jax.grad(weighted, range(len(arrays)))(*arrays)


def _equal(results, **bounds):
  here, there = results
  for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
    np.testing.assert_allclose(b, a, **bounds)


@pytest.mark.parametrize("window", [2, (2, 3), 3])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_pools_give_the_same_values_places_and_gradients(
  both, window, rounding
):
  x = jnp.round(2 * _normal(*IMAGE))  # Many ties.
  x = x.at[0, 2, 3].set(jnp.nan).at[1, 4, 4].set(-jnp.inf)
  words = {"window": window, "rounding": rounding}
  pool = functools.partial(pooling.max_pool_with_argmax, **words)
  _equal(both(pool, x), rtol=0)
  pool = functools.partial(max_pooling.max_pool, **words)
  _equal(both(functools.partial(_with_gradients, pool), x), rtol=0)


def test_packed_places_are_the_same(both):
  pool = functools.partial(pooling.max_pool_with_argmax, packed=True)
  _equal(both(pool, _normal(*IMAGE)), rtol=0)


@pytest.mark.parametrize("passes", [(), ("forward", "image", "kernel"), None])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 3)])
def test_depthwise_passes(both, monkeypatch, passes, stride, dilation):
  if passes is not None:
    monkeypatch.setattr(depthwise, "NATIVE_PASSES", passes)
  conv = functools.partial(
    depthwise.depthwise_conv, stride=stride, dilation=dilation
  )
  arrays = (_normal(*IMAGE), _normal(3, 3, 8, seed=1))
  results = both(functools.partial(_with_gradients, conv), *arrays)
  _equal(results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("kernel", "padding", "stride", "rate", "channels"),
  [
    (3, ((5, 5), (5, 5)), 1, 1, 8),
    (3, ((0, 7), (9, 1)), 2, 1, 8),
    (7, ((0, 0), (0, 0)), 1, 1, 256),
    (7, ((2, 3), (3, 0)), 2, 1, 256),
    (3, ((2, 2), (2, 2)), 1, 2, 8),
    (3, ((4, 4), (4, 4)), 1, 4, 8),
    (3, ((3, 1), (0, 2)), 1, 3, 8),
    (3, ((2, 2), (2, 2)), 2, 2, 8),
    (1, ((1, 1), (1, 1)), 1, 1, 8),
  ],
)
def test_convolutions(both, kernel, padding, stride, rate, channels):
  """Far and uneven paddings, large kernels, rates, a padded 1x1; strides."""
  conv = functools.partial(
    convolution.conv,
    window_strides=(stride, stride),
    padding=padding,
    rhs_dilation=(rate, rate),
  )
  arrays = (
    _normal(*IMAGE[:3], channels),
    _normal(kernel, kernel, channels, 4, seed=1),
  )
  results = both(functools.partial(_with_gradients, conv), *arrays)
  _equal(results, rtol=1e-4, atol=1e-3)


def test_large_kernels_and_dilations_are_no_convolutions_of_their_size(
  monkeypatch,
):
  """XLA would make kernels as large as the map of their gradients."""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

  def kernels(size, kernel, padding, rate):
    conv = functools.partial(
      convolution.conv,
      padding=((padding, padding),) * 2,
      rhs_dilation=(rate, rate),
    )
    program = jax.make_jaxpr(functools.partial(_with_gradients, conv))(
      jnp.ones((1, size, size, 256)), jnp.ones((kernel, kernel, 256, 4))
    )
    return {
      (eqn.params["rhs_dilation"], tuple(map(max, eqn.params["padding"])))
      for eqn in _equations(program.jaxpr)
      if eqn.primitive.name == "conv_general_dilated"
    }

  assert all(rate == (1, 1) for rate, _ in kernels(24, 3, 2, 2))
  assert all(max(pads) <= 2 for _, pads in kernels(24, 3, 30, 1))
  assert not kernels(16, 7, 0, 1)


def _equations(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for value in eqn.params.values():
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from _equations(inner)


@pytest.mark.parametrize("size", [(1, 3), (5, 3)])
def test_depthwise_kernels_that_are_not_square(both, size):
  arrays = (_normal(*IMAGE), _normal(*size, 8, seed=1))
  results = both(
    functools.partial(_with_gradients, depthwise.depthwise_conv), *arrays
  )
  _equal(results, rtol=1e-4, atol=1e-4)


def test_patches_add_up_their_gradients_in_float32(monkeypatch):
  """A GPU would round each of the 49 sums; a CPU does not, whatever is said."""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  kernel = jnp.ones((7, 7, 256, 4), jnp.bfloat16)
  program = jax.make_jaxpr(
    jax.grad(lambda x: convolution.conv(x, kernel).astype(jnp.float32).sum())
  )(jnp.ones((1, 9, 9, 256), jnp.bfloat16))
  sums = [
    eqn.outvars[0].aval
    for eqn in _equations(program.jaxpr)
    if eqn.primitive.name == "add_any"
  ]
  assert len(sums) == 48
  assert {value.dtype for value in sums} == {jnp.dtype("float32")}
  assert program.out_avals[0].dtype == jnp.bfloat16


def test_patches_keep_float64():
  """Their gradients are summed no less exactly than they are given."""
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 5, 2)))
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 2)))

    def gradient(implementation):
      conv = functools.partial(convolution.conv, implementation=implementation)
      return jax.grad(lambda x: (conv(x, kernel) ** 2).sum())(x)

    np.testing.assert_allclose(
      gradient("patches"), gradient("native"), rtol=1e-12, atol=1e-12
    )


def test_a_rectified_convolution(both):
  def layer(x, kernel, bias):
    y = (
      convolution.conv(x, kernel, padding=((1, 1), (1, 1)))
      + bias[None, None, None]
    )
    return activation.relu(y)

  arrays = (_normal(*IMAGE), _normal(3, 3, 8, 4, seed=1), _normal(4, seed=2))
  results = both(functools.partial(_with_gradients, layer), *arrays)
  _equal(results, rtol=1e-4, atol=1e-4)


def test_transposed_convolutions_losses_and_classes(both):
  scores = _normal(2, 5, 6, 7)
  label = jnp.asarray(np.random.default_rng(1).integers(0, 7, (2, 40, 48)))
  weight = jnp.ones(label.shape)

  def loss(scores):
    return losses.total_upsampled_cross_entropy(scores, label, weight)

  _equal(both(functools.partial(_with_gradients, loss), scores), rtol=1e-5)
  classes = functools.partial(upsampled.upsampled_argmax, size=(40, 48))
  _equal(both(classes, scores), rtol=0)
  up = functools.partial(transposed.transposed_conv, stride=2)
  arrays = (scores, _normal(2, 2, 7, 3, seed=2))
  results = both(functools.partial(_with_gradients, up), *arrays)
  _equal(results, rtol=1e-5, atol=1e-5)
