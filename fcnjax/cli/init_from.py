"""A run that starts from the parameters of another one, or of several."""

import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from fcnjax import trees
from fcnjax.cli import workdir
from fcnjax.training import state as states


def start_from(
  config: ml_collections.ConfigDict, state: states.TrainState
) -> states.TrainState:
  """Returns the state with the parameters of the run, or runs, in `init_from`.

  What does not fit stays fresh, or is left behind, only where `init_drop`
  names it, and is printed.
  """
  theirs: dict[str, Any] = {}
  for name, other in _runs(config.init_from):
    their_config, _, _ = workdir.read(other, word="config.init_from")
    found, step = workdir.restore(other, their_config, "best")
    found = jax.device_get(found)  # from where they go to all devices
    print(f"starting {name and name + ' '}from {other}, step {step}")
    for collection, tree in found.items():
      below = {name: tree} if name else tree
      theirs[collection] = theirs.get(collection, {}) | below
  variables, changes = trees.merge(
    theirs,
    state.variables(),
    drop=config.init_drop,
    widen=config.init_widen,
    where=config.init_from,
  )
  for line in changes:
    print(f"  {line}")
  params = variables.pop("params")
  ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
  return state.replace(params=params, collections=variables, ema=ema)


def _runs(word: str) -> list[tuple[str, pathlib.Path]]:
  """Returns (part of the network, workdir) of "DIR" or "PART=DIR,PART=DIR"."""
  if not re.match(r"\w+=", word):
    return [("", pathlib.Path(word))]
  parts = (entry.partition("=") for entry in word.split(","))
  return [(name, pathlib.Path(path)) for name, _, path in parts]
