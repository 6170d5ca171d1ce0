"""Train step and inference of the networks, alone or against PyTorch.

  python benchmarks/models.py --against torch
  python benchmarks/models.py --against torch --sizes paper --minutes 60
  python benchmarks/models.py --all --sizes paper --minutes 60

A train step is `fcnjax.training.step.train_step` with SGD and momentum, the
state donated; inference is the arg max of the logits. In PyTorch it is the same
network (benchmarks/torch_networks.py) with the same variables, loss, optimizer,
sizes and threads, channels_last; on a GPU with bfloat16 autocast, compiled and
with cuDNN's benchmark. Each side has a process of its own, and they run by
turns; compilation is not in the times. On a CPU a network is compiled and
measured before the next one is; on a GPU, whose host has many cores, all are
compiled at once, and then measured one after another.

The rows are saved as they come: benchmarks/results/models_{cpu,gpu}.json, or
models_all_… for `--all`. With `--only`, rows of the other networks stay.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent import futures
import functools
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np

from fcnjax import models, profile
from fcnjax.models import folding
from fcnjax.training import host_memory, optimizers, state as states, step

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
WAYS = ("inference", "folded", "train")
CALLS = 5  # That a GPU makes before it is waited for.

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
  if arguments.rival:
    _serve(arguments)
    return
  if arguments.one:
    for row in rows([arguments.one], arguments):
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
  for row in _all_rows(names, arguments, began):
    if "rate" in row:
      row["rate_share"] = row["rate"] / results.record["matrix_rate"]
    results.add(row)
    print("\n".join(table([row])[1:2]), flush=True)
  print("\n".join(table(results.record["rows"])))
  print(f"{time.perf_counter() - began:.0f} s, {results.path}", flush=True)
  if arguments.cuda:
    os._exit(0)  # Some compiler may still run.


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
  parser.add_argument(
    "--ways", nargs="+", default=WAYS, choices=WAYS, help="what is measured"
  )
  parser.add_argument(
    "--wait", type=float, help="seconds for compiling, on a GPU"
  )
  parser.add_argument("--one", help=argparse.SUPPRESS)
  parser.add_argument("--rival", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  unknown = set(arguments.only) - set(models.MODELS)
  if unknown:
    parser.error(f"no such network: {', '.join(sorted(unknown))}")
  if arguments.all and arguments.against:
    parser.error("--all is ours alone; leave --against out")
  arguments.compile |= gpu
  arguments.cuda = gpu
  if gpu and arguments.wait is None:
    arguments.wait = 0.6 * 60 * arguments.minutes
  if arguments.rival:  # The asking process's, which may have another device.
    vars(arguments).update(json.loads(arguments.rival))
  return arguments


def _all_rows(
  names: list[str], arguments: argparse.Namespace, began: float
) -> Iterator[dict[str, Any]]:
  def over():
    return time.perf_counter() - began > 60 * arguments.minutes

  if arguments.cuda:
    yield from rows(names, arguments, over)
    return
  for name in names:
    if over():
      print(f"{name}: not begun, {arguments.minutes:g} minutes are over")
      continue
    yield from _rows_of_process(name)


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


def rows(
  names: list[str],
  arguments: argparse.Namespace,
  over: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Any]]:
  """Measures networks: a row for each of what can be done with each.

  All is compiled before anything is timed, but for what takes longer than
  `arguments.wait`: that has failed, and rows say how many compilers still ran
  beside them, since nothing stops one.

  Args:
    names: of the networks.
    arguments: of the command line.
    over: whether no further network should be begun.
  """
  pool = futures.ThreadPoolExecutor(os.cpu_count() if arguments.cuda else 1)
  rivals, cases, compiling = {}, {}, {}
  try:
    if arguments.against:
      rivals = {name: Rival(name, arguments) for name in names}
    for name in names:
      cases[name] = Case(name, arguments)
      for ours in cases[name].ways.values():
        compiling[pool.submit(ours.compile)] = name
    done, late = futures.wait(compiling, arguments.wait)
    failed = {compiling[one]: f"not in {arguments.wait:.0f} s" for one in late}
    failed |= {compiling[one]: one.exception() for one in done}
    for name, rival in rivals.items():
      try:
        rival.wait()
      except Died as error:
        failed[name] = error
    beside = {"compiling_beside": len(late)} if late else {}
    for name in names:
      case, rival = cases.pop(name), rivals.get(name)
      if failed[name]:
        yield {"network": name, "failed": str(failed[name])[:200]}
      elif over():
        print(f"{name}: not measured, {arguments.minutes:g} minutes are over")
      else:
        try:
          for row in _rows_of_case(case, rival, arguments):
            yield row | beside
        except (Died, jax.errors.JaxRuntimeError) as error:
          yield {"network": name, "failed": str(error)[:200]}
  finally:
    pool.shutdown(wait=False, cancel_futures=True)
    for rival in rivals.values():
      rival.end()


def _rows_of_case(case, rival, arguments):
  case.draw()
  for way, ours in case.ways.items():
    ours.start(*case.operands(way))
    times = {}
    # PyTorch is not given folded variables.
    if rival:
      rival.ask("begin", way)
      times["torch"] = functools.partial(rival.ask, "run", way)
    times["ours"] = functools.partial(_run, ours.call, case.calls)
    times = measure.interleaved(
      times, rounds=arguments.rounds, budget=12 if way == "train" else 4
    )
    yield _row(case, way, ours, rival, times)
    ours.forget()


class Case:
  """A network and its images.

  Attributes:
    name: of the network.
    model: ours.
    variables: random, once they are drawn; the train step takes them away.
    batch: "image" and "label", NumPy.
    classes: number of classes.
    size: height and width of the images.
    calls: what is timed at once, so that a GPU is not waited for each time.
    ways: what can be done with it, not compiled yet.
  """

  def __init__(self, name: str, arguments: argparse.Namespace):
    self.name = name
    paper = (models.MODELS[name].size, PAPER_BATCH)
    small = SMALL.get(name, SMALL_OTHERS)
    self.size, images = paper if arguments.sizes == "paper" else small
    images = arguments.batch or images
    self.precision = arguments.precision
    self.classes = 2 if "unet" in name else 12 if "segnet" in name else 21
    self.calls = CALLS if arguments.cuda else 1
    create = functools.partial(
      models.create_model,
      name,
      num_classes=self.classes,
      dtype=arguments.precision,
    )
    self.model = create()
    shape = (images, *self.size, self.model.in_channels)
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    shapes = jax.eval_shape(self.model.init, jax.random.key(0), image)
    outputs = jax.eval_shape(self.model.apply, shapes, image)
    generator = np.random.default_rng(0)
    area = outputs["logits"].shape[:3]
    label = generator.integers(0, self.classes, area).astype(np.int32)
    label[generator.random(area) < IGNORED] = 255
    image = generator.standard_normal(shape, np.float32)
    self.batch = {"image": image, "label": label}
    self.variables = shapes
    if arguments.rival:
      return
    optimizer = optimizers.sgd(
      LEARNING_RATE,
      shapes["params"],
      momentum=MOMENTUM,
      weight_decay=WEIGHT_DECAY,
    )
    self._state = functools.partial(states.create, optimizer=optimizer)
    train_step = functools.partial(
      step.train_step,
      apply=self.model.apply,
      optimizer=optimizer,
      seed=0,
      takes_label=getattr(self.model, "takes_label", False),
    )
    self.ways = {}
    if "inference" in arguments.ways:
      predict = functools.partial(_predict, self.model)
      self.ways["inference"] = Ours(predict, *self.operands("inference"))
    if "folded" in arguments.ways and "batch_stats" in shapes:
      predict = functools.partial(_predict, create(norm="folded"))
      way = "inference, folded"
      self.ways[way] = Ours(predict, *self.operands(way))
    if "train" in arguments.ways:
      train = Ours(train_step, *self.operands("train"), carried=True)
      self.ways["train"] = train

  def draw(self) -> None:
    """Draws the variables, which were shapes."""
    self.variables = measure.random_variables(self.variables)

  def operands(self, way: str) -> tuple[Any, Any]:
    """Returns what is called with, or its shapes before `draw`."""
    real = isinstance(jax.tree.leaves(self.variables)[0], jax.Array)
    do = (lambda f, *x: f(*x)) if real else jax.eval_shape
    if way == "train":
      state = do(self._state, self.variables)
      self.variables = None if real else self.variables
      return state, do(lambda: jax.tree.map(jnp.asarray, self.batch))
    variables = self.variables
    if way == "inference, folded":
      fold = functools.partial(folding.fold_batch_norm, self.model)
      variables = do(fold, variables, self.batch["image"])
    return variables, do(lambda: jnp.asarray(self.batch["image"]))


class Ours:
  """A program of ours: compiled, started, and called again and again.

  Attributes:
    result: of the first call.
    first_seconds: of compiling it and the first call.
    peak: bytes that it needs besides its arguments.
  """

  def __init__(self, function: Callable, *shapes: Any, carried: bool = False):
    self.carried = carried
    jitted = jax.jit(function, donate_argnums=(0,) if carried else ())
    self._lowered = jitted.lower(*shapes)

  def compile(self) -> None:
    """Compiles it, in whatever thread."""
    start = time.perf_counter()
    self._compiled = self._lowered.compile()
    self._lowered = None
    self.first_seconds = time.perf_counter() - start
    self.peak = measure.peak_memory(self._compiled)

  def start(self, first: Any, batch: Any) -> None:
    """Calls it for the first time."""
    start = time.perf_counter()
    self.result = jax.block_until_ready(self._compiled(first, batch))
    self.first_seconds += time.perf_counter() - start
    self._operands = [self.result[0] if self.carried else first, batch]

  def call(self) -> Any:
    """Calls it with the state that it returned, if it is a step."""
    result = self._compiled(*self._operands)
    if self.carried:
      self._operands[0] = result[0]
    return result

  def text(self) -> str:
    """Returns the compiled program in XLA's words."""
    return self._compiled.as_text()

  def forget(self) -> None:
    """Gives the memory back."""
    self._compiled = self._operands = self.result = None


