"""One step of training: (state, batch) -> (state, metrics), a pure function."""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import optax

from fcnjax import losses
from fcnjax.training.state import TrainState
from fcnjax.typing import STAGE, Batch, Outputs

# What is kept of the network for the backward pass.
#   "none":  everything,
#   "stage": what its stages give; all else is computed a second time.
REMATS = ("none", "stage")

Metrics = dict[str, Array]
Target = tuple[Array, Array]  # label and weights, both [b, h, w]


def total_loss(
  outputs: Outputs, targets: dict[str, Target], *, aux_weight: float
) -> Array:
  """Returns the summed cross-entropy of all logits that have a target.

  Args:
    outputs: of the network. What it says in coarse scores, too, is computed of
      those, so that the logits need not exist.
    targets: label and weights of "logits" and, of a second task,
      "second_logits".
    aux_weight: of "aux_logits", whose target is that of the logits.
  """
  loss = sum(
    _cross_entropy(outputs, name, *target) for name, target in targets.items()
  )
  if "aux_logits" in outputs:
    loss += aux_weight * _cross_entropy(
      outputs, "aux_logits", *targets["logits"]
    )
  return loss


def _cross_entropy(
  outputs: Outputs, name: str, label: Array, weights: Array
) -> Array:
  coarse = outputs.get(f"coarse_{name}")
  if coarse is None or coarse.size != label.shape[1:3]:
    return losses.total_cross_entropy(outputs[name], label, weights)
  return losses.total_upsampled_cross_entropy(
    coarse.scores, label, weights, convention=coarse.convention
  )


def _target(label: Array, weights: Array, normalization: str) -> Target:
  """Returns the label, and weights divided by what the whole batch weighs."""
  divisor = losses.normalizer(label, weights, normalization=normalization)
  return label, weights / divisor


def _is_float(x: Array) -> bool:
  return jnp.issubdtype(x.dtype, jnp.floating)


def _split(arrays: Any, parts: int) -> Any:
  """Returns arrays [parts, b / parts, …].

  Part i holds the examples i, i + parts, …: under a batch that is spread over
  devices every part is spread over all of them, so that nothing moves.
  """
  return jax.tree.map(
    lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), arrays
  )


def rematerialised(
  forward: Callable[..., Any], remat: str
) -> Callable[..., Any]:
  """Returns the function, of which autodiff keeps what `remat` says.

  Args:
    forward: of arrays; what its stages give is named `typing.STAGE`.
    remat: a word of `REMATS`.
  """
  if remat == "none":
    return forward
  keep = jax.checkpoint_policies.save_only_these_names(STAGE)
  return jax.checkpoint(forward, policy=keep)


