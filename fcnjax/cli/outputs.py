"""The folders that commands write to: whether they can be, said in one way."""

import os
import pathlib

from fcnjax import errors


def refuse_file(path: pathlib.Path, word: str) -> None:
  """Looks whether a folder is there, or could be made; makes none.

  Args:
    path: what should be a folder.
    word: of the command line that it comes from, as "output".

  Raises:
    InputError: if a file is in its place, or in that of a folder above it.
  """
  for found in (path, *path.parents):
    if os.path.isdir(found):
      return
    if os.path.exists(found):
      raise errors.InputError(
        f"--{word}: {path}: expected a folder, but {found} is a file; give "
        "another."
      )


def make_folder(path: pathlib.Path, word: str) -> None:
  """Makes the folder if it is missing.

  Only that tells whether it can be; what is written to see it is removed.

  Args:
    path: of the folder.
    word: of the command line that it comes from, as "output".

  Raises:
    InputError: if it cannot be made or written to.
    OSError: if the disk is full, for which another folder is no remedy.
  """
  refuse_file(path, word)
  try:
    path.mkdir(parents=True, exist_ok=True)
    probe = path / f".probe-{os.getpid()}"
    probe.touch()
    probe.unlink()
  except OSError as error:
    if error.errno in errors.FULL:
      raise
    raise errors.InputError(
      f"--{word}: {path} cannot be written ({error.strerror}); give a folder "
      "that you own."
    ) from error
