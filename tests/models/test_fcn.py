"""FCN on VGG16 against the numbers of the paper and of the release."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import models
from fcnjax.models import fcn

SMALL = {"widths": (2, 2, 4, 4, 4), "fc_channels": 6}


def _shapes(name, size, **options):
  """Returns the parameters' and all modules' output shapes, by name."""
  model = models.create_model(name, num_classes=21, **options)
  image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image)
  _, captured = jax.eval_shape(
    lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=True),
    variables,
    image,
  )
  head = captured["intermediates"]["head"]
  outputs = {k: v["__call__"][0] for k, v in head.items() if k != "__call__"}
  outputs |= captured["intermediates"]["backbone"]["__call__"][0]
  return variables["params"], outputs


def _count(params):
  return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
  ("name", "upsampling", "expected"),
  [
    ("fcn32s_vgg16", "fixed", 134_346_581),
    ("fcn16s_vgg16", "fixed", 134_346_581 + 10_773),
    ("fcn8s_vgg16", "fixed", 134_362_751),
    ("fcn8s_atonce_vgg16", "fixed", 134_362_751),
    ("fcn32s_vgg16", "learned", 134_346_581 + 1_806_336),
    ("fcn8s_vgg16", "learned", 134_362_751 + 127_008),
    ("fcn32s_vgg16", "intermediate_learned", 134_346_581),
    ("fcn8s_vgg16", "intermediate_learned", 134_362_751 + 2 * 4**2 * 21**2),
  ],
)
def test_parameters(name, upsampling, expected):
  params, _ = _shapes(name, (64, 64), upsampling=upsampling)
  assert _count(params) == expected


@pytest.mark.parametrize(
  ("size", "pools", "fc6", "upscore32", "ups16", "ups8"),
  [
    (500, (349, 175, 88, 44, 22), 16, 544, (34, 560), (34, 70, 568)),
    (384, (291, 146, 73, 37, 19), 13, 448, (28, 464), (28, 58, 472)),
    (224, (211, 106, 53, 27, 14), 8, 288, (18, 304), (18, 38, 312)),
  ],
)
def test_size_chain(size, pools, fc6, upscore32, ups16, ups8):
  chains = {
    "fcn32s_vgg16": {"upscore": upscore32},
    "fcn16s_vgg16": dict(zip(("upscore2", "upscore16"), ups16)),
    "fcn8s_vgg16": dict(zip(("upscore2", "upscore_pool4", "upscore8"), ups8)),
  }
  for name, chain in chains.items():
    _, outputs = _shapes(name, (size, size))
    chain |= {f"stage{i}": side for i, side in enumerate(pools, 1)}
    for layer, side in (chain | {"fc6": fc6, "score_fr": fc6}).items():
      assert outputs[layer].shape[1:3] == (side, side), (name, layer)


def _pooled(side, padding):
  """Returns the sides of pool3, pool4 and pool5."""
  side, sides = side + 2 * (padding - 1), []
  for _ in range(5):
    side = -(-side // 2)
    sides.append(side)
  return sides[2:]


def _head(stride, padding, classes=1, channels=1):
  return fcn.Head(
    num_classes=classes,
    stride=stride,
    pool_scales=(1.0, 1.0),
    upsampling="fixed",
    first_padding=padding,
    fc_channels=channels,
    dropout=0.0,
    dtype="float32",
    bn_momentum=0.9,
  )


@pytest.mark.parametrize("padding", [100, 1])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_no_crop_leaves_the_map_at_any_size(padding, stride):
  # Sizes repeat after 32 pixels; 1 x 1 is the smallest there is.
  head = _head(stride, padding)
  for side in (*range(1, 34, 3), 32, *range(225, 258, 4)):
    features = {
      f"stage{i}": jnp.zeros((1, n, n, 1))
      for i, n in zip((3, 4, 5), _pooled(side, padding))
    }
    logits, _ = jax.eval_shape(
      lambda f, side=side: head.init_with_output(
        jax.random.key(0), f, size=(side, side), train=False
      ),
      features,
    )
    assert logits.shape == (1, side, side, 1)


@pytest.mark.parametrize("padding", [100, 1])
@pytest.mark.parametrize(
  ("stride", "score"),
  [
    (32, "score_fr"),
    (16, "score_fr"),
    (8, "score_fr"),
    (16, "score_pool4"),
    (8, "score_pool4"),
    (8, "score_pool3"),
  ],
)
def test_scores_land_on_the_pixels_they_come_from(padding, stride, score):
  """Features that say where they lie come out as the pixel's own place.

  A cell of pool i is centred on pixel 2^i j + (2^i - 1) / 2 - (padding - 1).
  """
  side = 421
  features = {}
  for i, n in zip((3, 4, 5), _pooled(side, padding)):
    place = 2**i * np.arange(n) + (2**i - 1) / 2 - (padding - 1)
    grid = place[:, None] + 1000 * place[None, :] + 1e6  # ReLU keeps it.
    features[f"stage{i}"] = jnp.asarray(grid[None, ..., None], jnp.float32)
  head = _head(stride, padding)
  params = head.init(
    jax.random.key(0), features, size=(side, side), train=False
  )["params"]
  params["fc6"]["kernel"] = jnp.full((7, 7, 1, 1), 1 / 49)
  params["fc7"]["kernel"] = jnp.ones((1, 1, 1, 1))
  params[score]["kernel"] = jnp.ones((1, 1, 1, 1))
  logits = head.apply(
    {"params": params}, features, size=(side, side), train=False
  )
  # Away from the borders, where zeros are mixed in.
  inner = slice(160, 260)
  pixel = np.arange(side)
  expected = (pixel[:, None] + 1000 * pixel[None, :] + 1e6)[inner, inner]
  np.testing.assert_allclose(
    logits[0, inner, inner, 0], expected, rtol=3e-7, atol=0.2
  )


@pytest.fixture(scope="module")
def trained():
  """FCN-32s with scores that are not zero, and an image."""
  model = models.create_model("fcn32s_vgg16", num_classes=3, **SMALL)
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.normal(size=(1, 150, 121, 3)), jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), image)
  kernel = jnp.asarray(rng.normal(size=(1, 1, 6, 3)), jnp.float32)
  return model, variables, _with_scores(variables, kernel), image


def _with_scores(variables, kernel):
  head = variables["params"]["head"]
  score = head["score_fr"] | {"kernel": kernel}
  params = variables["params"] | {"head": head | {"score_fr": score}}
  return variables | {"params": params}


def _scores_and_logits(model, variables, image):
  outputs, captured = model.apply(
    variables, image, capture_intermediates=True, mutable=["intermediates"]
  )
  scores = captured["intermediates"]["head"]["score_fr"]["__call__"][0]
  return np.asarray(scores), np.asarray(outputs["logits"])


def test_an_untrained_net_says_zero(trained):
  model, fresh, _, image = trained
  assert not np.any(model.apply(fresh, image)["logits"])


def test_32s_is_bilinear_upsampling_of_its_scores(trained):
  model, _, variables, image = trained
  scores, logits = _scores_and_logits(model, variables, image)
  assert np.abs(scores).max() > 0.1
  # As in the deconvolution, what lies outside of the scores is zero.
  padded = np.pad(scores, ((0, 0), (1, 1), (1, 1), (0, 0)))
  _, h, w, k = padded.shape
  resized = jax.image.resize(padded, (1, 32 * h, 32 * w, k), "bilinear")
  # Padded cell 1 lies on pixel 47.5 there, and on pixel 12.5 of the image.
  expected = resized[:, 35:, 35:][:, : image.shape[1], : image.shape[2]]
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fcn32s_vgg16", "fcn8s_vgg16"])
def test_learned_upsampling_starts_as_the_fixed_one(name):
  image = jnp.asarray(np.random.default_rng(1).normal(size=(1, 33, 40, 3)))
  logits = {}
  for upsampling in fcn.UPSAMPLINGS:
    model = models.create_model(
      name, num_classes=3, upsampling=upsampling, first_padding=1, **SMALL
    )
    variables = jax.jit(model.init)(jax.random.key(0), image)
    head = variables["params"]["head"]
    for score in [score for score in head if score.startswith("score")]:
      shape = head[score]["kernel"].shape
      head[score]["kernel"] = jnp.sin(jnp.arange(np.prod(shape))).reshape(shape)
    logits[upsampling] = np.asarray(model.apply(variables, image)["logits"])
  assert np.abs(logits["fixed"]).max() > 0.01
  for value in logits.values():
    np.testing.assert_allclose(value, logits["fixed"], rtol=1e-4, atol=1e-5)


def test_at_once_is_8s_with_scaled_pools():
  image = jnp.asarray(np.random.default_rng(1).normal(size=(1, 33, 40, 3)))
  options = SMALL | {"first_padding": 1}
  plain = models.create_model("fcn8s_vgg16", num_classes=3, **options)
  once = models.create_model("fcn8s_atonce_vgg16", num_classes=3, **options)
  variables = jax.jit(once.init)(jax.random.key(0), image)
  head = variables["params"]["head"]
  scaled = dict(head)
  for score, scale in (("score_pool4", 0.01), ("score_pool3", 0.0001)):
    kernel = jnp.full((1, 1, 4, 3), 100.0)
    head[score] = head[score] | {"kernel": kernel}
    scaled[score] = head[score] | {"kernel": scale * kernel}
  expected = plain.apply(
    {"params": variables["params"] | {"head": scaled}}, image
  )["logits"]
  logits = once.apply(variables, image)["logits"]
  assert np.abs(expected).max() > 0.01
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["fcn16s_vgg16", "fcn8s_vgg16"])
def test_a_finer_net_starts_from_the_coarse_predictions(trained, name):
  model, _, variables, image = trained
  scores, coarse = _scores_and_logits(model, variables, image)
  finer = models.create_model(name, num_classes=3, **SMALL)
  fresh = jax.jit(finer.init)(jax.random.key(7), image)
  logits = np.asarray(
    finer.apply(fcn.init_finer(variables, fresh), image)["logits"]
  )

  # How far a pixel lies from the nearest cell of the scores, in cells.
  def distance(side):
    cell = (np.arange(side) - 12.5) / 32
    return np.abs(cell - np.round(cell))

  # The second doubling rounds off the ends of what the first left straight.
  edge = 0.25 if name == "fcn16s_vgg16" else 0.375
  rows, columns = (distance(side) > edge for side in image.shape[1:3])
  same = rows[:, None] & columns[None, :]
  assert same.mean() > 0.9 * (1 - 2 * edge) ** 2
  np.testing.assert_allclose(
    logits[:, same], coarse[:, same], rtol=1e-4, atol=1e-6
  )
  # Elsewhere the difference is small against how crooked the scores are.
  padded = np.pad(scores, ((0, 0), (2, 2), (2, 2), (0, 0)))
  crooked = sum(np.abs(np.diff(padded, 2, axis=a)).max() for a in (1, 2))
  assert np.abs(logits - coarse).max() < crooked / 8
  assert np.abs(logits - coarse).max() > 1e-3 * crooked
