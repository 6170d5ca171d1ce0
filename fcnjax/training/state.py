"""The state of a run: arrays and nothing else."""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax


@struct.dataclass
class TrainState:
  """Everything that a checkpoint holds and a step changes.

  Attributes:
    step: int32 scalar, the number of steps done.
    params: the network's parameters, float32.
    collections: every other collection (batch statistics, class centres),
      by name; the train step carries them and knows none.
    opt_state: the optimizer's state.
    scale: float32 scalar, a factor of the learning rate: less than 1 after a
      run was set back to a checkpoint since its loss was not finite.
    skipped: int32 scalar, the number of steps done that changed nothing, since
      their loss was not finite.
    ema: an exponential moving average of `params`, or None.
  """

  # Not typed: trees of shapes, shardings and the like have this form, too, and
  # Orbax puts one such leaf in the place of an empty dict.
  step: Any
  params: Any
  collections: Any
  opt_state: Any
  scale: Any
  skipped: Any
  ema: Any = None

  def variables(self, *, averaged: bool = False) -> dict[str, Any]:
    """Returns what `model.apply` takes; averaged: with the EMA parameters."""
    params = self.ema if averaged and self.ema is not None else self.params
    return {"params": params, **self.collections}


def create(
  variables: dict[str, Any],
  optimizer: optax.GradientTransformation,
  *,
  ema: bool = False,
) -> TrainState:
  """Returns the state before the first step.

  Args:
    variables: as `model.init` returns them.
    optimizer: its state is made here.
    ema: whether to keep a moving average of the parameters.
  """
  collections = dict(variables)
  params = collections.pop("params")
  return TrainState(
    step=jnp.int32(0),
    params=params,
    collections=collections,
    opt_state=optimizer.init(params),
    scale=jnp.float32(1),
    skipped=jnp.int32(0),
    # A copy: the state is donated, and a buffer can be donated only once.
    ema=jax.tree.map(jnp.copy, params) if ema else None,
  )
