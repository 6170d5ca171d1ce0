"""Mirrored borders of any width."""

import hypothesis
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.inference import borders


def test_the_edge_pixel_is_not_repeated():
  row = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
  wide = borders.mirror(row, columns=(2, 3))
  assert wide.ravel().tolist() == [2, 1, 0, 1, 2, 3, 2, 1, 0]


@hypothesis.given(
  height=st.integers(2, 5),
  width=st.integers(1, 5),
  rows=st.tuples(st.integers(0, 17), st.integers(0, 17)),
  columns=st.tuples(st.integers(0, 17), st.integers(0, 17)),
)
def test_equals_numpy_also_where_the_border_is_wider_than_the_image(
  height, width, rows, columns
):
  image = np.random.default_rng(0).random((2, height, width, 3), np.float32)
  expected = np.pad(image, ((0, 0), rows, columns, (0, 0)), mode="reflect")
  np.testing.assert_array_equal(
    borders.mirror(image, rows=rows, columns=columns), expected
  )


def test_jax_stays_jax():
  image = jnp.arange(6.0).reshape(1, 2, 3, 1)
  wide = borders.mirror(image, rows=(5, 1), columns=(0, 4))
  assert isinstance(wide, jnp.ndarray)
  expected = borders.mirror(np.asarray(image), rows=(5, 1), columns=(0, 4))
  np.testing.assert_array_equal(wide, expected)


def test_a_negative_border_is_refused():
  with pytest.raises(ValueError, match="negative"):
    borders.mirror(np.zeros((1, 2, 2, 1), np.float32), rows=(-1, 0))
