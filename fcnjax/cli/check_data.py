"""fcnjax check-data: what is wrong with images and masks, in words."""

from collections.abc import Iterable
import dataclasses
import json
import pathlib
import sys

import ml_collections
import tqdm

from fcnjax import errors
from fcnjax.cli import open_data
from fcnjax.data import findings
from fcnjax.data.checking import diagnosis, set_checks


def run(
  config: ml_collections.ConfigDict, output: str | None = None
) -> diagnosis.Diagnosis:
  """Checks every split that the config names and prints what it finds.

  Args:
    config: as for training.
    output: a folder for the page (index.html) and check.json; made if it does
      not exist.

  Raises:
    InputError: if nothing can be opened, or the folder cannot be written to;
      and after everything was printed, if training would be wrong.
  """
  if output is not None:
    _writable(pathlib.Path(output))
  told: list[findings.Finding] = []
  sources = {}

  def tell(finding: findings.Finding) -> None:
    # Splits of one folder have its faults in common.
    known = {(before.code, before.message) for before in told}
    if (finding.code, finding.message) not in known:
      told.append(dataclasses.replace(finding, splits=(which,)))

  for which, word in open_data.SPLITS.items():
    if not config.data[word]:
      continue
    try:
      sources[which] = open_data.source(config, which, tell=tell)
    except errors.InputError as error:
      if not told and not sources:
        raise
      told.append(
        findings.Finding(
          code="cannot_open",
          severity="error",
          message=str(error),
          splits=(which,),
        )
      )
  found = diagnosis.examine(
    sources, words=_words(config), told=told, progress=_shown
  )
  print(diagnosis.text(found), end="")
  if output is not None:
    from fcnjax.report import data_page

    folder = pathlib.Path(output)
    _write(folder / "check.json", json.dumps(diagnosis.record(found), indent=2))
    _write(folder / "index.html", data_page.document(found))
    print(f"\nThe page: {folder / 'index.html'}")
  diagnosis.require(found)
  return found


def _words(config: ml_collections.ConfigDict) -> set_checks.Words:
  data = config.data
  crop, scale = _crop(data)
  return set_checks.Words(
    mean=tuple(map(float, data.mean)),
    std=tuple(map(float, data.std)),
    batch_size=config.batch_size,
    image_size=tuple(data.image_size) if any(data.image_size) else None,
    crop=crop,
    scale=scale,
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


def _writable(folder: pathlib.Path) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.InputError(
      f"--output={folder}: {error.strerror}; name a folder that can be made."
    ) from error


def _write(path: pathlib.Path, content: str) -> None:
  try:
    path.write_text(content, encoding="utf-8")
  except OSError as error:
    raise errors.InputError(
      f"cannot write {path}: {error.strerror}; name another --output."
    ) from error
