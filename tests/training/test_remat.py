"""Stages computed again: the same step, with less kept and more computed.

What autodiff keeps is counted in the program. XLA's CPU compiler joins what is
computed twice, so that its memory does not fall; no claim is made there.
"""

import functools

import chex
import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import models
from fcnjax.training import optimizers, state as states, step

# Every kind of backbone and decoder, small.
NETWORKS = {
  "unet_same": {"width": 4, "depth": 2, "norm": "batch", "dropout": 0.5},
  "segnet_basic": {"width": 4, "kernel": 3},
  "segnet_vgg16": {"widths": (4, 4, 4, 4, 4), "dropout": 0.5},
  "fcn8s_vgg16": {"widths": (4,) * 5, "fc_channels": 8, "first_padding": 1},
  "fcn32s_alexnet": {"widths": (4, 4, 4, 4, 4), "fc_channels": 8},
  "fcn32s_googlenet": {"width": 0.05, "norm": "batch"},
  "fcn_resnet50": {"widths": (4, 4, 4, 4)},
  "deeplabv3p_xception41": {"channels": 4},
  "dilation7": {"widths": (4, 4, 4, 4, 4), "fc_channels": 8},
  "hdnet_resnet50": {"channels": 8, "widths": (4, 4, 4, 4)},
}


def _step(name, remat, size=(33, 40), batch=2, **more):
  """Returns the jitted step and its arguments' shapes."""
  words = NETWORKS.get(name, {}) | more
  model = models.create_model(name, num_classes=3, **words)
  image = jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image)
  optimizer = optimizers.sgd(0.1, variables["params"], momentum=0.9)
  run = functools.partial(
    step.train_step,
    apply=model.apply,
    optimizer=optimizer,
    seed=0,
    takes_label=getattr(model, "takes_label", False),
    remat=remat,
  )
  label = jax.ShapeDtypeStruct((batch, *size), jnp.int32)
  state = jax.eval_shape(lambda v: states.create(v, optimizer), variables)
  return jax.jit(run), state, {"image": image, "label": label}


def _convolutions(program):
  """Returns how many there are, and how often something is computed again."""
  found = again = 0
  for eqn in program.eqns:
    found += eqn.primitive.name in ("conv_general_dilated", "dot_general")
    again += eqn.primitive.name.startswith(("remat", "checkpoint"))
    for inner in core.jaxprs_in_params(eqn.params):
      more = _convolutions(inner)
      found, again = found + more[0], again + more[1]
  return found, again


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_are_computed_a_second_time(name):
  """Their first convolutions: what a stage gives is never computed again."""
  counts = {}
  for remat in step.REMATS:
    run, *arguments = _step(name, remat)
    counts[remat] = _convolutions(run.trace(*arguments).jaxpr.jaxpr)
  assert counts["none"][1] == 0
  assert counts["stage"][1] > 0
  # Forward, and of kernels and maps backward: a third of them again.
  forward = counts["none"][0] / 3
  assert forward / 4 < counts["stage"][0] - counts["none"][0] < 1.1 * forward


@pytest.mark.parametrize("name", NETWORKS)
def test_less_is_kept(name):
  """Bytes that the forward pass leaves for the backward one."""
  model = models.create_model(name, num_classes=3, **NETWORKS[name])
  image = jax.ShapeDtypeStruct((2, 33, 40, 3), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image)
  rest = {k: v for k, v in variables.items() if k != "params"}
  bytes_kept = {}
  for remat in step.REMATS:

    def pullback(params, rest, image, remat=remat):
      def logits(params, image):
        outputs, _ = model.apply(
          {"params": params, **rest},
          image,
          train=True,
          mutable=list(rest),
          rngs={"dropout": jax.random.key(0)},
        )
        return outputs["logits"]

      forward = step.rematerialised(logits, remat)
      return jax.vjp(lambda p: forward(p, image), params)[1]

    arguments = (variables["params"], rest, image)
    program = jax.make_jaxpr(pullback)(*arguments).jaxpr
    given = set(program.invars)
    kept = {
      v for v in program.outvars if isinstance(v, core.Var) and v not in given
    }
    bytes_kept[remat] = sum(v.aval.size * v.aval.dtype.itemsize for v in kept)
  assert bytes_kept["stage"] < 0.6 * bytes_kept["none"]


@pytest.mark.parametrize("name", ["unet_same", "segnet_basic"])
def test_the_step_is_the_same(name):
  """Loss, parameters and statistics, and what dropout drops."""
  results = {}
  for remat in step.REMATS:
    run, state, batch = _step(name, remat, size=(16, 20))

    def draw(leaf):
      rng = np.random.default_rng(leaf.size)
      return np.abs(rng.normal(size=leaf.shape)).astype(leaf.dtype) * 0.3

    image = np.random.default_rng(1).normal(size=batch["image"].shape)
    label = np.random.default_rng(2).integers(0, 3, batch["label"].shape)
    results[remat] = run(
      jax.tree.map(draw, state),
      {"image": image.astype(np.float32), "label": label.astype(np.int32)},
    )
  chex.assert_trees_all_close(
    results["none"], results["stage"], rtol=1e-4, atol=1e-6
  )
