"""Kills runs of three networks, and counts those that end as if nothing was.

  python benchmarks/reliability.py run
  python benchmarks/reliability.py page

`run` trains each network once to its end, and then again and again, killed by
SIGKILL at random times, from its start to its last word, once to three times,
by SIGKILL while a checkpoint is being written, or stopped by SIGTERM at a
random time; the same command then resumes. Two ends are the same if every array
of the last checkpoint, every line of metrics.jsonl (but for the times in it)
and evaluation.json are equal, bit for bit. What has a row already is not run
again. `page` writes the table into docs/reliability.md.

The runs are forks of one process that has imported fcnjax and used nothing of
it: what an import takes is not waited for seventy times. TMPDIR says where they
write.
"""

import argparse
import contextlib
import importlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "results" / "reliability_{}.json"
MARKS = ("<!-- benchmarks/reliability.py -->", "<!-- to here -->")

STEPS = 24
IMAGES, SIZE = 24, 48
COMMON = (
  f"--config.steps={STEPS}",
  "--config.batch_size=4",
  "--config.log_every=1",
  "--config.eval_every=12",
  "--config.checkpoint_every=3",
  "--config.evaluation.overlays=1",
  "--config.data.resident=on",
  "--config.mesh.data=1",
)
_CROP = "('random_crop',{'size':(32,32)}),('flip',{})"
# AdamW, SGD with momentum; batch norm, dropout, fixed and learned upsampling;
# averaged parameters, averaged statistics; batches drawn by class, mixed. Those
# of tf.data are killed in tests/integration/test_resume.py.
NETWORKS = {
  "unet_same": (
    "--config=configs/unet.py:folder",
    "--config.model.options.width=2",
    "--config.model.options.depth=2",
    "--config.model.options.dropout=0.5",
    "--config.ema_decay=0.9",
    "--config.data.sampling=class_balanced",
    "--config.data.mixing=(('cut_mix',{}),)",
    f"--config.data.transforms=({_CROP},('photometric',{{}}))",
  ),
  "segnet_basic": (
    "--config=configs/segnet.py:folder",
    "--config.model.options.width=4",
    "--config.statistics_batches=2",
    f"--config.data.transforms=({_CROP})",
  ),
  "fcn8s_vgg16": (
    "--config=configs/fcn.py:folder",
    "--config.model.options.widths=(4,4,4,4,4)",
    "--config.model.options.fc_channels=8",
    "--config.optimizer.name=sgd",
    f"--config.data.transforms=({_CROP})",
  ),
}
KILL, WRITE, TERM = (
  "SIGKILL at random times",
  "SIGKILL during a checkpoint write",
  "SIGTERM at a random time",
)
COUNTS = {WRITE: 5, TERM: 5, KILL: 25}
CODES = {KILL: -signal.SIGKILL, WRITE: -signal.SIGKILL, TERM: 75}


