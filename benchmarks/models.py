"""Train step and inference of the networks, alone or against PyTorch.

  python benchmarks/models.py --against torch
  python benchmarks/models.py --against torch --sizes paper --minutes 60
  python benchmarks/models.py --all --sizes paper --minutes 60

A train step is `fcnjax.training.step.train_step` with SGD and momentum, the
state donated; inference is the arg max of the logits. In PyTorch it is the same
network (benchmarks/torch_networks.py) with the same variables, loss, optimizer,
sizes and threads, channels_last; on a GPU with bfloat16 autocast, compiled and
with cuDNN's benchmark. Both are run by turns in one process, a process for each
network; compilation is not in the times, but told apart.

The rows are saved as they come: benchmarks/results/models_{cpu,gpu}.json, or
models_all_… for `--all`. With `--only`, rows of the other networks stay.
"""

import argparse
from collections.abc import Callable, Iterator
import functools
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from typing import Any

# PyTorch shares the device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import measure  # noqa: E402
import numpy as np  # noqa: E402

from fcnjax import models, profile  # noqa: E402
from fcnjax.training import host_memory, optimizers, state as states, step  # noqa: E402

RACED = (
  "unet",
  "unet_same",
  "segnet_vgg16",
  "fcn8s_vgg16",
  "deeplabv3p_xception65",
  "deeplabv3p_resnet101",
  "hdnet_resnet50",
  "hdnet_resnet101",
)

# Height and width, and images, with which a CPU is done in minutes.
SMALL = {
  "unet": ((204, 204), 1),
  "unet_release": ((204, 204), 1),
  "unet_same": ((128, 128), 2),
  "segnet_vgg16": ((128, 160), 2),
  "fcn8s_vgg16": ((128, 128), 1),
  "deeplabv3p_xception65": ((129, 129), 2),
  "deeplabv3p_resnet101": ((129, 129), 2),
}
SMALL_OTHERS = ((128, 128), 2)
PAPER_BATCH = 8

# Images a second that others have published, at the paper's size.
PUBLISHED = {
  ("unet", "train"): (141, "NVIDIA: A100, AMP, batch 8"),
  ("unet", "inference"): (463, "NVIDIA: A100, FP16, batch 16"),
}

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-5, 0.9, 1e-4
IGNORED = 0.05  # share of the pixels


def main() -> None:
  """Measures what is asked for and prints a table."""
  host_memory.keep_freed()  # As the commands do, for torch too.
  arguments = _arguments()
  if arguments.one:
    for row in rows(arguments.one, arguments):
      print("ROW", json.dumps(row), flush=True)
    return
  began = time.perf_counter()
  names = arguments.only or (models.list_models() if arguments.all else RACED)
  results = measure.Results(
    "models_all" if arguments.all else "models",
    keep=lambda row: arguments.only and row["network"] not in names,
    matrix_rate=measure.matrix_rate(arguments.precision),
    precision=arguments.precision,
    load_before=os.getloadavg()[0],
  )
  for name in names:
    if time.perf_counter() - began > 60 * arguments.minutes:
      print(f"{name}: not begun, {arguments.minutes:g} minutes are over")
      continue
    for row in _rows_of_process(name):
      if "rate" in row:
        row["rate_share"] = row["rate"] / results.record["matrix_rate"]
      results.add(row)
  print("\n".join(table(results.record["rows"])))
  print(f"{time.perf_counter() - began:.0f} s, {results.path}")


