"""A train step on a mesh: compiled, run, and what is in its program."""

import functools
import math
import re

import jax
import numpy as np

from fcnjax.training import optimizers, sharding, state as states, step

# Results of a collective in a program's text: types and sizes.
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]")


def collectives(program, name):
  """Returns each such collective of a program: bytes that a device is given.

  Several, if it has several arrays.
  """
  found = []
  for line in program.splitlines():
    head, word, _ = line.partition(f" {name}(")
    if not word:
      head, word, _ = line.partition(f" {name}-start(")
    if word:
      results = _SHAPE.findall(head.partition("=")[2])
      found.append([_bytes(kind, sides) for kind, sides in results])
  return found


def _bytes(kind, sides):
  """Returns the bytes of an array, of XLA's words for it: f32, "3,4"."""
  bits = 8 if kind == "pred" else int(re.search(r"\d+", kind)[0])
  return bits // 8 * math.prod(int(side) for side in sides.split(",") if side)


def variables_of(model, size, seed=0):
  """Returns variables that are nowhere zero, drawn without compiling."""
  image = jax.ShapeDtypeStruct((1, *size, model.in_channels), np.float32)
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  shapes = jax.eval_shape(lambda x: model.init(keys, x), image)
  random = np.random.default_rng(seed)

  def draw(path, leaf):
    if path[0].key != "params":
      return np.full(leaf.shape, path[-1].key == "var", np.float32)
    noise = random.normal(size=leaf.shape).astype(np.float32)
    if path[-1].key == "kernel":
      return noise * np.float32((2 / math.prod(leaf.shape[:-1])) ** 0.5)
    return noise * np.float32(0.1) + np.float32(path[-1].key == "scale")

  return jax.tree_util.tree_map_with_path(draw, shapes)


def batch_of(model, variables, size, *, count, seed=0):
  """Returns images and labels, some of which are ignored."""
  random = np.random.default_rng(seed)
  image = random.normal(size=(count, *size, model.in_channels))
  image = image.astype(np.float32)
  outputs = jax.eval_shape(lambda x: model.apply(variables, x), image)
  *area, classes = outputs["logits"].shape
  label = random.integers(0, classes, area).astype(np.int32)
  label[0, : area[1] // 3] = 255
  return {"image": image, "label": label}


class Spread:
  """A train step of a network on a mesh, compiled.

  Attributes:
    mesh: where it runs.
    state: before the first step.
  """

  def __init__(
    self, model, variables, batch, *, data=1, space=1, shard=False, **words
  ):
    count = len(batch["image"])
    self.mesh = sharding.create_mesh(data=data, space=space, batch_size=count)
    optimizer = optimizers.sgd(0.05, variables["params"], momentum=0.9)
    state = states.create(variables, optimizer)
    placement = sharding.of_state(
      state, self.mesh, shard_parameters=shard, least=1
    )
    self._state = jax.device_get(state)
    self._placement = placement
    run = sharding.jitted(
      functools.partial(
        step.train_step,
        apply=model.apply,
        optimizer=optimizer,
        seed=0,
        aux_weight=0.4,
        takes_label=getattr(model, "takes_label", False),
        **words,
      ),
      self.mesh,
      placement,
    )
    batch = sharding.to_devices(batch, self.mesh)
    self._compiled = run.lower(self.state, batch).compile()

  @property
  def state(self):
    """A fresh one, since a step takes what it is given."""
    return jax.device_put(self._state, self._placement)

  def step(self, state, batch):
    """Returns the state behind a step, and its loss."""
    batch = sharding.to_devices(batch, self.mesh)
    state, metrics = self._compiled(state, batch)
    return state, float(metrics["loss"])

  def losses(self, batches):
    """Returns the loss of each batch, one step after another."""
    state, found = self.state, []
    for batch in batches:
      state, loss = self.step(state, batch)
      found.append(loss)
    return np.array(found)

  def gradients(self, batch):
    """Returns the first step's gradients, flat, and its loss."""
    state, loss = self.step(self.state, batch)
    # What the momentum holds after one step.
    (trace,) = (s.trace for s in state.opt_state if hasattr(s, "trace"))
    leaves = [np.ravel(x) for x in jax.tree.leaves(jax.device_get(trace))]
    return np.concatenate(leaves), loss

  def collectives(self, name):
    """Returns the bytes of each array that such a collective gives a device."""
    return sum(collectives(self._compiled.as_text(), name), [])

  def memory(self):
    """Returns bytes of a device, for all that the step takes and makes."""
    found = self._compiled.memory_analysis()
    kept = found.argument_size_in_bytes + found.output_size_in_bytes
    return kept - found.alias_size_in_bytes + found.temp_size_in_bytes

  def held(self):
    """Returns bytes of a device, for the state and the batch."""
    return self._compiled.memory_analysis().argument_size_in_bytes
