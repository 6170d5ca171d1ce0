"""What a conversion is to write: the parts, and what they are made of.

The plan is made of names, sizes and times of change; no example is read. It is
kept in the folder, so that a later call goes on with the same parts.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import itertools
import json
import pathlib
from typing import Any

import numpy as np

from fcnjax import _version, errors, locks
from fcnjax.data import second_source, sources
from fcnjax.data.preparation import manifest

_SHARD_BYTES = 1 << 27  # of files; sources without files:
_SHARD_IMAGES = 512


@dataclasses.dataclass(frozen=True)
class Part:
  """A shard that is to be written.

  Attributes:
    split: whose examples it holds.
    start: the first of them.
    stop: the one behind the last.
    file: its name.
    content: a hash of the examples' files.
  """

  split: str
  start: int
  stop: int
  file: str
  content: str


def identity(source: Any) -> str:
  """Returns a hash of the names and of all that makes labels and channels."""
  if isinstance(source, second_source.Second):
    parts = [identity(part) for part in (source.first, source.second)]
    return digest([parts, source.what, source.log])
  targets = np.ascontiguousarray(source.table.targets)
  words = [source.names, np.asarray(source.colors).tolist(), source.channels]
  return digest([words, hashlib.sha256(targets).hexdigest()])


def stats(source: Any) -> list[list[list[Any]] | None]:
  """Returns name, size and time of change of each example's files, if any.

  Raises:
    InputError: if a file has gone.
  """
  found = []
  for index in range(len(source)):
    files = _files(source, index)
    try:
      found.append(
        files
        and [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
      )
    except OSError as error:
      raise errors.InputError(
        f"{error.filename} cannot be read: {error.strerror}; put it back."
      ) from error
  return found


def _files(source: Any, index: int) -> Sequence[pathlib.Path] | None:
  if isinstance(source, second_source.Second):
    parts = [_files(s, index) for s in (source.first, source.second)]
    return None if None in parts else [file for part in parts for file in part]
  return source.pairs[index] if isinstance(source, sources.Files) else None


def shards(stats: list, shard_images: int | None) -> int:
  """Returns how many shards a split gets.

  Args:
    stats: what `stats` has returned.
    shard_images: images a shard; None = about 128 MB of files.
  """
  count = len(stats)
  if shard_images is None and None not in stats:
    size = sum(size for files in stats for _, size, _ in files)
    return min(max(1, round(size / _SHARD_BYTES)), count)
  return -(-count // (shard_images or _SHARD_IMAGES))


def parts(
  split: str, source: Any, stats: list, name: str, shards: int
) -> list[Part]:
  """Divides a split into shards of about equally many examples.

  Args:
    split: its name.
    source: its examples.
    stats: what `stats` has returned.
    name: of the data set.
    shards: how many.
  """
  bounds = [number * len(source) // shards for number in range(shards + 1)]
  return [
    Part(
      split=split,
      start=start,
      stop=stop,
      file=f"{name}-{split}.array_record-{number:05d}-of-{shards:05d}",
      content=digest([list(source.names[start:stop]), stats[start:stop]]),
    )
    for number, (start, stop) in enumerate(itertools.pairwise(bounds))
  ]


def refuse_others(directory: pathlib.Path) -> None:
  """Raises an InputError if a folder holds files, but nothing of a data set."""
  ours = (manifest.UNFINISHED, manifest.NAME, locks.NAME)
  names = {p.name for p in directory.iterdir()} if directory.is_dir() else set()
  begun = (directory / manifest.UNFINISHED / "plan.json").is_file()
  if names - set(ours) and not begun and manifest.NAME not in names:
    raise errors.InputError(
      f"{directory} is not empty; give a new folder, nothing is overwritten."
    )


def claim(
  directory: pathlib.Path, identity: dict[str, Any], shards: dict[str, int]
) -> dict[str, int]:
  """Makes the folder; returns the shards, of an earlier call if there was one.

  A file that was mended since changes neither names nor shards: only the one
  that holds it is written anew.

  Args:
    directory: where the data set is written.
    identity: what may not differ between the calls.
    shards: {split: how many}, as this call would divide the splits.

  Raises:
    InputError: if the folder holds something else.
  """
  unfinished = directory / manifest.UNFINISHED
  file = unfinished / "plan.json"
  identity = json.loads(json.dumps(identity | {"by": _version.__version__}))
  if file.is_file():
    earlier = json.loads(file.read_text())
    if earlier["identity"] != identity:
      raise errors.InputError(
        f"{directory} holds the unfinished conversion of other data, or by"
        f" another version of fcnjax; remove {unfinished} and the shards beside"
        " it, or give a new folder."
      )
    return earlier["shards"]
  refuse_others(directory)
  unfinished.mkdir(parents=True, exist_ok=True)
  plan = {"identity": identity, "shards": shards}
  manifest.write_whole(file, json.dumps(plan))
  return shards


def digest(words: Any) -> str:
  """Returns a hash of what JSON can hold."""
  return hashlib.sha256(json.dumps(words).encode()).hexdigest()
