"""What a pipeline holds does not grow with the steps it has made."""

import gc
import os
import pathlib

import numpy as np

from fcnjax.data import order as orders, pipeline, reading

MIXING = (("cut_mix", {}), ("mosaic", {}))


class Source:
  names = tuple(map(str, range(50)))

  def __len__(self):
    return 50

  def __getitem__(self, index):
    # As much as a file would give: what is kept of it would be seen.
    return {
      "image": np.full((64, 64, 3), index, np.uint8),
      "label": np.zeros((64, 64), np.uint8),
    }


def resident_mb():
  gc.collect()
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_memory_is_flat():
  """Each 300 steps make 79 MB of examples."""
  counts = np.eye(5, dtype=int)[np.arange(50) % 5]
  stream = pipeline.training_batches(
    reading.Reader(Source(), seed=0, order=orders.class_balanced(counts, 0)),
    batch_size=16,
    mixing=MIXING,
  )
  sizes = []
  for step in range(500):
    next(stream)
    if step % 100 == 99:
      sizes.append(resident_mb())
  stream.close()
  assert max(sizes[2:]) - sizes[1] < 10, sizes
