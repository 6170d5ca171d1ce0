"""Claims of the papers that can be tried small, tried on the embedded scenes.

  python train.py --config=configs/dilation.py --workdir=runs/dilation
  python benchmarks/claims.py run --frontend runs/dilation
  python benchmarks/claims.py run --claim skips --seeds 0 1 2
  python benchmarks/claims.py page

`run` trains the networks of a claim from noise, every seed anew, unless there
is a result already, and saves the figures of each run at once to
benchmarks/results/claims.json; `page` writes docs/claims.md from it, whichever
way the claims come out.
"""

import argparse
from collections.abc import Callable
import dataclasses
import datetime
import functools
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import time
from typing import Any

from flax import linen as nn
import jax
import numpy as np
import small

from fcnjax import models
from fcnjax.cli import build, workdir
from fcnjax.models import dilation
from fcnjax.ops import resizing, transposed
from fcnjax.typing import IGNORE

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "claims.json"
FRONTEND_SIZE = (288, 288)  # as configs/dilation.py
FRONTEND: pathlib.Path | None = None  # its workdir

_VGG = {"widths": (8, 16, 32, 64, 64), "fc_channels": 128, "norm": "batch"}
_RESNET = {"depths": (2, 2, 2, 2), "widths": (16, 32, 64, 128)}


def main() -> None:
  """Runs what is asked for and has no result yet, or writes the page."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("action", choices=("run", "page"))
  parser.add_argument("--claim", choices=CLAIMS, action="append")
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
  parser.add_argument("--frontend", type=pathlib.Path, help="for context")
  arguments = parser.parse_args()
  global FRONTEND
  FRONTEND = arguments.frontend
  if arguments.action == "run":
    for seed, name in itertools.product(
      arguments.seeds, arguments.claim or CLAIMS
    ):
      _run(name, seed)
  write_page()


def _run(name: str, seed: int) -> None:
  """Runs a claim with one seed and saves it, unless it was run before."""
  results = _read()
  done = [r for r in results if (r["claim"], r["seed"]) == (name, seed)]
  if done:
    return
  began = time.time()
  figures = CLAIMS[name].run(seed)
  results.append(
    {
      "claim": name,
      "seed": seed,
      "figures": figures,
      "minutes": round((time.time() - began) / 60, 1),
      "command": f"python benchmarks/claims.py run --claim {name}"
      + " --frontend RUN" * (name == "context"),
      "date": datetime.date.today().isoformat(),
      "device": f"{os.cpu_count()} CPU cores, {platform.machine()}",
      "versions": {
        package: importlib.metadata.version(package)
        for package in ("jax", "flax", "optax", "numpy", "tensorflow-cpu")
      }
      | {"python": platform.python_version()},
    }
  )
  RESULTS.parent.mkdir(parents=True, exist_ok=True)
  RESULTS.write_text(json.dumps(results, indent=1) + "\n")
  print(name, seed, json.dumps(figures), flush=True)


def _read() -> list[dict[str, Any]]:
  return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def _compared(
  networks: dict[str, Callable[[], nn.Module]], *, steps: int
) -> Callable[[int], dict[str, dict[str, float]]]:
  """Returns seed -> the scores of each network, all trained alike."""

  def run(seed):
    found = {}
    for name, create in networks.items():
      model = create()
      variables = small.train(model, seed, steps=steps)
      found[name] = small.scores(small.outputs(model, variables)[0])
    return found

  return run


# --- the claims --------------------------------------------------------------


def _network(name: str, **options: Any) -> nn.Module:
  return models.create_model(name, num_classes=small.CLASSES, **options)


def _fcn(stride: int) -> nn.Module:
  return _network(f"fcn{stride}s_vgg16", first_padding=1, **_VGG)


def _segnet(name: str) -> nn.Module:
  return _network(name, width=24, kernel=5, input_norm="none")


def _deeplabv3p(decoder: bool) -> nn.Module:
  model = _network(
    "deeplabv3p_resnet50", channels=64, decoder=decoder, bn_momentum=0.9
  )
  small = functools.partial(model.backbone, **_RESNET, multi_grid=(1, 2))
  return model.clone(backbone=small)


def _sampling(seed: int) -> dict[str, dict[str, float]]:
  """p of the pixels of 1 / p times the images, in as many steps."""
  found = {}
  for share in (1.0, 0.5):
    model, batch_size = _fcn(8), round(small.BATCH / share)
    began = time.time()
    variables = small.train(
      model, seed, steps=200, batch_size=batch_size, sampling=share
    )
    seconds = time.time() - began
    scores = small.scores(small.outputs(model, variables)[0])
    found[f"p = {share:g}, {batch_size} images a step"] = {
      "mean IoU": scores["mean IoU"],
      "seconds": seconds,
    }
  return found


def _context(seed: int) -> dict[str, dict[str, float]]:
  """A context module on the scores of a trained front-end, which stay fixed."""
  train, labels = _frontend_scores("train")
  val, _ = _frontend_scores("val")
  found = {"front-end alone": small.scores(_upsampled(val), FRONTEND_SIZE)}
  for start in ("identity", "random"):
    module = dilation.Context(depth=8, form="basic", start=start)

    def apply(variables, x, *, train, mutable=(), rngs=None, module=module):
      del train, mutable, rngs
      return {"logits": _logits(module.apply(variables, x))}, {}

    def batches():
      random = np.random.default_rng(seed)
      while True:
        chosen = random.integers(len(train), size=small.BATCH)
        yield {"image": train[chosen], "label": labels[chosen]}

    fresh = module.init(jax.random.key(seed), train[:1])
    trained = small.fit(apply, fresh, batches(), seed=seed, steps=300)
    scores = np.asarray(jax.jit(module.apply)(trained, val))
    found[f"context, {start}"] = small.scores(_upsampled(scores), FRONTEND_SIZE)
  return found


@functools.cache
def _frontend_scores(split: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns scores of stride 8 and labels; of "train" 384 scenes."""
  if FRONTEND is None:
    raise SystemExit("context: give --frontend, the workdir of dilation.py.")
  config, classes, _ = workdir.read(FRONTEND)
  variables, _ = workdir.restore(FRONTEND, config, "best")
  model = build.model(config, num_classes=len(classes))
  apply = jax.jit(lambda image: model.apply(variables, image)["features"])
  images, labels = small.split(split, FRONTEND_SIZE, 384)
  parts = [apply(images[i : i + 2]) for i in range(0, len(images), 2)]
  return np.concatenate(parts), labels.astype(np.int32)


