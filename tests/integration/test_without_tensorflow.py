"""Where TensorFlow, torch and matplotlib are missing, networks still train."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.integration import small_runs

MISSING = """
import sys

class Without:
  def __init__(self, finder):
    self.finder = finder

  def __getattr__(self, name):
    return getattr(self.finder, name)

  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in MISSING:
      return None
    return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
"""

LIBRARY = """
import fcnjax
assert "jax" not in sys.modules, "import fcnjax must be quick"

import functools
import jax
import numpy as np
from fcnjax import losses, profile
from fcnjax.data import examples, images, scenes, sources, weight_maps
from fcnjax.data.checking import checks
from fcnjax.inference import tiles, whole
from fcnjax.metrics import boundary, confusion
from fcnjax.ops import convolution, normalization, pooling, resizing
from fcnjax.training import evaluation, optimizers, sharding, state, step

source = scenes.Scenes("train", count=4)
batch = {
  "image": np.stack([source[i]["image"] for i in range(4)]).astype(np.float32),
  "label": np.stack([source[i]["label"] for i in range(4)]).astype(np.int32),
}
model = fcnjax.create_model(
  "unet_same", num_classes=len(source.classes), width=2, depth=2
)
variables = model.init(jax.random.key(0), batch["image"][:1])
optimizer = optimizers.sgd(1e-3, variables["params"])
run = jax.jit(functools.partial(
  step.train_step, apply=model.apply, optimizer=optimizer, seed=0))
new, metrics = run(state.create(variables, optimizer), batch)
assert np.isfinite(metrics["loss"]) and int(new.step) == 1
predict = lambda image: model.apply(new.variables(), image / 255)["logits"]
matrix = evaluation.evaluate(
  predict,
  examples.evaluation_examples(source),
  num_classes=len(source.classes),
)
assert matrix.sum() == (batch["label"] != 255).sum()
assert not {"tensorflow", "torch", "matplotlib"} & set(sys.modules)
print("fine")
"""

RUNS = """
import json, os, pathlib, signal
import jax
import numpy as np
from fcnjax import checkpoints
from fcnjax.cli import main
from fcnjax.training import loop

def train(name, steps, *more):
  return main.main([
    "train", "--config=configs/unet.py", f"--workdir={name}",
    f"--config.steps={steps}",
    "--config.eval_every=100", "--config.checkpoint_every=100",
    "--config.log_every=1", "--config.evaluation.overlays=1",
    "--config.model.options.width=2", "--config.model.options.depth=2",
    "--config.statistics_batches=2",
    "--config.data.transforms=(('random_scale',{}),('elastic',{}),"
    "('random_crop',{'size':(32,32)}),('flip',{}),('photometric',{}))",
    *more,
  ])

def state(name, step):
  saved = checkpoints.Checkpoints(pathlib.Path(name, "checkpoints").resolve(),
                                  writing=False)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
    saved.tree(step))
  found = saved.restore(step, abstract)
  saved.close()
  return found

def losses(name):
  lines = pathlib.Path(name, "metrics.jsonl").read_text().splitlines()
  records = map(json.loads, lines)
  return {r["step"]: r["loss"] for r in records if r["split"] == "train"}

root = sys.argv[1]
assert train(root + "/off", 4, "--config.data.resident=off") == 2
assert not pathlib.Path(root, "off").exists()
assert train(root + "/whole", 4) == 0
config = json.loads(pathlib.Path(root, "whole", "config.json").read_text())
assert config["resolved"]["batches"] == "resident"

# Another is ended in its first step, saves, and goes on.
to_devices, seen = loop.sharding.to_devices, []
def ending(batch, mesh):
  seen.append(1)
  if len(seen) == 2:
    os.kill(os.getpid(), signal.SIGTERM)
  return to_devices(batch, mesh)
loop.sharding.to_devices = ending
assert train(root + "/parts", 4) == 75
# Batches go to the device one ahead: the second did so within the first step.
assert sorted(losses(root + "/parts")) == [1]
loop.sharding.to_devices = to_devices
assert train(root + "/parts", 4) == 0
assert losses(root + "/parts") == losses(root + "/whole")
ours, theirs = (
  jax.tree.leaves(state(root + name, 4)) for name in ("/parts", "/whole"))
assert len(ours) == len(theirs)
for one, other in zip(ours, theirs):
  np.testing.assert_array_equal(one, other)
assert not {"tensorflow", "torch"} & set(sys.modules)
print("fine")
"""


def _run(missing, script, *arguments, compiled=""):
  script = MISSING.replace("in MISSING", f"in {missing!r}") + script
  result = subprocess.run(
    [sys.executable, "-c", script, *arguments],
    cwd=pathlib.Path(__file__).parents[2],
    env={
      **os.environ,
      "XLA_FLAGS": small_runs.flags(),
      "JAX_COMPILATION_CACHE_DIR": compiled,
    },
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.splitlines()[-1] == "fine"
  return result


def test_everything_but_the_pipeline_runs():
  _run({"tensorflow", "torch", "matplotlib"}, LIBRARY)


@pytest.mark.slow
def test_a_run_trains_and_resumes_bit_for_bit(tmp_path):
  """By the commands, from the training set in memory."""
  result = _run(
    {"tensorflow", "torch"}, RUNS, str(tmp_path), compiled=str(tmp_path / "c")
  )
  assert "TensorFlow is not installed" in result.stderr + result.stdout
  assert "training set held on the device: 1024 images" in result.stdout
