"""Config files, --config.key=value, and errors that name the nearest key."""

import ast
from collections.abc import Sequence
import difflib
import importlib.util
import pathlib
import re
import traceback
from typing import Any

import ml_collections

from fcnjax import errors


def load(argument: str) -> ml_collections.ConfigDict:
  """Returns the locked config of "configs/unet.py:camvid".

  Raises:
    InputError: if the file, its get_config or the variant is missing.
  """
  path, _, variant = argument.partition(":")
  if not pathlib.Path(path).is_file():
    raise errors.InputError(
      f"--config: no file {path!r}; give a config as in "
      "--config=configs/unet.py or --config=configs/unet.py:camvid."
    )
  spec = importlib.util.spec_from_file_location("config_file", path)
  if spec is None or spec.loader is None:
    raise errors.InputError(f"--config: {path!r} is no Python file (.py).")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except SyntaxError as error:
    raise errors.InputError(
      f"--config: {path}, line {error.lineno}: {error.msg}."
    ) from error
  except Exception as error:
    raise _faulty(path, error) from error
  if not hasattr(module, "get_config"):
    raise errors.InputError(
      f"--config: {path!r} defines no get_config(variant)."
    )
  try:
    config = module.get_config(variant)
  except errors.InputError as error:
    raise errors.InputError(f"--config={argument}: {error}") from error
  except Exception as error:
    raise _faulty(path, error) from error
  config.lock()
  config.model.options.unlock()
  return config


