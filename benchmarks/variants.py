"""What the configs' variants for a CPU reach, and in what time.

  python benchmarks/variants.py train unet.py:camvid_small \
      --root DATA/camvid --runs runs
  python benchmarks/variants.py page

`train` trains a variant as a user would and saves a JSON below
benchmarks/results/; `page` writes docs/results.md from all of them.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Mean IoU of histograms over colour and position, which learn no structure:
# benchmarks/colour_floor.py for the scenes.
FLOORS = {"camvid": 0.238, "isbi2012": 0.570, "scenes": 0.111}


def main() -> None:
  """Trains one variant, or writes the page."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("action", choices=("train", "page"))
  parser.add_argument("variant", nargs="?", help="unet.py:camvid_small")
  parser.add_argument("--root", default="", help="data.root")
  parser.add_argument("--runs", default="runs", help="for the workdirs")
  arguments = parser.parse_args()
  if arguments.action == "train":
    train(arguments.variant, arguments.root, pathlib.Path(arguments.runs))
  write_page()


def train(variant: str, root: str, runs: pathlib.Path) -> None:
  """Trains in a new workdir and saves what came out."""
  name = re.sub(r"\W", "_", variant.replace(".py", ""))
  workdir = runs / f"{name}-{int(time.time())}"
  command = [
    "python",
    "train.py",
    f"--config=configs/{variant}",
    f"--workdir={workdir}",
  ]
  if root:
    command.append(f"--config.data.root={root}")
  began = time.time()
  subprocess.run([sys.executable, *command[1:]], cwd=ROOT, check=True)
  save(name, variant, workdir, command, time.time() - began)


def save(
  name: str,
  variant: str,
  workdir: pathlib.Path,
  command: list[str],
  seconds: float,
) -> None:
  """Saves a finished run's figures with device, versions, date, command."""
  scores = json.loads((workdir / "evaluation.json").read_text())
  config = json.loads((workdir / "config.json").read_text())
  shown = " ".join(command).replace(str(workdir), "DIR")
  shown = re.sub(r"root=\S+", "root=ROOT", shown)
  result = {
    "variant": variant,
    "data": config["data"]["source"],
    "model": config["model"],
    "steps": config["steps"],
    "batch_size": config["batch_size"],
    "split": scores["split"],
    "images": scores["images"],
    "mean_iou": scores["mean_iou"],
    "pixel_accuracy": scores["pixel_accuracy"],
    "mean_accuracy": scores["mean_accuracy"],
    "iou": dict(zip(scores["classes"], scores["iou"])),
    "minutes": round(seconds / 60, 1),
    "command": shown,
    "date": datetime.date.today().isoformat(),
    "device": f"{os.cpu_count()} CPU cores, {_processor()}",
    "versions": {
      package: importlib.metadata.version(package)
      for package in ("jax", "flax", "optax", "numpy", "tensorflow-cpu")
    }
    | {"python": platform.python_version()},
  }
  RESULTS.mkdir(parents=True, exist_ok=True)
  path = RESULTS / f"variant_{name}.json"
  path.write_text(json.dumps(result, indent=2) + "\n")
  print(path)


def _processor() -> str:
  for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
    if line.startswith("model name"):
      return line.split(":")[1].strip()
  return platform.machine()


def write_page() -> None:
  """Writes docs/results.md; it holds no number that no file holds."""
  lines = [
    "# Results",
    "",
    "Written by `python benchmarks/variants.py page` from",
    "`benchmarks/results/variant_*.json`, which hold device, versions, date",
    "and command of each run. The floor is the mean IoU of a histogram over",
    "colour and position, which learns no structure. Every network starts from",
    "noise, also where the paper starts from another one.",
    "",
    "One run each. Rates, sizes and numbers of steps were chosen on the very",
    "images that are scored here (validation images; of CamVid the test",
    "images), so the scores flatter; the embedded scenes have no separate test",
    "split. The variants `fcn.py:scenes_*` train on scenes enlarged to twice",
    "their size and are scored on scenes enlarged likewise, `dilation.py` has",
    "larger scenes with more objects: scores of unlike sizes do not compare.",
    "The minutes of `scenes_32s`, `scenes_16s`, `scenes_8s`, `scenes_alexnet`",
    "and `scenes_googlenet` were measured beside other load and are too many.",
    "",
    "| config | network | split | mean IoU | floor | pixels | minutes |",
    "|---|---|---|---|---|---|---|",
  ]
  results = [
    json.loads(path.read_text())
    for path in sorted(RESULTS.glob("variant_*.json"))
  ]
  for r in results:
    lines.append(
      f"| `{r['variant']}` | {r['model']['name']} | {r['split']}, "
      f"{r['images']} images | **{r['mean_iou']:.3f}** | "
      f"{FLOORS[r['data']]:.3f} | {r['pixel_accuracy']:.3f} | "
      f"{r['minutes']:g} |"
    )
  for device in sorted({r["device"] for r in results}):
    lines += ["", f"On {device}."]
  for r in results:
    lines += ["", f"## `{r['variant']}`", "", f"    {r['command']}", ""]
    lines += ["| class | IoU |", "|---|---|"]
    for name, value in r["iou"].items():
      lines.append(f"| {name} | {'–' if value is None else f'{value:.3f}'} |")
  (ROOT / "docs" / "results.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  main()
