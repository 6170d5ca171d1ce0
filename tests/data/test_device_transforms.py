"""The transforms on the device against those of tf.data, number by number."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
import tensorflow as tf

from fcnjax.data import device_transforms, transforms
from tests.data import device_examples, test_transforms

# Every transform, with parameters that make each of its branches run.
PARAMETERS = {
  "resize": [
    {"size": (11, 8)},
    {"size": (40, 27)},
    {"size": (11, 30), "antialias": True},
    {"size": (40, 8), "antialias": True},
  ],
  "random_scale": [
    {"minimum": 0.4, "maximum": 2.5},
    {"minimum": 0.5, "maximum": 2.0, "step": 0.25},
    {"minimum": 0.5, "maximum": 1.5, "short_side": 31},
    {"minimum": 2.0, "maximum": 2.0},
    {"minimum": 0.7, "maximum": 0.7, "short_side": 40},
    {"minimum": 1.0, "maximum": 1.0, "short_side": 30, "aspect": 1.5},
  ],
  "elastic": [
    {"sigma": 3.0},
    {"sigma": 0.0, "shift": 6.0},
    {"grid": 5, "degrees": 40.0, "shift": 4.0, "boundary": "fill"},
    {"boundary": "fill", "fill": 9.0},
  ],
  "rotate": [
    {"degrees": 60.0},
    {"degrees": 0.0, "quarter_turns": True},
    {"degrees": 20.0, "quarter_turns": True, "boundary": "reflect"},
  ],
  "perspective": [{"distortion": 0.24, "fill": 3.0}, {"boundary": "reflect"}],
  "jitter": [{"pixels": 5}, {"pixels": 40, "boundary": "reflect"}],
  "random_crop": [
    {"size": (9, 14)},
    {"size": (30, 14), "fill": 3.0},
    {"size": (30, 50), "boundary": "reflect"},
    {"size": (12, 12), "max_share": 0.5},
    {"size": (5, 4), "max_share": 0.35},
    {"size": (30, 4), "max_share": 0.3, "boundary": "reflect"},
    {"size": (30, 4), "max_share": 0.34, "tries": 3},
  ],
  "center_crop": [{"size": (9, 14)}, {"size": (30, 31)}],
  "pad_to": [
    {"size": (15, 15)},
    {"size": (30, 31), "fill": 7.0},
    {"size": (31, 30), "boundary": "reflect"},
  ],
  "flip": [{}, {"vertical": True}, {"horizontal": False, "probability": 1.0}],
  "photometric": [
    {},
    {"hue": 0.2, "gamma": 0.5},
    {"contrast": 0.0, "saturation": 0.0},
    {"brightness": 0.0, "saturation": 0.9},
  ],
  "grey_values": [{}, {"strength": 2.0, "segments": 7}],
  "blur": [{"sigma": 6.0}],
  "noise": [{"sigma": 40.0}],
  "cut_out": [
    {"count": 3, "minimum": 0.0, "maximum": 0.5, "fill": (1, 2, 3)},
    {"count": 2, "keep_label": True},
  ],
}
CASES = [(name, each) for name, many in PARAMETERS.items() for each in many]


def drawing_from(monkeypatch, seed):
  """Lets both sides draw the same numbers, in the order in which they ask."""
  ours, theirs = (np.random.default_rng(seed) for _ in range(2))

  def uniform(rng, shape, low, high):
    drawn = rng.random(tuple(shape), np.float32)
    return (drawn * np.float32(high - low) + np.float32(low)).astype(np.float32)

  def integers(rng, shape, low, high):
    drawn = rng.random(tuple(shape), np.float32)
    return (low + np.floor(drawn * (high - low))).astype(np.int32)

  def normal(rng, shape):
    # What a place draws does not hang on what lies beyond it.
    drawn = rng.standard_normal((64, 64, 4), np.float32)
    return drawn[tuple(slice(int(side)) for side in shape)]

  def their_uniform(shape, seed, minval=0, maxval=1, dtype=tf.float32):
    draw = uniform if dtype == tf.float32 else integers
    return tf.constant(draw(theirs, shape, minval, maxval))

  monkeypatch.setattr(tf.random, "stateless_uniform", their_uniform)
  monkeypatch.setattr(
    tf.random,
    "stateless_normal",
    lambda shape, seed: tf.constant(normal(theirs, shape)),
  )
  monkeypatch.setattr(
    jax.random,
    "uniform",
    lambda key, shape, minval=0.0, maxval=1.0: jnp.asarray(
      uniform(ours, shape, minval, maxval)
    ),
  )
  monkeypatch.setattr(
    jax.random,
    "randint",
    lambda key, shape, low, high: jnp.asarray(integers(ours, shape, low, high)),
  )
  monkeypatch.setattr(
    jax.random, "normal", lambda key, shape: jnp.asarray(normal(ours, shape))
  )


def both(monkeypatch, name, parameters, example, seed, dynamic=False):
  """What both make of an example; the compiler knows its size or not."""
  with monkeypatch.context() as patched:
    drawing_from(patched, seed)
    theirs = transforms.TRANSFORMS[name](
      {k: tf.constant(v) for k, v in example.items()}, (0, 0), **parameters
    )
    ours = device_examples.shown(
      lambda: device_transforms.TRANSFORMS[name](
        device_examples.stored(example, dynamic),
        jax.random.key(0),
        **parameters,
      ),
    )
  return ours, {k: v.numpy() for k, v in theirs.items()}


def test_both_tables_have_the_same_names_and_parameters():
  ours, theirs = device_transforms.TRANSFORMS, transforms.TRANSFORMS
  assert list(ours) == list(theirs)
  assert PARAMETERS.keys() == theirs.keys()
  for name in theirs:
    known = [
      [(p.name, p.default, p.kind) for p in parameters[2:]]
      for parameters in (
        list(inspect.signature(table[name]).parameters.values())
        for table in (ours, theirs)
      )
    ]
    assert known[0] == known[1], name


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_the_same_numbers_make_the_same_example(
  name, parameters, dynamic, monkeypatch
):
  seed = 1 + dynamic
  ours, theirs = both(
    monkeypatch,
    name,
    parameters,
    device_examples.make(seed=seed),
    seed,
    dynamic,
  )
  # A rounding of the field moves a pixel by some 1e-5 of its length; next to
  # each other stand 0 and 255 here.
  deformed = name == "elastic" and parameters.get("sigma") != 0
  device_examples.assert_agree(ours, theirs, 1e-2 if deformed else 1e-3)


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize(("name", "idle"), test_transforms.IDLE.items())
def test_without_strength_nothing_changes(name, idle, dynamic):
  """To the last bit, as in tf.data: colours, and the channel that is none."""
  example = device_examples.make(10, 13, channels=4)
  same = device_examples.shown(
    lambda: device_transforms.TRANSFORMS[name](
      device_examples.stored(example, dynamic), jax.random.key(1), **idle
    )
  )
  assert same.keys() == example.keys()
  for key, values in example.items():
    assert same[key].dtype == values.dtype
    np.testing.assert_array_equal(same[key], values, err_msg=key)


CHANCES = {
  name: many[0]
  for name, many in PARAMETERS.items()
  if name != "flip"  # Each of its axes has the probability.
  and "probability" in inspect.signature(transforms.TRANSFORMS[name]).parameters
}


@pytest.mark.parametrize("name", CHANCES)
def test_it_happens_as_always_or_not_at_all(name):
  """And of 200 keys with the given probability, within three deviations."""
  example = device_examples.make(9, 9)

  @jax.jit
  def made(keys):
    one = functools.partial(
      device_transforms.TRANSFORMS[name],
      device_examples.stored(example),
      **CHANCES[name],
    )
    return [
      jax.vmap(lambda key, p=p: one(key, probability=p).whole())(keys)
      for p in (1.0, 0.6)
    ]

  keys = jax.random.split(jax.random.key(3), 200)
  always, some = jax.tree.map(np.asarray, made(keys))
  happened = 0
  for i in range(len(keys)):
    changed = (some["image"][i] != example["image"]).any()
    happened += changed
    for key, values in example.items():
      expected, limit = (always[key][i], 1e-3) if changed else (values, 0)
      np.testing.assert_allclose(some[key][i], expected, rtol=0, atol=limit)
  assert abs(happened - 200 * 0.6) <= 3 * np.sqrt(200 * 0.6 * 0.4)


CHAINS = {
  "unet": (
    ("elastic", {"degrees": 15.0}),
    ("flip", {"vertical": True}),
    ("photometric", {"brightness": 0.1, "contrast": 0.2}),
    ("pad_to", {"size": (75, 75), "boundary": "reflect"}),
    ("random_crop", {"size": (40, 40)}),
  ),
  "camvid": (
    ("random_scale", {"minimum": 0.8, "maximum": 1.25}),
    ("random_crop", {"size": (45, 50), "max_share": 0.3}),
    ("flip", {}),
    ("photometric", {"gamma": 0.3}),
    ("blur", {}),
    ("noise", {}),
    ("cut_out", {}),
  ),
  "interpolated twice": (
    ("random_scale", {"minimum": 0.8, "maximum": 1.25}),
    ("photometric", {}),
    ("rotate", {"quarter_turns": True, "boundary": "reflect"}),
    ("resize", {"size": (31, 41)}),
    ("jitter", {"pixels": 3}),
  ),
}


@pytest.mark.parametrize("recipe", CHAINS)
def test_a_chain_of_transforms_gives_the_same_example(recipe, monkeypatch):
  """A smooth image, on which a rounding of places is nothing."""
  example = device_examples.make(60, 71)
  example["image"] = ndimage.gaussian_filter(example["image"], (4, 4, 0))
  example["weight"] = ndimage.gaussian_filter(example["weight"], 4)
  theirs = {k: tf.constant(v) for k, v in example.items()}
  with monkeypatch.context() as patched:
    for seed, (name, parameters) in enumerate(CHAINS[recipe]):
      drawing_from(patched, seed)
      theirs = transforms.TRANSFORMS[name](theirs, (0, 0), **parameters)

    def made():
      view = device_examples.stored(example, dynamic=True)
      for seed, (name, parameters) in enumerate(CHAINS[recipe]):
        drawing_from(patched, seed)
        view = device_transforms.TRANSFORMS[name](
          view, jax.random.key(0), **parameters
        )
      return view

    ours = device_examples.shown(made)
  device_examples.assert_agree(
    ours, {k: v.numpy() for k, v in theirs.items()}, 1e-3
  )


@pytest.mark.parametrize(
  ("name", "parameters"),
  [
    ("random_scale", {"minimum": 2.0, "maximum": 1.0}),
    ("random_crop", {"size": (0, 4)}),
    ("random_crop", {"size": (4, 4), "boundary": "wrap"}),
    ("rotate", {"boundary": "wrap"}),
    ("resize", {"size": (4, 4, 3)}),
    ("elastic", {"grid": 2}),
    ("random_scale", {"aspect": 0.5}),
    ("random_crop", {"size": (4, 4), "max_share": 1.5}),
    ("random_crop", {"size": (4, 4), "max_share": 0.5, "tries": 0}),
    ("perspective", {"distortion": 0.25}),
    ("grey_values", {"segments": 1}),
    ("noise", {"probability": 1.5}),
    ("cut_out", {"minimum": 0.5, "maximum": 0.2}),
    ("cut_out", {"count": -1}),
  ],
)
def test_impossible_parameters_are_refused(name, parameters):
  with pytest.raises(ValueError, match="got"):
    device_transforms.TRANSFORMS[name](
      device_examples.stored(device_examples.make()),
      jax.random.key(0),
      **parameters,
    )
