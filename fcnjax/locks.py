"""A folder that one process at a time may write to."""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
import pathlib
import sys

from fcnjax import errors

# Is left behind, empty: whoever removed it might remove another one's.
NAME = ".lock"


@contextlib.contextmanager
def locked(folder: pathlib.Path, refusal: str) -> Iterator[None]:
  """Keeps others who ask for the same lock out, within the process as well.

  The lock ends with the process, however that ends. It is on a file that is
  open for writing: NFS asks for that, and then keeps out other machines, too.
  Where the file system knows no locks there is none, and that is said.

  Args:
    folder: is there already; need not be writable.
    refusal: what is said if another one holds the lock.

  Raises:
    InputError: if another one does.
    OSError: if there is no such folder, or the disk is full.
  """
  descriptor = _opened(folder)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise errors.InputError(refusal) from error
    except OSError as error:
      print(
        f"fcnjax: {folder} cannot be locked ({error.strerror}); see to it that "
        "nothing else writes there meanwhile.",
        file=sys.stderr,
      )
    yield
  finally:
    os.close(descriptor)


def _opened(folder: pathlib.Path) -> int:
  """Returns a descriptor of the file, or of a folder that nobody writes to."""
  try:
    return os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
  except OSError as error:
    if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
      raise
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
