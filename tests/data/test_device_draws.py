"""What the device's transforms draw, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.data import device_transforms, device_warps, views


def draws(name, count, **parameters):
  """What a transform shows of a 9x9 image of numbered pixels, many times."""
  numbered = {
    "image": jnp.arange(81, dtype=jnp.float32).reshape(9, 9, 1),
    "label": jnp.zeros((9, 9), jnp.uint8),
  }
  keys = jax.random.split(jax.random.key(0), count)
  one = device_transforms.TRANSFORMS[name]

  def image(key):
    view = one(views.of_maps(numbered), key, **parameters)
    return view.whole()["image"][..., 0], jnp.stack(
      [jnp.asarray(side) for side in view.size]
    )

  return [np.asarray(x) for x in jax.jit(jax.vmap(image))(keys)]


def test_flips_are_as_probable_as_told():
  images, _ = draws("flip", 4000, vertical=True, probability=0.3)
  vertical, horizontal = images[:, 0, 4] > 40, images[:, 4, 0] > 40
  for flipped in (vertical, horizontal):
    assert abs(flipped.mean() - 0.3) < 0.03
  assert abs((vertical & horizontal).mean() - 0.09) < 0.02


@pytest.mark.parametrize("size", [(4, 7), (12, 9)])
def test_crops_are_as_probable_at_every_place(size):
  """Five sigma around the share of each; also of windows that reach beyond."""
  images, _ = draws("random_crop", 6000, size=size, fill=-1.0)
  found, counts = np.unique(
    images.reshape(6000, -1), axis=0, return_counts=True
  )
  places = (abs(9 - size[0]) + 1) * (abs(9 - size[1]) + 1)
  assert len(found) == places
  expected = 6000 / places
  assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_every_jitter_quarter_turn_and_step_of_a_scale_is_drawn():
  images, _ = draws("jitter", 2000, pixels=2)
  assert len(np.unique(images[:, 4, 4])) == 25
  images, _ = draws("rotate", 200, degrees=0.0, quarter_turns=True)
  assert len(np.unique(images.reshape(200, -1), axis=0)) == 4
  _, sizes = draws("random_scale", 300, minimum=1.0, maximum=2.0, step=0.25)
  assert set(map(tuple, sizes)) == {(x, x) for x in (9, 11, 14, 16, 18)}
  _, sizes = draws("random_scale", 4000, minimum=0.5, maximum=2.5)
  assert abs(sizes.mean() - 9 * 1.5) < 0.3
  assert set(sizes[:, 0]) == {*range(5, 23)}


def test_displacements_have_the_given_deviation_in_pixels():
  """A ramp of one grey value a pixel shows by how much each pixel moved."""
  ramp = jnp.broadcast_to(jnp.arange(101.0)[:, None, None], (101, 5, 1))
  maps = {"image": ramp, "label": jnp.zeros((101, 5), jnp.uint8)}
  shown = jax.jit(
    jax.vmap(
      lambda key: device_warps.elastic(
        views.of_maps(maps), key, sigma=10.0
      ).whole()["image"][50, ::2, 0]
    )
  )(jax.random.split(jax.random.key(1), 500))
  moved = np.asarray(shown) - 50
  assert abs(moved.mean()) < 1
  assert 9.5 < moved.std() < 10.5
