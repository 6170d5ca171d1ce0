"""Images a second: tf.data on the host against the device that trains.

  python benchmarks/pipeline.py [--seconds 120] [--workers 2]

Two augmentations over synthetic images in memory, so that no decoding is
measured: U-Net's over grey 512x512 slices (elastic, flip, crops of 256x256),
and the one of CamVid's configs over 360x480 (scale, crop, flip, photometric).
What tf.data makes is moved to the device too. Without TensorFlow there are the
rows of the resident path alone. Ends after --seconds, and is saved row by row
in benchmarks/results/.
"""

import argparse
import functools
import importlib.util
import time

import jax
import measure
import numpy as np

from fcnjax.data import normalization, reading, resident
from fcnjax.training import host_memory

CASES = {
  "unet": {
    "size": (512, 512),
    "channels": 1,
    "count": 24,
    "transforms": (
      ("elastic", {}),
      ("flip", {"vertical": True}),
      ("random_crop", {"size": (256, 256)}),
    ),
  },
  "camvid": {
    "size": (360, 480),
    "channels": 3,
    "count": 48,
    "transforms": (
      ("random_scale", {"minimum": 0.8, "maximum": 1.25}),
      ("random_crop", {"size": (360, 480)}),
      ("flip", {}),
      ("photometric", {}),
    ),
  },
}


class Noise:
  """`count` images of noise, with labels, in memory."""

  def __init__(self, *, size, channels, count):
    rng = np.random.default_rng(0)
    self.names = [str(i) for i in range(count)]
    self.images = rng.integers(0, 256, (count, *size, channels), np.uint8)
    self.labels = rng.integers(0, 11, (count, *size), np.uint8)

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    return {"image": self.images[index], "label": self.labels[index]}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seconds", type=float, default=120)
  parser.add_argument("--workers", type=int, default=2, help="of tf.data")
  parser.add_argument("--batch-size", type=int, default=8)
  arguments = parser.parse_args()
  host_memory.keep_freed()  # As the commands do, for torch too.
  results = measure.Results(
    "pipeline", workers=arguments.workers, batch_size=arguments.batch_size
  )
  for name, case in CASES.items():
    for row in compare(name, dict(case), arguments):
      results.add(row)
      print("  ".join(f"{key} {value}" for key, value in row.items()))


def compare(name, case, arguments):
  """Yields the rows of one augmentation; their batches take turns."""
  words = {
    "batch_size": arguments.batch_size,
    "transforms": case.pop("transforms"),
    "mean": 125.0,
  }
  source = Noise(**case)
  held = resident.Resident(reading.Reader(source, seed=0), std=52.0, **words)
  streams = {"resident": held.batches()}
  if importlib.util.find_spec("tensorflow"):
    from fcnjax.data import pipeline

    normalized = jax.jit(
      functools.partial(normalization.normalized, mean=125.0, std=52.0)
    )
    made = pipeline.training_batches(
      reading.Reader(source, seed=0),
      workers=arguments.workers,
      prefetch=1,
      **words,
    )
    streams["tf.data"] = (normalized(jax.device_put(b)) for b in made)
  # Ten batches in a row, so that what tf.data made ahead while the others had
  # their turn is little.
  functions = {
    path: lambda stream=stream: [
      jax.device_put(next(stream)) for _ in range(10)
    ]
    for path, stream in streams.items()
  }
  times = measure.interleaved(
    functions, rounds=9, budget=arguments.seconds / len(CASES)
  )
  for path, seconds in times.items():
    images = 10 * arguments.batch_size / measure.median(seconds)
    yield {
      "augmentation": name,
      "path": path,
      "images_per_second": round(images, 1),
      "rounds": len(seconds),
    }
  for stream in streams.values():
    stream.close()


if __name__ == "__main__":
  start = time.perf_counter()
  main()
  print(f"{time.perf_counter() - start:.0f} s")
