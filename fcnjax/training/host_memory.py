"""How the C library's allocator treats the large arrays of a CPU."""

import ctypes
import pathlib
import platform

# What a GPU's or TPU's driver shows below /dev.
_ACCELERATORS = ("nvidia[0-9]*", "kfd", "accel[0-9]*", "vfio/[0-9]*")

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> bool:
  """Makes the process keep what it frees, and use it again.

  XLA allocates its buffers anew in each step on a CPU. glibc asks the system
  for every one of more than 32 MB and gives it back at once, so that each step
  begins with pages that the system has to clear, which may take longer than
  the step's own work (benchmarks/allocator.py, docs/performance.md). The
  process then stays as large as it ever was. To be called before there are
  threads: those that have an arena of their own keep it. Where there is an
  accelerator, used or not, the host's threads rather need their arenas: nothing
  is done.

  Returns:
    Whether that was done: under glibc only, and without an accelerator.
  """
  devices = pathlib.Path("/dev")
  accelerated = any(any(devices.glob(names)) for names in _ACCELERATORS)
  if accelerated or platform.libc_ver()[0] != "glibc":
    return False
  libc = ctypes.CDLL(None)
  return all(
    libc.mallopt(option, value)
    for option, value in (
      # A thread's own arena gives back each heap that is empty, whatever else
      # is said; there must be none but the first.
      (_M_ARENA_MAX, 1),
      (_M_MMAP_MAX, 0),
      (_M_TRIM_THRESHOLD, 2**31 - 1),
      (_M_TOP_PAD, 64 * 2**20),
    )
  )
