"""fcnjax check-data: what is wrong with images and masks, in words."""

from collections.abc import Iterable
import dataclasses
import json
import os
import pathlib
import sys

import ml_collections
import tqdm

from fcnjax import errors
from fcnjax.cli import batches, open_data, outputs, training_sets
from fcnjax.data import findings, mixture
from fcnjax.data.checking import diagnosis, set_checks
from fcnjax.report import data_page

_PAGE, _RECORD = "index.html", "check.json"


def run(
  config: ml_collections.ConfigDict, output: str | None = None
) -> diagnosis.Diagnosis:
  """Checks every split that the config names and prints what it finds.

  Each training set of data.mix is a split of its own; what is trained on is
  all of them.

  Args:
    config: as for training.
    output: a folder for the page (index.html) and check.json; made if it does
      not exist. Files of these names are replaced only if this command wrote
      them.

  Raises:
    InputError: if nothing can be opened, or the folder may not be written to;
      and after everything was printed, if training would be wrong.
  """
  batches.check(config)
  if output is not None:
    _require_writable(pathlib.Path(output))
  told: list[findings.Finding] = []
  sources = {}

  def tell(finding: findings.Finding) -> None:
    # Splits of one folder have its faults in common.
    known = {(before.code, before.message) for before in told}
    if (finding.code, finding.message) not in known:
      splits = finding.splits or (name,)
      told.append(dataclasses.replace(finding, splits=splits))

  sets = [
    (name, own)
    for name, own in training_sets.of(config)
    if own.data.train_split
  ]
  splits = [(name, "train", own) for name, own in sets] + [
    (which, which, config)
    for which in ("val", "test")
    if config.data[open_data.SPLITS[which]]
  ]
  for name, which, own in splits:
    try:
      sources[name] = open_data.source(own, which, tell=tell)
    except errors.InputError as error:
      if not told and not sources:
        raise
      told.append(_fault("cannot_open", name, error))
  for source in list(sources.values())[:1]:
    if unused := open_data.unused(config, source):
      print(unused, end="\n\n")
  training = [name for name, _ in sets if name in sources]
  for number, (name, _) in enumerate(sets, start=1):
    try:
      if name in sources:
        mixture.compare(sources[training[0]], sources[name], number)
    except errors.InputError as error:
      told.append(_fault("unlike_sets", name, error))
      del sources[name]
  found = diagnosis.examine(
    sources,
    words=_words(config),
    told=told,
    training=training,
    progress=_shown,
  )
  print(diagnosis.text(found), end="")
  if output is not None:
    folder = pathlib.Path(output)
    _write(folder / _RECORD, json.dumps(diagnosis.record(found), indent=2))
    _write(folder / _PAGE, data_page.document(found))
    print(f"\nThe page: {folder / _PAGE}")
  diagnosis.require(found)
  return found


def _fault(code: str, split: str, error: errors.InputError) -> findings.Finding:
  return findings.Finding(
    code=code, severity="error", message=str(error), splits=(split,)
  )


def _words(config: ml_collections.ConfigDict) -> set_checks.Words:
  data = config.data
  crop, scale = _crop(data)
  if (
    len({tuple(own.data.image_size) for _, own in training_sets.of(config)}) > 1
  ):
    crop = None  # Sets of several sizes are cut by one.
  return set_checks.Words(
    mean=tuple(map(float, data.mean)),
    std=tuple(map(float, data.std)),
    batch_size=config.batch_size,
    image_size=tuple(data.image_size) if any(data.image_size) else None,
    crop=crop,
    scale=scale,
    transforms=tuple(data.transforms),
    weighted=config.loss.class_weights not in ("", "none"),
  )


def _crop(
  data: ml_collections.ConfigDict,
) -> tuple[tuple[int, int] | None, float]:
  """Returns what is cut of an image, and how much it is enlarged before.

  None where that cannot be larger than an image: it is resized to some size,
  or mirrored at its border.
  """
  scale = 1.0
  for name, parameters in data.transforms:
    if name == "resize" or parameters.get("short_side"):
      break
    if name == "random_scale":
      scale *= float(parameters.get("maximum", 2.0))
    if name == "random_crop":
      if parameters.get("boundary") == "reflect":
        break
      height, width = parameters["size"]
      margin = 2 * data.label_margin
      return (height - margin, width - margin), scale
  return None, 1.0


def _shown(looks: Iterable, total: int) -> Iterable:
  """Shows a bar on a terminal."""
  return tqdm.tqdm(
    looks,
    total=total,
    desc="check-data",
    unit="image",
    file=sys.stderr,
    disable=not sys.stderr.isatty(),
  )


def _require_writable(folder: pathlib.Path) -> None:
  """Raises InputError unless what is to be written is new, or its own."""
  outputs.make_folder(folder, "output")
  for name, is_own in ((_PAGE, _is_page), (_RECORD, _is_record)):
    path = folder / name
    try:
      own = not path.exists() or is_own(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
      own = False
    if not own:
      raise errors.InputError(
        f"--output: {path} exists and was not written by check-data; it was "
        "left as it is. Name another folder."
      )


def _is_page(content: str) -> bool:
  return f"<title>{data_page.TITLE}</title>" in content[:1000]


def _is_record(content: str) -> bool:
  record = json.loads(content)
  return isinstance(record, dict) and record.keys() == diagnosis.KEYS


def _write(path: pathlib.Path, content: str) -> None:
  """Writes a file in one move."""
  temporary = path.with_name(f".{path.name}-{os.getpid()}")
  try:
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)
  except OSError as error:
    temporary.unlink(missing_ok=True)
    raise errors.InputError(
      f"cannot write {path}: {error.strerror}; name another --output."
    ) from error