def main() -> None:
  """Runs what has no row yet, or writes the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("action", choices=("run", "page", "serve"))
  action = parser.parse_args().action
  if action == "run":
    run()
  elif action == "serve":
    serve()  # for `run` alone
  else:
    PAGE.write_text(page(PAGE.read_text()))
    print(PAGE)


def run() -> None:
  """Kills and resumes, and writes each row as it comes."""
  import measure  # The page needs no JAX.

  results = measure.Results("reliability", keep=lambda row: True)
  done = {(row["fault"], row["number"]) for row in results.record["rows"]}
  names = list(NETWORKS)
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    _write_images(root)
    runs, ends, seconds = Runs(root), {}, {}
    for fault, count in COUNTS.items():
      for number in range(count):
        if (fault, number) in done:
          continue
        network = names[number % len(names)]
        if network not in ends:
          runs.finish(network, root / network)
          ends[network] = _end(root / network)
          began = time.monotonic()
          runs.finish(network, root / f"{network}_again")  # All is compiled.
          seconds[network] = time.monotonic() - began
          if _end(root / f"{network}_again") != ends[network]:
            raise RuntimeError(f"{network}: two runs differ by themselves")
        workdir = root / f"{CODES[fault]}_{fault.split()[-1]}_{number}"
        row = _killed(runs, network, fault, number, workdir, seconds[network])
        row["identical"] = _end(workdir) == ends[network]
        results.add(row)
        print(row, flush=True)
  print(results.path)


def _write_images(root: pathlib.Path) -> None:
  import PIL.Image

  from fcnjax.data import scenes

  source = scenes.Scenes("train", size=(SIZE, SIZE), count=IMAGES)
  for kind, key in (("images", "image"), ("masks", "label")):
    (root / kind).mkdir()
    for index in range(IMAGES):
      picture = PIL.Image.fromarray(source[index][key])
      picture.save(root / kind / f"{index}.png")


class Runs:
  """Starts runs, one at a time, as forks of a process that is ready."""

  def __init__(self, root: pathlib.Path):
    """Starts that process; the images are in `root`, and programs are kept."""
    self._root = root
    environment = {
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "PYTHONPATH": str(ROOT),
      "PYTHONWARNINGS": "ignore",  # of forks
    }
    self._server = subprocess.Popen(
      [sys.executable, __file__, "serve"],
      cwd=ROOT,
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self._pid = 0

  def start(self, network: str, workdir: pathlib.Path) -> None:
    """Starts a run, or goes on with it."""
    words = [
      "train",
      *NETWORKS[network],
      *COMMON,
      f"--workdir={workdir}",
      f"--config.data.images={self._root}/images",
      f"--config.data.masks={self._root}/masks",
      "--config.data.num_classes=9",
    ]
    self._server.stdin.write(json.dumps(words) + "\n")
    self._server.stdin.flush()
    self._pid = int(self._server.stdout.readline())

  def ended(self) -> bool:
    """Whether it has ended."""
    try:
      os.kill(self._pid, 0)
    except ProcessLookupError:
      return True
    return False

  def send(self, number: int) -> None:
    """Sends a signal, unless the run has ended."""
    with contextlib.suppress(ProcessLookupError):
      os.kill(self._pid, number)

  def code(self) -> int:
    """Waits, and returns the exit code, or the signal's number below 0."""
    return int(self._server.stdout.readline())

  def finish(self, network: str, workdir: pathlib.Path) -> None:
    """Makes a run to its end."""
    self.start(network, workdir)
    if code := self.code():
      raise RuntimeError(f"{network} in {workdir}: {code}")


