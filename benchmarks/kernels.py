"""Which of a GPU's kernels take the time of a network's train step.

  python benchmarks/kernels.py unet deeplabv3p_xception65

The profiler's trace of ten steps, the times of its kernels summed by the kind
of instruction that XLA made of the network: benchmarks/results/kernels_gpu.json
has the largest, and where in the network they come from.
"""

import argparse
import collections
import functools
import gzip
import pathlib
import re
import tempfile
import types
from typing import Any

import jax
import measure  # First of ours.
import networks

STEPS = 10
ROWS = 12  # Of each program.


def main() -> None:
  """Measures the networks that are named and prints the largest kernels."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("networks", nargs="+", choices=networks.RACED)
  parser.add_argument("--way", default="train", choices=networks.WAYS)
  parser.add_argument("--batch", type=int)
  parser.add_argument(
    "--programs", type=pathlib.Path, help="folder for what XLA made of them"
  )
  arguments = parser.parse_args()
  on_cpu = jax.default_backend() == "cpu"
  results = measure.Results(
    "kernels",
    keep=lambda row: (
      row["network"] not in arguments.networks or row["way"] != arguments.way
    ),
  )
  words = types.SimpleNamespace(
    sizes="small" if on_cpu else "paper",
    batch=arguments.batch,
    precision="float32" if on_cpu else "bfloat16",
    cuda=not on_cpu,
    ways=[arguments.way],
    rival=None,
  )
  for name in arguments.networks:
    for row in rows(name, arguments.way, words, arguments.programs):
      results.add(row)
      print(
        f"{row['network'][:22]:22} {row['ms']:8.2f} ms {row['share']:4.0%} "
        f"{row['calls']:5} {row['kind'][:36]}"
      )


def rows(
  name: str, way: str, words: Any, programs: pathlib.Path | None = None
) -> list[dict[str, Any]]:
  """Returns the largest kinds of kernels of a program."""
  case = networks.Case(name, words)
  (ours,) = case.ways.values()
  ours.compile()
  if programs:
    with gzip.open(programs / f"{name}.txt.gz", "wt") as file:
      file.write(ours.text())
  case.draw()
  ours.start(*case.operands(*case.ways))
  run = functools.partial(networks.run, ours.call, STEPS)
  jax.block_until_ready(run())
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      jax.block_until_ready(run())
    (trace,) = pathlib.Path(folder).rglob("*.xplane.pb")
    instructions = _instructions(jax.profiler.ProfileData.from_file(str(trace)))
  if programs:
    lines = sorted(instructions.items(), key=lambda item: -item[1][1])
    text = "\n".join(
      f"{ns / STEPS / 1e3:9.1f} us {op} {kernel}"
      for (op, kernel), (_, ns) in lines
    )
    (programs / f"{name}.kernels.txt").write_text(text)
  total = sum(ns for _, ns in instructions.values())
  kinds: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0])
  for (op, kernel), (calls, ns) in instructions.items():
    kind = re.sub(r"[.\d]+$", "", op)
    if kind.startswith(("custom-call", "cudnn")):
      kind = f"{kind}: {kernel}"
    kinds[kind][0] += calls
    kinds[kind][1] += ns
  largest = sorted(kinds.items(), key=lambda kind: -kind[1][1])[:ROWS]
  return [
    {
      "network": name,
      "way": way,
      "kind": kind,
      "calls": calls // STEPS,
      "ms": ns / STEPS / 1e6,
      "share": ns / total,
      "step_ms": total / STEPS / 1e6,
    }
    for kind, (calls, ns) in largest
  ]


def _instructions(data: Any) -> dict[tuple[str, str], tuple[int, float]]:
  """Returns number and nanoseconds of each instruction's kernels."""
  found: dict[tuple[str, str], list[float]] = {}
  for plane in data.planes:
    if not plane.name.startswith("/device:GPU"):
      continue
    for line in plane.lines:
      if not line.name.startswith("Stream"):
        continue
      for event in line.events:
        op = dict(event.stats).get("hlo_op", event.name)
        entry = found.setdefault((str(op), event.name), [0, 0.0])
        entry[0] += 1
        entry[1] += event.duration_ns
  return {key: (int(n), ns) for key, (n, ns) in found.items()}


if __name__ == "__main__":
  main()
