"""fcnjax show-data: a sheet of pictures of what the network will see."""

from collections.abc import Iterator, Sequence
import contextlib
import itertools
import os
import pathlib
from typing import Any

import ml_collections
import numpy as np
import PIL.Image
import PIL.PngImagePlugin

from fcnjax import errors
from fcnjax.cli import batches as batches_lib, open_data, outputs
from fcnjax.report import contact_sheet, overlays
from fcnjax.training import sharding

DRAWS = 4  # augmented pictures of an example
# Positions of the stream that are searched for further draws of an example.
_SEARCHED = 20_000
# Stands in the file, so that it is known again.
_SOFTWARE = "fcnjax show-data"


def run(
  config: ml_collections.ConfigDict,
  output: pathlib.Path,
  *,
  count: int,
  which: str,
) -> None:
  """Writes the sheet and says where.

  Of the training split every row is an example: the image, the image with its
  label, and up to four examples that training makes of it, in the steps that
  stand below them. Of the evaluated one, which is not augmented, it is image
  and label.

  Args:
    config: as for training.
    output: a PNG; a file of this name is replaced only if this command wrote
      it.
    count: examples.
    which: "train" or "val".

  Raises:
    InputError: if the data are not there or cannot be read, a transform is
      unknown, or the output may not be written.
  """
  _require_writable(output)
  if count < 1:
    raise errors.InputError(f"--count: expected at least 1, got {count}.")
  batches_lib.check(config)
  source = open_data.source(config, which)
  split = config.data[open_data.SPLITS[which]]
  if unused := open_data.unused(config, source):
    print(unused)
  if not len(source):
    raise errors.InputError(f"the split {split!r} has no examples.")
  if which == "train":
    rows = _augmented(config, source, count)
    words = f"seed {config.seed}"
    if not config.data.transforms:
      words += ", no data.transforms"
  else:
    rows = _plain(source, count)
    words = "as it is evaluated"
  sheet = contact_sheet.draw(
    rows,
    title=f"{split}: {len(rows)} of {len(source)} images, {words}",
    classes=source.classes,
    colors=source.colors,
  )
  _write(sheet, output)
  print(output)


def _plain(source: Any, count: int) -> list[contact_sheet.Row]:
  """Returns examples of all parts of a source, two pictures each."""
  count = min(count, len(source))
  rows = []
  for index in np.linspace(0, len(source) - 1, count).astype(int):
    example = source[int(index)]
    rows.append(contact_sheet.Row(example["name"], _originals(example)))
  return rows


def _originals(example: dict[str, Any]) -> list[contact_sheet.Picture]:
  image, label = example["image"], example["label"]
  # What is evaluated may have labels of another resolution.
  shown = overlays.nearest(label, image.shape[:2])
  return [
    contact_sheet.Picture(image, None, f"image, {_size(image)}"),
    contact_sheet.Picture(image, shown, f"label, {_size(label)}"),
  ]


def _augmented(
  config: ml_collections.ConfigDict, source: Any, count: int
) -> list[contact_sheet.Row]:
  """Returns the examples that training sees first, and what it sees of them."""
  # Position p of the stream makes the same example in batches of any size.
  single = ml_collections.ConfigDict(config.to_dict())
  single.batch_size = 1
  mesh = sharding.create_mesh(data=1, batch_size=1)
  stream = batches_lib.create(
    single.lock(), source, mesh, path=_path(config, source)
  )
  while True:
    places = _positions(stream, source, count)
    every = sorted(p for found in places.values() for p in found)
    drawn = dict(zip(every, _examples(stream, every)))
    # What could not be read has a stand-in from now on.
    if places == _positions(stream, source, count):
      break
  mean, std = (np.asarray(config.data[word]) for word in ("mean", "std"))
  rows = []
  for index, positions in places.items():
    pictures = _originals(source[index])
    for position in positions:
      example = drawn[position]
      image = example["image"] * std + mean
      step = position // config.batch_size
      pictures.append(
        contact_sheet.Picture(
          image, example["label"], f"step {step}, {_size(image)}"
        )
      )
    rows.append(contact_sheet.Row(str(source.names[index]), pictures))
  return rows


def _positions(
  stream: batches_lib.Batches, source: Any, count: int
) -> dict[int, list[int]]:
  """Returns the first examples of the stream, and where they stand in it."""
  count = min(count, len(source))
  found: dict[int, list[int]] = {}
  for position in range(min(DRAWS * len(source), max(_SEARCHED, count))):
    index, *_ = stream.indices(position)
    if index in found or len(found) < count:
      found.setdefault(index, []).append(position)
    if len(found) == count and all(len(p) >= DRAWS for p in found.values()):
      break
  return {index: places[:DRAWS] for index, places in found.items()}


def _examples(
  stream: batches_lib.Batches, positions: Sequence[int]
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the examples at ascending positions of the stream."""
  runs = itertools.groupby(enumerate(positions), lambda pair: pair[1] - pair[0])
  for _, run in runs:
    numbers = [position for _, position in run]
    with contextlib.closing(stream.start(numbers[0])) as batches:
      for batch in itertools.islice(batches, len(numbers)):
        yield {key: np.asarray(value)[0] for key, value in batch.items()}


def _path(config: ml_collections.ConfigDict, source: Any) -> str:
  return batches_lib.path(config, source, None)


def _size(values: np.ndarray) -> str:
  return f"{values.shape[0]}x{values.shape[1]}"


def _require_writable(output: pathlib.Path) -> None:
  """Raises InputError unless the file is new, or this command's own."""
  if output.suffix.lower() != ".png":
    raise errors.InputError(
      f"--output: expected a file that ends in .png, got {str(output)!r}."
    )
  outputs.refuse_file(output.parent, "output")
  if not output.parent.is_dir():
    raise errors.InputError(f"--output: there is no folder {output.parent}.")
  if not output.exists():
    return
  try:
    with PIL.Image.open(output) as image:
      own = image.info.get("Software") == _SOFTWARE
  except OSError:
    own = False
  if not own:
    raise errors.InputError(
      f"--output: {output} exists and was not written by show-data; it "
      "was left as it is. Give another name."
    )


def _write(sheet: np.ndarray, output: pathlib.Path) -> None:
  """Writes a PNG in one move, marked as this command's."""
  mark = PIL.PngImagePlugin.PngInfo()
  mark.add_text("Software", _SOFTWARE)
  temporary = output.with_name(f".{output.stem}-{os.getpid()}.png")
  try:
    PIL.Image.fromarray(sheet).save(temporary, pnginfo=mark)
    temporary.replace(output)
  except OSError as error:
    temporary.unlink(missing_ok=True)
    raise errors.InputError(
      f"--output: {output} cannot be written: {error.strerror or error}."
    ) from error
