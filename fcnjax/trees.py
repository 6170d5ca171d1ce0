"""Trees of arrays: what differs between two, and one merged with another."""

from collections.abc import Sequence
import re
from typing import Any

import jax
import jax.numpy as jnp

from fcnjax import errors
from fcnjax.training import optimizers


def _flat(tree: Any) -> dict[str, Any]:
  """Returns {path: leaf}; paths as the optimizer's groups see them."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {optimizers.path_of(path): leaf for path, leaf in leaves}


def difference(saved: Any, wanted: Any) -> str:
  """Returns in words what differs between two trees of arrays, or "".

  Args:
    saved: tree of anything with a shape, as it lies in a checkpoint.
    wanted: tree of anything with a shape, as the network has it.
  """
  saved, wanted = _flat(saved), _flat(wanted)
  parts = []
  for word, names in (
    ("missing", sorted(wanted.keys() - saved.keys())),
    ("unknown", sorted(saved.keys() - wanted.keys())),
    (
      "of another shape",
      [
        f"{name} {tuple(saved[name].shape)} for {tuple(wanted[name].shape)}"
        for name in sorted(saved.keys() & wanted.keys())
        if tuple(saved[name].shape) != tuple(wanted[name].shape)
      ],
    ),
  ):
    if names:
      more = f" and {len(names) - 3} more" if len(names) > 3 else ""
      parts.append(f"{len(names)} {word}: {', '.join(names[:3])}{more}")
  return "; ".join(parts)


def merge(
  theirs: Any,
  ours: Any,
  *,
  drop: Sequence[str] = (),
  widen: Sequence[str] = (),
  where: str = "init_from",
) -> tuple[Any, list[str]]:
  """Returns `ours` with every array of `theirs` that has its path and shape.

  Args:
    theirs: variables of another network.
    ours: variables of this one.
    drop: regular expressions; a path that one of them is found in may stay as
      it is in `ours`, or be left behind in `theirs`.
    widen: regular expressions of kernels [h, w, c, d] that may take more
      channels c in `ours`: those start from the mean of the others, as FCN's
      depth channel does from red, green and blue.
    where: what `theirs` is, for the message.

  Returns:
    The merged variables, and a line for each path that was dropped or widened.

  Raises:
    InputError: names what does not fit and is not dropped, or a pattern that
      is no regular expression.
  """
  for word, patterns in (("init_drop", drop), ("init_widen", widen)):
    for pattern in patterns:
      try:
        re.compile(pattern)
      except re.error as error:
        raise errors.InputError(
          f"{word}: {pattern!r} is no regular expression ({error})."
        ) from error
  old, new = _flat(theirs), _flat(ours)
  wider = {
    name: _widened(old[name], new[name].shape[2])
    for name in old.keys() & new.keys()
    if _is_wider(new[name].shape, old[name].shape)
    and any(re.search(pattern, name) for pattern in widen)
  }
  old |= wider
  fits = {
    name
    for name in old.keys() & new.keys()
    if tuple(old[name].shape) == tuple(new[name].shape)
  }
  dropped = sorted((old.keys() | new.keys()) - fits)
  unnamed = [
    name
    for name in dropped
    if not any(re.search(pattern, name) for pattern in drop)
  ]
  if unnamed:
    raise errors.InputError(
      f"{where} does not fit: {', '.join(unnamed[:4])}"
      f"{' …' if len(unnamed) > 4 else ''}; name what may stay fresh or be "
      "left behind in init_drop, as in --config.init_drop=\"('score',)\"."
    )
  lines = [
    f"{name}: {'stays fresh' if name in new else 'left behind'}"
    for name in dropped
  ] + [
    f"{name}: more channels, which start from the mean of the others"
    for name in sorted(wider)
  ]

  def choose(path, leaf):
    name = optimizers.path_of(path)
    if name not in fits:
      return leaf
    return jax.device_put(old[name].astype(leaf.dtype), leaf.sharding)

  return jax.tree_util.tree_map_with_path(choose, ours), lines


def _is_wider(ours: Sequence[int], theirs: Sequence[int]) -> bool:
  """Whether two kernels differ in the incoming channels alone, ours more."""
  same = len(ours) == len(theirs) == 4 and ours[2] > theirs[2]
  return same and (*ours[:2], ours[3]) == (*theirs[:2], theirs[3])


def _widened(kernel: Any, channels: int) -> Any:
  """Returns a kernel [h, w, channels, d]; what is new is the mean."""
  mean = kernel.mean(axis=2, keepdims=True)
  return jnp.concatenate(
    [kernel, jnp.repeat(mean, channels - kernel.shape[2], axis=2)], axis=2
  )
