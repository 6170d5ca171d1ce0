"""U-Net's three forms against the numbers of the paper and of the release."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import models, profile
from fcnjax.models import unet


def _shapes(name, size, channels=1, **options):
  """Returns the parameters and all modules' output shapes, by name."""
  model = models.create_model(
    name, num_classes=2, in_channels=channels, **options
  )
  image = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image)
  _, captured = jax.eval_shape(
    lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=True),
    variables,
    image,
  )
  return variables["params"], captured["intermediates"]


def _draw(model, image):
  """Returns variables drawn by NumPy, which compiles nothing."""
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  return jax.tree.map(
    lambda x: rng.normal(0, 0.2, size=x.shape).astype(np.float32), shapes
  )


@pytest.mark.parametrize(
  ("name", "channels", "expected"),
  [
    ("unet", 1, 31_030_658),
    ("unet", 3, 31_031_810),
    ("unet_release", 1, 31_100_354),
    ("unet_same", 1, 31_030_658),
  ],
)
def test_parameters(name, channels, expected):
  params, _ = _shapes(name, (188, 188), channels)
  assert sum(x.size for x in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize("name", ["unet", "unet_release"])
def test_size_chain_of_the_paper(name):
  _, outputs = _shapes(name, (572, 572))

  def sides(module):
    convs = (
      outputs[module][conv]["__call__"][0] for conv in ("conv1", "conv2")
    )
    return tuple(x.shape[1] for x in convs)

  assert [sides(f"down{i}") for i in range(5)] == [
    (570, 568),
    (282, 280),
    (138, 136),
    (66, 64),
    (30, 28),
  ]
  ups = [outputs[f"upconv{i}"]["__call__"][0].shape[1:] for i in (3, 2, 1, 0)]
  last = 128 if name == "unet_release" else 64
  assert ups == [
    (56, 56, 512),
    (104, 104, 256),
    (200, 200, 128),
    (392, 392, last),
  ]
  assert [sides(f"up{i}") for i in (3, 2, 1, 0)] == [
    (54, 52),
    (102, 100),
    (198, 196),
    (390, 388),
  ]


def test_legal_sizes_are_16_m_plus_12():
  assert unet.margin() == 92
  assert unet.legal_sizes(572) == (572, 572)
  assert unet.legal_sizes(512) == (508, 524)
  assert unet.legal_sizes(100) == (188, 188)


@hypothesis.given(st.integers(1, 700), st.integers(1, 5))
def test_legal_sizes_are_those_that_pools_halve(size, depth):
  def output(side):
    """Returns the side of the logits, or None if `side` is not legal."""
    for _ in range(depth):
      side -= 4
      if side <= 0 or side % 2:
        return None
      side //= 2
    side -= 4
    for _ in range(depth):
      side = 2 * side - 4
    return side if side > 0 else None

  legal = [side for side in range(1, 1200) if output(side)]
  below, above = unet.legal_sizes(size, depth=depth)
  assert below == max((n for n in legal if n <= size), default=legal[0])
  assert above == min(n for n in legal if n >= size)
  assert output(above) == above - 2 * unet.margin(depth)


def test_an_illegal_size_is_refused_with_the_nearest():
  with pytest.raises(
    ValueError, match="512 x 188.*height 508 or 524, width 188,.*184"
  ):
    _shapes("unet", (512, 188))


@pytest.fixture(scope="module")
def small():
  """A small valid U-Net with variables, and an image larger than a tile."""
  model = models.create_model("unet", num_classes=2, width=4, depth=2)
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.normal(size=(1, 76, 72, 3)), jnp.float32)
  return model, _draw(model, image), image


def test_a_tile_gives_what_the_whole_image_gives(small):
  """Without padding nothing knows of the border: why overlap-tile is exact."""
  model, variables, image = small
  whole = model.apply(variables, image)["logits"]
  assert whole.shape == (1, 36, 32, 2)
  tile = model.apply(variables, image[:, 16:68, 8:60])["logits"]
  np.testing.assert_allclose(tile, whole[:, 16:28, 8:20], rtol=1e-4, atol=1e-5)


def test_same_pads_with_zeros_and_crops():
  model = models.create_model("unet_same", num_classes=2, width=4, depth=2)
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.normal(size=(1, 21, 30, 3)), jnp.float32)
  variables = _draw(model, image)
  padded = jnp.pad(image, ((0, 0), (0, 3), (0, 2), (0, 0)))
  expected = model.apply(variables, padded)["logits"][:, :21, :30]
  logits = model.apply(variables, image)["logits"]
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_bottleneck_receptive_field_by_arithmetic():
  assert profile.receptive_field(unet.layers()) == (140, 16)


