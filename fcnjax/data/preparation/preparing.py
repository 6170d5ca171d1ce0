"""Converts sources into a data set of shards that TFDS and `Prepared` read.

A shard appears under its name when it is whole, and what was counted of it is
kept beside until all are there. So a conversion that was interrupted, however
hard, goes on at the first missing shard, and its result is byte for byte that
of one which was not.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
import shutil
from typing import Any

from fcnjax import errors, locks
from fcnjax.data.preparation import manifest, metadata, plan, records, shards


def write(
  splits: Mapping[str, Any],
  directory: str | os.PathLike[str],
  about: metadata.Description,
  *,
  shard_images: int | None = None,
  workers: int | None = None,
  progress: bool = True,
) -> bool:
  """Writes a data set, or goes on where an earlier call was interrupted.

  Of the images of `sources.Files` the bytes of JPEG and PNG files are kept,
  where they decode to the same pixels without palette, transparency or EXIF
  orientation; all others become PNG, and images of more than 8 bits or of
  unusual channels arrays. Labels become grey PNGs of values in [0, k) or 255.

  Args:
    splits: {name: source}; with the same classes. `source[i]` may have
      "second_label", as label.
    directory: a folder that is empty, new, or of an earlier call.
    about: names and texts.
    shard_images: images a shard; by default about 128 MB of files.
    workers: threads; by default one a core.
    progress: whether a bar is shown.

  Returns:
    Whether something was written; False if the same was there already.

  Raises:
    InputError: if the folder holds something else, or the same with shards
      missing; if another process writes to it, an example cannot be read, or
      the disk is full.
  """
  directory = pathlib.Path(directory)
  form = records.form(splits)
  stats = {split: plan.stats(source) for split, source in splits.items()}
  identity = {
    "name": about.name,
    "form": dataclasses.asdict(form),
    "splits": {
      split: plan.identity(source) for split, source in splits.items()
    },
  }
  content = plan.digest([identity, stats])
  counts = {split: plan.shards(stats[split], shard_images) for split in splits}
  try:
    plan.refuse_others(directory)  # Not even a lock is put there.
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
      if manifest.is_finished(directory):
        _compare(directory, content)
        written = False
      else:
        counts = plan.claim(directory, identity, counts)
        parts = [
          part
          for split, source in splits.items()
          for part in plan.parts(
            split, source, stats[split], about.name, counts[split]
          )
        ]
        features = records.features(form)
        found = shards.write_missing(
          directory, splits, parts, features, form, workers, progress
        )
        metadata.write(directory, splits, parts, found, features, about)
        known = metadata.known(splits, parts, found, form, about, content)
        manifest.write(directory, known)
        written = True
      shutil.rmtree(directory / manifest.UNFINISHED, ignore_errors=True)
  except OSError as error:
    raise errors.InputError(
      f"{directory} cannot be written: {error.strerror or error}; make room or"
      " give another folder, then run the command again."
    ) from error
  return written


def _locked(
  directory: pathlib.Path,
) -> contextlib.AbstractContextManager[None]:
  return locks.locked(
    directory,
    f"another process is preparing {directory}; wait for it, stop it, or give"
    " another folder.",
  )


def _compare(directory: pathlib.Path, content: str) -> None:
  """Refuses a finished folder of other content, or without all its shards."""
  known = manifest.read(directory)
  if known["content"] != content:
    raise errors.InputError(
      f"{directory} holds a data set of other content already; give a new"
      " folder, nothing is overwritten."
    )
  for split in known["splits"]:
    manifest.require_whole(directory, known, split)
