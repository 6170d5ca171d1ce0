"""The rectifier that remembers what it returned."""

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import activation


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu_and_its_derivative_are_jaxs(dtype):
  values = [-2.0, -0.0, 0.0, 1e-30, 3.0, np.inf, -np.inf, np.nan]
  x = jnp.asarray(values, dtype)
  cotangent = jnp.arange(1, 9).astype(dtype)
  value, pull = jax.vjp(activation.relu, x)
  expected, expected_pull = jax.vjp(jax.nn.relu, x)
  (gradient,), (expected_gradient,) = pull(cotangent), expected_pull(cotangent)
  tangent = jax.jvp(activation.relu, (x,), (cotangent,))[1]
  for a, b in (
    (value, expected),
    (gradient, expected_gradient),
    (tangent, expected_gradient),
  ):
    assert a.dtype == x.dtype
    np.testing.assert_array_equal(a.astype("float32"), b.astype("float32"))


def test_relu_is_differentiable_twice():
  x = jnp.asarray([[-1.5, 0.5], [2.0, -0.25]])
  test_util.check_grads(lambda x: activation.relu(x) ** 3, (x,), order=2)


def test_the_derivative_does_not_read_what_was_given():
  """Its residual is made of the result: a fused convolution keeps no more."""
  gradient = jax.grad(lambda x: activation.relu(x).sum())
  program = jax.make_jaxpr(gradient)(jnp.ones(3))
  (given,) = program.jaxpr.invars
  (asked,) = [e for e in program.eqns if e.primitive.name == "gt"]
  assert given not in asked.invars
