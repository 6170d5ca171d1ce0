"""Pools whose windows overlap or are dilated, against torch."""

import functools

import hypothesis
from hypothesis import given, strategies as st
import jax
from jax import lax, test_util
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import averaging, max_pooling


def _image(shape, dtype="float32", seed=0):
  image = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(image, dtype)


def _to_torch(torch, x):
  x = np.moveaxis(np.array(x, np.float32), -1, 1)
  return torch.from_numpy(np.ascontiguousarray(x))


def _from_torch(x):
  return np.moveaxis(x.detach().numpy(), 1, -1)


@pytest.mark.parametrize(
  ("window", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0)]
)
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("size", [(7, 8), (9, 12), (3, 5)])
def test_overlapping_pools_equal_torch(window, stride, padding, rounding, size):
  torch = pytest.importorskip("torch")
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  words = {"stride": stride, "padding": padding}
  got = max_pooling.max_pool(x, window=window, rounding=rounding, **words)
  expected = torch.nn.functional.max_pool2d(
    torch.from_numpy(x).permute(0, 3, 1, 2),
    window,
    ceil_mode=rounding == "ceil",
    **words,
  ).permute(0, 2, 3, 1)
  np.testing.assert_array_equal(got, expected)


def test_overlapping_pools_learn():
  """Each maximum's share of the gradient goes to where it was."""
  x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
  words = {"window": 3, "stride": 1, "padding": 1}
  gradient = jax.grad(lambda x: max_pooling.max_pool(x, **words).sum())(x)
  expected = np.zeros((4, 4))
  for i in range(4):
    for j in range(4):
      expected[min(i + 1, 3), min(j + 1, 3)] += 1
  np.testing.assert_array_equal(gradient[0, ..., 0], expected)


@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_pools_equal_torch(dilation):
  torch = pytest.importorskip("torch")
  x = np.random.default_rng(0).normal(size=(1, 9, 11, 2)).astype(np.float32)
  got = max_pooling.max_pool(x, window=2, stride=1, dilation=dilation)
  expected = torch.nn.functional.max_pool2d(
    torch.from_numpy(x).permute(0, 3, 1, 2), 2, 1, dilation=dilation
  ).permute(0, 2, 3, 1)
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", [1, 3, 19])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_local_maxima_and_means_equal_xlas(size, dtype):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 7, 12, 5)), dtype)
  window = (1, size, size, 1)

  def largest(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, window, (1,) * 4, "SAME")

  def mean(x):
    x = x.astype(jnp.float32)
    total, count = (
      lax.reduce_window(a, 0.0, lax.add, window, (1,) * 4, "SAME")
      for a in (x, jnp.ones_like(x))
    )
    return (total / count).astype(dtype)

  for ours, theirs, bound in (
    (max_pooling.local_max, largest, 0),
    (averaging.local_mean, mean, 1e-5),
  ):
    value, pullback = jax.vjp(lambda x, f=ours: f(x, size), x)
    expected, expected_pullback = jax.vjp(theirs, x)
    assert value.dtype == x.dtype
    bound = bound if dtype == "float32" else 1e-2
    np.testing.assert_allclose(
      value.astype(jnp.float32), expected.astype(jnp.float32), atol=bound
    )
    cotangent = jnp.asarray(rng.normal(size=x.shape), dtype)
    ours, theirs = (
      np.asarray(f(cotangent)[0], np.float32)
      for f in (pullback, expected_pullback)
    )
    # In bfloat16 a pixel that is the largest of many sums their cotangents.
    bound = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(ours, theirs, atol=bound * np.abs(theirs).max())


def test_local_maxima_give_their_gradient_to_the_first():
  x = np.zeros((1, 3, 3, 1), np.float32)
  gradient = jax.grad(lambda x: max_pooling.local_max(x, 3)[0, 1, 1, 0])(x)
  assert gradient[0, 0, 0, 0] == gradient.sum() == 1


@pytest.mark.parametrize("size", [0, 2])
def test_local_maxima_are_of_odd_squares(size):
  for function in (max_pooling.local_max, averaging.local_mean):
    with pytest.raises(ValueError, match="size must be a positive odd"):
      function(np.zeros((1, 4, 4, 1), np.float32), size)


def test_pools_may_be_padded_along_one_side():
  torch = pytest.importorskip("torch")
  x = np.random.default_rng(0).normal(size=(1, 5, 6, 2)).astype(np.float32)
  got = max_pooling.max_pool(x, window=(1, 3), stride=1, padding=(0, 1))
  expected = torch.nn.functional.max_pool2d(
    torch.from_numpy(x).permute(0, 3, 1, 2), (1, 3), 1, padding=(0, 1)
  ).permute(0, 2, 3, 1)
  np.testing.assert_array_equal(got, expected)


