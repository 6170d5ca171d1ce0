"""Converts sources into a data set of shards that TFDS and `Prepared` read.

A shard appears under its name when it is whole, and what was counted of it is
kept beside until all are there. So a conversion that was interrupted, however
hard, goes on at the first missing shard, and its result is byte for byte that
of one which was not.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
from typing import Any, NamedTuple

from array_record.python import array_record_module
import numpy as np
import tensorflow_datasets as tfds
import tqdm

from fcnjax import _version, errors, locks, typing
from fcnjax.data import sources
from fcnjax.data.preparation import manifest, records

_SHARD_BYTES = 1 << 27  # of files; sources without files:
_SHARD_IMAGES = 512
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


class Description(NamedTuple):
  """What a data set is called and said to be.

  Attributes:
    name: of the data set in TFDS; letters, digits and "_".
    card: the name of its card, or "".
    text: a description with the licence.
    citation: whom to cite.
  """

  name: str
  card: str = ""
  text: str = ""
  citation: str = ""


def write(
  splits: Mapping[str, Any],
  directory: str | os.PathLike[str],
  about: Description,
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
  stats = {split: _stats(source) for split, source in splits.items()}
  identity = {
    "name": about.name,
    "form": dataclasses.asdict(form),
    "splits": {split: _identity(source) for split, source in splits.items()},
  }
  content = _hash([identity, stats])
  shards = {split: _shards(stats[split], shard_images) for split in splits}
  try:
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
      if manifest.is_finished(directory):
        _compare(directory, content)
        written = False
      else:
        shards = _claim(directory, identity, shards)
        parts = [
          part
          for split, source in splits.items()
          for part in _parts(split, source, stats[split], about, shards[split])
        ]
        features = records.features(form)
        found = _write_missing(
          directory, splits, parts, features, form, workers, progress
        )
        _write_metadata(directory, splits, parts, found, features, about)
        known = _known(splits, parts, found, form, about, content)
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


@dataclasses.dataclass(frozen=True)
class _Part:
  """A shard: examples [start, stop) of a split, and a hash of their files."""

  split: str
  start: int
  stop: int
  file: str
  content: str


def _identity(source: Any) -> str:
  """Returns a hash of the names and of all that makes labels and channels."""
  if isinstance(source, sources.Second):
    parts = [_identity(part) for part in (source.first, source.second)]
    return _hash([parts, source.what, source.log])
  targets = np.ascontiguousarray(source.table.targets)
  words = [source.names, np.asarray(source.colors).tolist(), source.channels]
  return _hash([words, hashlib.sha256(targets).hexdigest()])


def _stats(source: Any) -> list[list[list[Any]] | None]:
  """Returns name, size and time of change of each example's files, if any."""
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
  if isinstance(source, sources.Second):
    parts = [_files(s, index) for s in (source.first, source.second)]
    return None if None in parts else [file for part in parts for file in part]
  return source.pairs[index] if isinstance(source, sources.Files) else None


