"""Places in the window as the flat indices of torch and TensorFlow.

That they equal torch's is tested with the pooling (test_pooling.py).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import indices, pooling

SHAPES = [
  ((2, 8, 6, 3), 2, "floor"),
  ((2, 7, 9, 3), 2, "ceil"),
  ((1, 7, 8, 2), (3, 2), "ceil"),
  ((1, 7, 8, 2), (2, 5), "floor"),
  ((1, 33, 20, 1), 16, "ceil"),
]
_SETTINGS = ("window", "size", "layout")
_flat_indices = jax.jit(indices.flat_indices, static_argnames=_SETTINGS)
_window_indices = jax.jit(indices.window_indices, static_argnames=_SETTINGS)


def _image(shape):
  image = np.random.default_rng(0).normal(size=shape)
  return jnp.asarray(image, jnp.float32)


@pytest.mark.parametrize("layout", ["torch", "tensorflow"])
@pytest.mark.parametrize(("shape", "window", "rounding"), SHAPES)
def test_flat_indices_there_and_back(shape, window, rounding, layout):
  x = _image(shape)
  values, index = pooling.max_pool_with_argmax(
    x, window=window, rounding=rounding
  )
  settings = {"window": window, "size": shape[1:3], "layout": layout}
  flat = _flat_indices(index, **settings)
  np.testing.assert_array_equal(_window_indices(flat, **settings), index)
  # By its definition, a flat index picks the maximum out of the raveled array.
  for b in range(shape[0]):
    image = np.asarray(x[b])
    if layout == "tensorflow":
      picked = image.ravel()[flat[b]]
    else:
      planes = image.reshape(-1, shape[3])
      picked = np.take_along_axis(
        planes, np.asarray(flat[b]).reshape(-1, shape[3]), 0
      ).reshape(values[b].shape)
    np.testing.assert_array_equal(picked, values[b])


def test_flat_indices_equal_tensorflow():
  tf = pytest.importorskip("tensorflow")
  x = _image((2, 8, 6, 3))
  values, index = pooling.max_pool_with_argmax(x)
  expected, flat = tf.nn.max_pool_with_argmax(np.asarray(x), 2, 2, "VALID")
  np.testing.assert_array_equal(values, expected.numpy())
  np.testing.assert_array_equal(
    _flat_indices(index, size=(8, 6), layout="tensorflow"), flat.numpy()
  )


def test_flat_indices_refuse_what_exceeds_int32():
  index = jnp.zeros((1, 1, 1, 64), jnp.uint8)
  with pytest.raises(ValueError, match="int32"):
    indices.flat_indices(index, size=(2**13, 2**13), layout="tensorflow")
