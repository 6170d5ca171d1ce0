"""PyTorch's side of benchmarks/models.py, in a process of its own."""

import argparse
from collections.abc import Callable
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import networks
import numpy as np


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


def serve(arguments: argparse.Namespace) -> None:
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
    case = networks.Case(arguments.one, arguments)
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
      lr=networks.LEARNING_RATE,
      momentum=networks.MOMENTUM,
      weight_decay=networks.WEIGHT_DECAY,
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
    step = self._train if way == "train" else self._predict
    result = networks.run(step, times)
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