def train_step(
  state: TrainState,
  batch: Batch,
  *,
  apply: Callable[..., Any],
  optimizer: optax.GradientTransformation,
  seed: int,
  normalization: str = "weights",
  class_weights: tuple[float, ...] | None = None,
  aux_weight: float = 0.0,
  sampling: float = 1.0,
  balance: str = "weight",
  accumulate: int = 1,
  ema_decay: float = 0.0,
  takes_label: bool = False,
  trained: Any = None,
  remat: str = "none",
  skip: bool = False,
  gathered: Callable[[Any], Any] | None = None,
) -> tuple[TrainState, Metrics]:
  """Returns the state after one step and what is to be logged.

  Args:
    state: as before the step; donate it.
    batch: the global batch; "weight" multiplies the loss of its pixels. The
      loss of a "second_label" is that of the second task, all pixels and
      classes alike; it is added.
    apply: the model's `apply`.
    optimizer: as the state was created with.
    seed: of the run; the step's random key is that folded with the step.
    normalization: a word of `losses.NORMALIZATIONS`.
    class_weights: for each class, what `balance` says.
    aux_weight: of the auxiliary logits' loss.
    sampling: probability with which a pixel's loss counts; the others' weights
      are 0 in this step (Long et al. 2015, section 4.4).
    balance: a word of `losses.BALANCES`: whether class weights are factors, or
      probabilities in units of the largest, with which a pixel's loss counts.
    accumulate: number of parts that the batch is cut into, one after another
      through the network; the gradient is that of the whole batch. Batch norm
      sees the parts, and a loss of the model's own is the mean of theirs.
    ema_decay: of the moving average of the parameters, if the state has one.
    takes_label: whether the model is called with the labels too and may give a
      "loss" of its own, a mean over pixels, which is added.
    trained: a tree like the parameters, of False where they are frozen: no
      gradient is computed for those. None: all are trained.
    remat: a word of `REMATS`; the step is the same.
    skip: whether a step that is not finite changes nothing but the numbers of
      steps done and skipped.
    gathered: puts the parameters together where devices hold parts of them, see
      `sharding.gatherer`. None: every device holds all.

  Returns:
    The new state, and "loss" (of the whole batch, in units of
    `normalization`), "gradient_norm" and "finite" (bool): whether these, and
    the new parameters and collections, are; with `skip`, "skipped_steps".
  """
  key = jax.random.fold_in(jax.random.key(seed), state.step)
  weights = losses.pixel_weights(
    batch["label"],
    class_weights=None if class_weights is None else jnp.array(class_weights),
    balance=balance,
    weight=batch.get("weight"),
    sampling=sampling,
    # A key that no part of the batch and no dropout has.
    key=jax.random.fold_in(key, 2**31 - 1),
  )
  targets = {"logits": _target(batch["label"], weights, normalization)}
  if "second_label" in batch:
    second = batch["second_label"]
    weights = losses.pixel_weights(second)
    targets["second_logits"] = _target(second, weights, normalization)

  def loss_fn(params, collections, image, targets, key):
    if gathered is not None:
      params = gathered(params)
    if trained is not None:
      params = jax.tree.map(
        lambda p, learns: p if learns else jax.lax.stop_gradient(p),
        params,
        trained,
      )
    labels = {"label": targets["logits"][0]} if takes_label else {}
    forward = functools.partial(
      apply, train=True, mutable=list(collections), **labels
    )
    outputs, changed = rematerialised(forward, remat)(
      {"params": params, **collections}, image, rngs={"dropout": key}
    )
    loss = total_loss(outputs, targets, aux_weight=aux_weight)
    loss += outputs.get("loss", 0.0) / accumulate
    return loss, {**collections, **changed}

  gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
  arrays = (batch["image"], targets)
  if accumulate == 1:
    (loss, collections), gradients = gradient_fn(
      state.params, state.collections, *arrays, key
    )
  else:

    def add_part(carry, part):
      loss, gradients, collections, index = carry
      (part_loss, collections), part_gradients = gradient_fn(
        state.params, collections, *part, jax.random.fold_in(key, index)
      )
      gradients = jax.tree.map(jnp.add, gradients, part_gradients)
      return (loss + part_loss, gradients, collections, index + 1), None

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    start = (jnp.float32(0), zeros, state.collections, jnp.int32(0))
    (loss, gradients, collections, _), _ = jax.lax.scan(
      add_part, start, _split(arrays, accumulate)
    )

  updates, opt_state = optimizer.update(
    gradients, state.opt_state, state.params
  )
  updates = jax.tree.map(lambda u: u * state.scale, updates)
  params = optax.apply_updates(state.params, updates)
  ema = state.ema
  if ema is not None:
    ema = optax.incremental_update(params, ema, 1 - ema_decay)
  norm = optax.tree.norm(gradients)
  # What the step leaves behind counts too: it may overflow where the loss and
  # the gradient, computed before, are finite.
  left = [x for x in jax.tree.leaves((params, collections)) if _is_float(x)]
  metrics = {
    "loss": loss,
    "gradient_norm": norm,
    "finite": jnp.isfinite(loss)
    & jnp.isfinite(norm)
    & jnp.isfinite(optax.tree.norm(left)),
  }
  new = state.replace(
    step=state.step + 1,
    params=params,
    collections=collections,
    opt_state=opt_state,
    ema=ema,
  )
  if skip:
    same = state.replace(step=state.step + 1, skipped=state.skipped + 1)
    new = jax.tree.map(
      lambda x, y: jnp.where(metrics["finite"], x, y), new, same
    )
    metrics["skipped_steps"] = new.skipped
  return new, metrics
