"""Freed memory that the process keeps."""

import subprocess
import sys

import pytest

# Page faults of touching 64 MB, twenty times, of a process that keeps or not.
SCRIPT = """
import ctypes, resource, sys
from fcnjax.training import host_memory
if sys.argv[1] == "kept" and not host_memory.keep_freed():
  sys.exit(3)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
for _ in range(20):
  place = libc.malloc(ctypes.c_size_t(2**26))
  ctypes.memset(place, 1, 2**26)
  libc.free(place)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _faults(script, kind):
  done = subprocess.run(
    [sys.executable, "-c", script, kind], capture_output=True, text=True
  )
  if done.returncode == 3:
    pytest.skip("not glibc, or an accelerator")
  assert not done.returncode, done.stderr
  return int(done.stdout)


# Page faults of copies of 16 MB by XLA, whose threads free what they do.
XLA = """
import resource, sys
from fcnjax.training import host_memory
import jax, jax.numpy as jnp
if sys.argv[1] == "kept" and not host_memory.keep_freed():
  sys.exit(3)
copy = jax.jit(lambda x: x + 1)
x = jnp.ones((2**22,))
def faults(times):
  for _ in range(times):
    copy(x).block_until_ready()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
seen = [faults(20) for _ in range(8)]
print(min(b - a for a, b in zip(seen, seen[1:])))
"""


def test_what_xla_frees_is_used_again():
  """Also by the threads that have, by default, an arena of their own."""
  pages = 2**24 // 4096
  returned, kept = _faults(XLA, "returned"), _faults(XLA, "kept")
  # Of the calmest twenty copies in a row: a late free asks for more only until
  # there is enough; huge pages would make both few.
  assert kept < returned / 2 or returned < pages


def test_what_is_freed_is_used_again():
  pages = 2**26 // 4096
  returned, kept = _faults(SCRIPT, "returned"), _faults(SCRIPT, "kept")
  # Every time again, or once; huge pages would make both few.
  assert kept < returned / 2 or returned < pages
