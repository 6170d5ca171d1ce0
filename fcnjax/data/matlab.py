"""Whole numbers and words in MATLAB's .mat files (up to version 7)."""

import pathlib
from typing import Any
import zlib

from jaxtyping import Integer
import numpy as np
import scipy.io
import scipy.io.matlab

from fcnjax import errors

# What SciPy raises on a file that is damaged, of version 7.3, or no .mat file.
_BROKEN = (
  EOFError,
  IndexError,
  NotImplementedError,
  OSError,
  TypeError,
  ValueError,
  scipy.io.matlab.MatReadError,
  zlib.error,
)


def read_integers(
  path: str | pathlib.Path, *names: str
) -> Integer[np.ndarray, "h w"]:
  """Reads a matrix of whole numbers; MATLAB may have stored them as doubles.

  Args:
    path: a .mat file.
    names: of the variable, then of the fields that lead to the matrix: "S", or
      "GTcls", "Segmentation".

  Returns:
    The numbers, of the file's integer type, or int64 where they were floats.

  Raises:
    InputError: if the file is missing, damaged, or has no such matrix.
  """
  where = ".".join(names)
  found = _read(path, *names)
  if found is None or found.ndim != 2 or found.dtype.kind not in "biuf":
    raise errors.InputError(
      f"{path} has no matrix {where}; expected the masks of the data set."
    )
  if found.dtype.kind != "f":
    return found
  whole = np.rint(found)
  if not (np.isfinite(found).all() and (whole == found).all()):
    raise errors.InputError(
      f"{path}: {where} holds broken numbers; expected whole ones."
    )
  return whole.astype(np.int64)


def read_words(path: str | pathlib.Path, name: str) -> list[str]:
  """Reads a list of words: a cell array of strings, in MATLAB's words.

  Args:
    path: a .mat file.
    name: of the variable.

  Raises:
    InputError: if the file is missing, damaged, or has no such list.
  """
  found = _read(path, name)
  cells = [] if found is None or found.dtype.kind != "O" else found.ravel()
  if len(cells) == 0 or any(cell.dtype.kind != "U" for cell in cells):
    raise errors.InputError(
      f"{path} has no list of words {name}; expected the masks of the data set."
    )
  return ["".join(cell.ravel()) for cell in cells]


def _read(path: str | pathlib.Path, *names: str) -> Any:
  """Returns a variable, or a field below it; None where there is none.

  Raises:
    InputError: if the file is missing or damaged.
  """
  try:
    with pathlib.Path(path).open("rb") as file:
      found = scipy.io.loadmat(file, variable_names=[names[0]]).get(names[0])
    for name in names[1:]:
      fields = getattr(found, "dtype", np.dtype(int)).names or ()
      found = found[name].flat[0] if name in fields else None
  except FileNotFoundError as error:
    raise errors.InputError(f"{path} does not exist.") from error
  except _BROKEN as error:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    raise errors.InputError(
      f"{path} cannot be read: {reason}; the file is probably damaged, unpack"
      " it again."
    ) from error
  return found
