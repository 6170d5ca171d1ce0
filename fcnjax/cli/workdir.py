"""The folder of a run: what lies in it, and whether it may be used."""

import contextlib
import json
import os
import pathlib
import sys
from typing import Any

import jax
import ml_collections
import numpy as np

from fcnjax import checkpoints, errors, hosts, locks, models, seals
from fcnjax.cli import build, config as configs, defaults, outputs, provenance
from fcnjax.models import folding
from fcnjax.training import sharding

# What may change between two starts of one run without a word.
_FREE = (
  "log_every",
  "eval_every",
  "checkpoint_every",
  "keep_checkpoints",
  "keep_every",
  "watchdog_seconds",
  "mesh",
  "resolved",
)


def check(
  path: pathlib.Path,
  config: ml_collections.ConfigDict,
  *,
  classes: tuple[str, ...],
  colors: tuple[tuple[int, ...], ...],
) -> tuple[dict[str, Any], list[str]]:
  """Finds out whether this run may use the folder; leaves it as it is.

  A missing folder is made, since only that tells whether it can be.

  Returns:
    What `write` needs, and lines to print: the words, versions and devices
    that changed since the run in the folder was last started. Its "resolved"
    "batches" is the path of that run's batches, None in a new folder.

  Raises:
    InputError: if the folder cannot be written, is another run's, or holds
      files of something else.
  """
  outputs.make_folder(path, "workdir")
  new = json.loads(config.to_json())
  new["resolved"] = {
    "classes": list(classes),
    "colors": [list(color) for color in colors],
    "computed_with": provenance.computed_with(),
    "batches": None,  # Not yet known; see batches.py.
  }
  if not (path / "config.json").is_file():
    ours = ("cache", "checkpoints")  # of a start that came to nothing
    if any(p.name not in ours and p.name[0] != "." for p in path.iterdir()):
      raise errors.InputError(
        f"--workdir: {path} holds files but no run (no config.json); give a "
        "new or empty folder."
      )
    return new, []
  old = _record(path)
  if (
    old["model"] != new["model"]
    or old["resolved"]["classes"] != new["resolved"]["classes"]
  ):
    raise errors.InputError(
      f"--workdir: {path} holds a run of another network ({_describe(old)}, "
      f"here {_describe(new)}); give another --workdir."
    )
  # A run older than the word had no other.
  new["resolved"]["batches"] = old["resolved"].get("batches", "tf.data")
  with_old = old["resolved"].get("computed_with")
  with_new = new["resolved"]["computed_with"]
  others = provenance.changes(with_old, with_new) if with_old else []
  return new, _changes(old, new) + others


def locked(path: pathlib.Path) -> contextlib.AbstractContextManager[None]:
  """Keeps a second training out of the folder while this one runs.

  Raises:
    InputError: if another process trains in the folder.
  """
  return locks.locked(
    path,
    f"--workdir: another process is training in {path}; wait for it, stop it, "
    "or give another --workdir.",
  )


def write(path: pathlib.Path, record: dict[str, Any]) -> None:
  """Writes config.json in one move; one that differs is kept beside it."""
  file = path / "config.json"
  text = json.dumps(record, indent=2) + "\n"
  if file.is_file() and file.read_text() != text:
    number = 0
    while (keep := path / f"config.{number}.json").exists():
      number += 1
    keep.write_bytes(file.read_bytes())
  temporary = path / f".config-{os.getpid()}"
  temporary.write_text(text)
  seals.sync(temporary)
  temporary.replace(file)


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
    if before == after or (not prefix and name in _FREE):
      continue
    if isinstance(before, dict) and isinstance(after, dict):
      lines += _changes(before, after, f"{prefix}{name}.")
    else:
      lines.append(f"config changed: {prefix}{name} was {before}, is {after}")
  return lines


def _record(path: pathlib.Path) -> dict[str, Any]:
  """Returns what config.json holds, as `check` made it."""
  file = path / "config.json"
  try:
    record = json.loads(file.read_text())
    record["model"]["name"], record["model"].get("options", {}).items()
    len(record["resolved"]["classes"]), len(record["resolved"]["colors"])
  except (OSError, ValueError, KeyError, TypeError, AttributeError,
          RecursionError) as error:  # fmt: skip
    raise errors.InputError(
      f"{file} is not a run's (it cannot be read, or lacks {error}); give "
      "another --workdir."
    ) from error
  return record


