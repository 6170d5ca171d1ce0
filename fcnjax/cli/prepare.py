"""fcnjax prepare and prepare-folder: data sets in shards, for quick reading."""

from collections.abc import Sequence
import pathlib
import shlex
import sys
import textwrap
from typing import Any

import ml_collections

from fcnjax import errors
from fcnjax.cli import open_data, outputs
from fcnjax.data import datasets, sources
from fcnjax.data.datasets import cards
from fcnjax.data.preparation import archives, manifest


def run(
  names: Sequence[str],
  data_dir: str,
  *,
  given: str | None = None,
) -> None:
  """Prepares data sets of cards: data_dir/NAME/1.0.0.

  What a card has besides its images, such as depths, becomes a data set beside
  it, whose images these are: data_dir/NAME_depth/1.0.0.

  Args:
    names: of the cards.
    data_dir: where downloads and results go.
    given: a folder with what was downloaded by hand.

  Raises:
    InputError: if a name is unknown, or something is missing, damaged, or not
      as published.
  """
  outputs.refuse_file(pathlib.Path(data_dir), "data-dir")
  chosen = [datasets.get(name) for name in names]
  for card in chosen:
    missing = {}
    for extra in (None, *card.extra):
      directory = manifest.directory(data_dir, card.name, extra)
      if manifest.is_finished(directory):
        _compare(directory, card)
        print(f"{card.title} is prepared already in {directory}.")
      else:
        missing[extra] = directory
    if not missing:
      continue
    root = archives.layout(
      card, data_dir, given=given, progress=sys.stderr.isatty()
    )
    own = ""
    for extra, directory in missing.items():
      splits = {
        split: sources.card(card.name, root, split, extra=extra)
        for split in card.splits
      }
      for split, source in splits.items():
        if card.splits[split] not in (None, len(source)):
          raise errors.InputError(
            f"{root} has {len(source)} images in the split {split!r} of"
            f" {card.title}, expected {card.splits[split]}; something is"
            " missing or it is another version."
          )
      text = f"{card.title}. {card.obtain} Licence: {card.licence}."
      known = _write(splits, directory, directory.parent.name, text, card=card)
      if extra is None and card.borrows:
        own = _moments(known)
    print(f"Train with --config.data.source={card.name}", end=" ")
    print(f"--config.data.root={shlex.quote(str(data_dir))}")
    if own:
      print(f"The training images' own mean and deviation may be added: {own}")
    if given is None or root != pathlib.Path(given):  # but ours
      print(f"{root} is not needed any more.")


def run_folder(config: ml_collections.ConfigDict, output: str) -> None:
  """Prepares the user's own images and masks.

  Args:
    config: as for training; what is told about the data is used, but for
      `data.image_size`, which training applies.
    output: a new folder.

  Raises:
    InputError: if the config's source is no folder, a file cannot be read, or
      `output` holds something else.
  """
  if config.data.mix:
    raise errors.InputError(
      "data.mix: prepare-folder takes one set at a time; prepare each, and name"
      " them in training's data.mix with source='prepared' and their roots."
    )
  if config.data.source != "folder":
    raise errors.InputError(
      f"data.source: {config.data.source!r}; prepare-folder takes a config of a"
      " folder, such as configs/unet.py:folder."
    )
  outputs.refuse_file(pathlib.Path(output), "output")
  config = config.copy_and_resolve_references()
  config.data.image_size = (0, 0)
  config.evaluation.task = "first"  # Records hold both.
  splits = {
    config.data[word]: open_data.source(config, which)
    for which, word in (("train", "train_split"), ("val", "eval_split"))
  }
  directory = pathlib.Path(output)
  name = directory.resolve().name
  known = _write(splits, directory, name, f"{config.data.images}.")
  print(
    "Train with --config.data.source=prepared"
    f" --config.data.root={shlex.quote(output)}"
    f" --config.data.channels={known['channels']}"
    f" {_moments(known)}"
    + (" --config.data.second_images=''" if config.data.second_images else "")
    + (
      " --config.data.second_masks=second_label"
      f" --config.data.second_classes={len(known['second_classes'])}"
      if known["second_classes"]
      else ""
    )
  )


def _write(
  splits: dict[str, Any],
  directory: pathlib.Path,
  name: str,
  text: str,
  *,
  card: cards.Card | None = None,
) -> dict[str, Any]:
  """Converts, and says what there is now; returns the manifest."""
  # TFDS takes most of a second.
  from fcnjax.data.preparation import metadata, preparing

  about = metadata.Description(
    name=metadata.dataset_name(name),
    card=card.name if card else "",
    text=text,
    citation=card.citation if card else "",
  )
  written = preparing.write(
    splits, directory, about, progress=sys.stderr.isatty()
  )
  known = manifest.read(directory)
  counts = ", ".join(
    f"{split['images']} in {name}" for name, split in known["splits"].items()
  )
  done = "prepared" if written else "prepared already"
  print(
    f"{directory}: {done}; {counts}; {len(known['classes'])} classes;", end=" "
  )
  print(f"mean {_numbers(known['mean'])}, std {_numbers(known['std'])}.")
  return known


def _moments(known: dict[str, Any]) -> str:
  """Returns mean and deviation of a manifest as words of training."""
  return (
    f'--config.data.mean="{_numbers(known["mean"])}"'
    f' --config.data.std="{_numbers(known["std"])}"'
  )


def _numbers(values: Sequence[float]) -> str:
  return f"({','.join(f'{value:.3f}' for value in values)},)"


def _compare(directory: pathlib.Path, card: cards.Card) -> None:
  """Refuses what a finished folder of this name may hold else."""
  known = manifest.read(directory)
  counts = {
    name: split["images"] if card.splits.get(name) else None
    for name, split in known["splits"].items()
  }
  if (known["card"], tuple(known["classes"]), counts) != (
    card.name,
    card.classes,
    card.splits,
  ):
    raise errors.InputError(
      f"{directory} holds a data set of other content already; give another"
      " --data-dir, nothing is overwritten."
    )
  for split in known["splits"]:
    manifest.require_whole(directory, known, split)


_WIDTHS = {"name": 19, "classes": 7, "splits": 18, "licence": 19, "from": 8}


def table() -> str:
  """Returns the cards as a table of at most 80 columns."""
  rows = [list(_WIDTHS)]
  for card in datasets.CARDS.values():
    rows.append(
      [
        card.name,
        str(len(card.classes)),
        # Spaces that keep a split and its count on one line.
        ", ".join(
          f"{name}\xa0{count}" if count else name
          for name, count in card.splits.items()
        ),
        card.licence,
        _how(card),
      ]
    )
  lines = []
  for row in rows:
    cells = [
      textwrap.wrap(cell, width) or [""]
      for cell, width in zip(row, _WIDTHS.values(), strict=True)
    ]
    for number in range(max(map(len, cells))):
      line = "  ".join(
        (cell[number] if number < len(cell) else "").ljust(width)
        for cell, width in zip(cells, _WIDTHS.values(), strict=True)
      )
      lines.append(line.rstrip().replace("\xa0", " "))
  return "\n".join(lines)


def _how(card: cards.Card) -> str:
  """Returns in a word how the data are obtained."""
  return "login" if any(a.login for a in card.archives) else "download"
