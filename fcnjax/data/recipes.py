"""What the config's list of transforms means, in either table of them."""

from collections.abc import Callable, Mapping, Sequence
import difflib
import inspect
from typing import Any

import numpy as np

from fcnjax import errors

# (name in a table of transforms, its parameters), in order of application.
Transforms = Sequence[Sequence[Any]]
# One value, or one a channel.
PerChannel = float | int | Sequence[float | int]


def operations(
  transforms: Transforms,
  table: Mapping[str, Callable[..., Any]],
  mean: PerChannel,
  *,
  word: str = "data.transforms",
) -> list[tuple[str, Any, dict[str, Any]]]:
  """Returns name, function and parameters of what the config's words mean.

  Args:
    transforms: (name, parameters) in the order of application.
    table: of names to functions of an example, of what its random numbers come
      from, and of parameters.
    mean: what padding is filled with, unless the parameters say otherwise.
    word: of the config, for messages.

  Raises:
    InputError: on an unknown name or parameter, with the nearest known one.
  """
  found = []
  for name, parameters in transforms:
    if name not in table:
      raise errors.InputError(
        f"{word}: unknown {name!r}{_nearest(name, table)}"
      )
    _, _, *rest = inspect.signature(table[name]).parameters.items()
    known = dict(rest)
    for key in parameters:
      if key not in known:
        raise errors.InputError(
          f"{word}, {name}: no parameter {key!r}{_nearest(key, known)}"
        )
    for key, parameter in known.items():
      if parameter.default is parameter.empty and key not in parameters:
        raise errors.InputError(f"{word}, {name}: {key} is missing.")
    size = parameters.get("size", (1, 1))
    pair = isinstance(size, tuple | list) and len(size) == 2
    if not pair or not all(isinstance(side, int) and side > 0 for side in size):
      raise errors.InputError(
        f"{word}, {name}: size must be (height, width) in pixels, got {size!r}."
      )
    chosen = {"fill": mean} if "fill" in known else {}
    for key, value in parameters.items():
      whole = isinstance(known[key].default, float) and isinstance(value, int)
      chosen[key] = float(value) if whole and key != "fill" else value
    found.append((name, table[name], chosen))
  return found


def _nearest(word: str, known: Any) -> str:
  close = difflib.get_close_matches(word, list(known), n=1)
  hint = f"; did you mean {close[0]!r}?" if close else "."
  return f"{hint} Known: {', '.join(known)}."


def check_length(name: str, values: Any, channels: int) -> None:
  """Raises InputError unless there is one value, or one a channel."""
  if np.size(values) not in (1, channels):
    raise errors.InputError(
      f"data.{name} has {np.size(values)} values for images of {channels} "
      "channel(s); give one, or one a channel."
    )