def read(
  path: pathlib.Path, *, word: str = "workdir"
) -> tuple[
  ml_collections.ConfigDict, tuple[str, ...], tuple[tuple[int, ...], ...]
]:
  """Returns a trained run's config, class names and colours.

  Args:
    path: the run's workdir.
    word: which word of the command line it comes from, for the message.

  Raises:
    InputError: if there is no run in the folder.
  """
  outputs.refuse_file(path, word)
  if not (path / "config.json").is_file():
    raise errors.InputError(
      f"--{word}: no run in {path} (no config.json); give the folder that was "
      "trained in."
    )
  values = configs.tuples(_record(path))
  resolved = values.pop("resolved")
  config = defaults.get_config()  # for words younger than the run
  try:
    with config.unlocked():
      config.update(values)
  except (TypeError, AttributeError) as error:
    words = str(error).splitlines()[0]
    raise errors.InputError(
      f"{path / 'config.json'} is not a run's ({words}); copy it again."
    ) from error
  config.lock()
  return config, resolved["classes"], resolved["colors"]


def tell_of_damage(saved: checkpoints.Checkpoints) -> None:
  """Prints which checkpoints are passed over.

  Raises:
    InputError: if no other is left: the run would begin anew.
  """
  for step, words in saved.damaged.items():
    print(
      f"checkpoint {step} is damaged ({words}): passed over, kept as "
      f"{saved.directory}/{step}.damaged*"
    )
  for step in saved.incomplete:
    print(f"checkpoint {step} was not written to its end: passed over")
  if saved.latest is None and saved.set_aside:
    raise errors.InputError(
      f"no checkpoint in {saved.directory} is sound "
      f"({', '.join(saved.set_aside)} are damaged); give another --workdir, or "
      "remove these folders to train from the start."
    )


def restore(
  path: pathlib.Path, config: ml_collections.ConfigDict, which: str
) -> tuple[dict[str, Any], int]:
  """Returns the variables of a checkpoint, averaged if they are, and its step.

  They lie on the first device of each process.

  Args:
    path: the workdir; a run may be writing to it at the same time.
    config: the run's.
    which: "best", "latest" or a step's number.

  Raises:
    InputError: if there is no such checkpoint.
  """
  saved = checkpoints.Checkpoints(path / "checkpoints", writing=False)
  step = None
  try:
    if which in ("best", "latest"):
      step = getattr(saved, which)
    else:
      step = next((n for n in saved.steps if str(n) == which), None)
    for damaged, words in saved.damaged.items():
      print(
        f"checkpoint {damaged} is damaged ({words}): passed over",
        file=sys.stderr,
      )
    if step is None:
      known = ", ".join(map(str, saved.steps)) or "none yet"
      raise errors.InputError(
        f"--checkpoint={which}: not in {path / 'checkpoints'}; give best, "
        f"latest or a step that is there ({known})."
      )
    mesh = jax.sharding.Mesh(np.array(hosts.devices(hosts.count())), ("data",))
    everywhere = sharding.replicated(mesh)
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
      saved.tree(step),
    )
    state = jax.tree.map(
      lambda x: x.addressable_data(0), saved.restore(step, abstract)
    )
  except (OSError, ValueError) as error:
    if step is None or (saved.directory / str(step)).exists():
      raise
    raise errors.InputError(
      f"--checkpoint={which}: step {step} was just deleted by the run in "
      f"{path}; give the command again."
    ) from error
  finally:
    saved.close()
  averaged = config.ema_decay > 0 and state["ema"] is not None
  params = state["ema"] if averaged else state["params"]
  return {"params": params, **state["collections"]}, step


def network(
  config: ml_collections.ConfigDict,
  classes: tuple[str, ...],
  variables: dict[str, Any],
  *,
  coarse: bool = False,
  folded: bool = False,
) -> Any:
  """Returns image -> logits of a restored run, by its config's strategy.

  Images are those of the files, in [0, 255].

  Args:
    config: of the run.
    classes: their names.
    variables: as restored.
    coarse: whether it may return scores in their place, see `build.predictor`.
    folded: whether batch norm is folded into the convolutions; the logits are
      the same to rounding (docs/performance.md tells what it is worth).
  """
  model = build.model(config, num_classes=len(classes))
  if folded and "batch_stats" in variables:
    size = models.MODELS[config.model.name].size
    image = jax.ShapeDtypeStruct((1, *size, model.in_channels), np.float32)
    variables = folding.fold_batch_norm(model, variables, image)
    config = ml_collections.ConfigDict(config.to_dict())
    config.model.options.norm = "folded"
    model = build.model(config, num_classes=len(classes))
  return build.predictor(config, model.apply, coarse=coarse)(variables)
