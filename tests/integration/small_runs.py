"""Small runs in processes of their own, and what they leave behind."""

import json
import os
import pathlib
import subprocess
import sys

import PIL.Image

from fcnjax.data import scenes
from tests.faults import tiny

ROOT = pathlib.Path(__file__).parents[2]


def folder(root):
  """Writes 24 images and masks below `root`; returns the words of data."""
  source = scenes.Scenes("train", size=(48, 48), count=24)
  for kind in ("images", "masks"):
    (root / kind).mkdir()
  for index in range(len(source)):
    for kind, key in (("images", "image"), ("masks", "label")):
      picture = PIL.Image.fromarray(source[index][key])
      picture.save(root / kind / f"{index}.png")
  return [
    f"--config.data.images={root}/images",
    f"--config.data.masks={root}/masks",
    f"--config.data.num_classes={len(source.classes)}",
  ]


def flags(devices=1):
  """XLA's, as the tests have them (see conftest.py), but for the devices."""
  others = [
    f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f
  ]
  count = f"--xla_force_host_platform_device_count={devices}"
  return " ".join([count, *others])


def start(*words, compiled="", devices=1, **environment):
  """Starts Python; programs are kept in `compiled`."""
  return subprocess.Popen(
    [sys.executable, *map(str, words)],
    cwd=ROOT,
    env={
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "JAX_COMPILATION_CACHE_DIR": str(compiled),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
      "XLA_FLAGS": flags(devices),
      **environment,
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def records(workdir):
  """The figures without the timings."""
  path = workdir / "metrics.jsonl"
  if not path.is_file():
    return []
  found = []
  for line in path.read_text().splitlines():
    try:
      record = json.loads(line)
    except json.JSONDecodeError:  # Torn: the run is being killed.
      continue
    record.pop("images_per_second", None)
    record.pop("data_wait", None)
    found.append(record)
  return found


def state(workdir, step):
  """The leaves of a checkpoint."""
  return list(tiny.state(workdir, step).values())
