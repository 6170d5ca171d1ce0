"""The train step: accumulation, devices, collections, moving average."""

import functools

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fcnjax import models, typing
from fcnjax.ops import resizing
from fcnjax.training import optimizers, sharding, state as states, step


class Linear(nn.Module):
  """No batch norm, no dropout: accumulation must be exact."""

  @nn.compact
  def __call__(self, image, *, train=False):
    logits = nn.Conv(3, (3, 3), name="conv")(image)
    return {"logits": logits}


class Normed(nn.Module):
  """Batch norm, and a collection that only this module knows."""

  @nn.compact
  def __call__(self, image, *, train=False):
    x = nn.Conv(4, (3, 3), name="conv")(image)
    x = nn.BatchNorm(
      use_running_average=not train, momentum=0.9, epsilon=1e-5, name="bn"
    )(x)
    centres = self.variable("centres", "mean", jnp.zeros, (4,))
    if train and not self.is_initializing():
      centres.value = 0.5 * centres.value + 0.5 * x.mean((0, 1, 2))
    logits = nn.Conv(3, (1, 1), name="score")(x)
    return {"logits": logits, "aux_logits": 0.1 * logits}


def _batch(seed=0, size=8, side=9):
  random = np.random.default_rng(seed)
  label = random.integers(0, 3, (size, side, side)).astype(np.int32)
  label[0] = 255  # An image that is ignored throughout,
  label[3, :4] = 255  # and unevenly ignored ones.
  label[5, :, 2:] = 255
  return {
    "image": random.normal(size=(size, side, side, 3)).astype(np.float32),
    "label": label,
  }


def _setup(model, *, ema=False, **settings):
  batch = _batch()
  variables = jax.jit(model.init)(jax.random.key(0), batch["image"][:1])
  optimizer = optimizers.sgd(0.1, variables["params"], momentum=0.9)
  state = states.create(variables, optimizer, ema=ema)
  run = functools.partial(
    step.train_step,
    apply=model.apply,
    optimizer=optimizer,
    seed=0,
    **settings,
  )
  return state, run


@pytest.mark.parametrize("normalization", ["weights", "pixels", "sum"])
def test_accumulation_does_not_change_the_step(normalization):
  weights = {"class_weights": (0.5, 1.0, 2.0), "normalization": normalization}
  state, whole = _setup(Linear(), **weights)
  _, parts = _setup(Linear(), accumulate=4, **weights)
  a, metrics_a = jax.jit(whole)(state, _batch())
  b, metrics_b = jax.jit(parts)(state, _batch())
  np.testing.assert_allclose(metrics_a["loss"], metrics_b["loss"], rtol=1e-6)
  chex.assert_trees_all_close(a.params, b.params, rtol=1e-5, atol=1e-6)


def test_accumulation_over_devices_does_not_change_the_step():
  """Two parts of eight images, each spread over four devices."""
  state, whole = _setup(Linear())
  _, parts = _setup(Linear(), accumulate=2)
  mesh = sharding.create_mesh(data=4, batch_size=8)
  batch = sharding.to_devices(_batch(), mesh)
  a, metrics_a = jax.jit(whole)(state, _batch())
  b, metrics_b = jax.jit(parts)(
    jax.device_put(state, sharding.replicated(mesh)), batch
  )
  assert len(batch["image"].sharding.device_set) == 4
  np.testing.assert_allclose(metrics_a["loss"], metrics_b["loss"], rtol=1e-6)
  chex.assert_trees_all_close(
    a.params, jax.device_get(b.params), rtol=1e-5, atol=1e-6
  )