def _run(call: Callable[[], Any], times: int) -> Any:
  for _ in range(times):
    result = call()
  return result


def _predict(model: Any, variables: Any, image: jax.Array) -> jax.Array:
  logits = model.apply(variables, image, train=False)["logits"]
  return jnp.argmax(logits, axis=-1)


class Died(Exception):
  """A process ended before it had answered."""


class Rival:
  """The same network in PyTorch, in a process that does what it is asked.

  Attributes:
    first_seconds: of the first call of each way, compilation included.
    result: of these calls: classes, or the loss.
    note: how each runs.
    peak: most bytes that were allocated, on a GPU, else None.
  """

  def __init__(self, name: str, arguments: argparse.Namespace):
    self._folder = tempfile.TemporaryDirectory()
    words = {k: v for k, v in vars(arguments).items() if k != "rival"}
    words |= {"one": name, "folder": self._folder.name}
    self._process = subprocess.Popen(
      [sys.executable, sys.argv[0], "--rival", json.dumps(words)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )

  def wait(self) -> None:
    """Waits until it is ready to be asked."""
    self.note = self._answer()

  def ask(self, word: str, way: str) -> None:
    """Waits until it is done: "begin" a way, or "run" it."""
    way = way.partition(",")[0]
    print(word, way, file=self._process.stdin, flush=True)
    answer = self._answer()
    if word == "begin":
      self.note, self.first_seconds = answer["note"], answer["first_seconds"]
      self.result = np.load(pathlib.Path(self._folder.name) / f"{way}.npy")
    self.peak = answer["peak"]

  def end(self) -> None:
    """Ends the process, whatever it does."""
    self._process.kill()
    self._process.wait()
    self._folder.cleanup()

  def _answer(self) -> Any:
    for line in self._process.stdout:
      if line.startswith("ANSWER "):
        return json.loads(line[7:])
      print(line, end="")
    raise Died(f"PyTorch's process ended with {self._process.wait()}.")


def _serve(arguments: argparse.Namespace) -> None:
  """The life of a rival's process."""
  torch = Torch(arguments)
  answer = functools.partial(print, "ANSWER", flush=True)
  if arguments.cuda:
    for way in ("inference", "train"):
      torch.prepare(way)
  answer(json.dumps("ready"))
  for line in sys.stdin:
    word, way = line.split()
    said = {}
    if word == "begin":
      said = torch.begin(way)
    else:
      torch.run(way, torch.calls)
    answer(json.dumps(said | {"peak": torch.peak()}))


class Torch:
  """The same network in PyTorch."""

  def __init__(self, arguments: argparse.Namespace):
    import torch
    import torch_networks

    self.torch = torch
    case = Case(arguments.one, arguments)
    case.draw()
    self.calls, self.folder = case.calls, pathlib.Path(arguments.folder)
    if arguments.cuda and not torch.cuda.is_available():
      raise SystemExit(
        "JAX has a GPU and torch has none: install its CUDA build"
      )
    self.device = "cuda" if arguments.cuda else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
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
    self.functions: dict[str, Callable] = {}
    self.said: dict[str, dict[str, Any]] = {}

  def prepare(self, way: str) -> None:
    """Compiles what is timed, and saves the result of its first call."""
    training = way == "train"
    self.network.train(training)
    eager = self._loss if training else self._classes
    said = {"note": "compiled" if self.compiles else "eager"}
    self.functions[way] = self.torch.compile(eager) if self.compiles else eager
    start = time.perf_counter()
    try:
      result = self.run(way, 1)
    except Exception as error:  # The compiler's, of any kind.
      if not self.compiles or isinstance(error, self.torch.OutOfMemoryError):
        raise
      said["note"] = f"eager, not compiled: {type(error).__name__}"
      print(way, said["note"], str(error)[:500], flush=True)
      self.functions[way] = eager
      result = self.run(way, 1)
    said["first_seconds"] = time.perf_counter() - start
    self.said[way] = said
    np.save(self.folder / f"{way}.npy", result.cpu().numpy())
    self.free()

  def begin(self, way: str) -> dict[str, Any]:
    """Makes ready for being timed; returns what is told of the way."""
    if way not in self.functions:
      self.prepare(way)
    self.free()
    self.network.train(way == "train")
    # Not before: its trials would disturb those of XLA, which compiles now.
    self.torch.backends.cudnn.benchmark = True
    self.run(way, 1)
    return self.said[way]

  def free(self) -> None:
    """Gives unused memory back."""
    if self.device == "cuda":
      self.torch.cuda.empty_cache()
      self.torch.cuda.reset_peak_memory_stats()

  def run(self, way: str, times: int) -> Any:
    """Calls so often, and waits."""
    result = _run(self._train if way == "train" else self._predict, times)
    if self.device == "cuda":
      self.torch.cuda.synchronize()
    return result

  def peak(self) -> int | None:
    """Returns the most bytes that were allocated since `free`, on a GPU."""
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
      return self.functions["inference"](self.image)

  def _train(self):
    self.optimizer.zero_grad(set_to_none=True)
    loss = self.functions["train"](self.image, self.label)
    loss.backward()
    self.optimizer.step()
    return loss.detach()


def _row(
  case: Case,
  way: str,
  ours: Ours,
  rival: Rival | None,
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
    "multiply_adds": count,
    "rate": flops / seconds,
    "program_mb": ours.peak / 2**20,
  }
  if case.calls == 1:  # Else many were compiled at once.
    row["first_step_seconds"] = ours.first_seconds
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
    "ratio": theirs / seconds,
  }
  if case.calls == 1:
    row["torch_first_step_seconds"] = rival.first_seconds
  if rival.peak:
    row["torch_peak_mb"] = rival.peak / 2**20
  if way == "train":
    row["torch_loss"] = float(rival.result)
  else:
    row["agreement"] = float((np.asarray(ours.result) == rival.result).mean())
    exact = case.calls == 1 and case.precision == "float32"
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
