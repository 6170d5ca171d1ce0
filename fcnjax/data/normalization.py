"""What is done to images on the device: from bytes to what a network sees.

For use under jit: what travels to the device are bytes then.
"""

from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Real
import numpy as np

from fcnjax import typing
from fcnjax.data import recipes


def normalized_image(
  image: Real[Array | np.ndarray, "*b h w c"],
  *,
  mean: recipes.PerChannel,
  std: recipes.PerChannel,
) -> Float[Array, "*b h w c"]:
  """Returns (image - mean) / std in float32.

  Args:
    image: [..., h, w, c] in [0, 255].
    mean: of the training images; one value or one a channel, in [0, 255].
    std: of each channel; likewise.
  """
  image = jnp.asarray(image).astype(jnp.float32)
  mean, std = (
    np.asarray(value, np.float32).reshape((1,) * (image.ndim - 1) + (-1,))
    for value in (mean, std)
  )
  return (image - mean) / std


def normalized(
  batch: typing.Batch, *, mean: recipes.PerChannel, std: recipes.PerChannel
) -> typing.Batch:
  """Returns the batch (or example) as networks and losses take it.

  Args:
    batch: image [..., c] of any type in [0, 255], label and second_label of
      any integer type, weight float32.
    mean: subtracted from the image; one value or one a channel, in [0, 255].
    std: divides it then; likewise.

  Returns:
    image float32, label and second_label int32, weight as it is.
  """
  changed = dict(batch)
  changed["image"] = normalized_image(batch["image"], mean=mean, std=std)
  for key in ("label", "second_label"):
    if key in batch:
      changed[key] = batch[key].astype(jnp.int32)
  return changed
