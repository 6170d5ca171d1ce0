"""Tiles of interpolated scores give what the whole of them gives."""

import hypothesis
from hypothesis import given, strategies as st
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import losses
from fcnjax.ops import resizing, upsampled

CONVENTIONS = ["half_pixel", "align_corners"]


def _scores(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _label(shape, classes, seed=0):
  """Labels, a fifth of them ignored, and weights."""
  random = np.random.default_rng(seed)
  label = random.integers(0, classes, shape).astype(np.int32)
  label[random.random(shape) < 0.2] = 255
  return label, jnp.asarray(random.random(shape), jnp.float32)


@hypothesis.settings(max_examples=8, deadline=None)
@given(
  st.integers(1, 3),
  st.tuples(*[st.integers(1, 9)] * 2),
  st.tuples(*[st.integers(1, 30)] * 2),
  st.tuples(*[st.integers(1, 12)] * 2),
  st.sampled_from(CONVENTIONS),
)
def test_tiles_of_any_size_are_cut_from_the_whole(
  batch, old, new, tile, convention
):
  """Also where the last tile is not full, and where an image shrinks."""
  scores = _scores((batch, *old, 3))
  image = np.arange(batch * new[0] * new[1]).reshape(batch, *new)

  def of_tile(logits, image):
    return logits[:, :, 1] + image

  @jax.jit
  def both(scores, image):
    tiles = upsampled.map_tiles(
      of_tile, scores, image, size=new, convention=convention, tile=tile
    )
    return tiles, resizing.resize_bilinear(scores, new, convention=convention)

  got, whole = both(scores, image)
  np.testing.assert_allclose(got, whole[..., 1] + image, atol=2e-5, rtol=1e-6)


@hypothesis.settings(max_examples=8, deadline=None)
@given(
  st.tuples(*[st.integers(1, 9)] * 2),
  st.tuples(*[st.integers(1, 30)] * 2),
  st.tuples(*[st.integers(1, 12)] * 2),
  st.sampled_from(CONVENTIONS),
)
def test_the_gradient_of_tiles_is_that_of_the_interpolation(
  old, new, tile, convention
):
  scores = _scores((2, *old, 3))
  cotangent = _scores((2, *new, 3), seed=1)
  images = [cotangent[..., k] for k in range(3)]

  def of_tile(logits, *images):
    return logits[:, :, 0], jnp.stack(images, axis=2)

  @jax.jit
  def both(scores, cotangent, images):
    _, gradient = upsampled.map_tiles_with_gradient(
      of_tile, scores, *images, size=new, convention=convention, tile=tile
    )
    _, pull = jax.vjp(
      lambda x: resizing.resize_bilinear(x, new, convention=convention), scores
    )
    return gradient, pull(cotangent)[0]

  got, expected = both(scores, cotangent, images)
  np.testing.assert_allclose(got, expected, atol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
  ("old", "new"), [((5, 7), (40, 56)), ((9, 40), (65, 300)), ((1, 1), (3, 5))]
)
def test_the_loss_and_its_gradients_are_those_of_the_plain_form(
  old, new, convention, dtype
):
  scores = jnp.asarray(3 * _scores((2, *old, 4)), dtype)
  label, weights = _label((2, *new), 4)

  def run(implementation):
    def loss(scores, weights):
      # Times a number, so that the cotangent is not 1.
      return 0.3 * losses.total_upsampled_cross_entropy(
        scores,
        label,
        weights,
        convention=convention,
        implementation=implementation,
      )

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(scores, weights)

  expected, (by_scores, by_weights) = run("plain")
  got, gradients = run("tiles")
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  assert gradients[0].dtype == scores.dtype
  rounding = 1e-5 if dtype == "float32" else 1e-2
  np.testing.assert_allclose(
    np.float32(gradients[0]),
    np.float32(by_scores),
    rtol=rounding,
    atol=1e-5 * np.abs(np.float32(by_scores)).max(),
  )
  np.testing.assert_allclose(gradients[1], by_weights, rtol=1e-4, atol=1e-5)


def test_the_loss_agrees_with_finite_differences():
  label, weights = _label((1, 9, 11), 3)

  def loss(scores, weights):
    return losses.total_upsampled_cross_entropy(
      scores, label, weights, implementation="tiles"
    )

  test_util.check_grads(
    jax.jit(loss), (_scores((1, 3, 4, 3)), weights), 1, modes=["rev"], rtol=0.02
  )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_loss_and_gradient_equal_torch(convention):
  torch = pytest.importorskip("torch")
  scores = _scores((2, 5, 6, 7))
  label, weights = _label((2, 37, 41), 7)
  x = torch.tensor(np.moveaxis(scores, -1, 1).copy(), requires_grad=True)
  upsampled_scores = torch.nn.functional.interpolate(
    x,
    size=(37, 41),
    mode="bilinear",
    align_corners=convention == "align_corners",
  )
  pixels = torch.nn.functional.cross_entropy(
    upsampled_scores,
    torch.tensor(label).long(),
    ignore_index=255,
    reduction="none",
  )
  expected = (pixels * torch.tensor(np.asarray(weights))).sum()
  expected.backward()
  got, gradient = jax.value_and_grad(losses.total_upsampled_cross_entropy)(
    scores, label, weights, convention=convention, implementation="tiles"
  )
  np.testing.assert_allclose(got, expected.detach(), rtol=1e-5)
  np.testing.assert_allclose(
    gradient, np.moveaxis(x.grad.numpy(), 1, -1), atol=2e-5
  )


def test_ignored_pixels_never_make_nan():
  scores = np.full((1, 4, 4, 3), 1e38, np.float32)  # Whose squares overflow.
  scores[..., 1] = -1e38
  label = np.full((1, 16, 16), 255, np.int32)
  loss, gradients = jax.value_and_grad(
    losses.total_upsampled_cross_entropy, argnums=(0, 2)
  )(scores, label, jnp.full(label.shape, 7.0), implementation="tiles")
  assert loss == 0
  for gradient in gradients:
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_classes_are_those_of_the_interpolated_scores(convention):
  scores = _scores((2, 9, 11, 6))
  plain, tiles = (
    upsampled.upsampled_argmax(
      scores, (70, 201), convention=convention, implementation=implementation
    )
    for implementation in ("plain", "tiles")
  )
  assert tiles.dtype == plain.dtype == jnp.int32
  np.testing.assert_array_equal(tiles, plain)


def test_of_equal_scores_the_first_class_wins():
  classes = upsampled.upsampled_argmax(
    np.ones((1, 3, 3, 4), np.float32), (9, 9), implementation="tiles"
  )
  np.testing.assert_array_equal(classes, 0)


def test_at_full_size_tiles_need_a_quarter_of_the_memory():
  """Of the plain form's, forward and backward; Cityscapes at stride 4."""
  scores = jax.ShapeDtypeStruct((1, 256, 512, 19), jnp.float32)
  label = jax.ShapeDtypeStruct((1, 1024, 2048), jnp.int32)
  weights = jax.ShapeDtypeStruct((1, 1024, 2048), jnp.float32)

  def memory(implementation):
    def loss(scores, label, weights):
      return losses.total_upsampled_cross_entropy(
        scores, label, weights, implementation=implementation
      )

    compiled = jax.jit(jax.value_and_grad(loss)).lower(scores, label, weights)
    return compiled.compile().memory_analysis().temp_size_in_bytes

  assert memory("tiles") < memory("plain") / 4


def test_sums_over_tiles_count_every_pixel_once():
  scores = np.random.default_rng(0).normal(size=(2, 3, 5, 4))
  scores = scores.astype(np.float32)
  image = np.random.default_rng(1).normal(size=(2, 11, 20))

  def sums(tile, inside, part):
    of_scores = jnp.where(inside[:, :, None], tile, 0).sum((0, 1, 3))
    return jnp.stack([*of_scores, inside.sum(), part.sum()])

  found = upsampled.sum_tiles(
    sums, scores, image.astype(np.float32), size=(11, 20), tile=(4, 8)
  )
  whole = resizing.resize_bilinear(scores, (11, 20)).sum((0, 1, 2))
  np.testing.assert_allclose(
    found, [*whole, image.size, image.sum()], rtol=1e-4, atol=1e-3
  )


def test_automatic_is_tiles_where_scores_grow():
  loss = {"least": upsampled.LOSS_BYTES}
  assert upsampled.uses_tiles((1, 256, 512, 19), (1024, 2048), "auto", **loss)
  assert not upsampled.uses_tiles((1, 64, 64, 19), (64, 32), "auto", **loss)
  middle = (1, 65, 65, 21), (513, 513), "auto"
  assert not upsampled.uses_tiles(*middle, **loss)
  assert upsampled.uses_tiles(*middle, least=upsampled.ARGMAX_BYTES)


def test_unknown_words_are_refused():
  scores = np.zeros((1, 2, 2, 3), np.float32)
  with pytest.raises(ValueError, match="implementation.*'fast'"):
    upsampled.upsampled_argmax(scores, (4, 4), implementation="fast")
  with pytest.raises(ValueError, match="size must be positive"):
    upsampled.upsampled_argmax(scores, (0, 4), implementation="tiles")
