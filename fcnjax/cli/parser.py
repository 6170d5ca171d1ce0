"""The words of every command, and what --help says of them."""

import argparse
from typing import NoReturn

from fcnjax import _version
from fcnjax.cli import processes


class _Parser(argparse.ArgumentParser):
  """Says in one line what of a command is wrong, without its usage."""

  def error(self, message: str) -> NoReturn:
    line = " ".join(message.split())
    self.exit(2, f"{self.prog}: {line}; see {self.prog} --help\n")


def create() -> argparse.ArgumentParser:
  """Returns the parser of all commands."""
  every = _Parser(
    prog="fcnjax",
    description="Semantic segmentation in JAX/Flax.",
    epilog="fcnjax COMMAND --help tells all of a command.",
  )
  every.add_argument(
    "--version", action="version", version=f"fcnjax {_version.__version__}"
  )
  commands = every.add_subparsers(
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
  processes.add_words(train)
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
  return every


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
  processes.add_words(parser)
