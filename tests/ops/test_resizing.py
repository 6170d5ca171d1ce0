"""Resizing against torch, and what each kind promises."""

import hypothesis
from hypothesis import given, strategies as st
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import resizing

SIZES = [(14, 18), (21, 27), (28, 9), (13, 30), (3, 4), (7, 9), (1, 1), (2, 99)]


_resize_bilinear = jax.jit(
  resizing.resize_bilinear, static_argnames=("size", "convention")
)
_resize_nearest = jax.jit(resizing.resize_nearest, static_argnames="size")


def _image(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _interpolate(torch, x, size, **settings):
  x = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
  y = torch.nn.functional.interpolate(x, size=size, **settings)
  return np.moveaxis(y.numpy(), 1, -1)


@pytest.mark.parametrize("convention", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("size", SIZES)
def test_bilinear_equals_torch(size, convention):
  torch = pytest.importorskip("torch")
  x = _image((2, 7, 9, 3))
  resized = _resize_bilinear(x, size, convention=convention)
  expected = _interpolate(
    torch,
    x,
    size,
    mode="bilinear",
    align_corners=convention == "align_corners",
  )
  np.testing.assert_allclose(resized, expected, atol=5e-6)


@hypothesis.settings(max_examples=10)
@given(
  st.tuples(*[st.integers(1, 12)] * 2),
  st.tuples(*[st.integers(1, 30)] * 2),
  st.sampled_from(["half_pixel", "align_corners"]),
)
def test_bilinear_of_any_size_equals_torch(old, new, convention):
  torch = pytest.importorskip("torch")
  x = _image((1, *old, 2))
  expected = _interpolate(
    torch, x, new, mode="bilinear", align_corners=convention == "align_corners"
  )
  resized = _resize_bilinear(x, new, convention=convention)
  np.testing.assert_allclose(resized, expected, atol=2e-5)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8])
def test_whole_factors_reproduce_a_ramp(factor):
  """Between the outermost centres, interpolation of a ramp is a ramp."""
  ramp = np.arange(6.0, dtype=np.float32)
  x = np.broadcast_to(ramp[None, :, None, None], (1, 6, 4, 1))
  resized = resizing.resize_bilinear(x, (6 * factor, 4))
  expected = (np.arange(6 * factor) + 0.5) / factor - 0.5
  np.testing.assert_allclose(
    resized[0, :, 1, 0], np.clip(expected, 0, 5), atol=1e-6
  )


@pytest.mark.parametrize("convention", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("size", [(8, 12), (5, 3)])
def test_bilinear_of_bfloat16_is_rounded_once(size, convention):
  x = jnp.asarray(_image((1, 4, 4, 2)), jnp.bfloat16)
  resized = _resize_bilinear(x, size, convention=convention)
  assert resized.dtype == jnp.bfloat16
  exact = resizing.resize_bilinear(
    x.astype(jnp.float32), size, convention=convention
  )
  np.testing.assert_array_equal(resized, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("convention", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("size", [(6, 8), (9, 3)])
def test_bilinear_gradient(size, convention):
  test_util.check_grads(
    lambda x: _resize_bilinear(x, size, convention=convention),
    (_image((1, 3, 4, 2)),),
    order=2,
    modes=["rev"],
    eps=1e-1,
  )


@pytest.mark.parametrize("size", SIZES)
def test_nearest_equals_torch(size):
  torch = pytest.importorskip("torch")
  x = _image((2, 7, 9, 3))
  expected = _interpolate(torch, x, size, mode="nearest-exact")
  np.testing.assert_array_equal(_resize_nearest(x, size), expected)


@hypothesis.settings(max_examples=10)
@given(
  st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 30)] * 2)
)
def test_nearest_invents_no_label(old, new):
  labels = np.random.default_rng(0).choice([0, 7, 200, 255], (1, *old))
  labels = labels.astype(np.uint8)
  resized = _resize_nearest(labels, new)
  assert resized.dtype == np.uint8
  assert resized.shape == (1, *new)
  assert set(np.unique(resized)) <= set(np.unique(labels))
  if new[0] % old[0] == 0 and new[1] % old[1] == 0:
    repeated = labels.repeat(new[0] // old[0], 1).repeat(new[1] // old[1], 2)
    np.testing.assert_array_equal(resized, repeated)


def test_bilinear_filter_has_the_published_values():
  np.testing.assert_array_equal(
    resizing.bilinear_filter(4)[0], np.array([1, 3, 3, 1]) / 16
  )
  np.testing.assert_array_equal(
    resizing.bilinear_filter(3),
    [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]],
  )
  # FCN: sizes 64 and 63 for a stride of 32.
  for size in (63, 64):
    tent = resizing.bilinear_filter(size)
    assert tent.shape == (size, size)
    np.testing.assert_array_equal(tent, tent[::-1, ::-1])
    assert tent.argmax() // size == (size - 1) // 2
  # Shifted by its stride, the filter adds up to one: constants stay constant.
  for factor in (2, 3, 4, 16):
    size = 2 * factor - factor % 2
    tent = np.zeros((2 * factor, 2 * factor))
    tent[:size, :size] = resizing.bilinear_filter(size)
    phases = tent.reshape(2, factor, 2, factor).sum((0, 2))
    np.testing.assert_allclose(phases, 1, atol=1e-6)


