"""What keeping freed memory is worth on a CPU: with and without, by turns.

  python benchmarks/allocator.py

A train step of U-Net, and the upsampling of a map, each in processes of their
own, since the allocator cannot be set back.
"""

import json
import subprocess
import sys

import measure

SCRIPT = """
import functools, json, sys
import jax, jax.numpy as jnp, optax
import fcnjax
from fcnjax.ops import resizing
from fcnjax.training import host_memory, state, step
import measure
if sys.argv[1] == "kept":
  assert host_memory.keep_freed()
x = jnp.ones((2, 64, 64, 64))
upsample = jax.jit(lambda x: resizing.resize_bilinear(x, (256, 256)))
model = fcnjax.create_model("unet_same", num_classes=5)
image = jax.random.normal(jax.random.key(0), (2, 128, 128, 3))
label = jnp.zeros((2, 128, 128), jnp.int32)
optimizer = optax.sgd(0.01)
start = jax.jit(lambda: state.create(
  model.init(jax.random.key(0), image), optimizer, ema=False))()
train = jax.jit(functools.partial(
  step.train_step, apply=model.apply, optimizer=optimizer, seed=0))
batch = {"image": image, "label": label}
times = measure.interleaved({
  "bilinear x4 of 2x64x64x64": lambda: upsample(x),
  "train step of unet_same": lambda: train(start, batch),
}, rounds=5)
print(json.dumps({k: measure.median(v) for k, v in times.items()}))
"""


def main() -> None:
  """Measures three processes of each kind, and saves the medians."""
  times: dict[str, dict[str, list[float]]] = {}
  for _ in range(3):
    for kind in ("returned", "kept"):
      done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind],
        check=True,
        capture_output=True,
        text=True,
        cwd=measure.RESULTS.parent,
      )
      found = json.loads(done.stdout.splitlines()[-1])
      for what, seconds in found.items():
        times.setdefault(what, {}).setdefault(kind, []).append(seconds)
  results = measure.Results("allocator")
  for what, kinds in times.items():
    returned, kept = (measure.median(kinds[k]) for k in ("returned", "kept"))
    results.add(
      {
        "what": what,
        "returned_ms": 1e3 * returned,
        "kept_ms": 1e3 * kept,
        "ratio": returned / kept,
      }
    )
    print(
      f"{what:<30}{1e3 * returned:9.1f}{1e3 * kept:9.1f} ms  "
      f"{returned / kept:.2f} times as fast"
    )


if __name__ == "__main__":
  main()
