"""HDNet's parts against NumPy and torch, and the numbers of its code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import profile
from fcnjax.models import hdnet
from fcnjax.ops import attention
from fcnjax.training import optimizers, schedules, state as states, step


@pytest.mark.parametrize(
  ("classes", "parameters"),
  [(59, 23_955_773), (150, 24_002_456), (171, 24_013_229)],
)
def test_parameters_of_the_head(classes, parameters):
  x = jax.ShapeDtypeStruct((1, 8, 8, 2048), jnp.float32)
  head = hdnet.Head(classes)
  shapes = jax.eval_shape(
    lambda x: head.init(jax.random.key(0), x, train=False), x
  )
  params = shapes["params"]
  assert sum(p.size for p in jax.tree.leaves(params)) == parameters
  location = jax.tree.leaves(params["location"])
  assert sum(p.size for p in location) == 328_449


@pytest.mark.parametrize("size", [3, 5, 19])
def test_surroundings_equal_loops(size):
  x = np.random.default_rng(0).normal(size=(1, 7, 9, 2)).astype(np.float32)
  reach = size // 2
  for kind, function in (("mean", np.mean), ("max", np.max)):
    got = hdnet.surroundings(jnp.asarray(x), size, kind)
    for i in range(7):
      for j in range(9):
        window = x[
          0,
          max(0, i - reach) : i + reach + 1,
          max(0, j - reach) : j + reach + 1,
        ]
        np.testing.assert_allclose(
          got[0, i, j], function(window, axis=(0, 1)), rtol=1e-4, atol=1e-5
        )


def test_cosines_equal_torch():
  torch = pytest.importorskip("torch")
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 2, 4, 5, 6)).astype(np.float32)
  x[0, 0, 0] = 0
  got = attention.cosine_similarity(x, y)
  expected = torch.nn.functional.cosine_similarity(
    torch.from_numpy(x), torch.from_numpy(y), dim=-1
  )
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
  gradient = jax.grad(lambda x: attention.cosine_similarity(x, y).sum())(x)
  assert np.isfinite(gradient).all()


def test_channel_attention_equals_torch():
  """The released module of DANet, written out."""
  torch = pytest.importorskip("torch")
  x = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
  flat = torch.from_numpy(x).permute(0, 3, 1, 2).flatten(2)
  energy = flat @ flat.transpose(1, 2)
  new = energy.max(-1, keepdim=True)[0].expand_as(energy) - energy
  expected = (torch.softmax(new, -1) @ flat).reshape(2, 6, 4, 5)
  np.testing.assert_allclose(
    attention.channel_attention(x),
    expected.permute(0, 2, 3, 1),
    rtol=1e-4,
    atol=1e-5,
  )


@pytest.mark.parametrize("init", ["means", "random"])
def test_centres_move_as_the_code_says(init):
  rng = np.random.default_rng(0)
  features = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
  label = rng.integers(0, 3, (2, 3, 4)).astype(np.int32)  # class 3: never
  label[0, 0] = 255
  module = hdnet.ClassCentres(4, mu=0.8, start=init)
  variables = module.init(jax.random.key(0), features, None)
  table = np.array(variables["centres"]["table"])
  seen = np.zeros(4, bool)
  for _ in range(3):
    loss, variables = module.apply(
      variables, features, label, mutable=["centres"]
    )
    valid = label != 255
    logits = features[valid] @ table.T
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -logits[np.arange(valid.sum()), label[valid]].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    for k in range(3):
      mean = features[label == k].mean(0)
      mu = 0.0 if init == "means" and not seen[k] else 0.8
      moved = mu * table[k] + (1 - mu) * mean
      table[k] = moved / np.linalg.norm(moved)
      seen[k] = True
    np.testing.assert_allclose(
      variables["centres"]["table"], table, rtol=1e-4, atol=1e-6
    )


def test_a_step_moves_the_centres_and_adds_a_tenth_of_their_loss():
  model = hdnet.HDNet(
    num_classes=3,
    depths=(1, 1, 1, 3),
    widths=(2, 2, 2, 2),
    channels=8,
    output_stride=16,
  )
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.normal(size=(2, 32, 32, 3)).astype(np.float32),
    "label": rng.integers(0, 3, (2, 32, 32)).astype(np.int32),
  }
  batch = jax.tree.map(jnp.asarray, batch)
  variables = jax.jit(model.init)(jax.random.key(0), batch["image"])
  optimizer = optimizers.sgd(
    schedules.constant(0.1), variables["params"], momentum=0.9
  )

  def run(model):
    train_step = functools.partial(
      step.train_step,
      apply=model.apply,
      optimizer=optimizer,
      seed=0,
      takes_label=True,
    )
    return jax.jit(train_step)(states.create(variables, optimizer), batch)

  (state, metrics), (_, double) = run(model), run(model.clone(hfd_weight=0.2))
  assert np.any(state.collections["centres"]["centres"]["seen"])
  _, plain = run(model.clone(hfd_weight=1e-12))
  extra = metrics["loss"] - plain["loss"]
  assert extra > 0
  np.testing.assert_allclose(double["loss"] - plain["loss"], 2 * extra, 1e-3)


def test_the_head_sees_as_far_as_its_ranges():
  assert profile.receptive_field([(k, 1) for k in (3, 19, 3, 3)])[0] == 25
