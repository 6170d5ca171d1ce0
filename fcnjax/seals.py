"""A seal: what a folder held when it was complete.

A file system can lose the end of a file, and a disk a bit, without a word. So
whoever completes a folder writes down every file's size and SHA-256, and
whoever reads it can tell whether it is what was written.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

NAME = "seal.json"


class BrokenError(ValueError):
  """A folder is not as it was sealed; the message says what is wrong."""


def write(folder: pathlib.Path, facts: dict[str, Any]) -> None:
  """Seals a folder; afterwards none of its files may change.

  What is sealed outlasts a power failure, but for the folder's own name.

  Args:
    folder: with all its files.
    facts: JSON values that are kept, and protected, with the seal.
  """
  paths = [p for p in sorted(folder.rglob("*")) if p != folder / NAME]
  for path in paths:
    sync(path)
  files = {
    path.relative_to(folder).as_posix(): _measured(path)
    for path in paths
    if path.is_file()
  }
  body = {"facts": facts, "files": files}
  with (folder / NAME).open("w") as file:
    json.dump(body | {"sha256": _of(body)}, file, indent=1)
  sync(folder / NAME)
  sync(folder)


def sync(path: pathlib.Path) -> None:
  """Makes a file, or the names in a folder, outlast a power failure."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def read(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the facts of a sealed folder; looks at the seal alone.

  Raises:
    BrokenError: if there is no seal, or it was changed.
  """
  return _body(folder)["facts"]


def check(folder: pathlib.Path) -> None:
  """Reads every file of a sealed folder.

  Raises:
    BrokenError: if one is missing or changed; names it.
  """
  for name, wanted in _body(folder)["files"].items():
    try:
      found = _measured(folder / name)
    except OSError as error:
      raise BrokenError(f"{name}: {error.strerror}") from error
    if found["bytes"] != wanted["bytes"]:
      raise BrokenError(
        f"{name} has {found['bytes']} bytes where {wanted['bytes']} were "
        "written"
      )
    if found != wanted:
      raise BrokenError(f"{name} is not what was written (SHA-256)")


def _measured(path: pathlib.Path) -> dict[str, Any]:
  with path.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": file.tell(), "sha256": digest}


def _of(body: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _body(folder: pathlib.Path) -> dict[str, Any]:
  try:
    body = json.loads((folder / NAME).read_bytes())
    digest = body.pop("sha256")
    if digest == _of(body):
      return body
  except FileNotFoundError as error:
    raise BrokenError(f"it has no {NAME}") from error
  except (OSError, ValueError, AttributeError, KeyError, TypeError,
          RecursionError) as error:  # fmt: skip
    raise BrokenError(f"{NAME} cannot be read") from error
  raise BrokenError(f"{NAME} is not what was written (SHA-256)")
