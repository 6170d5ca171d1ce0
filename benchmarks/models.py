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

The rows are saved as they come: benchmarks/results/models_{cpu_…,gpu}.json, or
models_all_… for `--all`. With `--only`, rows of the other networks stay.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent import futures
import functools
import json
import math
import os
import subprocess
import sys
import time
from typing import Any

import jax
import measure
import networks
import numpy as np
import torch_process

from fcnjax import models, profile
from fcnjax.training import host_memory

# Images a second that others have published, at the paper's size.
PUBLISHED = {
  ("unet", "train"): (141, "NVIDIA: A100, AMP, batch 8"),
  ("unet", "inference"): (463, "NVIDIA: A100, FP16, batch 16"),
}


def main() -> None:
  """Measures what is asked for and prints a table."""
  host_memory.keep_freed()  # As the commands do, for torch too.
  arguments = _arguments()
  if arguments.rival:
    torch_process.serve(arguments)
    return
  if arguments.one:
    for row in rows([arguments.one], arguments):
      print("ROW", json.dumps(row), flush=True)
    return
  began = time.perf_counter()
  names = arguments.only or (
    models.list_models() if arguments.all else networks.RACED
  )
  results = measure.Results(
    "models_all" if arguments.all else "models",
    keep=lambda row: arguments.only and row["network"] not in names,
    matrix_rate=measure.matrix_rate(arguments.precision),
    precision=arguments.precision,
    load_before=os.getloadavg()[0],
  )
  for row in _all_rows(names, arguments, began):
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
    "--ways",
    nargs="+",
    default=networks.WAYS,
    choices=networks.WAYS,
    help="what is measured",
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
      rivals = {name: torch_process.Rival(name, arguments) for name in names}
    for name in names:
      cases[name] = networks.Case(name, arguments)
      for ours in cases[name].ways.values():
        compiling[pool.submit(ours.compile)] = name
    done, late = futures.wait(compiling, arguments.wait)
    failed = {compiling[one]: f"not in {arguments.wait:.0f} s" for one in late}
    failed |= {compiling[one]: one.exception() for one in done}
    for name, rival in rivals.items():
      try:
        rival.wait()
      except torch_process.Died as error:
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
        except (torch_process.Died, jax.errors.JaxRuntimeError) as error:
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
    times["ours"] = functools.partial(networks.run, ours.call, case.calls)
    times = measure.interleaved(
      times, rounds=arguments.rounds, budget=12 if way == "train" else 4
    )
    yield _row(case, way, ours, rival, times)
    ours.forget()


def _row(
  case: networks.Case,
  way: str,
  ours: networks.Ours,
  rival: torch_process.Rival | None,
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
