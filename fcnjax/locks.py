"""A folder that one process at a time may write to."""

from collections.abc import Iterator
import contextlib
import fcntl
import os
import pathlib

from fcnjax import errors


@contextlib.contextmanager
def locked(folder: pathlib.Path, refusal: str) -> Iterator[None]:
  """Keeps others who ask for the same lock out, within the process as well.

  The lock is on the folder itself, so that no file is left behind, and ends
  with the process, however that ends. Where the file system knows no locks,
  there is none.

  Args:
    folder: is there already; need not be writable.
    refusal: what is said if another one holds the lock.

  Raises:
    InputError: if another one does.
    OSError: if there is no such folder.
  """
  descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise errors.InputError(refusal) from error
    except OSError:
      pass
    yield
  finally:
    os.close(descriptor)