def test_bilinear_kernel_keeps_channels_apart():
  kernel = resizing.bilinear_kernel(4, 3)
  assert kernel.shape == (4, 4, 3, 3)
  assert kernel.dtype == np.float32
  for i in range(3):
    for o in range(3):
      np.testing.assert_array_equal(
        kernel[:, :, i, o], resizing.bilinear_filter(4) * (i == o)
      )


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_crops(array):
  x = array(np.arange(2 * 5 * 6).reshape(2, 5, 6))
  np.testing.assert_array_equal(resizing.crop(x, 1, (2, 3)), x[:, 1:3, 1:4])
  np.testing.assert_array_equal(resizing.crop(x, (3, 0), (2, 6)), x[:, 3:5])
  np.testing.assert_array_equal(resizing.center_crop(x, (2, 4)), x[:, 1:3, 1:5])
  image = x[..., None]
  assert resizing.center_crop(image, (5, 6)).shape == image.shape


@pytest.mark.parametrize(
  "call",
  [
    lambda x: resizing.crop(x, 1, (5, 3)),
    lambda x: resizing.crop(x, (0, 4), (5, 3)),
    lambda x: resizing.crop(x, -1, (2, 2)),
    lambda x: resizing.center_crop(x, (6, 6)),
    lambda x: resizing.resize_bilinear(x, (0, 4)),
    lambda x: resizing.resize_nearest(x, (4, 0)),
    lambda x: resizing.bilinear_filter(0),
  ],
)
def test_impossible_sizes_are_refused(call):
  with pytest.raises(ValueError, match="not inside|positive"):
    call(np.zeros((1, 5, 6, 1), np.float32))


@pytest.mark.parametrize("size", [(12, 16), (5, 7)])
@pytest.mark.parametrize("convention", ["half_pixel", "align_corners"])
def test_gradient_of_bfloat16_is_that_of_float32(size, convention):
  """Rounded once, as it is summed in float32."""
  if convention == "align_corners":
    size = (
      size[0] - 3,
      size[1] - 3,
    )  # From 3 x 4 by 4, and by no whole factor.
  x, cotangent = _image((1, 3, 4, 2)), _image((1, *size, 2), seed=1)
  gradients = []
  for dtype in ("float32", "bfloat16"):
    _, pullback = jax.vjp(
      lambda x: _resize_bilinear(x, size, convention=convention),
      jnp.asarray(x, dtype),
    )
    gradients.append(pullback(jnp.asarray(cotangent, dtype))[0])
  assert gradients[1].dtype == jnp.bfloat16
  np.testing.assert_allclose(
    *(np.asarray(g, np.float32) for g in gradients), rtol=2e-2, atol=5e-2
  )


def test_phases_need_a_whole_factor():
  x = _image((1, 3, 4, 2))
  np.testing.assert_allclose(
    resizing.resize_bilinear(x, (9, 8), implementation="phases"),
    resizing.resize_bilinear(x, (9, 8), implementation="matrices"),
    atol=1e-6,
  )
  with pytest.raises(ValueError, match="3 pixels do not grow to 7"):
    resizing.resize_bilinear(x, (7, 8), implementation="phases")
  with pytest.raises(ValueError, match="implementation must be"):
    resizing.resize_bilinear(x, (7, 8), implementation="fast")
