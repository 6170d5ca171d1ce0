"""A network, its images and what is done with it, for other benchmarks."""

import argparse
from collections.abc import Callable
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np

from fcnjax import models
from fcnjax.models import folding
from fcnjax.training import optimizers, state as states, step

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

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-5, 0.9, 1e-4
IGNORED = 0.05  # share of the pixels


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


def _predict(model: Any, variables: Any, image: jax.Array) -> jax.Array:
  logits = model.apply(variables, image, train=False)["logits"]
  return jnp.argmax(logits, axis=-1)


def run(call: Callable[[], Any], times: int) -> Any:
  """Calls so often; returns the last result."""
  for _ in range(times):
    result = call()
  return result
