"""Batch-norm statistics averaged over training batches.

SegNet's batch norm has no running average: its release averages the mean and
variance of each batch over the training set once the weights are final
(`compute_bn_statistics.py`). Running averages of the last steps mix the
statistics of many different weights; this pass does not.
"""

from collections.abc import Callable, Iterable
import functools
from typing import Any

import jax
import jax.numpy as jnp


def batch_norm_statistics(
  apply: Callable[..., Any],
  variables: dict[str, Any],
  batches: Iterable[dict[str, Any]],
  *,
  seed: int = 0,
) -> Any:
  """Returns the collection "batch_stats" averaged over the batches.

  The variance is that of flax.linen.BatchNorm (divided by n); SegNet's script
  divides by n − 1, which differs by 1/n, n = pixels in a batch at that layer.

  Args:
    apply: of a model whose batch norm has momentum 0, so that after a step its
      statistics are those of the batch alone.
    variables: with "params" and "batch_stats".
    batches: each with "image".
    seed: of the dropout.

  Raises:
    ValueError: if there is no batch.
  """

  key = jax.random.key(seed)
  total, count = None, 0
  for batch in batches:
    new = _of_one_batch(
      variables, batch["image"], jax.random.fold_in(key, count), apply=apply
    )
    total = new if total is None else jax.tree.map(jnp.add, total, new)
    count += 1
  if not count:
    raise ValueError("batch_norm_statistics needs at least one batch, got 0.")
  return jax.tree.map(lambda x: x / count, total)


@functools.partial(jax.jit, static_argnames="apply")
def _of_one_batch(variables, image, key, *, apply):
  _, changed = apply(
    variables,
    image,
    train=True,
    mutable=["batch_stats"],
    rngs={"dropout": key},
  )
  return changed["batch_stats"]
