"""Several views of one image, averaged: scales, mirror image, turns."""

from collections.abc import Sequence

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Real
import numpy as np

from fcnjax.ops import resizing
from fcnjax.typing import PredictFn


def average(
  predict: PredictFn,
  image: Real[Array | np.ndarray, "b h w c"],
  *,
  scales: Sequence[float] = (1.0,),
  flip: bool = False,
  turns: bool = False,
) -> Float[Array, "b h w k"]:
  """Averages the probabilities over resized and mirrored views of an image.

  As DeepLab and its followers evaluate ("multi-scale inputs and left-right
  flipped images": DeepLab v3, section 4.1), and U-Net ("7 rotated versions of
  the input data", section 4, which it does not describe: with `flip` and
  `turns` it is the image and the seven others that a square's symmetries make).
  Images and probabilities are resized bilinearly, pixel centres at half pixels.

  Args:
    predict: image [b, h', w', c] -> logits [b, h', w', k], for every size;
      may be a strategy.
    image: [b, h, w, c], as `predict` takes it.
    scales: of height and width; at least one, each positive.
    flip: whether each scale is also seen mirrored left to right.
    turns: whether each of these is also seen turned by 90, 180 and 270 degrees.

  Returns:
    Logits float32 [b, h, w, k]: the logarithm of the mean probabilities.

  Raises:
    ValueError: if there is no scale, or one is not positive.
  """
  if not scales or min(scales) <= 0:
    raise ValueError(f"scales must be positive and at least one, got {scales}.")
  size = image.shape[1:3]

  def probabilities(view):
    total = 0.0
    for quarters in range(4 if turns else 1):
      turned = jnp.rot90(view, quarters, (1, 2)) if quarters else view
      seen = jax.nn.softmax(jnp.asarray(predict(turned), jnp.float32))
      total += jnp.rot90(seen, -quarters, (1, 2))
    return total / (4 if turns else 1)

  total = 0.0
  for scale in scales:
    view = image
    if scale != 1:
      scaled = tuple(max(1, round(scale * n)) for n in size)
      dtype = jnp.promote_types(image.dtype, jnp.float32)
      view = resizing.resize_bilinear(jnp.asarray(image, dtype), scaled)
    seen = probabilities(view)
    if flip:
      seen = (seen + probabilities(view[:, :, ::-1])[:, :, ::-1]) / 2
    if scale != 1:
      seen = resizing.resize_bilinear(seen, size)
    total += seen
  # Finite also where every view says 0: logits may be interpolated.
  tiny = jnp.finfo(jnp.float32).tiny
  return jnp.log(jnp.maximum(total / len(scales), tiny))
