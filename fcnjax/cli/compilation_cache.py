"""What was compiled is kept on disk, so that the next start is quick."""

import hashlib
import os
import pathlib
import platform
import time

import jax
import jaxlib

_KEPT = 30 * 24 * 3600.0  # seconds
# Seconds that a compilation must take to be worth a file.
_WORTH_KEEPING = 0.1


def enable() -> pathlib.Path | None:
  """Tells JAX where to keep compiled programs, unless the user did.

  They lie below `$XDG_CACHE_HOME/fcnjax`, or `~/.cache/fcnjax`, in a folder for
  each kind of machine: JAX's key does not name the instructions of a CPU, and
  a program of another one may end in an illegal instruction. What is older than
  a month is deleted. `JAX_COMPILATION_CACHE_DIR` is another folder, or none if
  it is empty.

  Returns:
    The folder, or None where there is none: switched off, or not writable.
  """
  wanted = os.environ.get("JAX_COMPILATION_CACHE_DIR")
  if wanted is not None:
    return pathlib.Path(wanted) if wanted else None
  try:
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    root = pathlib.Path(root) / "fcnjax" / "compiled"
    folder = root / _machine()
    # Whoever may write there may run programs here.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
      return None
    _forget(root)
  except (OSError, RuntimeError):  # RuntimeError: no home.
    return None
  jax.config.update("jax_compilation_cache_dir", str(folder))
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update(
      "jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING
    )
  return folder


def _machine() -> str:
  """Returns a name of the processor, its instructions, and JAX's version."""
  words = [platform.machine(), platform.processor(), str(os.cpu_count())]
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:  # Not on Linux.
    lines = []
  # On x86 and on ARM.
  names = ("model name", "flags", "CPU part", "Features")
  words += sorted({line for line in lines if line.startswith(names)})
  digest = hashlib.sha256("\n".join(words).encode()).hexdigest()
  return f"jaxlib-{jaxlib.__version__}-{digest[:12]}"


def _forget(root: pathlib.Path) -> None:
  """Deletes programs that were compiled a month ago, of any machine."""
  limit = time.time() - _KEPT
  for file in root.glob("*/*-cache"):
    try:
      if file.stat().st_mtime < limit:
        file.unlink()
    except OSError:  # Another process was quicker.
      pass
