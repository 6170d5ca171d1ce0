"""Where TensorFlow, torch and matplotlib are missing, networks still train."""

import subprocess
import sys

SCRIPT = """
import sys

class Missing:
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in {"tensorflow", "torch", "matplotlib"}:
      raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

import fcnjax
assert "jax" not in sys.modules, "import fcnjax must be quick"

import functools
import jax
import numpy as np
from fcnjax import losses, profile
from fcnjax.data import checks, examples, images, scenes, sources, weight_maps
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
predict = lambda image: model.apply(new.variables(), image)["logits"]
matrix = evaluation.evaluate(
  predict,
  examples.evaluation_examples(source, mean=0.0, std=255.0),
  num_classes=len(source.classes),
)
assert matrix.sum() == (batch["label"] != 255).sum()
assert not {"tensorflow", "torch", "matplotlib"} & set(sys.modules)
print("fine")
"""


def test_everything_but_the_pipeline_runs():
  result = subprocess.run(
    [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == "fine"
