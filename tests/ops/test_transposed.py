"""Transposed convolutions against torch, each other and their definition."""

import functools

import hypothesis
from hypothesis import given, strategies as st
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import resizing, transposed


def _normal(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _value_and_pullback(function, *primals):
  value, pullback = jax.vjp(jax.jit(function), *primals)
  return value, pullback(_normal(value.shape, seed=7).astype(value.dtype))


# kernel, stride, padding
SETTINGS = [
  (2, 2, 0),
  (4, 4, 0),
  (2, 2, 1),
  (4, 2, 0),
  (4, 2, 1),
  (3, 2, 1),
  (5, 3, 0),
  (1, 2, 0),
  (3, 1, 1),
  (16, 8, 4),
  ((2, 3), (2, 3), (0, 1)),
  ((3, 5), (1, 2), (1, 0)),
]


def _pair(value):
  return (value, value) if isinstance(value, int) else value


@pytest.mark.parametrize(("kernel", "stride", "padding"), SETTINGS)
def test_equals_torch(kernel, stride, padding):
  torch = pytest.importorskip("torch")
  x = _normal((2, 5, 4, 3))
  weights = _normal((*_pair(kernel), 3, 2), seed=1)

  @jax.jit
  def value_and_gradients(x, weights, cotangent):
    y, pullback = jax.vjp(
      lambda x, w: transposed.transposed_conv(
        x, w, stride=stride, padding=padding
      ),
      x,
      weights,
    )
    return y, *pullback(cotangent)

  torch_x = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
  torch_w = torch.tensor(weights.transpose(2, 3, 0, 1), requires_grad=True)
  expected = torch.nn.functional.conv_transpose2d(
    torch_x, torch_w, stride=stride, padding=padding
  )
  expected_y = expected.detach().permute(0, 2, 3, 1).numpy()
  cotangent = _normal(expected_y.shape, seed=2)
  expected.backward(torch.tensor(cotangent.transpose(0, 3, 1, 2)))
  y, gradient_x, gradient_w = value_and_gradients(x, weights, cotangent)
  np.testing.assert_allclose(y, expected_y, atol=2e-5)
  np.testing.assert_allclose(
    gradient_x, torch_x.grad.permute(0, 2, 3, 1), atol=1e-4
  )
  np.testing.assert_allclose(
    gradient_w, torch_w.grad.permute(2, 3, 0, 1), atol=1e-4
  )


def test_equals_its_definition():
  x, kernel = _normal((1, 3, 4, 2)), _normal((5, 4, 2, 3), seed=1)
  expected = np.zeros((1, 2 * 3 + 5, 3 * 3 + 4, 3), np.float32)
  expected = expected[:, : (3 - 1) * 2 + 5, : (4 - 1) * 3 + 4]
  for i in range(3):
    for j in range(4):
      for u in range(5):
        for v in range(4):
          expected[:, 2 * i + u, 3 * j + v] += x[:, i, j] @ kernel[u, v]
  y = transposed.transposed_conv(x, kernel, stride=(2, 3))
  np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (4, 2), (3, 2)])
def test_gradient(kernel, stride):
  test_util.check_grads(
    jax.jit(lambda x, w: transposed.transposed_conv(x, w, stride=stride)),
    (_normal((1, 3, 3, 2)), _normal((kernel, kernel, 2, 2), seed=1)),
    order=1,
    eps=1e-1,
  )


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (4, 2)])
def test_bfloat16_accumulates_in_float32(kernel, stride):
  x = jnp.asarray(_normal((1, 4, 4, 256)), jnp.bfloat16)
  weights = jnp.asarray(_normal((kernel, kernel, 256, 2), 1), jnp.bfloat16)
  y, pullback = jax.vjp(
    lambda x, w: transposed.transposed_conv(x, w, stride=stride), x, weights
  )
  assert y.dtype == jnp.bfloat16
  exact = transposed.transposed_conv(
    x.astype(jnp.float32), weights.astype(jnp.float32), stride=stride
  )
  # One rounding of the sum, not one for each of its 256 terms.
  np.testing.assert_allclose(
    y.astype(jnp.float32), exact, rtol=2**-8, atol=2**-10
  )
  assert [g.dtype for g in pullback(y)] == [jnp.bfloat16] * 2


@pytest.mark.parametrize(
  ("kernel", "products"), [(2, ["dot_general"]), (4, ["convolution"])]
)
def test_no_dilation_of_the_input(kernel, products):
  x, weights = _normal((1, 4, 4, 8)), _normal((kernel, kernel, 8, 4))

  def program(function):
    return jax.jit(function).lower(x, weights).as_text()

  text = program(lambda x, w: transposed.transposed_conv(x, w, stride=2))
  for product in ("dot_general", "convolution"):
    assert text.count(f"stablehlo.{product}") == products.count(product)
  dilated = "lhs_dilate = [2, 2]"
  assert dilated not in text
  # The search itself must be able to find something.
  assert dilated in program(
    lambda x, w: jax.lax.conv_transpose(x, w, (2, 2), "VALID")
  )


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8])
def test_bilinear_deconv_is_a_transposed_convolution(factor):
  x = _normal((2, 5, 3, 3))
  size = 2 * factor - factor % 2
  y = jax.jit(lambda x: transposed.bilinear_deconv(x, factor=factor))(x)
  assert y.shape == (2, 4 * factor + size, 2 * factor + size, 3)
  expected = transposed.transposed_conv(
    x, resizing.bilinear_kernel(size, 3), stride=factor
  )
  np.testing.assert_allclose(y, expected, atol=2e-6)


