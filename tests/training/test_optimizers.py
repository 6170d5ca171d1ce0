"""SGD and AdamW against torch, and groups by regular expression."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fcnjax import errors
from fcnjax.training import optimizers, schedules


def _params():
  random = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)  # noqa: E731
  return {
    "backbone": {"conv1": {"kernel": draw(3, 4), "bias": draw(4)}},
    "head": {"score": {"kernel": draw(4, 2), "bias": draw(2)}},
  }


def _gradients(step):
  random = np.random.default_rng(step + 1)
  return jax.tree.map(
    lambda p: jnp.asarray(random.normal(size=p.shape), jnp.float32), _params()
  )


def _run(optimizer, params, steps=5):
  state = optimizer.init(params)
  for step in range(steps):
    updates, state = optimizer.update(_gradients(step), state, params)
    params = optax.apply_updates(params, updates)
  return params


def _run_torch(torch, build, steps=5):
  """Runs the same gradients; returns the parameters in JAX's order."""
  leaves = [np.array(x) for x in jax.tree.leaves(_params())]
  tensors = [torch.nn.Parameter(torch.tensor(x)) for x in leaves]
  optimizer = build(tensors)
  for step in range(steps):
    for tensor, gradient in zip(tensors, jax.tree.leaves(_gradients(step))):
      tensor.grad = torch.tensor(np.array(gradient))
    optimizer.step()
  return [t.detach().numpy() for t in tensors]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_torch(nesterov):
  torch = pytest.importorskip("torch")
  params = _params()
  ours = _run(
    optimizers.sgd(
      0.1, params, momentum=0.9, weight_decay=0.01, nesterov=nesterov
    ),
    params,
  )
  theirs = _run_torch(
    torch,
    lambda p: torch.optim.SGD(
      p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov
    ),
  )
  for a, b in zip(jax.tree.leaves(ours), theirs):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_adamw_equals_torch():
  torch = pytest.importorskip("torch")
  params = _params()
  ours = _run(optimizers.adamw(0.01, params, weight_decay=0.1), params)
  theirs = _run_torch(
    torch, lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)
  )
  for a, b in zip(jax.tree.leaves(ours), theirs):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_caffes_biases_learn_twice_as_fast_and_do_not_decay():
  torch = pytest.importorskip("torch")
  params = _params()
  groups = (("bias$", 2.0, 0.0),)
  ours = _run(
    optimizers.sgd(0.1, params, momentum=0.9, weight_decay=0.01, groups=groups),
    params,
  )

  def build(tensors):
    biases = [t for t in tensors if t.ndim == 1]
    kernels = [t for t in tensors if t.ndim == 2]
    return torch.optim.SGD(
      [
        {"params": biases, "lr": 0.2, "weight_decay": 0.0},
        {"params": kernels, "lr": 0.1, "weight_decay": 0.01},
      ],
      momentum=0.9,
    )

  for a, b in zip(jax.tree.leaves(ours), _run_torch(torch, build)):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_the_first_pattern_decides():
  rates, decay = optimizers.factors(
    _params(), [("head/.*bias", 20.0, 0.0), ("head", 10.0), ("bias", 2.0, 0.5)]
  )
  assert rates["head"]["score"] == {"kernel": 10.0, "bias": 20.0}
  assert decay["head"]["score"] == {"kernel": 1.0, "bias": 0.0}
  assert rates["backbone"]["conv1"] == {"kernel": 1.0, "bias": 2.0}
  assert decay["backbone"]["conv1"] == {"kernel": 1.0, "bias": 0.5}


@pytest.mark.parametrize("build", [optimizers.sgd, optimizers.adamw])
def test_a_rate_of_zero_freezes_even_against_nan(build):
  params = _params()
  optimizer = build(
    0.1, params, weight_decay=0.1, groups=(("backbone", 0.0),), clip_norm=1.0
  )
  gradients = _gradients(0)
  broken = jax.tree.map(lambda g: g * jnp.nan, gradients["backbone"])
  updates, _ = optimizer.update(
    {**gradients, "backbone": broken}, optimizer.init(params), params
  )
  for update in jax.tree.leaves(updates["backbone"]):
    np.testing.assert_array_equal(update, 0)
  for update in jax.tree.leaves(updates["head"]):
    assert np.isfinite(np.asarray(update)).all()
    assert np.abs(np.asarray(update)).max() > 0


def test_clipping_bounds_the_global_norm():
  params = _params()
  optimizer = optimizers.sgd(1.0, params, momentum=0.0, clip_norm=0.5)
  updates, _ = optimizer.update(_gradients(0), optimizer.init(params), params)
  np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-5)


@pytest.mark.parametrize("pattern", ["decoder", "("])
def test_a_pattern_that_is_a_mistake_is_named(pattern):
  with pytest.raises(errors.InputError, match="optimizer.groups"):
    optimizers.sgd(0.1, _params(), groups=((pattern, 1.0),))


def test_schedules():
  step = schedules.steps(1.0, every=10, factor=0.1)
  np.testing.assert_allclose(
    [step(9), step(10), step(25)], [1, 0.1, 0.01], rtol=1e-6
  )
  poly = schedules.poly(0.007, total=100)
  for t in (0, 1, 50, 99, 100):
    np.testing.assert_allclose(
      poly(t), 0.007 * (1 - t / 100) ** 0.9, rtol=1e-4, atol=1e-9
    )
  warm = schedules.with_warmup(schedules.constant(2.0), warmup=4)
  np.testing.assert_allclose(
    [warm(t) for t in range(6)], [0.5, 1, 1.5, 2, 2, 2], rtol=1e-6
  )
  cosine = schedules.cosine(1.0, total=10)
  np.testing.assert_allclose([cosine(0), cosine(5)], [1, 0.5], rtol=1e-6)
