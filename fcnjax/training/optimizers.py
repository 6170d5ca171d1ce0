"""SGD and AdamW with parameter groups chosen by regular expressions.

A group is (pattern, learning-rate factor, weight-decay factor). The first
pattern that is found in a parameter's path ("backbone/conv1_1/kernel") decides
for it; a parameter that none matches has the factors 1 and 1. A learning-rate
factor of 0 freezes: no gradient, no decay, no momentum.

Caffe's biases, for instance: (("bias$", 2.0, 0.0),).
"""

from collections.abc import Sequence
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fcnjax import errors


class Group(NamedTuple):
  """The parameters whose path contains `pattern`, and their factors."""

  pattern: str
  learning_rate: float = 1.0
  weight_decay: float = 1.0


def path_of(key_path) -> str:
  """Returns "backbone/conv1_1/kernel" for a JAX key path."""
  return "/".join(
    str(getattr(k, "key", getattr(k, "name", k))) for k in key_path
  )


def factors(params: Any, groups: Sequence[Sequence[Any]]) -> tuple[Any, Any]:
  """Returns two trees like `params`: learning-rate and decay factors.

  Raises:
    InputError: if a pattern is no regular expression or matches nothing.
  """
  groups = [Group(*group) for group in groups]
  compiled = []
  for group in groups:
    try:
      compiled.append(re.compile(group.pattern))
    except re.error as error:
      raise errors.InputError(
        f"optimizer.groups: {group.pattern!r} is no regular expression "
        f"({error})."
      ) from error
  paths = [path_of(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
  for pattern in compiled:
    if not any(pattern.search(path) for path in paths):
      raise errors.InputError(
        f"optimizer.groups: {pattern.pattern!r} matches no parameter; there "
        f"are, for example, {', '.join(paths[:3])}."
      )

  def chosen(key_path, _):
    path = path_of(key_path)
    for pattern, group in zip(compiled, groups):
      if pattern.search(path):
        return group
    return Group("")

  tree = jax.tree_util.tree_map_with_path(chosen, params)
  is_group = lambda x: isinstance(x, Group)  # noqa: E731
  return (
    jax.tree.map(lambda g: float(g.learning_rate), tree, is_leaf=is_group),
    jax.tree.map(lambda g: float(g.weight_decay), tree, is_leaf=is_group),
  )


def trained(params: Any, groups: Sequence[Sequence[Any]]) -> Any:
  """Returns a tree like `params`: False for what the groups freeze."""
  rates, _ = factors(params, groups)
  return jax.tree.map(lambda rate: rate != 0, rates)


def _add_decay(weight_decay: float, decay: Any) -> optax.GradientTransformation:
  """Adds weight_decay · factor · parameter to every update."""

  def update(updates, state, params):
    updates = jax.tree.map(
      lambda u, p, d: u + weight_decay * d * p, updates, params, decay
    )
    return updates, state

  return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _scale(tree: Any) -> optax.GradientTransformation:
  """Multiplies every update by its factor; 0 also keeps out NaN."""

  def update(updates, state, params=None):
    del params
    scaled = jax.tree.map(
      lambda u, f: u * f if f else jnp.zeros_like(u), updates, tree
    )
    return scaled, state

  return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _prelude(
  rates: Any, clip_norm: float
) -> list[optax.GradientTransformation]:
  """Drops the gradients of what is frozen, then clips the global norm."""
  frozen = jax.tree.map(lambda r: float(r != 0), rates)
  return [
    _scale(frozen),
    optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
  ]


def sgd(
  learning_rate: optax.ScalarOrSchedule,
  params: Any,
  *,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
  groups: Sequence[Sequence[Any]] = (),
  clip_norm: float = 0.0,
) -> optax.GradientTransformation:
  """Returns SGD with momentum: v ← m·v + g + λ·p, p ← p − lr·v.

  Decay is added to the gradient before momentum, as Caffe, torch and
  TensorFlow do. Where the rate changes, Caffe differs: it keeps lr inside v.

  Args:
    learning_rate: a number or a schedule.
    params: the parameters, for their paths and shapes only.
    momentum: m, in [0, 1); .99 is FCN's "heavy" learning.
    nesterov: whether the step looks ahead.
    weight_decay: λ.
    groups: see the module's docstring.
    clip_norm: largest global norm of the gradient; 0 = no clipping.
  """
  rates, decay = factors(params, groups)
  return optax.chain(
    *_prelude(rates, clip_norm),
    _add_decay(weight_decay, decay),
    optax.trace(momentum, nesterov) if momentum else optax.identity(),
    optax.scale_by_learning_rate(learning_rate),
    _scale(rates),
  )


def adamw(
  learning_rate: optax.ScalarOrSchedule,
  params: Any,
  *,
  weight_decay: float = 0.0,
  groups: Sequence[Sequence[Any]] = (),
  clip_norm: float = 0.0,
  b1: float = 0.9,
  b2: float = 0.999,
) -> optax.GradientTransformation:
  """Returns Adam with decoupled weight decay (Loshchilov & Hutter, 2019).

  Args:
    learning_rate: a number or a schedule.
    params: the parameters, for their paths and shapes only.
    weight_decay: multiplied by the rate before it shrinks the parameter.
    groups: see the module's docstring.
    clip_norm: largest global norm of the gradient; 0 = no clipping.
    b1: decay of the first moment.
    b2: decay of the second moment.
  """
  rates, decay = factors(params, groups)
  return optax.chain(
    *_prelude(rates, clip_norm),
    optax.scale_by_adam(b1, b2),
    _add_decay(weight_decay, decay),
    optax.scale_by_learning_rate(learning_rate),
    _scale(rates),
  )