def test_bottleneck_receptive_field_by_the_support_of_a_gradient():
  """As in SegNet's test a ramp puts each pool's maximum in a corner."""
  model = models.create_model("unet", num_classes=1, in_channels=1, width=1)
  image = jnp.zeros((1, 188, 188, 1))
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  params = jax.tree_util.tree_map_with_path(
    lambda path, x: jnp.full(x.shape, (path[-1].key == "kernel") / 9.0), shapes
  )
  ramp = jnp.arange(188, dtype=jnp.float32)
  ramp = (ramp[:, None] + ramp[None, :])[None, :, :, None]
  cell = 2

  @jax.jit
  def gradient(image):
    def output(image):
      _, captured = model.apply(
        params, image, capture_intermediates=True, mutable=["intermediates"]
      )
      bottom = captured["intermediates"]["down4"]["__call__"][0]
      return bottom[0, cell, cell, 0]

    return jax.grad(output)(image)

  support = (gradient(ramp) != 0) | (gradient(400 - ramp) != 0)
  for axis in (1, 2):
    others = tuple(i for i in range(4) if i != axis)
    seen = np.flatnonzero(support.any(others))
    assert (seen.min(), seen.max()) == (16 * cell, 16 * cell + 139)


def test_two_dropouts_and_the_skip_carries_the_first(small):
  model, variables, _ = small
  image = small[2][:, :44, :44]

  def captured(key, train):
    _, state = model.apply(
      variables,
      image,
      train=train,
      rngs={"dropout": jax.random.key(key)},
      capture_intermediates=True,
      mutable=["intermediates"],
    )
    return state["intermediates"]

  parts = captured(0, True)
  dropouts = [name for name in parts if name.startswith("Dropout")]
  assert len(dropouts) == 2
  for name, level in zip(sorted(dropouts), ("down1", "down2")):
    before, after = (parts[n]["__call__"][0] for n in (level, name))
    dropped = np.asarray((after == 0) & (before != 0))
    assert 0.3 < dropped.sum() / (np.asarray(before) != 0).sum() < 0.7
  # With the bottleneck cut off, only the skip can tell two keys apart.
  cut = jax.tree.map(jnp.zeros_like, variables["params"]["upconv1"])
  variables = {"params": variables["params"] | {"upconv1": cut}}
  skips = [captured(key, True)["up1"]["__call__"][0] for key in (0, 0, 1)]
  np.testing.assert_array_equal(skips[0], skips[1])
  assert np.any(skips[0] != skips[2])


@pytest.mark.parametrize(
  ("name", "above", "below"), [("unet", 18, -18), ("unet_release", 0, -18)]
)
def test_release_rectifies_the_up_convolutions_and_puts_them_first(
  name, above, below
):
  """Up-convolution of -1, then 1, seen by 9 taps of -1 in two channels.

  Those taps are the last two rows of the kernel in the paper's net, and the
  first two in the release; all others are zero. A ReLU leaves nothing of -1.
  """
  model = models.create_model(
    name, num_classes=1, in_channels=1, width=1 + (name == "unet"), depth=2
  )
  image = jnp.ones((1, 44, 44, 1))
  params = jax.tree.map(jnp.zeros_like, _draw(model, image)["params"])
  rows = slice(0, 2) if name == "unet_release" else slice(-2, None)
  kernel = params["up0"]["conv1"]["kernel"]
  params["up0"]["conv1"]["kernel"] = kernel.at[:, :, rows].set(-1.0)

  def seen(bias):
    params["upconv0"]["bias"] = jnp.full(2, bias)
    _, state = model.apply(
      {"params": params},
      image,
      capture_intermediates=True,
      mutable=["intermediates"],
    )
    return state["intermediates"]["up0"]["conv1"]["__call__"][0]

  np.testing.assert_array_equal(seen(-1.0), jnp.full_like(seen(-1.0), above))
  np.testing.assert_array_equal(seen(1.0), jnp.full_like(seen(1.0), below))


@pytest.mark.parametrize(
  "options", [{"padding": "full"}, {"variant": "ported"}, {"norm": "bn"}]
)
def test_unknown_words_are_refused(options):
  model = unet.UNet(num_classes=2, **options)
  with pytest.raises(ValueError, match="must be one of"):
    jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 188, 188, 3)))
