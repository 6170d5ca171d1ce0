"""fcnjax COMMAND: arguments, and errors as one line with an exit code.

0 done, 2 the user's input was wrong, 75 stopped and saved (the same command
resumes), 1 anything else.
"""

import argparse
from collections.abc import Sequence
import errno
import os
import pathlib
import signal
import sys
import threading
from typing import NoReturn

from fcnjax import _version, errors

# What a disk, not the program, is to blame for.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


class _Parser(argparse.ArgumentParser):
  """Says in one line what of a command is wrong, without its usage."""

  def error(self, message: str) -> NoReturn:
    line = " ".join(message.split())
    self.exit(2, f"{self.prog}: {line}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog="fcnjax",
    description="Semantic segmentation in JAX/Flax.",
    epilog="fcnjax COMMAND --help tells all of a command.",
  )
  parser.add_argument(
    "--version", action="version", version=f"fcnjax {_version.__version__}"
  )
  commands = parser.add_subparsers(
    dest="command", required=True, metavar="COMMAND"
  )

  def command(name, text, words=""):
    more = (
      "Words of the config are set by --config.KEY=VALUE, for example "
      f"{words}. fcnjax/cli/defaults.py tells what each means."
      if words
      else None
    )
    return commands.add_parser(
      name, help=text, description=text, epilog=more, allow_abbrev=False
    )

  train = command(
    "train",
    "Train, or go on where the run in the workdir stopped.",
    "--config.steps=5000 --config.optimizer.learning_rate=0.001",
  )
  _add_config(train)
  train.add_argument(
    "--workdir", required=True, metavar="DIR", help="the folder of this run"
  )
  train.add_argument(
    "--profile",
    action="store_true",
    help="write a trace of the fourth to the sixth step to DIR/profile",
  )
  train.add_argument(
    "--debug",
    action="store_true",
    help="look for NaN in every intermediate result, and end the run where the "
    "first is made; several times slower",
  )

  evaluate = command(
    "evaluate",
    "Score a trained run; writes evaluation.json into its workdir.",
    "--config.data.root=DIR --config.evaluation.batch_size=1",
  )
  _add_run(evaluate)
  evaluate.add_argument(
    "--split",
    choices=("val", "test"),
    help="default: test where the run has one, else val",
  )

  predict = command(
    "predict",
    "Write a mask, and an overlay, for every image.",
    "--config.evaluation.strategy=sliding_window",
  )
  _add_run(predict)
  predict.add_argument(
    "inputs", nargs="+", metavar="INPUT", help="files, folders or globs"
  )
  predict.add_argument(
    "--output", required=True, metavar="DIR", help="where the masks go"
  )
  predict.add_argument(
    "--probabilities",
    action="store_true",
    help="also write softmax probabilities (.npz, float16)",
  )
  predict.add_argument(
    "--no-overlays", action="store_true", help="write no overlays"
  )

  check = command(
    "check-data",
    "Say in words what is wrong with images and masks.",
    "--config.data.images=photos --config.data.masks=masks",
  )
  _add_config(check)
  check.add_argument(
    "--output", metavar="DIR", help="also write a page and check.json there"
  )

  prepare = command(
    "prepare",
    "Download, verify and convert data sets into shards, for quick reading. "
    "What was interrupted goes on where it was.",
  )
  prepare.epilog = (
    "The result is DIR/NAME/VERSION; train with --config.data.source=NAME "
    "--config.data.root=DIR. Archives are looked for in --from, then in "
    "DIR/downloads/NAME, and else downloaded there, unless they need a login."
  )
  prepare.add_argument(
    "names", nargs="*", metavar="NAME", help="as --list tells them"
  )
  prepare.add_argument(
    "--data-dir", metavar="DIR", help="where downloads and results go"
  )
  prepare.add_argument(
    "--from",
    dest="given",
    metavar="DIR",
    help="a folder with archives downloaded by hand, or with the unpacked "
    "official layout",
  )
  prepare.add_argument(
    "--list", action="store_true", help="list the data sets and exit"
  )

  folder = command(
    "prepare-folder",
    "Convert one's own images and masks into shards, for data that outgrow a "
    "folder of files.",
    "--config.data.images=photos --config.data.masks=masks",
  )
  _add_config(folder)
  folder.add_argument(
    "--output",
    required=True,
    metavar="DIR",
    help="a new folder; train with --config.data.source=prepared "
    "--config.data.root=DIR",
  )

  show = command(
    "show-data",
    "Write a picture of what the network will see: training examples beside "
    "their images, classes painted over them, what is ignored hatched. A row "
    "has up to four examples that training makes of one image, of the config's "
    "seed, in the steps that stand below them.",
    "--config.seed=1 --config.data.transforms=\"(('flip', {}),)\"",
  )
  _add_config(show)
  show.add_argument(
    "--output",
    default="show_data.png",
    metavar="FILE.png",
    help="default: show_data.png; a file that show-data did not write is never "
    "replaced",
  )
  show.add_argument(
    "--count",
    type=int,
    default=6,
    metavar="N",
    help="images, one a row; default: 6",
  )
  show.add_argument(
    "--split",
    choices=("train", "val"),
    default="train",
    help="train (default): augmented as for training; val: as evaluated",
  )

  models = command("models", "List the networks and their figures.")
  models.add_argument("names", nargs="*", metavar="NAME", help="default: all")
  models.add_argument(
    "--memory",
    action="store_true",
    help="also what the gradient of one image keeps, MB (takes longer)",
  )
  models.add_argument("--json", action="store_true", help="a list of objects")
  models.add_argument(
    "--size",
    nargs=2,
    type=int,
    metavar=("H", "W"),
    help="image size for multiply-adds; default: the paper's",
  )
  models.add_argument(
    "--num-classes", type=int, default=21, metavar="K", help="default: 21"
  )
  return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--config",
    required=True,
    metavar="FILE[:VARIANT]",
    help="as in configs/unet.py or configs/unet.py:folder",
  )


