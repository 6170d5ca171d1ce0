"""Losses: logits and labels to one number per pixel, and what to divide by.

A loss is a sum over pixels divided by a normaliser that depends on the labels
alone. Keeping the two apart makes gradient accumulation and uneven ignored
areas exact: the normaliser is that of the whole global batch.
"""

import functools

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from fcnjax.ops import resizing, upsampled
from fcnjax.typing import IGNORE

# What the summed loss is divided by.
#   "weights": the sum of the pixels' weights (ignored pixels weigh nothing),
#   "pixels":  the number of valid pixels, as SegNet's release does,
#   "sum":     one: the summed loss of FCN's "heavy" learning and of U-Net.
NORMALIZATIONS = ("weights", "pixels", "sum")

# How class weights balance the classes: as factors of the loss, or as the
# probabilities with which it counts (Long et al. 2015, section 4.4).
BALANCES = ("weight", "sample")


def pixel_weights(
  label: Int[Array | np.ndarray, "b h w"],
  *,
  class_weights: Float[Array | np.ndarray, "k"] | None = None,
  balance: str = "weight",
  weight: Float[Array | np.ndarray, "b h w"] | None = None,
  sampling: float = 1.0,
  key: Array | None = None,
) -> Float[Array, "b h w"]:
  """Returns how much each pixel counts: 0 where it is ignored.

  Args:
    label: classes in [0, k) or 255 = ignore.
    class_weights: a non-negative number for each class, as in median frequency
      balancing.
    balance: "weight": the number is a factor; "sample": a pixel is kept with
      this probability, in units of the largest number.
    weight: a factor for each pixel, as in U-Net (eq. 2).
    sampling: probability with which a pixel is kept, whatever its class (Long
      et al. 2015, section 4.4).
    key: random; needed where pixels are drawn.

  Returns:
    Non-negative weights: the product of the factors given, 0 if ignored or not
    drawn.

  Raises:
    ValueError: if `balance` is unknown.
  """
  if balance not in BALANCES:
    raise ValueError(f"balance must be one of {BALANCES}, got {balance!r}.")
  label = jnp.asarray(label)
  share = sampling
  valid = label != IGNORE
  weights = valid.astype(jnp.float32)
  if class_weights is not None:
    factors = jnp.asarray(class_weights, jnp.float32)
    by_pixel = factors[jnp.where(valid, label, 0)]
    if balance == "weight":
      weights *= by_pixel
    else:
      share *= by_pixel / factors.max()
  if weight is not None:
    weights *= jnp.asarray(weight, jnp.float32)
  if sampling < 1 or (class_weights is not None and balance == "sample"):
    weights *= jax.random.bernoulli(key, share, weights.shape)
  return weights


def normalizer(
  label: Int[Array | np.ndarray, "b h w"],
  weights: Float[Array, "b h w"],
  *,
  normalization: str = "weights",
) -> Float[Array, ""]:
  """Returns what the sum over pixels is divided by; 1 where that would be 0.

  Args:
    label: classes in [0, k) or 255 = ignore.
    weights: from `pixel_weights`.
    normalization: a word of `NORMALIZATIONS`.

  Raises:
    ValueError: if `normalization` is unknown.
  """
  if normalization not in NORMALIZATIONS:
    raise ValueError(
      f"normalization must be one of {NORMALIZATIONS}, got {normalization!r}."
    )
  if normalization == "sum":
    return jnp.float32(1)
  if normalization == "weights":
    total = weights.sum(dtype=jnp.float32)
  else:
    total = (jnp.asarray(label) != IGNORE).sum(dtype=jnp.float32)
  return jnp.where(total > 0, total, 1)


def cross_entropy(
  logits: Float[Array | np.ndarray, "b h w k"],
  label: Int[Array | np.ndarray, "b h w"],
) -> Float[Array, "b h w"]:
  """Returns the softmax cross-entropy of every pixel, 0 where it is ignored.

  Args:
    logits: unnormalised scores; any float dtype, computed in float32.
    label: classes in [0, k) or 255 = ignore. Other values are a mistake of
      the data, found by `fcnjax check-data` before the first step.

  Returns:
    Values in [0, inf), in nats.
  """
  label = jnp.asarray(label)
  # Ignored pixels are cut off before anything is computed of them, so that
  # neither their loss nor its gradient can be NaN.
  valid = (label != IGNORE)[..., None]
  logits = jnp.where(valid, jnp.asarray(logits, jnp.float32), 0)
  chosen = label[..., None] == jnp.arange(logits.shape[-1])[None, None, None]
  # A comparison instead of a gather: its gradient needs no scatter.
  score = jnp.where(chosen, logits, 0).sum(-1)
  loss = jax.nn.logsumexp(logits, axis=-1) - score
  return jnp.where(valid[..., 0], loss, 0)


