"""The rectifier, whose derivative needs only what it returned."""

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


@jax.custom_jvp
def relu(x: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
  """Returns max(x, 0), elementwise; the derivative at 0 is 0.

  For the result of a convolution that nothing normalises. The derivative asks
  where the result is positive, not where `x` is, as that of `jax.nn.relu` does:
  then nobody needs what the convolution gave before its activation, and on a
  GPU it adds its bias and activates by itself, without another pass over the
  map, and without another map that is kept. Behind batch norm, whose own
  derivative reads what it was given, there would be one map more to read.

  Args:
    x: features.
  """
  return jnp.maximum(x, 0)


@relu.defjvp
def _relu_jvp(primals, tangents):
  result = relu(*primals)
  kept = result
  if jax.default_backend() != "cpu":
    # XLA knows that max(x, 0) > 0 where x > 0, and would keep x.
    kept = lax.optimization_barrier(result)
  (tangent,) = tangents
  return result, lax.select(kept > 0, tangent, lax.full_like(tangent, 0))