def _add_run(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--workdir", required=True, metavar="DIR", help="a folder trained in"
  )
  parser.add_argument(
    "--checkpoint",
    default="best",
    metavar="STEP",
    help="best (default, by mean IoU), latest, or a step",
  )


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
      from fcnjax.cli import compilation_cache, train
      from fcnjax.training import host_memory

      host_memory.keep_freed()
      compilation_cache.enable()
      train.run(
        config,
        pathlib.Path(arguments.workdir),
        profile=arguments.profile,
        debug=arguments.debug,
      )
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

  from fcnjax.cli import compilation_cache, workdir
  from fcnjax.training import host_memory

  host_memory.keep_freed()
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
  """Runs a command and returns its exit code.

  Ctrl-C ends the process at once (130 in a shell): threads of the libraries
  may not survive an exception. While training steps are made it saves first,
  see fcnjax/training/loop.py.
  """
  handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
  if handled and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
      return _main(argv)
    finally:
      signal.signal(signal.SIGINT, signal.default_int_handler)
  return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
  # Quiet libraries: what they say at start tells the user nothing.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  argv = list(sys.argv[1:] if argv is None else argv)
  overrides = [a for a in argv if a.startswith("--config.")]
  rest = [a for a in argv if not a.startswith("--config.")]
  try:
    arguments, unknown = _parser().parse_known_args(rest)
    if unknown:
      prog = f"fcnjax {arguments.command}"
      line = f"{prog}: unknown argument {unknown[0]!r}; see {prog} --help"
      print(line, file=sys.stderr)
      return 2
    _run(arguments, overrides)
  except (errors.InputError, errors.Stopped) as error:
    print(f"fcnjax: {' '.join(str(error).split())}", file=sys.stderr)
    return error.code
  except BrokenPipeError:
    return 0
  except OSError as error:
    if error.errno not in _OF_THE_DISK:
      raise
    print(
      f"fcnjax: {error.strerror}: {error.filename or 'while writing'}; mend "
      "that, and the same command goes on.",
      file=sys.stderr,
    )
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
