"""Each device its own rows: all together, they are what one device computes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import losses
from fcnjax.ops import (
  convolution,
  depthwise,
  max_pooling,
  pooling,
  resizing,
  spatial,
  transposed,
  upsampled,
)
from fcnjax.training import sharding


def _conv(*, stride=(1, 1), padding=1, rate=1):
  edges = padding if isinstance(padding, tuple) else (padding, padding)
  return functools.partial(
    convolution.conv,
    window_strides=stride,
    padding=(edges, (1, 1)),
    rhs_dilation=(rate, 1),
  )


def _depthwise(**words):
  return functools.partial(depthwise.depthwise_conv, **words)


def _pool(**words):
  return functools.partial(max_pooling.max_pool, **words)


def _resize(size, convention):
  return functools.partial(
    resizing.resize_bilinear, size=size, convention=convention
  )


def _unpool(x, **words):
  values, index = pooling.max_pool_with_argmax(x, **words)
  packed = words.get("packed", False)
  return pooling.max_unpool(values, index, size=x.shape[1:3], packed=packed)


def _nearest(x):
  return resizing.resize_nearest(x, (24, 10))


def _loss(convention):
  random = np.random.default_rng(1)
  label = random.integers(0, 4, (2, 64, 36)).astype(np.int32)
  label[0, :5] = 255
  return functools.partial(
    losses.total_upsampled_cross_entropy,
    label=label,
    weights=losses.pixel_weights(label),
    convention=convention,
    implementation="tiles",
  )


MAP, KERNEL = (2, 16, 9, 4), (3, 3, 4, 5)
CASES = {
  "conv": (_conv(), MAP, KERNEL),
  "conv, all padding above": (_conv(padding=(2, 0)), MAP, KERNEL),
  "conv, stride 2": (_conv(stride=(2, 2)), MAP, KERNEL),
  "conv, stride 2, none above": (
    _conv(stride=(2, 1), padding=(0, 1)),
    MAP,
    KERNEL,
  ),
  # A part has two rows, or four.
  "conv, beyond the next device": (_conv(padding=5, rate=5), MAP, KERNEL),
  "conv, beyond the map": (_conv(padding=20, rate=20), MAP, KERNEL),
  "conv, one pixel": (
    functools.partial(convolution.conv, window_strides=(2, 2)),
    MAP,
    (1, 1, 4, 5),
  ),
  "conv, groups": (
    functools.partial(
      convolution.conv, padding=((1, 1), (1, 1)), feature_group_count=2
    ),
    MAP,
    (3, 3, 2, 6),
  ),
  "depthwise": (_depthwise(), MAP, (3, 3, 4)),
  "depthwise, stride 2": (_depthwise(stride=2), MAP, (3, 3, 4)),
  "depthwise, dilated": (_depthwise(dilation=3), MAP, (3, 3, 4)),
  "pool": (_pool(), MAP),
  "pool, overlapping": (_pool(window=3, stride=2, padding=1), MAP),
  "pool, the last window cut": (
    _pool(window=3, stride=2, rounding="ceil"),
    MAP,
  ),
  "pool, dilated": (_pool(window=3, stride=1, dilation=2, padding=2), MAP),
  "unpool": (_unpool, MAP),
  "unpool, packed": (functools.partial(_unpool, packed=True), MAP),
  "transposed": (
    functools.partial(transposed.transposed_conv, stride=2),
    MAP,
    (2, 2, 4, 5),
  ),
  "four times": (_resize((64, 36), "half_pixel"), MAP),
  "four times, corners aligned": (_resize((64, 36), "align_corners"), MAP),
  "one and a half": (_resize((24, 10), "half_pixel"), MAP),
  "shrunk": (_resize((8, 5), "align_corners"), MAP),
  "nearest": (_nearest, MAP),
  "loss": (_loss("half_pixel"), MAP),
  "loss, corners aligned": (_loss("align_corners"), MAP),
}

# What needs no rows of others.
LOCAL = {
  "conv, one pixel",
  "pool",
  "unpool",
  "unpool, packed",
  "transposed",
  "shrunk",
  "nearest",
}


def _with_gradients(function):
  """Returns a function's values and the gradients of a sum of them."""

  def both(*arrays):
    def total(*arrays):
      y = function(*arrays)
      return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

    return jax.grad(total, tuple(range(len(arrays))), has_aux=True)(*arrays)

  return both


