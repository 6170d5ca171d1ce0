"""Dilated convolutions: the paper's sizes, fields, identity at the start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import models, profile
from fcnjax.models import dilation
from fcnjax.models.backbones import vgg

_SMALL = {"widths": (2, 2, 2, 2, 2), "fc_channels": 3}


@pytest.mark.parametrize(
  ("side", "scores"),
  [(900, 66), (1396, 128), (1100, 91), (852, 60), (1640, 159), (628, 32)],
)
def test_the_chain_of_sizes(side, scores):
  """Of the release's inputs, which include the mirrored margin."""
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  front = vgg.VGG16(first_padding=0, padding=0, output_stride=8)
  features, _ = jax.eval_shape(
    lambda x: front.init_with_output(jax.random.key(0), x), image
  )
  # fc6 covers 4 * 6 pixels more.
  assert features["stage5"].shape[1] - 24 == scores
  mirrored = jax.eval_shape(
    dilation._mirrored,
    jax.ShapeDtypeStruct((1, side - 2 * dilation.MARGIN, 64, 3), jnp.float32),
  )
  assert (mirrored.shape[1] - 2 * dilation.MARGIN) // 8 == scores


def test_parameters():
  """Section 3: the Basic module has about 64 C^2."""
  counts = {
    name: profile.parameters(
      models.create_model(name, num_classes=21, **options), (8, 8)
    )
    for name, options in (
      ("dilation_frontend", {}),
      ("dilation8", {}),
      ("dilation7", {"context": "large"}),
    )
  }
  assert counts["dilation_frontend"] == 134_346_581
  assert counts["dilation8"] - counts["dilation_frontend"] == 28_392
  large = models.create_model("dilation8", num_classes=21, context="large")
  total = profile.parameters(large, (8, 8))
  assert total - counts["dilation_frontend"] == 6_803_139


def test_receptive_fields_of_the_context_module():
  """Table 1."""
  layers = [(3, 1, d) for d in dilation.DILATIONS[8]] + [(1, 1, 1)]
  fields = [
    profile.receptive_field(layers[: i + 1])[0] for i in range(len(layers))
  ]
  assert fields == [3, 5, 9, 17, 33, 65, 67, 67]
  assert profile.receptive_field(dilation.frontend_layers()) == (380, 8)


@pytest.mark.parametrize("depth", [7, 8, 10])
@pytest.mark.parametrize("form", ["basic", "large"])
def test_at_first_the_context_passes_its_input_through(depth, form):
  """Eq. 4 exactly; eq. 5 but for its noise, which is small."""
  rng = np.random.default_rng(0)
  scores = rng.uniform(size=(1, 20, 24, 5)).astype(np.float32)
  module = dilation.Context(depth, form)
  variables = module.init(jax.random.key(0), scores)
  got = module.apply(variables, scores)
  bound = 1e-6 if form == "basic" else 0.5
  assert np.abs(got - scores).max() < bound
  if form == "large":  # Of the noise alone, whose sign is as often + as -.
    assert abs(float((got - scores).mean())) < 0.1
    other = dilation.Context(depth, form, start="random")
    far = other.apply(other.init(jax.random.key(0), scores), scores)
    assert np.abs(far - scores).max() > 5 * np.abs(got - scores).max()


def test_identity_kernel_of_wider_maps():
  """Eq. 5 by its words."""
  kernel = dilation.identity_kernel(0.0)(jax.random.key(0), (3, 3, 10, 20))
  expected = np.zeros((10, 20))
  for a in range(10):
    for b in range(20):
      if a * 10 // 10 == b * 10 // 20:  # C = gcd(10, 20)
        expected[a, b] = 10 / 20
  np.testing.assert_array_equal(kernel[1, 1], expected)
  assert not np.any(np.delete(kernel.reshape(9, 10, 20), 4, axis=0))


@pytest.mark.parametrize("size", [(64, 64), (61, 90), (1, 7)])
def test_logits_are_of_the_image_whatever_its_size(size):
  model = models.create_model("dilation8", num_classes=4, **_SMALL)
  image = jnp.zeros((1, *size, 3))
  outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
  assert outputs["logits"].shape == (1, *size, 4)


def test_the_image_is_mirrored_without_its_edge_as_opencv_does():
  image = np.arange(2 * 9 * 11 * 3, dtype=np.float32).reshape(2, 9, 11, 3)
  got = np.asarray(dilation._mirrored(jnp.asarray(image)))
  margin = dilation.MARGIN

  def source(position, side):  # OpenCV's borderInterpolate, REFLECT_101.
    while not 0 <= position < side:
      position = -position if position < 0 else 2 * (side - 1) - position
    return position

  rows = [source(i - margin, 9) for i in range(got.shape[1])]
  columns = [source(j - margin, 11) for j in range(got.shape[2])]
  np.testing.assert_array_equal(got, image[:, rows][:, :, columns])


def test_a_score_lies_where_it_looks():
  """The gradient of a score is centred on the 8 x 8 pixels it becomes."""
  model = dilation.Dilation(num_classes=1, **_SMALL)
  image = jnp.ones((1, 800, 800, 3))
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  variables = jax.tree.map(lambda s: jnp.full(s.shape, 0.1), shapes)
  pixel = 8 * 45

  def block(image):
    logits = model.apply(variables, image)["logits"][0, ..., 0]
    return logits[pixel + 3, pixel + 3] + logits[pixel + 4, pixel + 4]

  gradient = jax.jit(jax.grad(functools.partial(block)))(image)[0].sum(-1)
  rows = np.flatnonzero(np.asarray(gradient).any(axis=1))
  # Of equal values the first is the maximum, so the support may end early.
  # Interpolation mixes in both neighbours, 8 pixels away.
  assert rows[0] == pixel + 3.5 - (380 - 1) / 2 - 8
  assert pixel + 3.5 + (380 - 1) / 2 + 8 - rows[-1] in range(8)
