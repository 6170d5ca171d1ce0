"""What is told to the user in one line, and the exit code it means."""

import errno

# What a disk, not the program or what it was given, is to blame for; the
# commands end with one line and exit code 1.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OF_THE_DISK = (*FULL, errno.EROFS, errno.EIO)


class InputError(ValueError):
  """The user's input is wrong: a path, a file, a mask, a config word.

  The message is one line that says what was got, what was expected and what
  to do. The commands print it and exit with code 2; nothing was overwritten.

  Attributes:
    everywhere: whether all processes of a run raise it; the first one says it.
  """

  code = 2
  everywhere = False


class Stopped(RuntimeError):  # noqa: N818
  """A run ended before its last step; its checkpoints are as they were.

  The message is one line that says why, and what to do. The commands print it
  and exit with `code`.

  Attributes:
    everywhere: whether all processes of a run raise it; the first one says it.
  """

  code = 1
  everywhere = False


class Terminated(Stopped):
  """Someone stopped the run, whose state was saved: start it again.

  Exit code 75 says "try again later" to schedulers (EX_TEMPFAIL of sysexits.h):
  the same command resumes.
  """

  code = 75
  everywhere = True