def _spread(function, x, *others, data, space):
  """Returns a function's result on a mesh, its program, and the rows put
  together."""
  mesh = sharding.create_mesh(data=data, space=space, batch_size=2)
  with spatial.met() as met:
    spread = jax.jit(sharding.spread(function, mesh))
    compiled = spread.lower(sharding.placed(x, mesh), *others).compile()
  return (
    compiled(sharding.placed(x, mesh), *others),
    compiled.as_text(),
    met.together,
  )


@pytest.mark.parametrize("case", CASES)
def test_of_a_part(case):
  function, *shapes = CASES[case]
  random = np.random.default_rng(0)
  arrays = [random.normal(size=s).astype(np.float32) for s in shapes]
  function = _with_gradients(function)
  expected = jax.tree.leaves(jax.jit(function)(*arrays))
  for data, space in ((1, 8), (2, 4)):
    found, program, left = _spread(function, *arrays, data=data, space=space)
    assert not left
    assert "all-gather" not in program
    assert ("collective-permute" in program) == (case not in LOCAL)
    for a, b in zip(expected, jax.tree.leaves(found), strict=True):
      np.testing.assert_allclose(b, a, atol=2e-5 * np.abs(a).max())


def test_what_does_not_divide_is_put_together():
  """Also where only the windows of a part would not begin in it."""
  random = np.random.default_rng(0)
  kernel = random.normal(size=KERNEL).astype(np.float32)
  for rows, function in (
    (15, _conv()),
    (12, _conv(stride=(2, 2))),
    (16, _conv(padding=0)),
  ):
    x = random.normal(size=(2, rows, 9, 4)).astype(np.float32)
    found, _, left = _spread(function, x, kernel, data=2, space=4)
    assert left == [rows]
    np.testing.assert_allclose(
      found, jax.jit(function)(x, kernel), rtol=1e-4, atol=1e-4
    )


def test_a_batch_that_does_not_divide_is_on_every_device():
  random = np.random.default_rng(0)
  kernel = random.normal(size=KERNEL).astype(np.float32)
  x = random.normal(size=(3, 16, 9, 4)).astype(np.float32)
  function = _with_gradients(_conv())
  expected = jax.jit(function)(x, kernel)
  found, _, left = _spread(function, x, kernel, data=2, space=4)
  assert not left
  for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
    np.testing.assert_allclose(b, a, atol=2e-5 * np.abs(a).max())


def test_rows_are_spread_only_where_a_mesh_says_so():
  assert spatial.parts() == 1
  mesh = sharding.create_mesh(data=2, space=4, batch_size=2)
  sharding.spread(lambda: None, mesh)()
  assert spatial.parts() == 1
  counts = []

  def inner(x):
    counts.append(spatial.parts())
    return x

  def outer(x):
    counts.append(spatial.parts())
    return spatial.by_rows(inner, x)

  jax.eval_shape(sharding.spread(outer, mesh), np.zeros(MAP, np.float32))
  assert counts == [4, 1]


def test_what_is_fastest_is_asked_of_a_devices_part():
  """The batch of eight devices takes the forms that one takes an eighth of."""

  def chosen(count):
    x = jax.ShapeDtypeStruct((count, 256, 256, 64), np.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 64), np.float32)
    possible = dict.fromkeys(("patches", "row_blocks", "winograd"), True)
    possible |= {"matrix": False, "space_to_batch": False}
    words = (x, kernel, (1, 1), ((1, 1), (1, 1)), (1, 1), possible)
    tiles = upsampled.uses_tiles(
      (count, 64, 64, 19), (256, 256), "auto", least=upsampled.LOSS_BYTES
    )
    return convolution._fastest(*words), tiles

  one, eight = chosen(1), chosen(8)
  assert one[0] != eight[0]
  assert one[1] != eight[1]
  mesh = sharding.create_mesh(data=8, batch_size=8)
  assert sharding.spread(chosen, mesh)(8) == one
  assert sharding.spread(chosen, mesh)(12) == chosen(12)  # are not spread
