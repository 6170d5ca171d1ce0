"""The image and its mirror image, averaged."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from fcnjax.typing import PredictFn


def flip_average(
  predict: PredictFn, image: Float[Array | np.ndarray, "b h w c"]
) -> Float[Array, "b h w k"]:
  """Averages the probabilities of an image and of its left-right mirror image.

  As DeepLab and its followers evaluate (DeepLab v3, section 4: "left-right
  flipped"). Takes twice the time of `predict`, which may be a strategy.

  Args:
    predict: image [b, h, w, c] -> logits [b, h, w, k].
    image: [b, h, w, c], normalised.

  Returns:
    Logits float32 [b, h, w, k]: the logarithm of the mean probabilities.
  """
  straight = jax.nn.log_softmax(jnp.asarray(predict(image)))
  mirrored = jax.nn.log_softmax(jnp.asarray(predict(image[:, :, ::-1])))
  return jnp.logaddexp(straight, mirrored[:, :, ::-1]) - jnp.log(2.0)
