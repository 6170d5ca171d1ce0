"""Normalisations against torch and SciPy."""

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from fcnjax.ops import normalization


def _image(shape, scale=1.0, seed=0):
  return (np.random.default_rng(seed).normal(size=shape) * scale).astype(
    np.float32
  )


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize(
  "settings",
  [
    {},
    {"size": 3, "alpha": 0.5, "beta": 0.6, "k": 2.0},
    {"size": 1, "alpha": 1.0},
    {"size": 9, "alpha": 2.0},
  ],
)
def test_local_response_equals_torch(settings, channels):
  torch = pytest.importorskip("torch")
  x = _image((2, 4, 5, channels), scale=100.0)
  expected = torch.nn.LocalResponseNorm(**{"size": 5, **settings})(
    torch.tensor(x.transpose(0, 3, 1, 2))
  )
  y = jax.jit(lambda x: normalization.local_response_norm(x, **settings))(x)
  np.testing.assert_allclose(
    y, expected.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6
  )


def test_local_response_divides_alpha_by_the_size():
  """Caffe's convention, by hand: 1 / (1 + 10 / 5 * (1 + 4 + 9))."""
  x = np.array([1.0, 2.0, 3.0], np.float32).reshape(1, 1, 1, 3)
  y = normalization.local_response_norm(x, size=5, alpha=10.0, beta=1.0)
  np.testing.assert_allclose(y.ravel(), np.array([1, 2, 3]) / 29, rtol=1e-6)


def test_local_response_of_float64_is_computed_so():
  """In float32 equal networks would pool values that rounding made equal."""
  x = np.float64(_image((1, 2, 3, 4)))
  padded = np.pad(x**2, [(0, 0)] * 3 + [(1, 1)])
  energy = sum(padded[..., i : i + 4] for i in range(3))
  with jax.enable_x64(True):
    y = normalization.local_response_norm(x, size=3, alpha=3.0, beta=0.5)
  assert y.dtype == np.float64
  np.testing.assert_allclose(y, x / np.sqrt(1 + energy), rtol=1e-14)


def _scipy_contrast(x, sigma, radius, epsilon):
  def blur(plane):
    return ndimage.gaussian_filter(
      plane, sigma, mode="reflect", radius=radius, axes=(0, 1)
    )

  results = []
  for image in x.astype(np.float64):
    centered = image - blur(image.mean(-1))[:, :, None]
    variance = blur((centered**2).mean(-1))
    deviation = np.sqrt(np.maximum(variance, epsilon**2))
    scale = np.maximum(deviation.mean(), deviation)
    results.append(centered / scale[:, :, None])
  return np.stack(results)


@pytest.mark.parametrize("shape", [(2, 20, 17, 3), (1, 12, 9, 1), (1, 3, 2, 3)])
@pytest.mark.parametrize(
  "settings", [{}, {"sigma": 1.0, "radius": 2}, {"sigma": 3.0, "radius": 0}]
)
def test_local_contrast_equals_scipy(shape, settings):
  # Two halves of different contrast: both sides of the maximum are used.
  x = _image(shape, scale=50.0) + 100
  x[:, : shape[1] // 2] /= 10
  full = {"sigma": 2.0, "radius": 4, "epsilon": 1e-3, **settings}
  y = jax.jit(lambda x: normalization.local_contrast_norm(x, **settings))(x)
  np.testing.assert_allclose(y, _scipy_contrast(x, **full), atol=2e-4)


def test_local_contrast_forgets_brightness_and_contrast():
  x = _image((1, 16, 16, 3))
  norm = jax.jit(normalization.local_contrast_norm)
  np.testing.assert_allclose(norm(3 * x + 5), norm(x), atol=1e-4)


def test_local_contrast_of_a_flat_image_is_small_and_differentiable():
  x = jnp.full((1, 8, 8, 3), 123.4)
  assert np.abs(jax.jit(normalization.local_contrast_norm)(x)).max() < 0.1
  gradient = jax.jit(
    jax.grad(lambda x: (normalization.local_contrast_norm(x) ** 2).sum())
  )(x)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
  "norm",
  [
    lambda x: normalization.local_response_norm(x, alpha=1.0),
    normalization.local_contrast_norm,
  ],
)
def test_gradient_dtype_and_vmap(norm):
  norm = jax.jit(norm)
  x = _image((2, 1, 4, 5, 3))
  test_util.check_grads(norm, (x[0],), order=1, eps=1e-2, rtol=2e-2, atol=2e-2)
  half = jnp.asarray(x[0], jnp.bfloat16)
  np.testing.assert_array_equal(
    norm(half), norm(half.astype(jnp.float32)).astype(jnp.bfloat16)
  )
  np.testing.assert_allclose(
    jax.vmap(norm)(x), jnp.stack([norm(image) for image in x]), atol=1e-5
  )


@pytest.mark.parametrize("size", [0, 4])
def test_local_response_refuses_even_sizes(size):
  with pytest.raises(ValueError, match="odd and positive"):
    normalization.local_response_norm(_image((1, 2, 2, 3)), size=size)


@pytest.mark.parametrize(
  "settings", [{"sigma": 0.0}, {"radius": -1}, {"epsilon": 0.0}]
)
def test_local_contrast_refuses_bad_settings(settings):
  with pytest.raises(ValueError, match="must be positive"):
    normalization.local_contrast_norm(_image((1, 4, 4, 3)), **settings)
