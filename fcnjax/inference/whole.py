"""The whole image in one call of the network."""

from jax import Array
from jaxtyping import Float, Real
import numpy as np

from fcnjax.inference import borders
from fcnjax.typing import PredictFn


def whole_image(
  predict: PredictFn,
  image: Real[Array | np.ndarray, "b h w c"],
  *,
  multiple: int = 1,
) -> Float[Array | np.ndarray, "b h w k"]:
  """Predicts the whole image, extended to sides that are a multiple.

  The networks here take any size; a larger `multiple` keeps the number of
  compiled shapes small when images differ by a few pixels.

  Args:
    predict: image [b, h', w', c] -> logits [b, h', w', k].
    image: [b, h, w, c], as `predict` takes it.
    multiple: pixels; the image is mirrored at the bottom and the right up to
      the next multiple, and the logits are cropped.

  Returns:
    Logits [b, h, w, k].

  Raises:
    ValueError: if `multiple` is not positive, or `predict` returns another
      size than it was given.
  """
  if multiple < 1:
    raise ValueError(f"multiple must be positive, got {multiple}.")
  height, width = image.shape[1:3]
  padded = borders.mirror(
    image, rows=(0, -height % multiple), columns=(0, -width % multiple)
  )
  logits = predict(padded)
  if logits.shape[1:3] != padded.shape[1:3]:
    raise ValueError(
      f"predict returned {logits.shape[1]}x{logits.shape[2]} for"
      f" {padded.shape[1]}x{padded.shape[2]} pixels; use overlap_tile for a"
      " network of valid convolutions."
    )
  return logits[:, :height, :width]
