"""Normalisation of activations by their neighbourhood."""

import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def local_response_norm(
  x: Float[Array | np.ndarray, "b h w c"],
  *,
  size: int = 5,
  alpha: float = 1e-4,
  beta: float = 0.75,
  k: float = 1.0,
) -> Float[Array, "b h w c"]:
  """Divides each value by the energy of its neighbours among the channels.

  y = x / (k + alpha / size * sum of x^2 over `size` channels)^beta, channels
  outside counting as zero. `alpha` is divided by `size` as in Caffe and torch;
  TensorFlow does not, and counts the radius: size = 2 depth_radius + 1.
  (Krizhevsky et al. 2012, section 3.3.)

  Args:
    x: any real values.
    size: number of channels in the neighbourhood, with the value's own in the
      middle; odd.
    alpha: weight of the mean of the squares.
    beta: exponent.
    k: what the energy is added to; positive.

  Returns:
    The normalised values, computed in float32 at least, in the dtype of `x`.

  Raises:
    ValueError: if `size` is even or not positive.
  """
  if size < 1 or size % 2 == 0:
    raise ValueError(f"size must be odd and positive, got {size}.")
  x = jnp.asarray(x)
  value = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  radius = size // 2
  energy = jnp.pad(value**2, [(0, 0)] * 3 + [(radius, radius)])
  energy = sum(energy[..., i : i + x.shape[-1]] for i in range(size))
  return (value * (k + alpha / size * energy) ** -beta).astype(x.dtype)


def local_contrast_norm(
  x: Float[Array | np.ndarray, "b h w c"],
  *,
  sigma: float = 2.0,
  radius: int = 4,
  epsilon: float = 1e-3,
) -> Float[Array, "b h w c"]:
  """Subtracts the local mean, then divides by the local deviation.

  Jarrett et al. 2009, section 2.1: v = x - mean, y = v / max(c, d), where mean
  and d^2 = mean of v^2 are taken over all channels and a Gaussian window, and c
  is the mean of d over the image. The image is mirrored at its borders, edge
  pixels repeated.

  Args:
    x: images, in any unit.
    sigma: width of the Gaussian in pixels.
    radius: pixels from the middle of the window to its edge; 4 gives the 9x9
      window of the paper.
    epsilon: smallest deviation, in the unit of `x`: keeps rounding errors of a
      flat image small, and the derivative finite.

  Returns:
    Unitless values around zero, computed in float32 at least, in the dtype of
    `x`.

  Raises:
    ValueError: if `sigma` or `epsilon` is not positive or `radius` is negative.
  """
  if sigma <= 0 or epsilon <= 0 or radius < 0:
    raise ValueError(
      "sigma and epsilon must be positive and radius not negative, got "
      f"sigma={sigma}, epsilon={epsilon}, radius={radius}."
    )
  x = jnp.asarray(x)
  weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
  value = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  weights = (weights / weights.sum()).astype(value.dtype)
  value -= _blur(value.mean(-1, keepdims=True), weights)
  variance = _blur((value**2).mean(-1, keepdims=True), weights)
  deviation = jnp.sqrt(jnp.maximum(variance, epsilon**2))
  usual = deviation.mean((1, 2, 3), keepdims=True)
  return (value / jnp.maximum(usual, deviation)).astype(x.dtype)


def _blur(x, weights):
  """Correlates rows and columns with `weights`, borders mirrored."""
  radius = len(weights) // 2
  for axis in (1, 2):
    edges = [(radius * (a == axis),) * 2 for a in range(4)]
    padded = jnp.pad(x, edges, mode="symmetric")
    shifted = (
      padded[:, i : i + x.shape[1]]
      if axis == 1
      else padded[:, :, i : i + x.shape[2]]
      for i in range(len(weights))
    )
    x = sum(w * part for w, part in zip(weights, shifted, strict=True))
  return x
