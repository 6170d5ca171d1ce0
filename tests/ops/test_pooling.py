"""Pooling against torch, the plain reference, and the claims of its design."""

import re

import hypothesis
from hypothesis import given, strategies as st
import jax
from jax import test_util
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from fcnjax.ops import indices, max_pooling, pooling

SHAPES = [
  ((2, 8, 6, 3), 2, "floor"),
  ((2, 7, 9, 3), 2, "floor"),
  ((2, 7, 9, 3), 2, "ceil"),
  ((1, 45, 5, 2), 2, "ceil"),
  ((1, 7, 8, 2), (3, 2), "ceil"),
  ((1, 7, 8, 2), (2, 5), "floor"),
  ((1, 1, 1, 1), 2, "ceil"),
  ((1, 5, 4, 2), 1, "floor"),
  ((1, 17, 12, 1), 8, "ceil"),
]


# Compiled as a whole, once for each shape: faster than operation by operation.
_pool = jax.jit(
  pooling.max_pool_with_argmax, static_argnames=("window", "rounding")
)
_unpool = jax.jit(pooling.max_unpool, static_argnames=("window", "size"))
_pool_reference = jax.jit(
  pooling.max_pool_with_argmax_reference,
  static_argnames=("window", "rounding"),
)
_unpool_reference = jax.jit(
  pooling.max_unpool_reference, static_argnames=("window", "size")
)
_flat_indices = jax.jit(
  indices.flat_indices, static_argnames=("window", "size", "layout")
)


def _image(shape, dtype="float32", seed=0):
  image = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(image, dtype)


def _distinct(shape):
  """Values so far apart that a finite difference changes no maximum."""
  values = np.random.default_rng(1).permutation(int(np.prod(shape)))
  return jnp.asarray(values.reshape(shape) * 0.1, jnp.float32)


def _to_torch(torch, x):
  x = np.moveaxis(np.array(x, np.float32), -1, 1)
  return torch.from_numpy(np.ascontiguousarray(x))


def _from_torch(x):
  return np.moveaxis(x.detach().float().numpy(), 1, -1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "window", "rounding"), SHAPES)
def test_pool_equals_torch(shape, window, rounding, dtype):
  torch = pytest.importorskip("torch")
  x = _image(shape, dtype)
  values, index = _pool(x, window=window, rounding=rounding)
  expected, flat = torch.nn.functional.max_pool2d(
    _to_torch(torch, x).to(getattr(torch, dtype)),
    window,
    ceil_mode=rounding == "ceil",
    return_indices=True,
  )
  assert values.dtype == x.dtype
  np.testing.assert_array_equal(
    values.astype(jnp.float32), _from_torch(expected)
  )
  np.testing.assert_array_equal(
    _flat_indices(index, window=window, size=shape[1:3]),
    _from_torch(flat).astype(np.int32),
  )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "window", "rounding"), SHAPES)
def test_unpool_and_gradients_equal_torch(shape, window, rounding, dtype):
  torch = pytest.importorskip("torch")
  size = shape[1:3]
  x = _image(shape, dtype)
  _, index = _pool(x, window=window, rounding=rounding)
  values = _image(index.shape, dtype, seed=2)
  cotangent = _image(shape, dtype, seed=3)

  torch_values = _to_torch(torch, values).requires_grad_()
  flat = _flat_indices(index, window=window, size=size)
  expected = torch.nn.functional.max_unpool2d(
    torch_values, _to_torch(torch, flat).long(), window, output_size=size
  )
  expected.backward(_to_torch(torch, cotangent))

  @jax.jit
  def unpool_and_pull_back(values, cotangent):
    unpooled, pullback = jax.vjp(
      lambda v: pooling.max_unpool(v, index, window=window, size=size), values
    )
    return unpooled, pullback(cotangent)[0]

  unpooled, gradient = unpool_and_pull_back(values, cotangent)
  assert unpooled.dtype == values.dtype
  np.testing.assert_array_equal(
    unpooled.astype(jnp.float32), _from_torch(expected)
  )
  assert gradient.dtype == values.dtype
  np.testing.assert_array_equal(
    gradient.astype(jnp.float32), _from_torch(torch_values.grad)
  )

  torch_image = _to_torch(torch, x).requires_grad_()
  torch.nn.functional.max_pool2d(
    torch_image, window, ceil_mode=rounding == "ceil"
  ).backward(_to_torch(torch, values))
  gradient = jax.jit(
    lambda x, v: jax.vjp(
      lambda x: max_pooling.max_pool(x, window=window, rounding=rounding), x
    )[1](v)[0]
  )(x, values)
  np.testing.assert_array_equal(
    gradient.astype(jnp.float32), _from_torch(torch_image.grad)
  )


