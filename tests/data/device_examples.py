"""Examples for the device's transforms, as views of them, and comparisons."""

import jax
import jax.numpy as jnp
import numpy as np

from fcnjax.data import views


def make(height=20, width=27, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  label = rng.choice([0, 3, 4, 255], (height, width))
  return {
    "image": rng.uniform(0, 255, (height, width, channels)).astype(np.float32),
    "label": label.astype(np.uint8),
    "weight": rng.uniform(0.5, 2, (height, width)).astype(np.float32),
    "second_label": rng.integers(0, 3, (height, width)).astype(np.uint8),
  }


def stored(example, dynamic=False):
  """A view of an example, whose size the compiler may not know."""
  view = views.of_maps({k: jnp.asarray(v) for k, v in example.items()})
  if not dynamic:
    return view
  height, width = example["label"].shape
  return views.of_pixels(
    # What lies around it must not be seen.
    {
      k: jnp.asarray(
        np.pad(v.reshape(-1, *v.shape[2:]), [(7, 9)] + [(0, 0)] * (v.ndim - 2))
      )
      for k, v in example.items()
    },
    size=(jnp.asarray(height), jnp.asarray(width)),
    largest=np.array([[height + 3, width], [height, width + 4]]),
    first=7,
  )


def shown(view):
  """The maps of a view, at its own size, compiled."""

  @jax.jit
  def whole():
    made = view()
    return made.whole(), jnp.stack([jnp.asarray(s) for s in made.size])

  maps, (height, width) = whole()
  return {k: np.asarray(v)[:height, :width] for k, v in maps.items()}


def assert_agree(ours, theirs, atol):
  assert ours.keys() == theirs.keys()
  for key in theirs:
    assert ours[key].shape == theirs[key].shape, key
    assert ours[key].dtype == theirs[key].dtype, key
    if theirs[key].dtype == np.uint8:
      np.testing.assert_array_equal(ours[key], theirs[key], key)
    else:
      scale = 1 if key == "image" else 2 / 255
      np.testing.assert_allclose(
        ours[key], theirs[key], rtol=0, atol=atol * scale, err_msg=key
      )