def _arguments() -> argparse.Namespace:
  gpu = jax.default_backend() == "gpu"
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--against", choices=("torch",))
  parser.add_argument(
    "--sizes", choices=("paper", "small"), default="paper" if gpu else "small"
  )
  parser.add_argument("--only", nargs="+", metavar="NAME", default=[])
  parser.add_argument("--all", action="store_true", help="every network")
  parser.add_argument("--batch", type=int, help="images a step")
  parser.add_argument(
    "--precision",
    choices=("float32", "bfloat16"),
    default="bfloat16" if gpu else "float32",
  )
  parser.add_argument(
    "--minutes", type=float, default=8, help="then none begun"
  )
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument(
    "--compile", action="store_true", help="torch.compile on a CPU, too"
  )
  parser.add_argument("--one", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  unknown = set(arguments.only) - set(models.MODELS)
  if unknown:
    parser.error(f"no such network: {', '.join(sorted(unknown))}")
  if arguments.all and arguments.against:
    parser.error("--all is ours alone; leave --against out")
  arguments.compile |= gpu
  return arguments


def _rows_of_process(name: str) -> Iterator[dict[str, Any]]:
  """Measures a network in a process of its own: its memory, and its death."""
  command = [sys.executable, *sys.argv, "--one", name]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    for line in process.stdout:
      if line.startswith("ROW "):
        yield json.loads(line[4:])
      else:
        print(line, end="")
  if process.returncode:
    yield {"network": name, "failed": f"exit code {process.returncode}"}


def rows(name: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Measures one network: a row for each of what can be done with it."""
  case = Case(name, arguments)
  rival = Torch(case, arguments) if arguments.against else None
  ways = {
    "inference": _inference,
    "inference, folded": _folded,
    "train": _train,
  }
  for way, prepare in ways.items():
    ours = prepare(case)
    if ours is None:
      continue
    times = {}
    if rival:
      rival.prepare(way)
      times["torch"] = functools.partial(rival.run, case.calls)
    times["ours"] = functools.partial(_run, ours.call, case.calls)
    times = measure.interleaved(
      times, rounds=arguments.rounds, budget=12 if way == "train" else 4
    )
    yield _row(case, way, ours, rival, times)


class Case:
  """A network and its images.

  Attributes:
    name: of the network.
    create: options -> our network.
    model: ours.
    variables: random; the train step takes them away.
    batch: "image" and "label", NumPy.
    classes: number of classes.
    size: height and width of the images.
    calls: what is timed at once, so that a GPU is not waited for each time.
  """

  def __init__(self, name: str, arguments: argparse.Namespace):
    self.name = name
    paper = (models.MODELS[name].size, PAPER_BATCH)
    small = SMALL.get(name, SMALL_OTHERS)
    self.size, images = paper if arguments.sizes == "paper" else small
    images = arguments.batch or images
    self.precision = arguments.precision
    self.classes = 2 if "unet" in name else 12 if "segnet" in name else 21
    self.calls = 1 if jax.default_backend() == "cpu" else 10
    self.create = functools.partial(
      models.create_model,
      name,
      num_classes=self.classes,
      dtype=arguments.precision,
    )
    self.model = self.create()
    shape = (images, *self.size, self.model.in_channels)
    struct = jax.ShapeDtypeStruct(shape, jnp.float32)
    shapes = jax.eval_shape(self.model.init, jax.random.key(0), struct)
    self.variables = measure.random_variables(shapes)
    outputs = jax.eval_shape(self.model.apply, shapes, struct)
    generator = np.random.default_rng(0)
    area = outputs["logits"].shape[:3]
    label = generator.integers(0, self.classes, area).astype(np.int32)
    label[generator.random(area) < IGNORED] = 255
    image = generator.standard_normal(shape, np.float32)
    self.batch = {"image": image, "label": label}


class Ours:
  """Something compiled: what to call, and what it took to get there."""

  def __init__(self, function: Callable, *arguments: Any, carried: bool):
    start = time.perf_counter()
    donated = (0,) if carried else ()
    jitted = jax.jit(function, donate_argnums=donated)
    compiled = jitted.lower(*arguments).compile()
    self.result = jax.block_until_ready(compiled(*arguments))
    self.first_seconds = time.perf_counter() - start
    self.peak = measure.peak_memory(compiled)
    first = [self.result[0] if carried else arguments[0]]

    def call():
      result = compiled(first[0], *arguments[1:])
      if carried:
        first[0] = result[0]
      return result

    self.call = call


def _run(call: Callable[[], Any], times: int) -> Any:
  for _ in range(times):
    result = call()
  return result


def _predict(model: Any, variables: Any, image: jax.Array) -> jax.Array:
  logits = model.apply(variables, image, train=False)["logits"]
  return jnp.argmax(logits, axis=-1)


def _inference(case: Case) -> Ours:
  predict = functools.partial(_predict, case.model)
  image = jnp.asarray(case.batch["image"])
  return Ours(predict, case.variables, image, carried=False)


def _folded(case: Case) -> Ours | None:
  """Inference with batch norm folded into the convolutions.

  The one place that knows how a network is folded; None where it cannot be.
  """
  if importlib.util.find_spec("fcnjax.models.folding") is None:
    return None
  from fcnjax.models import folding

  if "batch_stats" not in case.variables:
    return None
  image = jnp.asarray(case.batch["image"])
  variables = folding.fold_batch_norm(case.model, case.variables, image)
  model = case.create(norm="folded")
  predict = functools.partial(_predict, model)
  return Ours(predict, variables, image, carried=False)


def _train(case: Case) -> Ours:
  optimizer = optimizers.sgd(
    LEARNING_RATE,
    case.variables["params"],
    momentum=MOMENTUM,
    weight_decay=WEIGHT_DECAY,
  )
  train_step = functools.partial(
    step.train_step,
    apply=case.model.apply,
    optimizer=optimizer,
    seed=0,
    takes_label=getattr(case.model, "takes_label", False),
  )
  state = states.create(case.variables, optimizer)
  case.variables = None
  batch = jax.tree.map(jnp.asarray, case.batch)
  return Ours(train_step, state, batch, carried=True)


class Torch:
  """The same network in PyTorch.

  Attributes:
    first_seconds: of the first call, compilation included.
    result: of the first call: classes, or the loss.
    note: how it runs.
  """

  def __init__(self, case: Case, arguments: argparse.Namespace):
    import torch
    import torch_networks

    self.torch = torch
    gpu = jax.default_backend() == "gpu"
    if gpu and not torch.cuda.is_available():
      raise SystemExit(
        "JAX has a GPU and torch has none: install its CUDA build"
      )
    self.device = "cuda" if gpu else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # As JAX on a GPU.
    network = torch_networks.NETWORKS[case.name](case.classes)
    torch_networks.copy_variables(network, case.variables)
    self.network = network.to(self.device, memory_format=torch.channels_last)
    image = np.moveaxis(case.batch["image"], -1, 1)
    self.image = torch.from_numpy(image).to(
      self.device, memory_format=torch.channels_last
    )
    self.label = torch.from_numpy(case.batch["label"]).long().to(self.device)
    self.optimizer = torch.optim.SGD(
      self.network.parameters(),
      lr=LEARNING_RATE,
      momentum=MOMENTUM,
      weight_decay=WEIGHT_DECAY,
      fused=True,
    )
    self.autocast = functools.partial(
      torch.autocast,
      self.device,
      torch.bfloat16,
      enabled=arguments.precision == "bfloat16",
    )
    self.compiles = arguments.compile
    self.note = "compiled" if self.compiles else "eager"

  def prepare(self, way: str) -> None:
    """Makes `run` do what is timed, once."""
    training = way == "train"
    self.network.train(training)
    eager = self._loss if training else self._classes
    self.function = self.torch.compile(eager) if self.compiles else eager
    self.call = self._train if training else self._predict
    if self.device == "cuda":
      self.torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    try:
      self.result = self.run(1)
    except Exception as error:  # The compiler's, of any kind.
      if not self.compiles:
        raise
      self.note = f"eager, not compiled: {type(error).__name__}"
      self.function, self.compiles = eager, False
      self.result = self.run(1)
    self.first_seconds = time.perf_counter() - start
    self.result = self.result.cpu().numpy()

  def run(self, times: int) -> Any:
    """Calls so often, and waits."""
    result = _run(self.call, times)
    if self.device == "cuda":
      self.torch.cuda.synchronize()
    return result

  def peak(self) -> int | None:
    """Returns the most bytes that were allocated since `prepare`, on a GPU."""
    if self.device == "cpu":
      return None
    return self.torch.cuda.max_memory_allocated()

  def _classes(self, image):
    with self.autocast():
      return self.network(image).argmax(1)

  def _loss(self, image, label):
    with self.autocast():
      logits, own = self.network(image, label)
    cross_entropy = self.torch.nn.functional.cross_entropy
    return cross_entropy(logits, label, ignore_index=255) + own

  def _predict(self):
    with self.torch.inference_mode():
      return self.function(self.image)

  def _train(self):
    self.optimizer.zero_grad(set_to_none=True)
    loss = self.function(self.image, self.label)
    loss.backward()
    self.optimizer.step()
    return loss.detach()


def _row(
  case: Case,
  way: str,
  ours: Ours,
  rival: Torch | None,
  times: dict[str, list[float]],
) -> dict[str, Any]:
  """Returns what is written of a network."""
  images = len(case.batch["image"])
  seconds = measure.median(times["ours"]) / case.calls
  count = profile.multiply_adds(case.model, case.size)
  flops = 2 * count * images * (3 if way == "train" else 1)
  row = {
    "network": case.name,
    "way": way,
    "size": list(case.size),
    "batch": images,
    "precision": case.precision,
    "rounds": len(times["ours"]),
    "ms": 1e3 * seconds,
    "images_per_second": images / seconds,
    "first_step_seconds": ours.first_seconds,
    "multiply_adds": count,
    "rate": flops / seconds,
    "program_mb": ours.peak / 2**20,
  }
  peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
  if peak and way != "inference, folded":  # The process's, of what was before.
    row["peak_mb"] = peak / 2**20
  if case.size == models.MODELS[case.name].size:
    keys = ("published_images_per_second", "published_source")
    row |= zip(keys, PUBLISHED.get((case.name, way), ()))
  if way == "train":
    row["loss"] = float(ours.result[1]["loss"])
  if rival is None:
    return row
  theirs = measure.median(times["torch"]) / case.calls
  row |= {
    "torch": rival.note,
    "torch_ms": 1e3 * theirs,
    "torch_images_per_second": images / theirs,
    "torch_first_step_seconds": rival.first_seconds,
    "ratio": theirs / seconds,
  }
  if rival.peak():
    row["torch_peak_mb"] = rival.peak() / 2**20
  if way == "train":
    row["torch_loss"] = float(rival.result)
  else:
    row["agreement"] = float((np.asarray(ours.result) == rival.result).mean())
    exact = rival.device == "cpu" and case.precision == "float32"
    if exact and row["agreement"] < 0.99:
      raise AssertionError(
        f"{case.name}: only {row['agreement']:.3f} of the pixels have the "
        "class that PyTorch finds: these are not the same networks."
      )
  return row


def table(found: list[dict[str, Any]]) -> list[str]:
  """Returns the lines of a table of at most 80 columns."""
  lines = [
    f"{'network':22}{'':10}{'images':>13}{'ms':>9}{'torch ms':>9}{'img/s':>8}"
    f"{'ratio':>7}"
  ]
  ratios: dict[str, list[float]] = {}
  for row in found:
    if "failed" in row:
      lines.append(f"{row['network']:22}{row['failed']}")
      continue
    way = row["way"].replace("inference, ", "").replace("inference", "infer")
    images = f"{row['batch']}x{'x'.join(map(str, row['size']))}"
    line = f"{row['network']:22}{way:10}{images:>13}{row['ms']:9.1f}"
    if "ratio" in row:
      ratios.setdefault(way, []).append(row["ratio"])
      line += f"{row['torch_ms']:9.1f}"
    else:
      line += f"{'':9}"
    line += f"{row['images_per_second']:8.2f}"
    lines.append(line + (f"{row['ratio']:7.2f}" if "ratio" in row else ""))
  for way, values in ratios.items():
    mean = math.exp(sum(map(math.log, values)) / len(values))
    lines.append(f"{'geometric mean':22}{way:10}{'':39}{mean:7.2f}")
  return lines


if __name__ == "__main__":
  main()