def total_cross_entropy(
  logits: Float[Array | np.ndarray, "b h w k"],
  label: Int[Array | np.ndarray, "b h w"],
  weights: Float[Array, "b h w"],
) -> Float[Array, ""]:
  """Returns the weighted sum of the cross-entropy over all pixels.

  Ignored pixels add nothing, whatever their logits.
  """
  return (weights * cross_entropy(logits, label)).sum(dtype=jnp.float32)


def total_upsampled_cross_entropy(
  scores: Float[Array | np.ndarray, "b h w k"],
  label: Int[Array | np.ndarray, "b oh ow"],
  weights: Float[Array, "b oh ow"],
  *,
  convention: resizing.Convention = "half_pixel",
  implementation: str = "auto",
) -> Float[Array, ""]:
  """Returns `total_cross_entropy` of scores interpolated to the label's size.

  By tiles, the interpolated scores never exist as a whole, and the gradient is
  computed in the same sweep as the loss (reverse mode only): what the plain
  form keeps, several times the interpolated scores, comes down to an array of
  the size of `scores` and one of the size of `label`. docs/performance.md tells
  memory and time of both.

  Args:
    scores: unnormalised; any float dtype, computed in float32.
    label: classes in [0, k) or 255 = ignore.
    weights: from `pixel_weights`.
    convention: of the interpolation, see `resizing`.
    implementation: "plain": interpolation and loss one after the other;
      "tiles"; or "auto", see `upsampled.uses_tiles` (`LOSS_BYTES`).

  Raises:
    ValueError: if a word is unknown.
  """
  scores, label = jnp.asarray(scores, jnp.float32), jnp.asarray(label)
  size = label.shape[1:3]
  if upsampled.uses_tiles(
    scores.shape, size, implementation, least=upsampled.LOSS_BYTES
  ):
    return _by_tiles(scores, label, weights, convention)
  logits = resizing.resize_bilinear(scores, size, convention=convention)
  return total_cross_entropy(logits, label, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _by_tiles(scores, label, weights, convention):
  def of_tile(logits, label):
    return _tile_cross_entropy(logits, label)[0]

  loss = upsampled.map_tiles(
    of_tile, scores, label, size=label.shape[1:3], convention=convention
  )
  return (weights * loss).sum(dtype=jnp.float32)


def _by_tiles_fwd(scores, label, weights, convention):
  def of_tile(logits, label, weights):
    loss, chosen, shares = _tile_cross_entropy(logits, label)
    weights = jnp.where(label == IGNORE, 0, weights)[:, :, None]
    return loss, weights * shares - jnp.where(chosen, weights, 0)

  loss, gradient = upsampled.map_tiles_with_gradient(
    of_tile,
    scores,
    label,
    weights,
    size=label.shape[1:3],
    convention=convention,
  )
  total = (weights * loss).sum(dtype=jnp.float32)
  return total, (gradient, loss.astype(weights.dtype))


def _by_tiles_bwd(convention, kept, cotangent):
  del convention  # Its work is done.
  gradient, loss = kept
  return cotangent * gradient, None, cotangent.astype(loss.dtype) * loss


_by_tiles.defvjp(_by_tiles_fwd, _by_tiles_bwd)


def _tile_cross_entropy(logits, label):
  """Returns the loss [r b t], where the label is, and probabilities [r b k t].

  The latter are not cut off where the label is ignored.
  """
  valid = label != IGNORE
  logits = jnp.where(valid[:, :, None], logits, 0)
  classes = jnp.arange(logits.shape[2], dtype=label.dtype)
  chosen = label[:, :, None] == classes[None, None, :, None]
  largest = logits.max(2, keepdims=True)
  exponentials = jnp.exp(logits - largest)
  total = exponentials.sum(2, keepdims=True)
  loss = (jnp.log(total) + largest)[:, :, 0]
  loss -= jnp.where(chosen, logits, 0).sum(2)
  return jnp.where(valid, loss, 0), chosen, exponentials / total
