"""A process whose children save checkpoints until they are killed.

  python -m tests.faults.saving < JOBS

Each line of JOBS is an object: "folder", "plan" ([step, mean IoU or null] a
save), "size" (numbers of a state), and either "kill" (the call before which the
child kills itself, counted over all that change the file system) or "seconds"
(after which it is killed); with neither it saves to the end. Each line that is
printed is an object: "calls" (that were made; null if killed by time), "saved"
(the steps whose saving was waited for), "killed" and "seconds".

All children are forks of one process that has imported, but not used, JAX.
"""

import itertools
import json
import os
import pathlib
import signal
import sys
import time

import jax.numpy as jnp
import numpy as np

from fcnjax import checkpoints

KEEP = 1
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.link")


def state(step: int, size: int = 100) -> dict:
  """Returns what is saved as a step: arrays of several types and shapes."""
  random = np.random.default_rng(step)
  return {
    "step": jnp.int32(step),
    "params": {
      "kernel": jnp.asarray(random.normal(size=(size // 10, 10)), jnp.float32),
      "bias": jnp.asarray(random.normal(size=7), jnp.bfloat16),
    },
    "counts": jnp.asarray(random.integers(0, 99, size=3), jnp.uint8),
  }


def main() -> None:
  """Reads jobs, and prints what came of each."""
  for line in sys.stdin:
    print(json.dumps(_done(**json.loads(line))), flush=True)


def _done(
  folder: str,
  plan: list,
  size: int = 100,
  kill: int | None = None,
  seconds: float | None = None,
) -> dict:
  """Forks a child that follows a plan; returns how far it came."""
  reading, writing = os.pipe()
  child = os.fork()
  if not child:
    os.close(reading)
    _work(pathlib.Path(folder), plan, size, kill, writing)
    os._exit(0)
  os.close(writing)
  with os.fdopen(reading) as told:
    words = iter(told.readline, "")
    next(words)  # It is ready.
    began = time.perf_counter()
    if seconds is not None:
      time.sleep(seconds)
      os.kill(child, signal.SIGKILL)
    saved, calls = [], None
    for word in words:
      key, value = word.split()
      if key == "saved":
        saved.append(int(value))
      else:
        calls = int(value)
  _, status = os.waitpid(child, 0)
  assert status in (0, signal.SIGKILL), status
  return {
    "calls": calls,
    "saved": saved,
    "killed": status != 0,
    "seconds": time.perf_counter() - began,
  }


def _work(folder, plan, size, kill, writing) -> None:
  def tell(*words):
    os.write(writing, f"{' '.join(map(str, words))}\n".encode())

  counter = itertools.count(1)
  _count(folder, counter, kill)
  tell("ready")
  saved = checkpoints.Checkpoints(folder, keep=KEEP)
  for step, score in plan:
    saved.save(step, state(step, size), mean_iou=score)
    saved.wait()
    tell("saved", step)
  saved.close()
  tell("calls", next(counter) - 1)


def _count(folder: pathlib.Path, counter, kill: int | None) -> None:
  """Counts the calls that change what lies in a folder; at one, kills."""

  def call():
    if next(counter) == kill:
      os.kill(os.getpid(), signal.SIGKILL)

  def hook(event, arguments):
    if event == "open":
      path, _, flags = arguments
      changes = bool(flags & _WRITES)
    else:
      path, changes = arguments[0] if arguments else "", event in _CHANGES
    # `shutil.rmtree` names what it removes from within.
    if changes and (str(folder) in str(path) or not os.path.isabs(str(path))):
      call()

  sys.addaudithook(hook)


if __name__ == "__main__":
  main()