def _logits(scores):
  upsampled = transposed.bilinear_deconv(scores, factor=dilation.STRIDE)
  return resizing.crop(upsampled, dilation.STRIDE // 2, FRONTEND_SIZE)


def _upsampled(scores: np.ndarray) -> np.ndarray:
  parts = [_logits(scores[i : i + 16]) for i in range(0, len(scores), 16)]
  return np.concatenate([np.asarray(part).argmax(-1) for part in parts])


def _distance(seed: int) -> dict[str, dict[str, float]]:
  found = {}
  for name, weight in (("without HFD", 0.0), ("with HFD", 0.1)):
    model = _network(
      "hdnet_resnet50", channels=64, hfd_weight=weight, bn_momentum=0.9
    ).clone(**_RESNET, multi_grid=(1, 1))
    variables = small.train(model, seed, steps=200)
    predictions, features = small.outputs(model, variables)
    near, far = _cosines(features)
    found[name] = {
      "mean IoU": small.scores(predictions)["mean IoU"],
      "cosine to the own centre": near,
      "to the nearest other": far,
    }
  return found


def _cosines(features: np.ndarray) -> tuple[float, float]:
  """Returns the mean cosine of features to their class's mean, and next."""
  labels = np.asarray(
    resizing.resize_nearest(small.split("val")[1].astype(np.int32),
                            features.shape[1:3])
  )  # fmt: skip
  counted = labels != IGNORE
  x, y = features[counted], labels[counted]
  x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
  centres = np.stack([x[y == k].mean(0) for k in range(small.CLASSES)])
  centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
  cosines = x @ centres.T
  own = cosines[np.arange(len(y)), y]
  cosines[np.arange(len(y)), y] = -1

  def mean(values):
    """Each class counts alike: most pixels are background."""
    return float(np.mean([values[y == k].mean() for k in range(small.CLASSES)]))

  return mean(own), mean(cosines.max(-1))


@dataclasses.dataclass(frozen=True)
class Claim:
  """What a paper says, and how it is tried.

  Attributes:
    title: the claim.
    source: paper and section.
    setting: what is trained.
    measure: the figure that decides.
    better: which of two rows the claim says is higher, the first named.
    run: seed -> {row: {figure: value}}.
    not_shown: why the figures do not speak for the claim, whichever is
      higher; "" if they do.
  """

  title: str
  source: str
  setting: str
  measure: str
  better: tuple[str, str]
  run: Callable[[int], dict[str, dict[str, float]]]
  not_shown: str = ""


CLAIMS = {
  "skips": Claim(
    "Skips refine boundaries: from FCN-32s to 16s to 8s.",
    "Long, Shelhamer and Darrell 2015, section 4.2, Table 2",
    "VGG16 an eighth as wide, each in one stage, 300 steps",
    "BF",
    ("FCN-8s", "FCN-32s"),
    _compared(
      {f"FCN-{s}s": functools.partial(_fcn, s) for s in (32, 16, 8)}, steps=300
    ),
    not_shown="In 300 steps FCN-32s, whose cells are larger than the objects, "
    "learns next to nothing: background everywhere has a mean IoU of .072, and "
    "so have two of its seeds; the third has .085. The figures show that "
    "networks with skips learn faster here, not that skips refine boundaries. "
    "On scenes twice as large, and longer, FCN-32s does learn "
    "(docs/results.md).",
  ),
  "unpooling": Claim(
    "Unpooling by indices draws better outlines than bilinear upsampling.",
    "Badrinarayanan, Kendall and Cipolla 2017, section 3.2, Table 1",
    "SegNet-Basic of width 24 and 5x5 kernels, 300 steps",
    "BF",
    ("unpooling", "bilinear"),
    _compared(
      {
        "unpooling": functools.partial(_segnet, "segnet_basic"),
        "bilinear": functools.partial(_segnet, "segnet_basic_bilinear"),
      },
      steps=300,
    ),
  ),
  "decoder": Claim(
    "DeepLabv3+'s decoder sharpens outlines.",
    "Chen et al. 2018, section 4.3, figure 5",
    "a ResNet of 8 units a quarter as wide, output stride 16, 300 steps",
    "trimap IoU",
    ("with decoder", "without"),
    _compared(
      {
        "with decoder": functools.partial(_deeplabv3p, True),
        "without": functools.partial(_deeplabv3p, False),
      },
      steps=300,
    ),
  ),
  "context": Claim(
    "The context module needs identity initialisation, and then helps.",
    "Yu and Koltun 2016, section 3",
    "the Basic module of 8 layers on the scores of one front-end, that of "
    "configs/dilation.py, for 384 scenes of 288×288; 300 steps",
    "mean IoU",
    ("context, identity", "context, random"),
    _context,
  ),
  "sampling": Claim(
    "Sampling the loss converges no faster than whole images.",
    "Long, Shelhamer and Darrell 2015, section 4.4, figure 5",
    "FCN-8s as above, 200 steps: p of the pixels of 1/p times the images; the "
    "seconds are a busy machine's",
    "mean IoU",
    ("p = 1, 8 images a step", "p = 0.5, 16 images a step"),
    _sampling,
  ),
  "distance": Claim(
    "The HFD loss draws features to their class's centre.",
    "Li et al. 2021, high-dimension feature distance loss",
    "HDNet on a ResNet of 8 units a quarter as wide, 200 steps",
    "cosine to the own centre",
    ("with HFD", "without HFD"),
    _distance,
  ),
}


def write_page() -> None:
  """Writes docs/claims.md; it holds no number that no file holds."""
  results = _read()
  lines = [
    "# The papers' claims, tried small",
    "",
    "Written by `python benchmarks/claims.py page` from",
    "`benchmarks/results/claims.json`, which holds device, versions, date and",
    "command of each run. All networks are trained from noise on the embedded",
    "scenes (96×96 pixels, nine classes, 1024 images) with AdamW, batches of",
    f"{small.BATCH}, and scored on the 128 validation images. They are small, "
    "and the",
    "training is short: what comes out here is a hint, no refutation. Mean and",
    "range of the seeds; the trimap is the band within three pixels of the",
    "ignored contours.",
  ]
  for name, claim in CLAIMS.items():
    runs = [r["figures"] for r in results if r["claim"] == name]
    if runs:
      lines += ["", f"## {claim.title}", "", f"{claim.source}.", ""]
      lines += [f"Tried with {claim.setting}.", ""]
      lines += _table(runs)
      lines += ["", _verdict(claim, runs)]
  (ROOT / "docs" / "claims.md").write_text("\n".join(lines) + "\n")


def _table(runs: list[dict[str, dict[str, float]]]) -> list[str]:
  figures = list(next(iter(runs[0].values())))
  lines = [
    "| | " + " | ".join(figures) + " |",
    "|---" * (len(figures) + 1) + "|",
  ]
  for row in runs[0]:
    cells = []
    for figure in figures:
      values = [run[row][figure] for run in runs]
      form = ".0f" if figure == "seconds" else ".3f"
      low, mean, high = (f(values) for f in (min, np.mean, max))
      cells.append(f"{mean:{form}} ({low:{form}}–{high:{form}})")
    lines.append(f"| {row} | " + " | ".join(cells) + " |")
  return lines


def _verdict(claim: Claim, runs: list[dict[str, dict[str, float]]]) -> str:
  first, second = claim.better
  gains = [run[first][claim.measure] - run[second][claim.measure]
           for run in runs]  # fmt: skip
  wins = sum(gain > 0 for gain in gains)
  found = (
    f"{claim.measure} of “{first}” is higher than of “{second}” with {wins} of "
    f"{len(runs)} seeds, by {np.mean(gains):+.3f} on average."
  )
  return (
    f"**Not shown.** {claim.not_shown} {found}" if claim.not_shown else found
  )


if __name__ == "__main__":
  main()
