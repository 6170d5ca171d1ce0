"""Views on the device against what geometry.py makes, pixel by pixel."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from fcnjax.data import (
  device_transforms,
  device_warps,
  elastic,
  geometry,
  views,
)
from tests.data import device_examples


@pytest.mark.parametrize("boundary", geometry.BOUNDARIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (20, 27), (64, 33)])
def test_the_same_displacements_give_the_same_pixels(size, boundary):
  """And labels, exactly: also where a place lies on the border of pixels."""
  example = device_examples.make(*size)
  rng = np.random.default_rng(1)
  field = rng.normal(0, 9, (*size, 2)).astype(np.float32)
  field[::2] = np.round(2 * field[::2]) / 2
  grid = np.stack(np.indices(size), -1).astype(np.float32)
  theirs = geometry.warp(
    {k: tf.constant(v) for k, v in example.items()},
    tf.constant(grid + field),
    boundary=boundary,
    fill=(1.0, 2.0, 3.0),
  )

  def coordinates(rows, columns):
    there = jnp.asarray(field)[rows, columns]
    return rows + there[..., 0], columns + there[..., 1]

  ours = device_examples.shown(
    lambda: views.warp(
      device_examples.stored(example, dynamic=True),
      coordinates,
      boundary=boundary,
      fill=(1.0, 2.0, 3.0),
    ),
  )
  device_examples.assert_agree(
    ours, {k: v.numpy() for k, v in theirs.items()}, 1e-4
  )


@pytest.mark.parametrize("grid", [3, 4, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (64, 97), (512, 300)])
def test_the_same_nodes_make_the_same_surface(grid, size):
  nodes = np.random.default_rng(0).normal(0, 10, (grid, grid, 2))
  nodes = nodes.astype(np.float32)
  theirs = elastic.bicubic_surface(tf.constant(nodes), size)
  rows, columns = jnp.arange(size[0])[:, None], jnp.arange(size[1])[None]
  ours = jax.jit(device_warps.bicubic_surface)(
    jnp.asarray(nodes), tuple(map(jnp.asarray, size)), rows, columns
  )
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@functools.partial(jax.jit, static_argnames="boundary")
def rearranged(pixels, shape, turns, offset, size, axes, end, boundary):
  """One on top of the other, compiled once for all shapes up to 14x14."""
  view = views.of_pixels(
    pixels, size=(shape[0], shape[1]), largest=np.array([[12, 12]])
  )
  view = views.turned(view, turns)
  view = views.window(
    view,
    offset,
    (size[0], size[1]),
    largest=np.array([[14, 14]]),
    boundary=boundary,
  )
  view = views.mirrored(view, axes)
  end = (end[0], end[1])
  return views.resized(view, end, largest=np.array([[14, 14]])).whole()


small = st.tuples(st.integers(1, 12), st.integers(1, 12))


@hypothesis.given(
  shape=small,
  offset=st.tuples(st.integers(-15, 15), st.integers(-15, 15)),
  size=small,
  end=small,
  turns=st.integers(0, 3),
  axes=st.tuples(st.booleans(), st.booleans()),
  boundary=st.sampled_from(geometry.BOUNDARIES),
)
@hypothesis.settings(max_examples=200)
def test_moved_turned_mirrored_and_resized_alike(
  shape, offset, size, end, turns, axes, boundary
):
  example = device_examples.make(*shape, seed=shape[0])
  theirs = {k: tf.constant(v) for k, v in example.items()}
  theirs = geometry.turned(theirs, tf.constant(turns))
  theirs = geometry.window(
    theirs, tf.constant(offset), tf.constant(size), boundary=boundary
  )
  theirs = geometry.mirrored(theirs, tf.constant(axes))
  theirs = geometry.resized(theirs, tf.constant(end))
  pixels = {
    k: np.resize(v.reshape(-1, *v.shape[2:]), (144, *v.shape[2:]))
    for k, v in example.items()
  }
  moved = rearranged(
    pixels,
    *map(np.array, (shape, turns, offset, size, axes, end)),
    boundary=boundary,
  )
  ours = {k: np.asarray(v)[: end[0], : end[1]] for k, v in moved.items()}
  device_examples.assert_agree(
    ours, {k: v.numpy() for k, v in theirs.items()}, 1e-3
  )


def test_what_lies_outside_a_crop_is_never_computed():
  """Of an image enlarged to 4000x4000 pixels, 16x16 are."""

  def crop(key, kept):
    view = device_transforms.random_scale(
      device_examples.stored(device_examples.make(40, 40)),
      key,
      minimum=50.0,
      maximum=100.0,
    )
    view = kept(view)
    return device_transforms.random_crop(view, key, size=(16, 16)).whole()

  for kept, expected in ((lambda view: view, False), (views.computed, True)):
    made = jax.make_jaxpr(functools.partial(crop, kept=kept))(jax.random.key(0))
    assert ("4000,4000" in str(made)) == expected