def _shards(stats: list, shard_images: int | None) -> int:
  """Returns how many shards a split gets."""
  count = len(stats)
  if shard_images is None and None not in stats:
    size = sum(size for files in stats for _, size, _ in files)
    return min(max(1, round(size / _SHARD_BYTES)), count)
  return -(-count // (shard_images or _SHARD_IMAGES))


def _parts(
  split: str, source: Any, stats: list, about: Description, shards: int
) -> list[_Part]:
  """Divides a split into shards of about equally many examples."""
  bounds = [number * len(source) // shards for number in range(shards + 1)]
  return [
    _Part(
      split=split,
      start=start,
      stop=stop,
      file=f"{about.name}-{split}.array_record-{number:05d}-of-{shards:05d}",
      content=_hash([list(source.names[start:stop]), stats[start:stop]]),
    )
    for number, (start, stop) in enumerate(itertools.pairwise(bounds))
  ]


def _claim(
  directory: pathlib.Path, identity: dict[str, Any], shards: dict[str, int]
) -> dict[str, int]:
  """Makes the folder; returns the shards, of an earlier call if there was one.

  A file that was mended since changes neither names nor shards: only the one
  that holds it is written anew.
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
  if directory.is_dir() and any(
    path.name != manifest.UNFINISHED for path in directory.iterdir()
  ):
    raise errors.InputError(
      f"{directory} is not empty; give a new folder, nothing is overwritten."
    )
  unfinished.mkdir(parents=True, exist_ok=True)
  plan = {"identity": identity, "shards": shards}
  manifest.write_whole(file, json.dumps(plan))
  return shards


def _write_missing(
  directory, splits, parts, features, form, workers, progress
) -> list[dict[str, Any]]:
  """Writes the shards that are not there; returns what is known of each."""
  workers = workers or os.cpu_count() or 1
  total = sum(part.stop - part.start for part in parts)
  found = []
  with (
    tqdm.tqdm(
      desc="prepare", total=total, unit="image", disable=not progress
    ) as bar,
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
  ):
    for part in parts:
      path = directory / part.file
      note = directory / manifest.UNFINISHED / f"{part.file}.json"
      known = json.loads(note.read_text()) if note.is_file() else {}
      if path.is_file() and known.get("content") == part.content:
        bar.update(part.stop - part.start)
      else:
        # The shard comes last, and none of an earlier content is left by it:
        # where both are, they belong together.
        path.unlink(missing_ok=True)
        known = _write_shard(
          note.parent / part.file,
          _in_order(
            pool,
            functools.partial(
              records.record,
              splits[part.split],
              features=features,
              form=form,
            ),
            range(part.start, part.stop),
            ahead=2 * workers,
          ),
          form,
          bar,
        )
        known["content"] = part.content
        manifest.write_whole(note, json.dumps(known))
        (note.parent / part.file).replace(path)
      found.append(known)
  return found


def _in_order(pool, function, items, *, ahead: int) -> Iterator[Any]:
  """Maps in threads and in order, never more than `ahead` items in advance."""
  waiting = collections.deque()
  try:
    for item in items:
      waiting.append(pool.submit(function, item))
      if len(waiting) > ahead:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    for future in waiting:
      future.cancel()


def _write_shard(path, written, form, bar) -> dict[str, Any]:
  """Writes records; returns what was counted of them."""
  path.unlink(missing_ok=True)
  classes = len(form.classes)
  counts = np.zeros(classes, np.int64)
  image_counts = np.zeros(classes, np.int64)
  sums = np.zeros((2, form.channels), object)  # whole numbers stay exact
  pixels = payload = 0
  hashed = hashlib.sha256()
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  for record in written:
    _writes(path, writer.write, record.data)
    payload += len(record.data)
    pixels += record.size
    here = record.label_counts[:classes]
    counts += here
    image_counts += record.size * (here > 0)
    sums += record.sums
    hashed.update(record.label_hash)
    bar.update()
  _writes(path, writer.close)
  with path.open("rb+") as file:
    os.fsync(file.fileno())
  return {
    "bytes": path.stat().st_size,
    "payload": payload,
    "pixels": pixels,
    "sums": sums.tolist(),
    "pixel_counts": counts.tolist(),
    "image_pixel_counts": image_counts.tolist(),
    "labels": hashed.hexdigest(),
  }


def _writes(path: pathlib.Path, call: Callable[..., Any], *data: bytes) -> None:
  """Calls the writer, whose errors are not the system's."""
  try:
    call(*data)
  except RuntimeError as error:
    raise OSError(None, " ".join(str(error).split()), str(path)) from error


def _write_metadata(directory, splits, parts, found, features, about) -> None:
  """Writes what `tfds.builder_from_directory` reads."""
  template = tfds.core.ShardedFileTemplate(
    data_dir=directory,
    template=_TEMPLATE,
    dataset_name=about.name,
    filetype_suffix="array_record",
  )
  infos = [
    tfds.core.SplitInfo(
      name=split,
      shard_lengths=[p.stop - p.start for p in parts if p.split == split],
      num_bytes=sum(
        known["payload"]
        for part, known in zip(parts, found, strict=True)
        if part.split == split
      ),
      filename_template=template.replace(split=split),
    )
    for split in splits
  ]
  tfds.folder_dataset.write_metadata(
    data_dir=directory,
    features=features,
    split_infos=infos,
    version=manifest.VERSION,
    filename_template=template,
    check_data=False,  # it would read by tf.data, which cannot
    description=about.text,
    citation=about.citation,
  )


def _known(splits, parts, found, form, about, content) -> dict[str, Any]:
  """Returns what fcnjax.json says."""
  together = list(zip(parts, found, strict=True))
  trained = "train" if "train" in splits else next(iter(splits))
  mean, std = _mean_std([k for p, k in together if p.split == trained])
  source = splits[trained]
  said = {}
  for split in splits:
    mine = [(part, known) for part, known in together if part.split == split]
    said[split] = {
      "images": len(splits[split]),
      "labels": _hash([known["labels"] for _, known in mine]),
      **{
        key: np.sum([known[key] for _, known in mine], axis=0).tolist()
        for key in ("pixel_counts", "image_pixel_counts")
      },
      "shards": [
        {
          "file": part.file,
          "images": part.stop - part.start,
          "bytes": known["bytes"],
        }
        for part, known in mine
      ],
      "names": list(splits[split].names),
    }
  return {
    "fcnjax": _version.__version__,
    "name": about.name,
    "card": about.card,
    "content": content,
    "classes": list(form.classes),
    "second_classes": form.second_classes and list(form.second_classes),
    "colors": [list(color) for color in source.colors],
    "ignore": typing.IGNORE,
    "channels": form.channels,
    "image": form.image,
    "mean": mean,
    "std": std,
    "splits": said,
  }


def _mean_std(known: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
  """Returns mean and standard deviation a channel over all pixels."""
  pixels = sum(k["pixels"] for k in known)
  mean, std = [], []
  for channel in range(len(known[0]["sums"][0])):
    total, squares = (sum(k["sums"][i][channel] for k in known) for i in (0, 1))
    mean.append(total / pixels)
    # Of whole numbers the difference is exact, and only then rounded.
    variance = (squares * pixels - total * total) / pixels / pixels
    std.append(max(variance, 0.0) ** 0.5)
  return [round(v, 4) for v in mean], [round(v, 4) for v in std]


def dataset_name(text: str) -> str:
  """Returns a name that TFDS takes: letters, digits, "_", a letter form."""
  name = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_")
  return name if name[:1].isalpha() else f"data_{name}".rstrip("_")


def _hash(words: Any) -> str:
  return hashlib.sha256(json.dumps(words).encode()).hexdigest()