@hypothesis.settings(max_examples=12)
@given(st.data())
def test_any_shape_equals_the_reference(data):
  integers = st.integers
  shape = tuple(data.draw(integers(1, n)) for n in (2, 11, 11, 3))
  window = (data.draw(integers(1, 5)), data.draw(integers(1, 5)))
  fits = window[0] <= shape[1] and window[1] <= shape[2]
  rounding = data.draw(st.sampled_from(["ceil", "floor"] if fits else ["ceil"]))
  seed = data.draw(integers(0, 9))
  # Few values: many ties, whose first in row order must win.
  x = np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)
  x[np.random.default_rng(seed + 1).random(shape) < 0.05] = np.nan
  settings = {"window": window, "rounding": rounding}
  values, index = _pool(x, **settings)
  expected, places = _pool_reference(x, **settings)
  np.testing.assert_array_equal(values, expected)
  np.testing.assert_array_equal(index, places)

  settings = {"window": window, "size": shape[1:3]}
  unpooled = _unpool(values, index, **settings)
  np.testing.assert_array_equal(
    unpooled, _unpool_reference(values, index, **settings)
  )
  # The claim of SegNet: the maxima are back at their places, the rest is zero.
  kept = (np.asarray(unpooled) != 0) | np.isnan(unpooled)
  np.testing.assert_array_equal(np.asarray(unpooled)[kept], x[kept])
  # And pooling what was unpooled changes nothing.
  again, _ = _pool(unpooled, window=window, rounding=rounding)
  np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize(
  ("shape", "window", "rounding"),
  [((1, 5, 4, 2), 2, "floor"), ((1, 7, 5, 1), (3, 2), "ceil")],
)
def test_gradients_are_finite_differences(shape, window, rounding):
  x = _distinct(shape)
  index = _pool(x, window=window, rounding=rounding)[1]
  values = _image(index.shape)
  for function, argument in (
    (lambda x: max_pooling.max_pool(x, window=window, rounding=rounding), x),
    (
      lambda v: pooling.max_unpool(v, index, window=window, size=shape[1:3]),
      values,
    ),
  ):
    test_util.check_grads(
      jax.jit(function),
      (argument,),
      order=2,
      modes=["rev"],
      eps=1e-2,
      rtol=1e-2,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_of_equal_values_wins(dtype):
  x = jnp.asarray([[1, 3, 0, 0], [3, 3, 0, 0]], dtype)[None, :, :, None]
  values, index = _pool(x)
  np.testing.assert_array_equal(max_pooling.max_pool(x), values)
  assert values.ravel().tolist() == [3, 0]
  assert index.ravel().tolist() == [1, 0]
  gradient = jax.grad(lambda x: max_pooling.max_pool(x).sum())(x)
  assert gradient[0, :, :, 0].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_propagates(dtype):
  nan, inf = np.nan, np.inf
  x = jnp.asarray([[1, nan, -inf, -inf, 7], [inf, nan, -inf, -inf, nan]], dtype)
  values, index = _pool(x[None, :, :, None], rounding="ceil")
  np.testing.assert_array_equal(
    values.astype(jnp.float32).ravel(), [nan, -inf, nan]
  )
  assert index.ravel().tolist() == [1, 0, 2]


def test_single_nan_has_the_place_of_torch():
  torch = pytest.importorskip("torch")
  x = np.zeros((4, 2, 2, 1), np.float32)
  x.reshape(4, 4)[np.arange(4), np.arange(4)] = np.nan
  values, index = _pool(x)
  expected, flat = torch.nn.functional.max_pool2d(
    _to_torch(torch, x), 2, return_indices=True
  )
  np.testing.assert_array_equal(values, _from_torch(expected))
  np.testing.assert_array_equal(index, _from_torch(flat))


def test_a_window_that_sticks_out_ignores_what_is_not_there():
  x = jnp.full((1, 3, 3, 1), -5.0)
  values, index = _pool(x, rounding="ceil")
  assert values.ravel().tolist() == [-5] * 4
  assert index.ravel().tolist() == [0] * 4


def test_unpool_drops_places_beyond_the_size():
  values = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
  index = jnp.full((1, 2, 2, 1), 3, jnp.uint8)
  unpooled = pooling.max_unpool(values, index, size=(3, 3))
  assert unpooled[0, :, :, 0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_largest_window_uses_every_index():
  x = np.zeros((256, 16, 16, 1), np.float32)
  x.reshape(256, 256)[np.arange(256), np.arange(256)] = 1
  values, index = _pool(x, window=16)
  assert index.ravel().tolist() == list(range(256))
  np.testing.assert_array_equal(
    pooling.max_unpool(values, index, window=16, size=(16, 16)), x
  )


def _programs(function, *arguments):
  """The program that JAX hands over, and the one that XLA makes of it."""
  lowered = jax.jit(function).lower(*arguments)
  return lowered.as_text() + lowered.compile().as_text()


# An operation of StableHLO, or of HLO behind its result's layout.
FORBIDDEN = re.compile(
  r"(?:stablehlo\.|} )([\w-]*(?:scatter|gather|reduce.window))\b"
)


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_nothing_is_scattered_or_gathered(rounding):
  x = _image((1, 7, 7, 2))
  _, index = _pool(x, rounding=rounding)

  def forward_and_backward(x, index):
    settings = {"window": 2, "size": x.shape[1:3]}
    values, pullback = jax.vjp(
      lambda x: max_pooling.max_pool(x, rounding=rounding), x
    )
    unpooled, unpool_pullback = jax.vjp(
      lambda v: pooling.max_unpool(v, index, **settings), values
    )
    return pullback(values), unpooled, unpool_pullback(x)

  assert not FORBIDDEN.findall(_programs(forward_and_backward, x, index))

  def reference(x):
    values, index = _pool_reference(x)
    return _unpool_reference(values, index, size=(7, 7))

  # The search itself must be able to find something.
  assert {"scatter", "gather"} <= set(
    FORBIDDEN.findall(_programs(reference, x))
  )


def test_only_the_index_is_kept_for_the_backward_pass():
  """2 bits for each window of 2x2: four channels a byte."""
  x = _image((2, 8, 8, 8))
  values, index = pooling.max_pool_with_argmax(x)
  places = 2 * 4 * 4 * 8
  for function, argument, size in (
    (max_pooling.max_pool, x, places // 4),
    (lambda x: max_pooling.max_pool(x, window=3, stride=2), x, 2 * 3 * 3 * 8),
    (lambda x: pooling.max_pool_with_argmax(x)[0], x, places),
    (lambda v: pooling.max_unpool(v, index, size=(8, 8)), values, places),
  ):
    _, pullback = jax.vjp(function, argument)
    kept = jax.tree.leaves(pullback)
    assert [(leaf.dtype, leaf.size) for leaf in kept] == [("uint8", size)]


def test_vmap_equals_a_loop():
  x = _image((3, 1, 5, 7, 2))

  def round_trip(x):
    values, index = _pool(x, rounding="ceil")
    return pooling.max_unpool(values, index, size=(5, 7))

  def gradient(x):
    return jax.grad(lambda x: (round_trip(x) ** 2).sum())(x)

  for function in (round_trip, gradient):
    np.testing.assert_array_equal(
      jax.jit(jax.vmap(function))(x),
      jnp.stack([jax.jit(function)(image) for image in x]),
    )


def test_rows_sharded_over_devices():
  devices = np.array(jax.devices()).reshape(2, -1)
  mesh = jax.sharding.Mesh(devices, ("data", "space"))
  x = _image((2, 4 * devices.shape[1], 6, 3))
  sharding = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec("data", "space")
  )

  def round_trip(x):
    values, index = _pool(x)
    return pooling.max_unpool(values, index, size=x.shape[1:3])

  sharded = jax.jit(round_trip)(jax.device_put(x, sharding))
  np.testing.assert_array_equal(sharded, round_trip(x))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"window": 3, "stride": 2}, "tile the image"),
    ({"window": (2, 2), "stride": (2, 1)}, "tile the image"),
    ({"window": 17}, "at most 256"),
    ({"window": (257, 1)}, "at most 256"),
    ({"window": 0}, "positive"),
    ({"window": 8}, "larger than the image"),
  ],
)
def test_bad_windows_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    pooling.max_pool_with_argmax(jnp.ones((1, 7, 9, 1)), **settings)


