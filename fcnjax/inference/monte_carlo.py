"""What a network with dropout is sure of: the mean and spread of samples."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Real
import numpy as np


def average(
  sample: Callable[..., Float[Array | np.ndarray, "b h w k"]],
  image: Real[Array | np.ndarray, "b h w c"],
  *,
  samples: int,
  seed: int = 0,
) -> tuple[Float[Array, "b h w k"], Float[Array, "b h w"]]:
  """Averages the probabilities of networks that dropout has thinned at random.

  Source: Kendall, Badrinarayanan, Cipolla, "Bayesian SegNet", section 3. The
  mean of the samples is the prediction; the variance of the samples, averaged
  over the classes, is the model's uncertainty.

  Args:
    sample: (image, key) -> logits [b, h, w, k] with dropout drawn from the
      key.
    image: [b, h, w, c], as `sample` takes it.
    samples: how many are drawn, at least 2.
    seed: of the keys.

  Returns:
    Logits float32 [b, h, w, k], the logarithm of the mean probabilities, and
    the uncertainty float32 [b, h, w] in [0, (k - 1) / k²].

  Raises:
    ValueError: if there are fewer than 2 samples, or they are all the same:
      the network draws nothing at random.
  """
  if samples < 2:
    raise ValueError(f"samples must be at least 2, got {samples}.")
  keys = jax.random.split(jax.random.key(seed), samples)
  # Welford's way: no difference of large sums.
  mean = squares = 0.0
  for count, key in enumerate(keys, start=1):
    logits = jnp.asarray(sample(image, key), jnp.float32)
    probabilities = jax.nn.softmax(logits)
    deviation = probabilities - mean
    mean = mean + deviation / count
    squares = squares + deviation * (probabilities - mean)
    if count == 2 and not jnp.any(squares):
      raise ValueError(
        "two samples are the same: the network has no dropout; set its option "
        "dropout, and train with it."
      )
  tiny = jnp.finfo(jnp.float32).tiny
  uncertainty = jnp.mean(squares / samples, axis=-1)
  return jnp.log(jnp.maximum(mean, tiny)), uncertainty