def serve() -> None:
  """Reads the words of a command, forks, prints its id and then its code."""
  from fcnjax.cli import main as command

  importlib.import_module("fcnjax.cli.train")  # It is imported late otherwise.
  told = os.dup(1)
  nothing = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nothing, 1)
  os.dup2(nothing, 2)
  for line in sys.stdin:
    child = os.fork()
    if not child:
      os.close(told)
      code = 1
      try:
        code = command.main(json.loads(line))
      finally:
        os._exit(code)
    os.write(told, f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _killed(
  runs: Runs,
  network: str,
  fault: str,
  number: int,
  workdir: pathlib.Path,
  seconds: float,
) -> dict[str, Any]:
  """Starts, kills and resumes a run; returns what is to be told of it.

  Args:
    runs: starts it.
    network: its name.
    fault: what happens to it.
    number: of the run, from which its random times follow.
    workdir: of the run.
    seconds: that one which nothing happens to takes.
  """
  chance = random.Random(f"{fault} {number}")
  wanted = 1 + number // len(NETWORKS) % 3 if fault == KILL else 1
  steps, torn, missed = [], [], 0
  while len(steps) < wanted:
    if missed == 20:
      raise RuntimeError(f"{fault}, {network}: never in time")
    runs.start(network, workdir)
    if fault == WRITE:
      _wait_for_a_write(runs, workdir, chance)
    else:
      time.sleep(chance.uniform(0, seconds))
    runs.send(signal.SIGTERM if fault == TERM else signal.SIGKILL)
    code = runs.code()
    if code not in (0, CODES[fault]):
      raise RuntimeError(f"{fault}, {network}: ended with {code}")
    torn = sorted(p.name for p in workdir.glob("checkpoints/*.incomplete"))
    if code == CODES[fault] and (torn or fault != WRITE):
      steps.append(max((x["step"] for x in _lines(workdir)), default=0))
      continue
    # It had ended, or was between two writes.
    missed += 1
    if not steps:
      shutil.rmtree(workdir, ignore_errors=True)
    elif code == 0:
      break
  row = {
    "fault": fault,
    "number": number,
    "network": network,
    "code": CODES[fault],
    "steps": steps,
    "saved": max((int(p.name) for p in workdir.glob("checkpoints/*")
                  if p.name.isdecimal()), default=0),
    "left": torn,
    "missed": missed,
  }  # fmt: skip
  runs.finish(network, workdir)
  return row


def _wait_for_a_write(
  runs: Runs, workdir: pathlib.Path, chance: random.Random
) -> None:
  """Waits for a random step, for a write after it, and a little longer."""
  lines = chance.randint(1, STEPS - 2)
  while not runs.ended() and len(_lines(workdir)) < lines:
    time.sleep(0.005)
  while not runs.ended() and not _writes(workdir):
    time.sleep(0.0005)
  time.sleep(chance.uniform(0, 0.02))


def _writes(place: pathlib.Path) -> bool:
  return any(
    n.endswith(".incomplete") for n in os.listdir(place / "checkpoints")
  )


def _lines(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of metrics.jsonl, without times and torn ones."""
  path = workdir / "metrics.jsonl"
  found = []
  for line in path.read_text().splitlines() if path.is_file() else ():
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      continue
    for name in ("images_per_second", "data_wait"):
      record.pop(name, None)
    found.append(record)
  return found


def _end(workdir: pathlib.Path) -> tuple[Any, ...]:
  """Returns all that a run ended with: equal if it ended bit-identically."""
  import jax
  import numpy as np

  from fcnjax import checkpoints

  saved = checkpoints.Checkpoints(workdir / "checkpoints", writing=False)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
    saved.tree(STEPS),
  )
  leaves = jax.tree_util.tree_leaves_with_path(saved.restore(STEPS, abstract))
  saved.close()
  arrays = [
    (jax.tree_util.keystr(path), leaf.dtype.name, np.asarray(leaf).tobytes())
    for path, leaf in leaves
  ]
  scores = json.loads((workdir / "evaluation.json").read_text())
  return arrays, _lines(workdir), scores


def page(text: str) -> str:
  """Returns docs/reliability.md with the table of what was recorded."""
  before, rest = text.split(MARKS[0])
  _, after = rest.split(MARKS[1])
  lines = []
  for kind in ("cpu_amd", "cpu_intel", "cpu"):
    path = pathlib.Path(str(RESULTS).format(kind))
    if path.is_file():
      lines += _table(json.loads(path.read_text()))
  lines = lines or ["No result has been recorded yet."]
  table = "\n".join(lines)
  return f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}"


def _table(record: dict[str, Any]) -> list[str]:
  versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
  lines = [
    f"{record['device']}; {versions}; {record['date']}.",
    "",
    "| fault | network | runs | killed after step | exit code | bit-identical "
    "ends |",
    "|---|---|---|---|---|---|",
  ]
  total: list[dict[str, Any]] = []
  for fault in COUNTS:
    for network in NETWORKS:
      rows = [
        row
        for row in record["rows"]
        if (row["fault"], row["network"]) == (fault, network)
      ]
      if not rows:
        continue
      total += rows
      steps = ", ".join("+".join(map(str, row["steps"])) for row in rows)
      codes = ", ".join(sorted({str(row["code"]) for row in rows}))
      same = sum(row["identical"] for row in rows)
      cells = (fault, network, len(rows), steps, codes, same)
      lines.append(f"| {' | '.join(map(str, cells))} |")
  same = sum(row["identical"] for row in total)
  kills = sum(len(row["steps"]) for row in total)
  missed = sum(row["missed"] for row in total)
  return [
    *lines,
    "",
    f"Together: {same} of {len(total)}, by {kills} signals (0: before the "
    f"first step; 3+9: killed twice). {missed} more came when the run had "
    "ended, or between two writes, and are not counted.",
  ]


if __name__ == "__main__":
  main()
