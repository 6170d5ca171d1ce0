"""The training sets that data.mix names, each as a config of its own."""

from collections.abc import Mapping
import difflib
import math
from typing import Any

import ml_collections

from fcnjax import errors
from fcnjax.cli import config as configs

# The words of data that make a source. All others are the mixture's: one batch
# has one list of transforms, one mean, one way to sample.
WORDS = (
  "source",
  "root",
  "obtain",
  "train_split",
  "channels",
  "image_size",
  "images",
  "masks",
  "image_suffix",
  "mask_suffix",
  "num_classes",
  "class_names",
  "colors",
  "mask_values",
  "ignore",
  "label_map",
  "train_list",
  "val_list",
  "val_fraction",
  "val_images",
  "val_masks",
)


def of(
  config: ml_collections.ConfigDict,
) -> list[tuple[str, ml_collections.ConfigDict]]:
  """Returns name and config of each training set.

  Without data.mix that is "train" and the config itself; else "train, set 1",
  "train, set 2", ..., and the config with the words of each entry.

  Raises:
    InputError: if data.mix is no list of (weight, {words of data}), or has a
      word that makes no source, or cannot be what it says.
  """
  data = config.data
  if not data.mix:
    return [("train", config)]
  if data.second_images or data.second_masks:
    raise errors.InputError(
      "data.mix: not with data.second_images or data.second_masks; mix the "
      "folders themselves."
    )
  return [
    (f"train, set {number}", _own(config, entry, f"data.mix: entry {number}"))
    for number, entry in enumerate(data.mix, start=1)
  ]


def _own(
  config: ml_collections.ConfigDict, entry: Any, where: str
) -> ml_collections.ConfigDict:
  """Returns the config of one entry."""
  pair = isinstance(entry, tuple | list) and len(entry) == 2
  weight, words = entry if pair else (0, None)
  if not isinstance(words, Mapping | ml_collections.ConfigDict) or not (
    isinstance(weight, int | float) and 0 < weight < math.inf
  ):
    raise errors.InputError(
      f"{where} is {entry!r}; expected (weight, {{words of data}}), the weight "
      "above 0."
    )
  own = ml_collections.ConfigDict(config.to_dict())
  own.data.mix = ()
  for key, value in words.items():
    if key not in WORDS:
      raise errors.InputError(f"{where}: {_refused(key, config.data)}")
    _set(own.data, key, value, where)
  try:
    configs.check(own)
  except errors.InputError as error:
    raise errors.InputError(f"{where}: {error}") from None
  return own


def _refused(key: Any, data: ml_collections.ConfigDict) -> str:
  """Says why a word may not stand in an entry."""
  close = difflib.get_close_matches(str(key), WORDS, n=1)
  hint = f"; did you mean {close[0]!r}?" if close else "."
  if key in data:
    return (
      f"data.{key} is one for all sets, set --config.data.{key}{hint} An entry "
      f"may have: {', '.join(WORDS)}."
    )
  return f"no word data.{key}{hint} An entry may have: {', '.join(WORDS)}."


def _set(
  data: ml_collections.ConfigDict, key: str, value: Any, where: str
) -> None:
  """Sets a word, if the value is of its kind."""
  if key == "label_map":  # A table, the name of one, or None.
    with data.ignore_type():
      data[key] = value
    return
  before = data[key]
  try:
    data[key] = value
  except TypeError as error:
    raise errors.InputError(
      f"{where}: data.{key} is {value!r}; expected something like {before!r}."
    ) from error