@pytest.mark.parametrize("factor", [2, 3, 32])
def test_bilinear_deconv_equals_torch(factor):
  torch = pytest.importorskip("torch")
  x = _normal((1, 3, 4, 2))
  tent = resizing.bilinear_filter(2 * factor - factor % 2)
  expected = torch.nn.functional.conv_transpose2d(
    torch.tensor(x.transpose(0, 3, 1, 2)),
    torch.tensor(np.broadcast_to(tent, (2, 1, *tent.shape)).copy()),
    stride=factor,
    groups=2,
  )
  y = transposed.bilinear_deconv(x, factor=factor)
  np.testing.assert_allclose(y, expected.permute(0, 2, 3, 1), atol=2e-6)


def test_bilinear_deconv_gradient_and_dtype():
  x = _normal((1, 3, 2, 2))
  test_util.check_grads(
    jax.jit(lambda x: transposed.bilinear_deconv(x, factor=4)),
    (x,),
    order=1,
    modes=["rev"],
    eps=1e-1,
  )
  y = transposed.bilinear_deconv(jnp.asarray(x, jnp.bfloat16), factor=2)
  assert y.dtype == jnp.bfloat16


def test_native_transposed_conv_is_the_same():
  x, kernel = _normal((2, 5, 4, 3)), _normal((4, 3, 3, 2), seed=1)
  words = {"stride": (2, 3), "padding": (1, 0)}
  np.testing.assert_allclose(
    transposed.transposed_conv(x, kernel, **words),
    transposed.transposed_conv(x, kernel, implementation="native", **words),
    atol=1e-5,
  )
  with pytest.raises(ValueError, match="implementation must be one of"):
    transposed.transposed_conv(x, kernel, implementation="fast", **words)


def test_vmap_equals_a_loop():
  x, kernel = _normal((3, 1, 4, 4, 2)), _normal((4, 4, 2, 3))
  for function in (
    lambda x: transposed.transposed_conv(x, kernel, stride=2),
    lambda x: transposed.bilinear_deconv(x, factor=2),
  ):
    np.testing.assert_allclose(
      jax.jit(jax.vmap(function))(x),
      jnp.stack([jax.jit(function)(y) for y in x]),
      atol=1e-5,
    )


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"stride": 0}, "stride must be positive"),
    ({"stride": 1, "padding": -1}, "padding not negative"),
    ({"stride": 1, "padding": 3}, "nothing is left"),
  ],
)
def test_impossible_settings_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    transposed.transposed_conv(
      _normal((1, 3, 3, 1)), _normal((3, 3, 1, 1)), **settings
    )


def test_bilinear_deconv_refuses_a_factor_of_zero():
  with pytest.raises(ValueError, match="factor must be positive"):
    transposed.bilinear_deconv(_normal((1, 3, 3, 1)), factor=0)


@pytest.mark.parametrize("factor", [2, 3, 4, 32])
def test_bilinear_deconv_of_an_odd_kernel(factor):
  """FCN-AlexNet's kernel of 63 at stride 32."""
  x = np.random.default_rng(0).normal(size=(1, 3, 4, 2)).astype(np.float32)
  kernel = resizing.bilinear_kernel(2 * factor - 1, 2)
  expected = transposed.transposed_conv(x, kernel, stride=factor)
  got = transposed.bilinear_deconv(x, factor=factor, kernel=2 * factor - 1)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match="kernel must be"):
    transposed.bilinear_deconv(x, factor=factor, kernel=2 * factor + 1)


@hypothesis.settings(max_examples=12)
@given(st.data())
def test_transposed_conv_of_any_shape_equals_xlas(data):
  draw, integers = data.draw, st.integers
  x = _normal((draw(integers(1, 2)), *(draw(integers(1, 6)) for _ in "hw"), 2))
  kernel = _normal((*(draw(integers(1, 5)) for _ in "hw"), 2, 3), seed=1)
  words = {"stride": (draw(integers(1, 4)), draw(integers(1, 4)))}
  ours, theirs = (
    _value_and_pullback(
      functools.partial(
        transposed.transposed_conv, implementation=word, **words
      ),
      x,
      kernel,
    )
    for word in ("phases", "native")
  )
  # XLA adds up to stride - 1 rows and columns that no tap reaches: none here.
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    ours,
    theirs,
  )


@hypothesis.settings(max_examples=10)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.booleans())
def test_bilinear_deconv_of_any_shape_is_a_transposed_conv(h, w, factor, odd):
  side = 2 * factor - (factor % 2 or odd)
  x = _normal((1, h, w, 2))
  kernel = jnp.asarray(resizing.bilinear_kernel(side, 2))
  ours, theirs = (
    _value_and_pullback(function, x)
    for function in (
      lambda x: transposed.bilinear_deconv(x, factor=factor, kernel=side),
      lambda x: transposed.transposed_conv(x, kernel, stride=factor),
    )
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    ours,
    theirs,
  )
