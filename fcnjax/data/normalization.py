"""What is done to a batch on the device: from bytes to what a network sees."""

import jax.numpy as jnp
import numpy as np

from fcnjax import typing
from fcnjax.data import recipes


def normalized(
  batch: typing.Batch, *, mean: recipes.PerChannel, std: recipes.PerChannel
) -> typing.Batch:
  """Returns the batch (or example) as networks and losses take it.

  For use under jit, so that what travels to the device are bytes.

  Args:
    batch: image [..., c] of any type in [0, 255], label and second_label of
      any integer type, weight float32.
    mean: subtracted from the image; one value or one a channel, in [0, 255].
    std: divides it then; likewise.

  Returns:
    image float32, label and second_label int32, weight as it is.
  """
  image = batch["image"].astype(jnp.float32)
  mean, std = (
    np.asarray(value, np.float32).reshape((1,) * (image.ndim - 1) + (-1,))
    for value in (mean, std)
  )
  changed = dict(batch)
  changed["image"] = (image - mean) / std
  for key in ("label", "second_label"):
    if key in batch:
      changed[key] = batch[key].astype(jnp.int32)
  return changed