def _faulty(path: str, error: Exception) -> errors.InputError:
  """Says what is wrong with a config file, and in which of its lines."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [f.lineno for f in frames if f.filename == path]
  where = f", line {lines[-1]}" if lines else ""
  # ml_collections lists the whole config before it says which word is near.
  what = str(error).partition(" Other fields present")[0]
  near = re.search(r'Did you mean "\w+"', str(error))
  hint = f" {near[0]}?" if near else ""
  return errors.InputError(
    f"--config: {path}{where}: {type(error).__name__}: {what}{hint}"
  )


def keys(config: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
  """Returns all dotted keys of a config."""
  found = []
  for name, value in config.items():
    found.append(prefix + name)
    if isinstance(value, ml_collections.ConfigDict):
      found += keys(value, f"{prefix}{name}.")
  return found


def variant(name: str, variants: dict[str, Any]) -> Any:
  """Returns variants[name].

  Raises:
    InputError: lists the known variants.
  """
  if name not in variants:
    known = [v for v in variants if v]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise errors.InputError(
      f"unknown variant {name!r}.{hint} Known are {', '.join(known)}, or none "
      "for the embedded data set."
    )
  return variants[name]


def override(
  config: ml_collections.ConfigDict, arguments: Sequence[str]
) -> ml_collections.ConfigDict:
  """Returns the config with "--config.key=value" applied, in order.

  Values are Python literals or, failing that, strings. Options of the
  model may be new; every other key must exist and its value be of the same
  type.

  Raises:
    InputError: on an unknown key (with the nearest) or a value of a wrong type.
  """
  known = keys(config)
  for argument in arguments:
    key, equals, text = argument.removeprefix("--config.").partition("=")
    if not argument.startswith("--config.") or not equals:
      raise errors.InputError(
        f"{argument!r}: expected --config.KEY=VALUE, as in --config.steps=100."
      )
    free = re.fullmatch(r"model\.options\.\w+", key) is not None
    if key not in known and not free:
      near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
      raise errors.InputError(
        f"--config.{key}: there is no such word in the config; the nearest is "
        f"{near!r}."
      )
    parent, _, name = key.rpartition(".")
    section = config[parent] if parent else config
    if isinstance(section.get(name), ml_collections.ConfigDict):
      raise errors.InputError(
        f"--config.{key}: a section of words; set one of them, as in "
        f"--config.{next(k for k in known if k.startswith(key + '.'))}=VALUE."
        if len(section[name])
        else f"--config.{key}: give one option, as in --config.{key}.width=16."
      )
    try:
      with section.unlocked():
        section[name] = _value(text, section.get(name))
    except TypeError as error:
      before = section[name]
      example = before if before != () else "(1,2) or ('a','b')"
      raise errors.InputError(
        f"--config.{key}: expected {type(before).__name__} like {example}, "
        f"got {text!r}."
      ) from error
  return config


def _value(text: str, before: Any) -> Any:
  """Returns what `text` says, a string where a string was."""
  if isinstance(before, str):
    return text
  try:
    value = ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return {"true": True, "false": False}.get(text, text)
  if isinstance(before, tuple):
    return tuple(value) if isinstance(value, list | tuple) else (value,)
  if isinstance(before, float) and type(value) is int:
    return float(value)
  return value


# Words that must be at least this.
_LEAST = {
  "steps": 1,
  "batch_size": 1,
  "accumulate": 1,
  "seed": 0,
  "log_every": 1,
  "eval_every": 1,
  "checkpoint_every": 1,
  "keep_checkpoints": 1,
  "watchdog_seconds": 0,
  "statistics_batches": 0,
  "optimizer.step_every": 1,
  "data.channels": 1,
  "data.workers": 1,
  "data.label_margin": 0,
  "evaluation.batch_size": 1,
  "evaluation.multiple": 1,
  "evaluation.overlays": 0,
}


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _has_parameters(entry: Any) -> bool:
  """Whether it is (name, {parameters})."""
  return (
    isinstance(entry, tuple)
    and len(entry) == 2
    and isinstance(entry[0], str)
    and isinstance(entry[1], dict)
  )


# Tuples whose entries have a form, since a comma is easily forgotten.
_FORMS = {
  "optimizer.groups": (
    lambda e: isinstance(e, tuple) and e and isinstance(e[0], str),
    "(('bias$', 2.0, 0.0),)",
  ),
  "data.transforms": (_has_parameters, "(('flip', {}),)"),
  "data.mixing": (_has_parameters, "(('mosaic', {}),)"),
  "data.colors": (
    lambda e: isinstance(e, tuple) and len(e) == 3,
    "((0, 0, 0), (128, 64, 128))",
  ),
  "data.class_names": (lambda e: isinstance(e, str), "('sky', 'road')"),
  "evaluation.exclude": (lambda e: isinstance(e, str), "('cow', 'moon')"),
  "init_drop": (lambda e: isinstance(e, str), "('score',)"),
  "init_widen": (lambda e: isinstance(e, str), "('conv1_1/kernel$',)"),
  "evaluation.scales": (_is_number, "(0.75, 1.0, 1.25)"),
}
# Heights and widths, pixels, and the least they may be.
_SIZES = {"data.image_size": 0, "evaluation.tile": 1, "evaluation.window": 1}


def check(config: ml_collections.ConfigDict) -> None:
  """Checks the words that can be checked alone.

  Raises:
    InputError: names the word, what it is and what it may be.
  """
  for key, least in _LEAST.items():
    if config[key] < least:
      raise errors.InputError(
        f"--config.{key}: expected at least {least}, got {config[key]}."
      )
  if config.evaluation.samples == 1 or config.evaluation.samples < 0:
    raise errors.InputError(
      "--config.evaluation.samples: expected 0 (none) or at least 2, got "
      f"{config.evaluation.samples}."
    )
  if not 0 < config.loss.sampling <= 1:
    raise errors.InputError(
      "--config.loss.sampling: expected a share in (0, 1], got "
      f"{config.loss.sampling}."
    )
  for key, (right, example) in _FORMS.items():
    if not all(right(entry) for entry in config[key]):
      raise errors.InputError(
        f"--config.{key}: expected a form like {example}, got {config[key]!r}."
      )
  for key, least in _SIZES.items():
    size = config[key]
    whole = all(isinstance(side, int) for side in size)
    if len(size) != 2 or not whole or min(size) < least:
      raise errors.InputError(
        f"--config.{key}: expected (height, width) in pixels, as in "
        f"--config.{key}='(180, 240)', got {size!r}."
      )


def tuples(value: Any) -> Any:
  """Returns JSON's lists as the tuples that configs hold."""
  if isinstance(value, list):
    return tuple(tuples(v) for v in value)
  if isinstance(value, dict):
    return {name: tuples(v) for name, v in value.items()}
  return value
