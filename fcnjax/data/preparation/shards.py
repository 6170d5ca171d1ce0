"""Writes the shards of a plan: those that are not there, one after the other.

A shard is written beside, and appears under its name when it is whole, after a
note of what was counted of it.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

from array_record.python import array_record_module
import numpy as np
import tensorflow_datasets as tfds
import tqdm

from fcnjax.data.preparation import manifest, plan, records


def write_missing(
  directory: pathlib.Path,
  splits: Mapping[str, Any],
  parts: Sequence[plan.Part],
  features: tfds.features.FeaturesDict,
  form: records.Form,
  workers: int | None,
  progress: bool,
) -> list[dict[str, Any]]:
  """Writes the shards that are not there; returns what is known of each.

  Args:
    directory: a folder that `plan.claim` has made.
    splits: {name: source}.
    parts: the shards, as `plan.parts` returns them.
    features: how TFDS reads the records.
    form: what all examples have in common.
    workers: threads that read examples; None = one a core.
    progress: whether a bar is shown.

  Raises:
    InputError: if an example cannot be read or is of another form.
    OSError: if a shard cannot be written.
  """
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
