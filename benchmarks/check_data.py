"""How long `fcnjax check-data` takes over many files.

  python benchmarks/check_data.py [--files 10000]

The command runs in a process of its own, from start to end, over generated
photographs (JPEG of 240x320 pixels, and PNG masks), a tenth of them for
validation. The processor's time counts all of its threads, and tells the same
where others use the machine, too.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import measure
import photographs

SIZE = (240, 320)
CLASSES = 21


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--files", type=int, default=10_000)
  files = parser.parse_args().files
  results = measure.Results("check_data", size=SIZE)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    photographs.write(folder, files, SIZE)
    row = check(folder, files)
  results.add(row)
  print("  ".join(f"{key} {value}" for key, value in row.items()))
  print(results.path)


def check(folder: pathlib.Path, files: int) -> dict[str, float | int]:
  """Returns the row of one run of the command.

  Raises:
    CalledProcessError: if the command finds an error, or fails.
  """
  command = [
    *(sys.executable, "-m", "fcnjax", "check-data"),
    "--config=configs/unet.py:folder",
    f"--config.data.images={folder / 'images'}",
    f"--config.data.masks={folder / 'masks'}",
    f"--config.data.num_classes={CLASSES}",
    "--config.data.val_fraction=0.1",
    "--config.data.transforms=()",
  ]
  start = time.perf_counter()
  subprocess.run(
    command,
    check=True,
    cwd=pathlib.Path(__file__).resolve().parents[1],
    stdout=subprocess.DEVNULL,
  )
  seconds = time.perf_counter() - start
  used = resource.getrusage(resource.RUSAGE_CHILDREN)  # there was one only
  core_seconds = used.ru_utime + used.ru_stime
  return {
    "images": files,
    "threads": len(os.sched_getaffinity(0)),  # as the command takes them
    "seconds": seconds,
    "images_per_second": files / seconds,
    "core_seconds": core_seconds,
    "core_ms": 1000 * core_seconds / files,
    "peak_mb": used.ru_maxrss / 1000,
  }


if __name__ == "__main__":
  main()
