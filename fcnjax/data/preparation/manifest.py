"""fcnjax.json: what is known about a prepared data set, beside its shards.

Needs neither TensorFlow nor TFDS. It is written last: a folder without it is
no whole data set.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

from fcnjax import errors

NAME = "fcnjax.json"
UNFINISHED = ".unfinished"  # folder of what is being written
VERSION = "1.0.0"  # of the data sets, as TFDS counts: folder NAME/VERSION
_FORMAT = 1  # of the file


def directory(
  root: str | os.PathLike[str], name: str, extra: str | None = None
) -> pathlib.Path:
  """Returns where a data set of a card is prepared.

  Args:
    root: what prepare was given as --data-dir.
    name: of the card.
    extra: the word of what stands in for its images, such as "hha"; or None.
  """
  folder = f"{name}_{extra}" if extra else name
  return pathlib.Path(root) / folder / VERSION


def is_finished(directory: str | os.PathLike[str]) -> bool:
  """Whether the folder holds a whole prepared data set."""
  return (pathlib.Path(directory) / NAME).is_file()


def read(directory: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns what `write` was given.

  Raises:
    InputError: if there is no whole data set, or one of a later version.
  """
  directory = pathlib.Path(directory)
  try:
    known = json.loads((directory / NAME).read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    begun = (directory / UNFINISHED).is_dir()
    raise errors.InputError(
      f"{directory} is not prepared wholly; run its command again, it goes on."
      if begun
      else f"no prepared data set in {str(directory)!r}; fcnjax prepare-folder"
      " --output DIR and fcnjax prepare NAME --data-dir DIR write one."
    ) from error
  except (OSError, ValueError, RecursionError) as error:
    raise errors.InputError(
      f"{directory / NAME} cannot be read ({error}); copy it again."
    ) from error
  if not isinstance(known, dict) or known.get("format") != _FORMAT:
    found = known.get("format") if isinstance(known, dict) else None
    raise errors.InputError(
      f"{directory} has the form {found}, this version of fcnjax"
      f" reads {_FORMAT}; prepare it anew in another folder."
    )
  # Those of earlier versions have none.
  if known.pop("sha256", None) not in (None, _digest(known)):
    raise errors.InputError(
      f"{directory / NAME} is not what was written (SHA-256); copy it again."
    )
  return known


def require_whole(
  directory: str | os.PathLike[str], known: dict[str, Any], split: str
) -> None:
  """Compares the sizes of a split's shards with those that were written.

  Args:
    directory: as for `read`.
    known: what `read` has returned.
    split: one of its splits.

  Raises:
    InputError: if a shard is missing or has another size.
  """
  for shard in known["splits"][split]["shards"]:
    file = pathlib.Path(directory) / shard["file"]
    size = file.stat().st_size if file.is_file() else 0
    if size != shard["bytes"]:
      raise errors.InputError(
        f"{file} has {size} bytes, expected {shard['bytes']}: a part of the"
        " data set is missing or damaged; copy it again, or remove the folder"
        " and prepare it anew."
      )


def write(directory: pathlib.Path, known: dict[str, Any]) -> None:
  """Writes the file, which appears whole."""
  body = {"format": _FORMAT, **known}
  body["sha256"] = _digest(body)
  text = json.dumps(body, indent=1, ensure_ascii=False)
  write_whole(directory / NAME, text + "\n")


def _digest(body: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def write_whole(path: pathlib.Path, text: str) -> None:
  """Writes a text file that is either whole or not there, come what may."""
  part = path.with_name(f"{path.name}.{os.getpid()}.part")
  with part.open("w", encoding="utf-8") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  part.replace(path)
