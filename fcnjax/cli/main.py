"""fcnjax COMMAND: runs it, and tells errors as one line with an exit code.

0 done, 2 the user's input was wrong, 75 stopped and saved (the same command
resumes), 1 anything else.
"""

import argparse
from collections.abc import Sequence
import contextlib
import os
import pathlib
import signal
import sys
from typing import Any

from fcnjax import errors
from fcnjax.cli import parser, processes, signals


def _run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  """Imports what the command needs, late: --help is quick."""
  if arguments.command == "models":
    from fcnjax.cli import list_models

    if overrides:
      raise errors.InputError(f"models takes no {overrides[0]!r}.")
    list_models.run(
      arguments.names,
      size=arguments.size,
      num_classes=arguments.num_classes,
      json_output=arguments.json,
      memory=arguments.memory,
    )
    return

  if arguments.command == "prepare":
    from fcnjax.cli import prepare

    if overrides:
      raise errors.InputError(f"prepare takes no {overrides[0]!r}.")
    if arguments.list:
      print(prepare.table())
      return
    if not (arguments.names and arguments.data_dir):
      raise errors.InputError(
        "prepare: give the names of data sets and --data-dir DIR; fcnjax "
        "prepare --list tells the names."
      )
    prepare.run(arguments.names, arguments.data_dir, given=arguments.given)
    return

  from fcnjax.cli import config as configs

  if arguments.command in (
    "train",
    "check-data",
    "prepare-folder",
    "show-data",
  ):
    config = configs.override(configs.load(arguments.config), overrides)
    configs.check(config)
    if arguments.command == "train":
      _train(config, arguments)
    elif arguments.command == "prepare-folder":
      from fcnjax.cli import prepare

      prepare.run_folder(config, arguments.output)
    elif arguments.command == "show-data":
      from fcnjax.cli import show_data

      show_data.run(
        config,
        pathlib.Path(arguments.output),
        count=arguments.count,
        which=arguments.split,
      )
    else:
      from fcnjax.cli import check_data

      check_data.run(config, arguments.output)
    return

  from fcnjax.training import host_memory

  host_memory.keep_freed()
  with processes.joined(arguments, _told):
    from fcnjax.cli import device_memory

    with device_memory.of_prediction():
      _use(arguments, overrides)


def _train(config: Any, arguments: argparse.Namespace) -> None:
  """Trains, as one process of several where the words say so."""
  from fcnjax.training import host_memory

  # Before there are threads.
  host_memory.keep_freed()
  with processes.joined(arguments, _told):
    from fcnjax.cli import compilation_cache, train

    compilation_cache.enable()
    train.run(
      config,
      pathlib.Path(arguments.workdir),
      profile=arguments.profile,
      debug=arguments.debug,
    )


def _use(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
  """Evaluates a run, or predicts with it."""
  from fcnjax import hosts
  from fcnjax.cli import compilation_cache, config as configs, workdir

  compilation_cache.enable()
  path = pathlib.Path(arguments.workdir)
  config, classes, colors = workdir.read(path)
  config = configs.override(config, overrides)
  configs.check(config)
  if arguments.command == "evaluate":
    from fcnjax.cli import evaluate

    which = arguments.split or ("test" if config.data.test_split else "val")
    evaluate.run(
      config, path, classes, checkpoint=arguments.checkpoint, which=which
    )
    return

  from fcnjax.cli import predict

  if config.data.second_images:
    raise errors.InputError(
      "predict reads one image of a scene, but this network sees two "
      "(data.second_images); score it with evaluate, or predict from Python "
      "with fcnjax.inference."
    )
  variables, step = workdir.restore(path, config, arguments.checkpoint)
  if hosts.is_first():
    print(f"{config.model.name}, checkpoint of step {step}", file=sys.stderr)
  size = tuple(config.data.image_size)
  predict.run(
    workdir.network(config, classes, variables, folded=True),
    arguments.inputs,
    arguments.output,
    channels=config.data.channels,
    classes=classes,
    colors=colors,
    image_size=size if any(size) else None,
    overlays=not arguments.no_overlays,
    probabilities=arguments.probabilities,
    samples=config.evaluation.samples,
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command and returns its exit code."""
  with signals.interruptible():
    return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
  # Quiet libraries: what they say at start tells the user nothing.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  argv = list(sys.argv[1:] if argv is None else argv)
  overrides = [a for a in argv if a.startswith("--config.")]
  rest = [a for a in argv if not a.startswith("--config.")]
  try:
    arguments, unknown = parser.create().parse_known_args(rest)
    if unknown:
      prog = f"fcnjax {arguments.command}"
      line = f"{prog}: unknown argument {unknown[0]!r}; see {prog} --help"
      print(line, file=sys.stderr)
      return 2
    trains = arguments.command == "train"  # From the first import on.
    with signals.terminable() if trains else contextlib.nullcontext():
      _run(arguments, overrides)
  except Exception as error:
    code = _told(error)
    if code is None:
      raise
    return code
  return 0


def _told(error: Exception) -> int | None:
  """Prints an error that is not the program's; returns the exit code, or None.

  What is the program's own fault is left to a traceback.
  """
  if isinstance(error, errors.InputError | errors.Stopped):
    print(f"fcnjax: {' '.join(str(error).split())}", file=sys.stderr)
    return error.code
  if isinstance(error, BrokenPipeError):
    return 128 + signal.SIGPIPE  # What a shell shows of others that it ends.
  if isinstance(error, OSError) and error.errno in errors.OF_THE_DISK:
    print(
      f"fcnjax: {error.strerror}: {error.filename or 'while writing'}; mend "
      "that, and the same command goes on.",
      file=sys.stderr,
    )
    return 1
  return None


if __name__ == "__main__":
  sys.exit(main())
