"""Dense prediction against patch by patch: the claim of the FCN paper.

  python benchmarks/patches.py

Long, Shelhamer and Darrell 2015, section 3.1: AlexNet classifies an image of
227x227 in 1.2 ms and, as a convolution, gives a grid of 10x10 scores of an
image of 500x500 in 22 ms, "more than 5 times faster than the naive approach",
which is to classify a hundred crops.

Crops of the paper's size do not give the scores of the dense network, because
the zeros around their maps lie elsewhere. So the same is tried with networks
whose convolutions are not padded, and crops as large as the receptive field:
these scores are equal, which is checked first. Crops are cut beforehand and
go through the network in the batch size that is fastest for them.
"""

import argparse
import functools
import time
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import measure
import numpy as np

from fcnjax.models import blocks
from fcnjax.models.backbones import alexnet, vgg
from fcnjax.training import host_memory

CLASSES = 21
STRIDE = 32
BATCHES = (1, 5, 20)  # of crops


class Case(NamedTuple):
  """A network, what it is shown, and how many crops stand for all.

  Attributes:
    backbone: constructor, image -> "stage5".
    kernel: of fc6.
    image: side of the image, pixels.
    patch: side of a crop, pixels.
    equal: whether crops give the scores of the dense network.
    published: the paper's ratio.
    crops: how many are run; the others would take as long.
  """

  backbone: functools.partial
  kernel: int
  image: int
  patch: int
  equal: bool = True
  published: float | None = None
  crops: int = 100


_VALID = {"first_padding": 0, "padding": 0}
CASES = {
  "AlexNet, the paper's sizes": Case(
    functools.partial(alexnet.AlexNet),
    kernel=6,
    image=500,
    patch=227,
    equal=False,
    published=100 * 1.2 / 22,
  ),
  "AlexNet, valid": Case(
    functools.partial(alexnet.AlexNet, **_VALID), kernel=6, image=643, patch=355
  ),
  "VGG16, valid": Case(
    functools.partial(vgg.VGG16, **_VALID),
    kernel=7,
    image=692,
    patch=404,
    crops=10,
  ),
}


class Scores(nn.Module):
  """FCN-32s without its upsampling: image -> one score in 32 pixels."""

  backbone: functools.partial
  kernel: int
  dtype: str

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    """Maps [b, h, w, 3] to [b, rows, columns, classes]."""
    x = self.backbone(name="backbone", dtype=self.dtype)(image)["stage5"]
    conv = functools.partial(blocks.conv, padding=0, dtype=self.dtype)
    x = nn.relu(conv(4096, self.kernel, name="fc6")(x))
    x = nn.relu(conv(4096, 1, name="fc7")(x))
    return conv(CLASSES, 1, name="score_fr")(x).astype(jnp.float32)


def main() -> None:
  """Measures all cases and prints what came out."""
  host_memory.keep_freed()  # As the commands do, for torch too.
  gpu = jax.default_backend() == "gpu"
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "--precision",
    choices=("float32", "bfloat16"),
    default="bfloat16" if gpu else "float32",
  )
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument(
    "--minutes", type=float, default=8, help="then no case is begun"
  )
  arguments = parser.parse_args()
  began = time.perf_counter()
  results = measure.Results("patches", precision=arguments.precision)
  for name, case in CASES.items():
    if time.perf_counter() - began > 60 * arguments.minutes:
      print(f"{name}: not begun, {arguments.minutes:g} minutes are over")
      continue
    row = measured(case, arguments.precision, arguments.rounds)
    results.add({"case": name, **row})
    print(
      f"{name:28} dense {row['dense_ms']:9.1f} ms, by patches "
      f"{row['patches_ms']:9.1f} ms: {row['ratio']:.1f} times"
    )
  print(f"{time.perf_counter() - began:.0f} s, {results.path}")


def measured(case: Case, precision: str, rounds: int) -> dict[str, Any]:
  """Returns the row of a case.

  Raises:
    AssertionError: if crops give other scores than the dense network.
  """
  model = Scores(case.backbone, case.kernel, precision)
  generator = np.random.default_rng(0)
  shape = (1, case.image, case.image, 3)
  image = generator.standard_normal(shape, np.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  variables = measure.random_variables(shapes)
  run = jax.jit(model.apply)
  dense = run(variables, image)
  rows, columns = dense.shape[1:3]
  corners = [(i, j) for i in range(rows) for j in range(columns)]
  chosen = generator.permutation(len(corners))[: case.crops]
  corners = [corners[index] for index in sorted(chosen)]
  # Of networks that are not padded, 32 pixels from one to the next.
  step = (case.image - case.patch) / (rows - 1)
  assert not case.equal or step == STRIDE, step
  tops = [(round(i * step), round(j * step)) for i, j in corners]
  crops = np.stack(
    [image[0, y : y + case.patch, x : x + case.patch] for y, x in tops]
  )
  single = run(variables, crops[:2])
  assert single.shape == (2, 1, 1, CLASSES), single.shape
  error = None
  if case.equal:
    wanted = np.stack([dense[0, i, j] for i, j in corners[:2]])
    error = float(np.abs(single[:, 0, 0] - wanted).max() / np.abs(dense).max())
    bound = 1e-4 if precision == "float32" else 5e-2
    assert error < bound, f"crops differ from the dense scores by {error}"
  image, crops = jnp.asarray(image), jnp.asarray(crops)
  trials = {}
  for size in (size for size in BATCHES if size <= len(crops)):
    trial = functools.partial(run, variables, crops[:size])
    trials[size] = min(measure.interleaved({"": trial}, rounds=2)[""]) / size
  size = min(trials, key=trials.get)
  batches = [crops[i : i + size] for i in range(0, len(crops), size)]
  jax.block_until_ready(batches)
  times = measure.interleaved(
    {
      "patches": lambda: [run(variables, batch) for batch in batches],
      "dense": lambda: run(variables, image),
    },
    rounds=rounds,
    budget=20,
  )
  scale = rows * columns / len(crops)
  patches = measure.median(times["patches"]) * scale
  seconds = measure.median(times["dense"])
  return {
    "image": case.image,
    "patch": case.patch,
    "grid": [rows, columns],
    "measured_patches": len(crops),
    "batch": size,
    "rounds": len(times["dense"]),
    "difference": error,
    "dense_ms": 1e3 * seconds,
    "patches_ms": 1e3 * patches,
    "ratio": patches / seconds,
    "published_ratio": case.published,
  }


if __name__ == "__main__":
  main()
