"""The folder of a run: what lies in it, and whether it may be used."""

import json
import os
import pathlib
from typing import Any

import jax
import ml_collections

from fcnjax import _version, checkpoints, errors
from fcnjax.cli import build, config as configs

# What may change between two starts of one run without a word.
_FREE = ("steps", "log_every", "eval_every", "checkpoint_every", "mesh")


def open_for_training(
  path: pathlib.Path,
  config: ml_collections.ConfigDict,
  *,
  classes: tuple[str, ...],
  colors: tuple[tuple[int, int, int], ...],
) -> list[str]:
  """Makes the folder or checks that the run in it is this one.

  Writes config.json; one that differs is kept beside it.

  Returns:
    Lines to print: the words of the config that changed.

  Raises:
    InputError: if the folder cannot be written, is another run's, or holds
      files of something else.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
    probe = path / f".probe-{os.getpid()}"
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise errors.InputError(
      f"--workdir: {path} cannot be written ({error.strerror}); give a folder "
      "that you own."
    ) from error
  file = path / "config.json"
  new = json.loads(config.to_json())
  new["resolved"] = {
    "classes": list(classes),
    "colors": [list(color) for color in colors],
    "version": _version.__version__,
  }
  changes = []
  if file.is_file():
    old = _read_json(file)
    for part in ("model", "resolved"):
      if not _same_network(old.get(part), new[part]):
        raise errors.InputError(
          f"--workdir: {path} holds a run of another network "
          f"({_describe(old)}, here {_describe(new)}); give another --workdir."
        )
    changes = [line for line in _changes(old, new) if line]
    if changes:
      keep = path / f"config.{len(list(path.glob('config.*.json')))}.json"
      keep.write_bytes(file.read_bytes())
  elif any(not p.name.startswith(".") for p in path.iterdir()):
    raise errors.InputError(
      f"--workdir: {path} holds files but no run (no config.json); give a new "
      "or empty folder."
    )
  temporary = path / f".config-{os.getpid()}"
  temporary.write_text(json.dumps(new, indent=2) + "\n")
  temporary.replace(file)
  return changes


def _same_network(old: Any, new: Any) -> bool:
  if isinstance(old, dict) and "classes" in old:
    return old["classes"] == new["classes"]
  return old == new


def _describe(config: dict[str, Any]) -> str:
  options = config["model"].get("options", {})
  words = "".join(f" {name}={value}" for name, value in options.items())
  count = len(config["resolved"]["classes"])
  return f"{config['model']['name']}{words} with {count} classes"


def _changes(
  old: dict[str, Any], new: dict[str, Any], prefix: str = ""
) -> list[str]:
  lines = []
  for name in sorted(old.keys() | new.keys()):
    before, after = old.get(name), new.get(name)
    if before == after or (prefix + name).split(".")[0] in (*_FREE, "resolved"):
      continue
    if isinstance(before, dict) and isinstance(after, dict):
      lines += _changes(before, after, f"{prefix}{name}.")
    else:
      lines.append(f"config changed: {prefix}{name} was {before}, is {after}")
  return lines


def _read_json(file: pathlib.Path) -> dict[str, Any]:
  try:
    return json.loads(file.read_text())
  except (OSError, json.JSONDecodeError) as error:
    raise errors.InputError(
      f"{file} cannot be read ({error}); give another --workdir."
    ) from error


def read(
  path: pathlib.Path,
) -> tuple[
  ml_collections.ConfigDict, tuple[str, ...], tuple[tuple[int, ...], ...]
]:
  """Returns a trained run's config, class names and colours.

  Raises:
    InputError: if there is no run in the folder.
  """
  file = path / "config.json"
  if not file.is_file():
    raise errors.InputError(
      f"--workdir: no run in {path} (no config.json); give the folder that was "
      "trained in."
    )
  values = configs.tuples(_read_json(file))
  resolved = values.pop("resolved")
  config = ml_collections.ConfigDict(values)
  config.lock()
  return config, resolved["classes"], resolved["colors"]


def restore(
  path: pathlib.Path, config: ml_collections.ConfigDict, which: str
) -> tuple[dict[str, Any], int]:
  """Returns the variables of a checkpoint, averaged if they are, and its step.

  Args:
    path: the workdir.
    config: the run's.
    which: "best", "latest" or a step's number.

  Raises:
    InputError: if there is no such checkpoint.
  """
  saved = checkpoints.Checkpoints(path / "checkpoints")
  try:
    choice = {"best": saved.best or saved.latest, "latest": saved.latest}
    step = choice.get(which, int(which) if which.isdigit() else None)
    if step is None:
      raise errors.InputError(
        f"--checkpoint={which}: none such in {path / 'checkpoints'}; train "
        "first, or give best, latest or a step."
      )
    tree = saved.tree(step)
    averaged = config.ema_decay > 0
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), tree
    )
    state = saved.restore(step, abstract)
  finally:
    saved.close()
  params = state["ema"] if averaged else state["params"]
  return {"params": params, **state["collections"]}, step


def network(
  config: ml_collections.ConfigDict,
  classes: tuple[str, ...],
  variables: dict[str, Any],
) -> Any:
  """Returns image -> logits of a restored run, by its config's strategy."""
  model = build.model(config, num_classes=len(classes))
  return build.predictor(config, model.apply)(variables)
