"""How soon one can begin: import, a model, the first step, the first again.

  python benchmarks/startup.py

Every time is of a fresh process, taken inside of it from its first line on; the
first step is that of configs/unet.py, with an empty cache of compiled programs
and with the one that such a process has left.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

# The processes that are measured need the device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import measure  # noqa: E402

IMPORT = """
import time
start = time.perf_counter()
import fcnjax
print(time.perf_counter() - start)
"""

CREATE = """
import time
start = time.perf_counter()
import fcnjax
fcnjax.create_model("unet_same", num_classes=9)
print(time.perf_counter() - start)
"""

STEP = """
import time
start = time.perf_counter()
import functools, json, sys
import jax
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
import numpy as np
import fcnjax
from fcnjax.training import optimizers, state as states, step

model = fcnjax.create_model(
  "unet_same", num_classes=9, width=16, norm="batch", dropout=0.0
)
batch = {
  "image": np.zeros((8, 96, 96, 3), np.float32),
  "label": np.zeros((8, 96, 96), np.int32),
}

@jax.jit
def create(key, image):
  variables = model.init(key, image)
  return states.create(variables, optimizer(variables["params"]))

def optimizer(params):
  return optimizers.adamw(3e-3, params, weight_decay=1e-4)

shapes = jax.eval_shape(model.init, jax.random.key(0), batch["image"])
train_step = functools.partial(
  step.train_step,
  apply=model.apply,
  optimizer=optimizer(shapes["params"]),
  seed=0,
)
state = jax.block_until_ready(create(jax.random.key(0), batch["image"]))
before = time.perf_counter()
state, metrics = jax.jit(train_step, donate_argnums=0)(state, batch)
jax.block_until_ready((state, metrics))
end = time.perf_counter()
print(json.dumps({"whole": end - start, "step": end - before}))
"""


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--runs", type=int, default=5, help="of each import")
  parser.add_argument(
    "--steps", type=int, default=3, help="first steps of each"
  )
  arguments = parser.parse_args()
  began = time.perf_counter()
  results = measure.Results("startup")

  def add(what, times, **more):
    seconds = measure.median(times)
    results.add({"what": what, "seconds": seconds, "times": times, **more})
    ratio = f"{more['ratio']:8.2f} times sooner" if "ratio" in more else ""
    print(f"{what:48}{seconds:8.2f} s{ratio}", flush=True)
    return seconds

  for what, code in (
    ("import fcnjax", IMPORT),
    ("import and create_model", CREATE),
  ):
    # The first fills the cache of files and of byte code.
    _run(code)
    add(what, [float(_run(code)) for _ in range(arguments.runs)])
  found = {"empty": [], "warm": []}
  for _ in range(arguments.steps):
    with tempfile.TemporaryDirectory() as cache:
      for kind in found:
        found[kind].append(json.loads(_run(STEP, cache)))
  for key, what in (
    ("step", "first train step"),
    ("whole", "start to end of first step"),
  ):
    cold = [run[key] for run in found["empty"]]
    warm = [run[key] for run in found["warm"]]
    before = add(f"{what}, empty cache", cold)
    ratio = before / measure.median(warm)
    add(f"{what}, warm cache", warm, ratio=ratio)
  print(f"{time.perf_counter() - began:.0f} s, {results.path}")


def _run(code: str, *arguments: str) -> str:
  """Returns what a fresh process prints last."""
  process = subprocess.run(
    [sys.executable, "-c", code, *arguments],
    check=True,
    capture_output=True,
    text=True,
  )
  return process.stdout.splitlines()[-1]


if __name__ == "__main__":
  main()
