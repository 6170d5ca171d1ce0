"""FCN on VGG16 against the numbers of the paper and of the release."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import models, profile, trees
from fcnjax.models import fcn

SIZE = (150, 121)  # Of the image in tests of numbers, pixels.


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


def _head(stride, padding=100, classes=1, channels=1, **options):
  settings = {
    "num_classes": classes,
    "stride": stride,
    "pool_scales": (1.0, 1.0),
    "upsampling": "fixed",
    "first_padding": padding,
    "fc_channels": channels,
    "dropout": 0.0,
    "dtype": "float32",
    "bn_momentum": 0.9,
  }
  return fcn.Head(**settings | options)


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
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_scores_land_on_the_pixels_they_come_from(padding, stride):
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
  apply = jax.jit(
    lambda p: head.apply(
      {"params": p}, features, size=(side, side), train=False
    )
  )

  def pointwise(weight):
    kernel = jnp.full((1, 1, 1, 1), weight, jnp.float32)
    return {"kernel": kernel, "bias": jnp.zeros(1)}

  # Away from the borders, where zeros are mixed in.
  inner = slice(160, 260)
  pixel = np.arange(side)
  expected = (pixel[:, None] + 1000 * pixel[None, :] + 1e6)[inner, inner]
  scores = {32: ["score_fr"], 16: ["score_fr", "score_pool4"]}.get(
    stride, ["score_fr", "score_pool4", "score_pool3"]
  )
  for only in scores:
    params = {score: pointwise(float(score == only)) for score in scores}
    params["fc6"] = {"kernel": jnp.full((7, 7, 1, 1), 1 / 49)}
    params["fc6"]["bias"] = jnp.zeros(1)
    params["fc7"] = pointwise(1.0)
    logits = apply(params)[0, inner, inner, 0]
    np.testing.assert_allclose(logits, expected, rtol=3e-7, atol=0.2)


@pytest.fixture(scope="module")
def features():
  """What VGG16 could give for an image of SIZE, in four channels."""
  rng = np.random.default_rng(0)
  maps = {}
  sides = zip(*(_pooled(side, 100) for side in SIZE))
  for i, (h, w) in zip((3, 4, 5), sides):
    maps[f"stage{i}"] = jnp.asarray(rng.uniform(size=(1, h, w, 4)), jnp.float32)
  return maps


def _init(head, features):
  key = jax.random.key(0)
  return head.init(key, features, size=SIZE, train=False)["params"]


def _apply(head, params, features):
  logits, captured = head.apply(
    {"params": params},
    features,
    size=SIZE,
    train=False,
    capture_intermediates=True,
    mutable=["intermediates"],
  )
  scores = captured["intermediates"]["score_fr"]["__call__"][0]
  return np.asarray(scores), np.asarray(logits)


def _with_scores(params, *, only=("score_fr", "score_pool4", "score_pool3")):
  """Returns the parameters with scores that are not zero."""
  rng = np.random.default_rng(1)
  scores = {}
  for name in [name for name in params if name in only]:
    kernel = rng.normal(size=params[name]["kernel"].shape)
    scores[name] = params[name] | {"kernel": jnp.asarray(kernel, jnp.float32)}
  return params | scores


@pytest.mark.parametrize("stride", [32, 8])
def test_an_untrained_net_says_zero(features, stride):
  head = _head(stride, classes=3, channels=6)
  params = _init(head, features)
  assert np.any(params["fc6"]["kernel"])
  assert not np.any(_apply(head, params, features)[1])


def test_32s_is_bilinear_upsampling_of_its_scores(features):
  head = _head(32, classes=3, channels=6)
  params = _with_scores(_init(head, features))
  scores, logits = _apply(head, params, features)
  assert np.abs(scores).max() > 0.1
  # As in the deconvolution, what lies outside of the scores is zero.
  padded = np.pad(scores, ((0, 0), (1, 1), (1, 1), (0, 0)))
  _, h, w, k = padded.shape
  resized = jax.image.resize(padded, (1, 32 * h, 32 * w, k), "bilinear")
  # Padded cell 1 lies on pixel 47.5 there, and on pixel 12.5 of the image.
  expected = resized[:, 35 : 35 + SIZE[0], 35 : 35 + SIZE[1]]
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [32, 8])
@pytest.mark.parametrize("upsampling", ["intermediate_learned", "learned"])
def test_learned_upsampling_starts_as_the_fixed_one(
  features, stride, upsampling
):
  fixed = _head(stride, classes=3, channels=6)
  learned = _head(stride, classes=3, channels=6, upsampling=upsampling)
  params = _with_scores(_init(learned, features))
  same = {k: v for k, v in params.items() if not k.startswith("upscore")}
  assert (
    len(params) - len(same)
    == {
      (32, "intermediate_learned"): 0,
      (32, "learned"): 1,
      (8, "intermediate_learned"): 2,
      (8, "learned"): 3,
    }[stride, upsampling]
  )
  _, expected = _apply(fixed, same, features)
  _, logits = _apply(learned, params, features)
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_at_once_scales_the_pools(features):
  assert models.create_model("fcn8s_atonce_vgg16", num_classes=3).head.keywords[
    "pool_scales"
  ] == (0.01, 0.0001)
  plain = _head(8, classes=3, channels=6)
  once = _head(8, classes=3, channels=6, pool_scales=(0.01, 0.0001))
  params = _with_scores(_init(plain, features))
  scaled = dict(features)
  scaled["stage4"], scaled["stage3"] = (
    scale * features[stage]
    for stage, scale in (("stage4", 0.01), ("stage3", 0.0001))
  )
  _, expected = _apply(plain, params, scaled)
  _, logits = _apply(once, params, features)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
  _, unscaled = _apply(plain, params, features)
  assert np.abs(unscaled - logits).max() > 0.1


@pytest.mark.parametrize(("stride", "edge"), [(16, 0.25), (8, 0.375)])
def test_a_finer_net_starts_from_the_coarse_predictions(features, stride, edge):
  """Equal `edge` cells from the cells, and close to it elsewhere."""
  coarse, finer = (_head(s, classes=3, channels=6) for s in (32, stride))
  params = _with_scores(_init(coarse, features))
  fresh = {"params": {"head": _init(finer, features)}}
  merged, dropped = trees.merge(
    {"params": {"head": params}}, fresh, drop=("score_pool",)
  )
  assert dropped
  scores, before = _apply(coarse, params, features)
  same_scores, after = _apply(finer, merged["params"]["head"], features)
  np.testing.assert_array_equal(scores, same_scores)

  def is_far(side):
    cell = (np.arange(side) - 12.5) / 32
    return np.abs(cell - np.round(cell)) > edge

  far = is_far(SIZE[0])[:, None] & is_far(SIZE[1])[None, :]
  assert far.sum() > 500
  np.testing.assert_allclose(
    after[:, far], before[:, far], rtol=1e-4, atol=1e-6
  )
  # Elsewhere the difference is small against how crooked the scores are.
  padded = np.pad(scores, ((0, 0), (2, 2), (2, 2), (0, 0)))
  crooked = sum(np.abs(np.diff(padded, 2, axis=a)).max() for a in (1, 2))
  difference = np.abs(after - before).max()
  assert 0.01 * crooked < difference < crooked / 8
  assert (after.argmax(-1) == before.argmax(-1)).mean() > 0.9


@pytest.mark.parametrize(
  ("net", "parameters", "field"),
  [
    ("alexnet", 56_954_261, 355),
    ("vgg16", 134_346_581, 404),
    ("googlenet", 5_995_077, 907),
  ],
)
def test_table_1_of_the_paper(net, parameters, field):
  """57 M, 134 M and 6 M parameters without deconvolutions; fields, strides."""
  name = f"fcn32s_{net}"
  model = models.create_model(name, num_classes=21)
  assert profile.parameters(model, (65, 65)) == parameters
  layers = models.MODELS[name].layers
  assert profile.receptive_field(layers) == (field, 32)
  if net == "googlenet":  # Without the pool of 7x7 that the table counts.
    layers = [layer for layer in layers if layer != (7, 1)]
    assert profile.receptive_field(layers) == (715, 32)


def test_intermediate_learned_upsampling_leaves_the_last_one_fixed():
  for net in ("alexnet", "googlenet"):
    model = models.create_model(
      f"fcn32s_{net}", num_classes=3, upsampling="intermediate_learned"
    )
    shapes = jax.eval_shape(
      model.init, jax.random.key(0), np.zeros((1, 65, 65, 3), np.float32)
    )
    assert "upscore" not in shapes["params"]["head"]


LITTLE = {"widths": (4, 4, 6, 8, 8), "fc_channels": 8}


def _noisy(variables, seed=0):
  """Variables of which none is zero: scores would all be equal."""
  random = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: x + 0.05 * random.normal(size=x.shape).astype(np.float32),
    variables,
  )


def test_late_fusion_averages_two_whole_networks():
  fused = models.create_model("fcn32s_late_fusion", num_classes=5, **LITTLE)
  image = np.random.default_rng(1).normal(size=(2, 40, 50, 6))
  image = image.astype(np.float32)
  variables = _noisy(jax.jit(fused.init)(jax.random.key(0), image))
  assert set(variables["params"]) == {"color", "hha"}
  one = models.create_model("fcn32s_vgg16", num_classes=5, **LITTLE)
  logits = [
    jax.jit(one.apply)({"params": variables["params"][name]}, part)["logits"]
    for name, part in (("color", image[..., :3]), ("hha", image[..., 3:]))
  ]
  np.testing.assert_allclose(
    jax.jit(fused.apply)(variables, image)["logits"],
    (logits[0] + logits[1]) / 2,
    rtol=1e-5,
    atol=1e-6,
  )


def test_late_fusion_of_a_plain_image_is_refused():
  fused = models.create_model(
    "fcn32s_late_fusion", num_classes=5, in_channels=3, **LITTLE
  )
  with pytest.raises(ValueError, match="three colour channels.*got 3"):
    jax.eval_shape(fused.init, jax.random.key(0), np.zeros((1, 40, 50, 3)))


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_two_tasks_are_two_heads_on_the_same_features(stride):
  """Each head's scores are those of a network that has this head alone."""
  name = f"fcn{stride}s_vgg16"
  both = models.create_model(name, num_classes=5, second_classes=3, **LITTLE)
  image = np.random.default_rng(1).normal(size=(1, 40, 50, 3))
  variables = _noisy(jax.jit(both.init)(jax.random.key(0), image))
  outputs = jax.jit(both.apply)(variables, image)
  for key, classes, part in (
    ("logits", 5, slice(0, 5)),
    ("second_logits", 3, slice(5, 8)),
  ):
    alone = models.create_model(name, num_classes=classes, **LITTLE)
    cut = jax.tree_util.tree_map_with_path(
      lambda path, x, part=part: (
        x[..., part] if "score" in jax.tree_util.keystr(path) else x
      ),
      variables,
    )
    expected = jax.jit(alone.apply)(cut, image)["logits"]
    np.testing.assert_allclose(outputs[key], expected, rtol=1e-5, atol=1e-6)


def test_two_tasks_do_not_share_learned_upsampling():
  with pytest.raises(ValueError, match="second_classes.*'learned'"):
    models.create_model(
      "fcn8s_vgg16", num_classes=5, second_classes=3, upsampling="learned"
    )