def test_stride_equal_to_window_is_accepted():
  values, _ = pooling.max_pool_with_argmax(
    jnp.ones((1, 6, 9, 1)), window=(2, 3), stride=(2, 3)
  )
  assert values.shape == (1, 3, 3, 1)


@pytest.mark.parametrize("size", [(7, 8), (8, 9), (7, 9)])
def test_unpool_accepts_every_size_that_pools_to_this(size):
  x = jnp.ones((1, 4, 4, 1))
  index = jnp.zeros((1, 4, 4, 1), jnp.uint8)
  unpooled = pooling.max_unpool(x, index, size=size)
  assert unpooled.shape == (1, *size, 1)
  assert unpooled.sum() == 16


@pytest.mark.parametrize("size", [(8, 6), (10, 8), (4, 8)])
def test_unpool_refuses_sizes_that_pool_to_another(size):
  x = jnp.ones((1, 4, 4, 1))
  index = jnp.zeros((1, 4, 4, 1), jnp.uint8)
  with pytest.raises(ValueError, match="size of the image that was pooled"):
    pooling.max_unpool(x, index, size=size)


def test_unpool_refuses_flat_indices():
  x = jnp.ones((1, 4, 4, 1))
  # The import hook, where it is on, refuses them first.
  with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
    pooling.max_unpool(x, jnp.zeros(x.shape, jnp.int32), size=(8, 8))


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8])
def test_packed_places_have_two_bits(channels):
  x = _image((2, 7, 6, channels))
  words = {"rounding": "ceil"}
  values, packed = pooling.max_pool_with_argmax(x, packed=True, **words)
  assert packed.dtype == jnp.uint8
  assert packed.shape == (*values.shape[:3], -(-channels // 4))
  expected, index = _pool(x, window=2, **words)
  np.testing.assert_array_equal(values, expected)
  fours = np.pad(index, [(0, 0)] * 3 + [(0, -channels % 4)])
  fours = fours.reshape(*packed.shape, 4).astype(int)
  np.testing.assert_array_equal(packed, fours @ [1, 4, 16, 64])

  def there_and_back(x, packed):
    values, index = pooling.max_pool_with_argmax(x, packed=packed, **words)
    for implementation in ("compare", "native"):
      values = pooling.max_unpool(
        values,
        index,
        size=(7, 6),
        packed=packed,
        implementation=implementation,
      )
      values = max_pooling.max_pool(values, **words)
    return (values**2).sum()

  np.testing.assert_array_equal(
    *(jax.grad(there_and_back)(x, packed) for packed in (False, True))
  )


def test_what_packing_and_unpooling_refuse():
  x = _image((1, 6, 6, 4))
  with pytest.raises(ValueError, match="2 bits, which number the 4 pixels"):
    pooling.max_pool_with_argmax(x, window=3, packed=True)
  values, index = pooling.max_pool_with_argmax(x, packed=True)
  with pytest.raises(ValueError, match=re.escape("of shape (1, 3, 3, 4)")):
    pooling.max_unpool(values, index, size=(6, 6))
  with pytest.raises(ValueError, match="implementation must be"):
    pooling.max_unpool(
      values, index, size=(6, 6), packed=True, implementation="fast"
    )
