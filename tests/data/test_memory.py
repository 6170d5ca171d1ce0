"""What a pipeline holds does not grow with the steps it has made."""

import gc
import os
import pathlib

import numpy as np

from fcnjax.data import order as orders, pipeline, reading

MIXING = (("cut_mix", {}), ("mosaic", {}))
WARM_UP, STEPS = 200, 800
MOST = 50  # MB that 10^5 steps may add: 500 bytes each


class Source:
  names = tuple(map(str, range(50)))

  def __len__(self):
    return 50

  def __getitem__(self, index):
    # New arrays, as of a file: if one a step were kept, it would be seen.
    return {
      "image": np.full((4, 4, 3), index, np.uint8),
      "label": np.zeros((4, 4), np.uint8),
    }


def resident_mb():
  gc.collect()
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_memory_is_flat():
  """Of 10^5 steps, by what 800 add once all that is kept is there."""
  counts = np.eye(5, dtype=int)[np.arange(50) % 5]
  order = orders.class_balanced(counts, 0, streams=5)
  stream = pipeline.training_batches(
    reading.Reader(Source(), seed=0, order=order),
    batch_size=1,
    mixing=MIXING,
  )
  sizes = []
  for step in range(WARM_UP + STEPS):
    next(stream)
    if step >= WARM_UP and step % 25 == 24:
      sizes.append(resident_mb())
  stream.close()
  # Medians, for what an allocator takes at once is no growth.
  third = len(sizes) // 3
  grown = np.median(sizes[-third:]) - np.median(sizes[:third])
  per_step = grown / (25 * (len(sizes) - third))
  assert 1e5 * per_step < MOST, sizes
