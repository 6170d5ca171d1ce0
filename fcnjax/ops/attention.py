"""Affinities between the positions or the channels of a map."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def channel_attention(
  x: Float[Array | np.ndarray, "b h w c"],
) -> Float[Array, "b h w c"]:
  """Returns each channel as a mixture of those that are least like it.

  The Gram matrix X^T X over all positions is subtracted from the largest of
  each row, and a softmax over the row gives the weights (DANet, Fu et al. 2019,
  as released; the paper's eq. 3 has no such subtraction).

  Args:
    x: features.

  Returns:
    The mixtures, in the dtype of `x`; affinities are float32.
  """
  x = jnp.asarray(x)
  energy = jnp.einsum(
    "bhwi,bhwj->bij", x, x, preferred_element_type=jnp.float32
  )
  energy = energy.max(axis=-1, keepdims=True) - energy
  weights = jax.nn.softmax(energy, axis=-1).astype(x.dtype)
  return jnp.einsum("bij,bhwj->bhwi", weights, x)


def cosine_similarity(
  x: Float[Array | np.ndarray, "b h w c"],
  y: Float[Array | np.ndarray, "b h w c"],
  *,
  epsilon: float = 1e-8,
) -> Float[Array, "b h w"]:
  """Returns the cosine of the angle between two maps' vectors, in [-1, 1].

  Args:
    x: vectors.
    y: vectors.
    epsilon: the least that a length counts as.
  """
  x, y = (jnp.asarray(v).astype(jnp.float32) for v in (x, y))
  # Of the squares, since the root's derivative at zero is infinite.
  lengths = jnp.maximum((x**2).sum(-1), epsilon**2)
  lengths *= jnp.maximum((y**2).sum(-1), epsilon**2)
  return (x * y).sum(-1) * jax.lax.rsqrt(lengths)
