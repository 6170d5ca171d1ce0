"""Reads damaged files of every kind, in a process with little memory.

  python -m tests.faults.damaged FOLDER

prints an object: for each kind how many files were "refused" in words, how many
gave the "same" and how many something "other"; and "faults", which should be
none: what was neither. A file that takes too long ends the process.
"""

import faulthandler
import json
import pathlib
import resource
import sys

import numpy as np

from fcnjax import errors
from tests.faults import bombs, mutations, targets

SECONDS = 20  # that a file may take
MEMORY = 1_500_000_000  # bytes of address space, besides those in use
FILES = 2000  # that are damaged


def main() -> None:
  """Damages and reads, and prints what came of it."""
  root = pathlib.Path(sys.argv[1])
  found = targets.create(root)
  for target in found:  # What is whole is read as it is.
    assert target.read() == "same", target
  counts = {target.kind: {} for target in found}
  faults = []
  size = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
  most = size * resource.getpagesize() + MEMORY
  resource.setrlimit(resource.RLIMIT_AS, (most, most))

  def tried(kind, what, read):
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
      outcome = read()
    except errors.InputError as error:
      outcome = "refused"
      if "\n" in str(error):
        faults.append([kind, what, f"several lines: {error}"])
    except Exception as error:
      outcome = "fault"
      faults.append([kind, what, f"{type(error).__name__}: {error}"[:300]])
    finally:
      faulthandler.cancel_dump_traceback_later()
    counts.setdefault(kind, {}).setdefault(outcome, 0)
    counts[kind][outcome] += 1

  random = np.random.default_rng(0)
  whole = sum(target.share for target in found)
  ends = np.cumsum([target.share for target in found]) / whole * FILES
  number = 0
  for target, end in zip(found, ends):
    data = target.file.read_bytes()
    while number < round(end):
      target.file.write_bytes(mutations.mutated(data, random))
      tried(target.kind, f"{target.file.name} {number}", target.read)
      number += 1
    target.file.write_bytes(data)
  for name, read in bombs.create(root):
    tried("bombs", name, read)
  print(json.dumps({**counts, "faults": faults}))


if __name__ == "__main__":
  main()