def test_impossible_overlapping_pools():
  x = np.zeros((1, 2, 2, 1), np.float32)
  with pytest.raises(ValueError, match="padding must be at least"):
    max_pooling.max_pool(x, window=3, stride=2, padding=3)
  with pytest.raises(ValueError, match="no window"):
    max_pooling.max_pool(x, window=3, stride=2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
  ("window", "stride", "padding", "dilation"),
  [(3, 2, 1, 1), (3, 1, 1, 1), (3, 2, 0, 1), (2, 1, 0, 2), (3, 1, 1, 2)],
)
def test_overlapping_windows_equal_torch(
  window, stride, padding, dilation, dtype
):
  torch = pytest.importorskip("torch")
  x = _image((2, 9, 8, 3), dtype)
  words = {"stride": stride, "padding": padding, "dilation": dilation}
  values, pullback = jax.vjp(
    jax.jit(lambda x: max_pooling.max_pool(x, window=window, **words)), x
  )
  cotangent = _image(values.shape, dtype, seed=2)
  torch_x = _to_torch(torch, x).requires_grad_()
  expected = torch.nn.functional.max_pool2d(torch_x, window, **words)
  expected.backward(_to_torch(torch, cotangent))
  np.testing.assert_array_equal(
    values.astype(jnp.float32), _from_torch(expected)
  )
  # Sums of up to nine cotangents, rounded once here and after each in torch.
  bound = 1e-6 if dtype == "float32" else 5e-2
  np.testing.assert_allclose(
    pullback(cotangent)[0].astype(jnp.float32),
    _from_torch(torch_x.grad),
    atol=bound,
  )


@hypothesis.settings(max_examples=15)
@given(st.data())
def test_overlapping_windows_of_any_shape_equal_xlas(data):
  integers = st.integers
  shape = tuple(data.draw(integers(1, n)) for n in (2, 11, 11, 3))
  window = (data.draw(integers(1, 4)), data.draw(integers(1, 4)))
  stride, dilation = data.draw(integers(1, 3)), data.draw(integers(1, 2))
  covered = [dilation * (k - 1) + 1 for k in window]
  padding = data.draw(integers(0, min(covered) - 1))
  hypothesis.assume(
    all(k <= n + 2 * padding for k, n in zip(covered, shape[1:3]))
  )
  words = {
    "window": window,
    "stride": stride,
    "padding": padding,
    "dilation": dilation,
    "rounding": data.draw(st.sampled_from(["floor", "ceil"])),
  }
  # Few values: many ties, of which the first must get the gradient.
  x = np.random.default_rng(0).integers(0, 3, shape).astype(np.float32)
  ours, theirs = (
    jax.vjp(
      jax.jit(
        functools.partial(max_pooling.max_pool, implementation=word, **words)
      ),
      x,
    )
    for word in ("places", "native")
  )
  np.testing.assert_array_equal(ours[0], theirs[0])
  cotangent = _image(ours[0].shape)
  if dilation == 1:  # XLA cannot differentiate its dilated windows.
    np.testing.assert_allclose(
      ours[1](cotangent)[0], theirs[1](cotangent)[0], atol=1e-5
    )


def test_gradients_of_overlapping_windows_are_finite_differences():
  # So far apart that a finite difference changes no maximum.
  distinct = np.random.default_rng(1).permutation(84).reshape(1, 7, 6, 2)
  distinct = distinct.astype(np.float32) * np.float32(0.1)
  for words in ({"stride": 2, "padding": 1}, {"stride": 1, "dilation": 2}):
    test_util.check_grads(
      jax.jit(lambda x, w=words: max_pooling.max_pool(x, window=3, **w)),
      (distinct,),
      order=2,
      modes=["rev"],
      eps=1e-2,
      rtol=1e-2,
    )


def test_what_is_refused_and_what_is_not():
  with pytest.raises(ValueError, match="implementation must be"):
    max_pooling.max_pool(_image((1, 6, 6, 4)), implementation="fast")
  # Strides have no numbers, and XLA's windows need none.
  wide = _image((1, 44, 44, 1))
  words = {"window": 17, "stride": 9, "implementation": "native"}
  assert max_pooling.max_pool(wide, window=3, stride=20).shape == (1, 3, 3, 1)
  assert max_pooling.max_pool(wide, **words).shape == (1, 4, 4, 1)