def test_sampling_counts_a_share_of_the_pixels_drawn_anew_at_each_step():
  """The loss of constant logits, summed, counts the pixels: log 3 each."""
  batch = _batch()
  state, run = _setup(Linear(), sampling=0.25, normalization="sum")
  zeros = jax.tree.map(jnp.zeros_like, state.params)
  valid = (batch["label"] != 255).sum()
  run, counts = jax.jit(run), []
  for number in range(3):
    start = state.replace(params=zeros, step=jnp.int32(number))
    _, metrics = run(start, batch)
    _, again = run(start, batch)
    assert metrics["loss"] == again["loss"]
    counts.append(float(metrics["loss"]) / np.log(3))
  assert len(set(counts)) == 3
  spread = 4 * np.sqrt(valid * 0.25 * 0.75)  # Four standard deviations.
  assert np.abs(np.array(counts) - 0.25 * valid).max() < spread


def test_sampling_does_not_depend_on_the_parts():
  state, whole = _setup(Linear(), sampling=0.5)
  _, parts = _setup(Linear(), sampling=0.5, accumulate=4)
  a, _ = jax.jit(whole)(state, _batch())
  b, _ = jax.jit(parts)(state, _batch())
  chex.assert_trees_all_close(a.params, b.params, rtol=1e-5, atol=1e-6)


def test_every_collection_is_carried():
  state, run = _setup(Normed(), aux_weight=0.4)
  new, metrics = jax.jit(run)(state, _batch())
  assert set(new.collections) == {"batch_stats", "centres"}
  for before, after in zip(
    jax.tree.leaves(state.collections), jax.tree.leaves(new.collections)
  ):
    assert not np.array_equal(before, after)
  assert new.step == 1
  assert bool(metrics["finite"])


def test_auxiliary_logits_add_their_share():
  losses = []
  for aux_weight in (0.0, 0.5, 1.0):
    state, run = _setup(Normed(), aux_weight=aux_weight)
    losses.append(float(jax.jit(run)(state, _batch())[1]["loss"]))
  np.testing.assert_allclose(
    losses[2] - losses[1], losses[1] - losses[0], rtol=1e-4
  )
  assert losses[1] > losses[0]


def test_moving_average():
  state, run = _setup(Linear(), ema=True, ema_decay=0.75)
  new, _ = jax.jit(run)(state, _batch())
  expected = jax.tree.map(
    lambda a, b: 0.75 * a + 0.25 * b, state.params, new.params
  )
  chex.assert_trees_all_close(new.ema, expected, rtol=1e-6)
  chex.assert_trees_all_equal(new.variables(averaged=True)["params"], new.ema)


def test_the_weight_of_a_batch_multiplies_its_pixels():
  state, run = _setup(Linear(), normalization="sum")
  batch = _batch()
  half = {**batch, "weight": np.full(batch["label"].shape, 0.5, np.float32)}
  whole = jax.jit(run)(state, batch)[1]["loss"]
  np.testing.assert_allclose(
    jax.jit(run)(state, half)[1]["loss"], whole / 2, rtol=1e-6
  )


def test_what_is_not_finite_is_said():
  state, run = _setup(Linear())
  batch = _batch()
  batch["image"][1, 0, 0, 0] = np.nan
  _, metrics = jax.jit(run)(state, batch)
  assert not bool(metrics["finite"])


def test_a_step_that_overflows_the_parameters_is_said():
  """Loss and gradient are of before the step, and finite."""
  state, run = _setup(Linear())
  overflow = optax.stateless(
    lambda u, p: jax.tree.map(lambda x: x + jnp.inf, u)
  )
  state = state.replace(opt_state=overflow.init(state.params))
  _, metrics = jax.jit(functools.partial(run, optimizer=overflow))(
    state, _batch()
  )
  assert np.isfinite(metrics["loss"])
  assert np.isfinite(metrics["gradient_norm"])
  assert not bool(metrics["finite"])


