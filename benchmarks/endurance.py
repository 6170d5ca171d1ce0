"""Training for long: whether it waits for batches, and whether memory grows.

  python benchmarks/endurance.py [--files 5000] [--epochs 3]
  python benchmarks/endurance.py --many-steps [--steps 100000]

The first trains on many files, on a device that takes 50 ms a step and nothing
of the processor: the share of the time in which it waits for batches, and the
memory of the process after each epoch. The second makes many steps on few and
small files, with mixing and class balance, as fast as they can be made, for the
memory alone.
"""

import argparse
from concurrent import futures
import contextlib
import json
import os
import pathlib
import tempfile
import time

import measure
import numpy as np
import photographs


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--files", type=int, default=5000)
  parser.add_argument("--epochs", type=int, default=3)
  parser.add_argument("--many-steps", action="store_true")
  parser.add_argument(
    "--steps", type=int, default=100_000, help="of --many-steps"
  )
  arguments = parser.parse_args()
  if arguments.many_steps:
    many_steps(arguments.steps)
  else:
    endurance(arguments.files, arguments.epochs)


def endurance(files: int, epochs: int) -> None:
  """Trains on many files, and writes waiting and memory of each epoch."""
  results = measure.Results("endurance", files=files, step_ms=50, batch_size=2)
  with tempfile.TemporaryDirectory() as folder:
    photographs.write(pathlib.Path(folder), files, (300, 400))
    steps = files // 2
    training(
      pathlib.Path(folder),
      lambda row: results.add({"epoch": row.pop("step") // steps, **row}),
      size=(256, 256),
      step_seconds=0.05,
      steps=epochs * steps,
      every=steps,
      batch_size=2,
    )


def many_steps(steps: int) -> None:
  """Trains for many steps, and writes the memory ten times."""
  results = measure.Results("many_steps", batch_size=2, size=(32, 32))
  with tempfile.TemporaryDirectory() as folder:
    photographs.write(pathlib.Path(folder), 200, (100, 100))
    training(
      pathlib.Path(folder),
      results.add,
      size=(32, 32),
      step_seconds=0.0,
      steps=steps,
      every=steps // 10,
      batch_size=2,
      sampling="class_balanced",
      mixing=(("cut_mix", {}), ("mosaic", {})),
    )


def training(
  folder, add, *, size, step_seconds, steps, every, batch_size, **data_words
):
  """Trains on a device that only takes time, and adds a row every so often."""
  from fcnjax.cli import batches as batches_lib, defaults, open_data
  from fcnjax.training import loop, sharding, state as states

  config = defaults.get_config()
  config.batch_size = batch_size
  config.data.update(
    source="folder",
    images=str(folder / "images"),
    masks=str(folder / "masks"),
    num_classes=21,
    val_fraction=0.001,
    mean=photographs.MEAN,
    std=(58.0,),
    transforms=(
      ("random_scale", {"minimum": 0.75, "maximum": 1.5}),
      ("random_crop", {"size": size}),
      ("flip", {}),
      ("photometric", {}),
    ),
    **data_words,
  )
  mesh = sharding.create_mesh(batch_size=batch_size)
  train = open_data.source(config, "train")
  made = batches_lib.create(config, train, mesh, path="tf.data")

  class Writer:
    def write(self, step, split, figures):
      row = {
        "step": step,
        "data_wait_share": figures["data_wait"],
        "images_per_second": figures["images_per_second"],
        "memory_mb": resident_mb(),
      }
      print(json.dumps(row), flush=True)
      add(row)

  class Progress:
    def step(self):
      pass

    def figures(self, step, figures):
      pass

  class Later:
    """A number that is there when the device has ended its step."""

    def __init__(self, value, step):
      self.value, self.step = value, step

    def block_until_ready(self):
      self.step.result()

    def __array__(self, dtype=None, copy=None):
      self.step.result()
      return np.asarray(self.value, dtype)

  device = futures.ThreadPoolExecutor(1)  # One step after the other.

  def train_step(state, batch):
    # As jax does: it returns at once.
    step = device.submit(time.sleep, step_seconds)
    figures = {"loss": 0.0, "gradient_norm": 0.0, "finite": True}
    figures = {name: Later(value, step) for name, value in figures.items()}
    return state.replace(step=state.step + 1), figures

  start = states.TrainState(
    step=0, params={}, collections={}, opt_state={}, scale=1.0, skipped=0
  )
  with device, contextlib.closing(made.start(0)) as batches:
    loop.fit(
      start,
      train_step,
      batches,
      mesh=mesh,
      steps=steps,
      batch_size=batch_size,
      log_every=every,
      eval_every=10**9,
      checkpoint_every=10**9,
      writer=Writer(),
      progress=Progress(),
      evaluate=lambda state, step, check: {},
      save=lambda step, state, figures: None,
      non_finite=lambda step, figures: None,
    )


def resident_mb() -> float:
  """Returns the memory that this process holds."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


if __name__ == "__main__":
  main()
