"""image -> logits by the config's words, and what is refused."""

import jax
import numpy as np
import pytest

from fcnjax import errors, typing
from fcnjax.cli import build, defaults, workdir


def _scores(size):
  def apply(variables, image, *, train, rngs=None):
    del variables, train, rngs
    scores = image[:, : size[0] // 2, : size[1] // 2]
    logits = image[:, : size[0], : size[1]]
    coarse = typing.Coarse(scores, size, "half_pixel")
    return {"logits": logits, "coarse_logits": coarse}

  return apply


def test_coarse_scores_only_where_the_logits_are_one_call():
  image = np.zeros((1, 8, 6, 3), np.float32)
  config = defaults.get_config()
  found = build.predictor(config, _scores((8, 6)), coarse=True)({})(image)
  assert isinstance(found, typing.Coarse)
  for word, value in (("flip", True), ("multiple", 5), ("scales", (1.0, 2.0))):
    changed = defaults.get_config()
    with changed.unlocked():
      changed.evaluation[word] = value
    apply = _scores((99, 99))
    found = build.predictor(changed, apply, coarse=True)({})(image)
    assert found.shape == (1, 8, 6, 3)
    assert not isinstance(found, typing.Coarse)


@pytest.mark.parametrize(
  "words",
  [
    {},
    {"flip": True, "turns": True},
    {"multiple": 5},
    {"scales": (1.0, 1.5)},
    {"strategy": "sliding_window", "window": (4, 4)},
    {"strategy": "overlap_tile", "tile": (4, 4), "margin": 0, "stride": 1},
  ],
)
def test_bytes_are_normalised_on_the_device(words):
  """And what comes out is what normalised images gave."""
  given = []

  def apply(variables, image, *, train, rngs=None):
    del variables, train, rngs
    assert image.dtype == np.float32
    return {"logits": image}

  config = defaults.get_config()
  config.data.mean, config.data.std = (10.0, 20.0, 30.0), (50.0,)
  for name, value in words.items():
    config.evaluation[name] = value
  image = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), np.uint8)
  original = jax.jit

  def jit(function, **more):
    compiled = original(function, **more)

    def call(variables, x, *rest):
      given.append(x.dtype)
      return compiled(variables, x, *rest)

    return call

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(build.jax, "jit", jit)
    found = build.predictor(config, apply)({})(image)
  kinds = {np.dtype(np.uint8)}
  if "scales" in words:  # A view is resized before.
    kinds.add(np.dtype(np.float32))
  assert set(given) == kinds
  config.data.mean, config.data.std = (0.0,), (1.0,)
  normalised = (image - np.float32([10, 20, 30])) / np.float32(50)
  expected = build.predictor(config, apply)({})(normalised)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("key", ["mean", "std"])
def test_values_for_other_channels_are_refused(key):
  config = defaults.get_config()
  config.data[key] = (1.0, 2.0)
  with pytest.raises(errors.InputError, match=rf"{key}.*2.*3"):
    build.predictor(config, _scores((8, 6)))


@pytest.mark.parametrize("coarse", [False, True])
def test_a_network_of_valid_convolutions_is_refused_in_one_line(coarse):
  """Not scored by stretched logits."""
  config = defaults.get_config()
  image = np.zeros((1, 8, 6, 3), np.float32)
  predict = build.predictor(config, _scores((4, 2)), coarse=coarse)({})
  with pytest.raises(errors.InputError, match="use overlap_tile"):
    predict(image)

  def impossible(variables, image, *, train, rngs=None):
    raise ValueError("too small.")

  predict = build.predictor(config, impossible, coarse=coarse)({})
  with pytest.raises(errors.InputError, match="strategy=whole: too small"):
    predict(image)


def test_a_folded_network_predicts_the_same():
  config = defaults.get_config()
  config.model.name = "segnet_basic"
  config.model.options = {"width": 4, "kernel": 3, "depth": 2}
  model = build.model(config, num_classes=3)
  image = np.random.default_rng(0).normal(size=(1, 12, 10, 3))
  image = image.astype(np.float32)
  variables = jax.jit(model.init)(jax.random.key(0), image)
  rng = np.random.default_rng(1)
  stats = jax.tree.map(
    lambda leaf: rng.uniform(0.5, 2, leaf.shape).astype(np.float32),
    variables["batch_stats"],
  )
  variables = {**variables, "batch_stats": stats}
  classes = ("a", "b", "c")
  plain = workdir.network(config, classes, variables)(image)
  folded = workdir.network(config, classes, variables, folded=True)(image)
  np.testing.assert_allclose(folded, plain, rtol=1e-4, atol=1e-4)
  assert not np.array_equal(folded, plain)  # It was folded.