NETWORKS = {
  "unet_same": {"width": 4, "depth": 2, "norm": "batch"},
  "segnet_basic": {"width": 4, "depth": 2},
  "fcn8s_atonce_vgg16": {
    "widths": (2, 4, 4, 4, 4),
    "fc_channels": 8,
    "first_padding": 1,
    "norm": "batch",
  },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_eight_devices_train_as_one(name):
  """Same losses (relative 1e-5) and batch statistics, uneven ignored areas."""
  model = models.create_model(name, num_classes=3, **NETWORKS[name])
  image = _batch(side=16)["image"][:1]
  variables = jax.jit(model.init)(jax.random.key(0), image)
  optimizer = optimizers.sgd(0.05, variables["params"], momentum=0.9)
  results = {}
  for count in (1, 8):
    mesh = sharding.create_mesh(data=count, batch_size=8)
    state = states.create(variables, optimizer)
    placement = sharding.of_state(state, mesh, shard_parameters=False)
    state = jax.device_put(jax.device_get(state), placement)
    run = sharding.jitted(
      functools.partial(
        step.train_step, apply=model.apply, optimizer=optimizer, seed=0
      ),
      mesh,
      placement,
    )
    losses = []
    for t in range(4):
      batch = sharding.to_devices(_batch(t, side=16), mesh)
      state, metrics = run(state, batch)
      losses.append(float(metrics["loss"]))
    results[count] = losses, jax.device_get(state.collections)
  np.testing.assert_allclose(results[1][0], results[8][0], rtol=1e-5)
  chex.assert_trees_all_close(
    results[1][1], results[8][1], rtol=1e-4, atol=1e-6
  )


def test_a_mesh_of_as_many_devices_as_divide_the_batch():
  assert sharding.create_mesh(batch_size=8).size == 8
  assert sharding.create_mesh(batch_size=6).size == 6
  assert sharding.create_mesh(batch_size=7).size == 7
  assert sharding.create_mesh(batch_size=9).size == 3
  assert sharding.create_mesh(batch_size=1).size == 1


class TwoTasks(nn.Module):
  """Scores of three classes and of two."""

  @nn.compact
  def __call__(self, image, *, train=False):
    logits = nn.Conv(5, (3, 3), name="conv")(image)
    return {"logits": logits[..., :3], "second_logits": logits[..., 3:]}


@pytest.mark.parametrize("normalization", ["weights", "sum"])
def test_the_losses_of_two_tasks_are_added(normalization):
  """And accumulation, which splits the second labels too, changes nothing."""
  words = {"normalization": normalization, "class_weights": (0.5, 1.0, 2.0)}
  state, run = _setup(TwoTasks(), **words)
  batch = _batch()
  second = np.where(batch["label"] == 255, 255, batch["label"] % 2)
  second[2] = 255
  both = {**batch, "second_label": second}
  _, first = jax.jit(run)(state, batch)
  new, metrics = jax.jit(run)(state, both)
  logits = TwoTasks().apply({"params": state.params}, batch["image"])
  valid = second != 255
  shares = jax.nn.log_softmax(logits["second_logits"])
  chosen = np.take_along_axis(
    np.asarray(shares), np.where(valid, second, 0)[..., None], axis=-1
  )[..., 0]
  divisor = 1 if normalization == "sum" else valid.sum()
  expected = -chosen[valid].sum() / divisor
  np.testing.assert_allclose(
    metrics["loss"] - first["loss"], expected, rtol=2e-5
  )
  _, parts = _setup(TwoTasks(), accumulate=4, **words)
  again, _ = jax.jit(parts)(state, both)
  chex.assert_trees_all_close(new.params, again.params, rtol=1e-5, atol=1e-6)


def test_no_gradient_is_computed_of_what_is_frozen():
  """Not even of a layer whose gradient is not a number."""

  class Network(nn.Module):
    @nn.compact
    def __call__(self, image, *, train=False):
      scale = self.param("frozen", nn.initializers.zeros, (3,))
      # sqrt(0) is 0, and its slope infinite.
      x = image + jnp.sqrt(scale).reshape(1, 1, 1, -1)
      return {"logits": nn.Conv(3, (3, 3), name="conv")(x)}

  state, run = _setup(Network())
  _, metrics = jax.jit(run)(state, _batch())
  assert not metrics["finite"]
  trained = optimizers.trained(state.params, (("frozen", 0.0, 0.0),))
  assert trained["frozen"] is False
  assert all(jax.tree.leaves(trained["conv"]))
  _, run = _setup(Network(), trained=trained)
  new, metrics = jax.jit(run)(state, _batch())
  assert metrics["finite"]
  assert metrics["gradient_norm"] > 0
  np.testing.assert_array_equal(new.params["frozen"], 0)


class Interpolated(nn.Module):
  """Scores of stride 8, interpolated; trained on them, or on the logits."""

  coarse: bool

  @nn.compact
  def __call__(self, image, *, train=False):
    scores = nn.Conv(12, (8, 8), strides=8, name="conv")(image)
    coarse = typing.Coarse(scores, image.shape[1:3], "align_corners")
    logits = resizing.resize_bilinear(
      scores, coarse.size, convention=coarse.convention
    )
    outputs = {"logits": logits, "aux_logits": logits}
    if self.coarse:
      outputs |= {"coarse_logits": coarse, "coarse_aux_logits": coarse}
    return outputs


def test_a_step_on_coarse_scores_is_the_same_and_computes_no_logits():
  side = 320  # 39 MB of logits: by tiles.
  steps = {}
  for coarse in (False, True):
    state, run = _setup(Interpolated(coarse), aux_weight=0.4)
    batch = _batch(side=side)
    compiled = jax.jit(run).lower(state, batch).compile()
    steps[coarse] = compiled.memory_analysis(), *compiled(state, batch)
  logits, coarse = steps[False], steps[True]
  np.testing.assert_allclose(logits[2]["loss"], coarse[2]["loss"], rtol=1e-5)
  chex.assert_trees_all_close(
    logits[1].params, coarse[1].params, rtol=1e-4, atol=1e-6
  )
  size = 4 * 8 * side * side * 12
  assert logits[0].temp_size_in_bytes > 3 * size
  assert coarse[0].temp_size_in_bytes < size


def test_a_skipped_step_changes_nothing_but_two_numbers():
  state, run = _setup(Normed(), ema=True, ema_decay=0.9, skip=True)
  run = jax.jit(run)
  state, metrics = run(state, _batch())
  assert (int(metrics["skipped_steps"]), bool(metrics["finite"])) == (0, True)
  spoilt = _batch(1)
  spoilt["image"][2, 0, 0, 0] = np.nan
  after, metrics = run(state, spoilt)
  assert (int(metrics["skipped_steps"]), bool(metrics["finite"])) == (1, False)
  chex.assert_trees_all_equal(
    after, state.replace(step=jnp.int32(2), skipped=jnp.int32(1))
  )
  # Nor does it change what a good step does.
  _, plain = _setup(Normed(), ema=True, ema_decay=0.9)
  expected, _ = jax.jit(plain)(after, _batch(2))
  chex.assert_trees_all_equal(run(after, _batch(2))[0], expected)


@pytest.mark.parametrize("make", [optimizers.sgd, optimizers.adamw])
def test_the_scale_is_a_factor_of_the_learning_rate(make):
  model = Linear()
  variables = model.init(jax.random.key(0), _batch()["image"][:1])

  def after(rate, scale):
    optimizer = make(rate, variables["params"], weight_decay=0.1)
    state = states.create(variables, optimizer)
    state = state.replace(scale=jnp.float32(scale))
    run = jax.jit(
      functools.partial(
        step.train_step, apply=model.apply, optimizer=optimizer, seed=0
      )
    )
    for number in range(3):
      state, _ = run(state, _batch(number))
    return state.params

  chex.assert_trees_all_close(after(0.1, 0.25), after(0.025, 1.0), rtol=1e-5)
