"""The transforms on the device against those of tf.data, number by number."""

import functools
import inspect

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
import tensorflow as tf

from fcnjax.data import (
  device_transforms,
  device_warps,
  elastic,
  geometry,
  transforms,
  views,
)
from tests.data import test_transforms

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


def make_example(height=20, width=27, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  label = rng.choice([0, 3, 4, 255], (height, width))
  return {
    "image": rng.uniform(0, 255, (height, width, channels)).astype(np.float32),
    "label": label.astype(np.uint8),
    "weight": rng.uniform(0.5, 2, (height, width)).astype(np.float32),
    "second_label": rng.integers(0, 3, (height, width)).astype(np.uint8),
  }


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


def both(monkeypatch, name, parameters, example, seed, dynamic=False):
  """What both make of an example; the compiler knows its size or not."""
  with monkeypatch.context() as patched:
    drawing_from(patched, seed)
    theirs = transforms.TRANSFORMS[name](
      {k: tf.constant(v) for k, v in example.items()}, (0, 0), **parameters
    )
    ours = shown(
      lambda: device_transforms.TRANSFORMS[name](
        stored(example, dynamic), jax.random.key(0), **parameters
      ),
    )
  return ours, {k: v.numpy() for k, v in theirs.items()}


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
    monkeypatch, name, parameters, make_example(seed=seed), seed, dynamic
  )
  # A rounding of the field moves a pixel by some 1e-5 of its length; next to
  # each other stand 0 and 255 here.
  deformed = name == "elastic" and parameters.get("sigma") != 0
  assert_agree(ours, theirs, 1e-2 if deformed else 1e-3)


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize(("name", "idle"), test_transforms.IDLE.items())
def test_without_strength_nothing_changes(name, idle, dynamic):
  """To the last bit, as in tf.data: colours, and the channel that is none."""
  example = make_example(10, 13, channels=4)
  same = shown(
    lambda: device_transforms.TRANSFORMS[name](
      stored(example, dynamic), jax.random.key(1), **idle
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
  example = make_example(9, 9)

  @jax.jit
  def made(keys):
    one = functools.partial(
      device_transforms.TRANSFORMS[name], stored(example), **CHANCES[name]
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


@pytest.mark.parametrize("boundary", geometry.BOUNDARIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (20, 27), (64, 33)])
def test_the_same_displacements_give_the_same_pixels(size, boundary):
  """And labels, exactly: also where a place lies on the border of pixels."""
  example = make_example(*size)
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

  ours = shown(
    lambda: views.warp(
      stored(example, dynamic=True),
      coordinates,
      boundary=boundary,
      fill=(1.0, 2.0, 3.0),
    ),
  )
  assert_agree(ours, {k: v.numpy() for k, v in theirs.items()}, 1e-4)


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
  example = make_example(*shape, seed=shape[0])
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
  assert_agree(ours, {k: v.numpy() for k, v in theirs.items()}, 1e-3)


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
  example = make_example(60, 71)
  example["image"] = ndimage.gaussian_filter(example["image"], (4, 4, 0))
  example["weight"] = ndimage.gaussian_filter(example["weight"], 4)
  theirs = {k: tf.constant(v) for k, v in example.items()}
  with monkeypatch.context() as patched:
    for seed, (name, parameters) in enumerate(CHAINS[recipe]):
      drawing_from(patched, seed)
      theirs = transforms.TRANSFORMS[name](theirs, (0, 0), **parameters)

    def made():
      view = stored(example, dynamic=True)
      for seed, (name, parameters) in enumerate(CHAINS[recipe]):
        drawing_from(patched, seed)
        view = device_transforms.TRANSFORMS[name](
          view, jax.random.key(0), **parameters
        )
      return view

    ours = shown(made)
  assert_agree(ours, {k: v.numpy() for k, v in theirs.items()}, 1e-3)


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
      stored(make_example()), jax.random.key(0), **parameters
    )


def test_what_lies_outside_a_crop_is_never_computed():
  """Of an image enlarged to 4000x4000 pixels, 16x16 are."""

  def crop(key, kept):
    view = device_transforms.random_scale(
      stored(make_example(40, 40)), key, minimum=50.0, maximum=100.0
    )
    view = kept(view)
    return device_transforms.random_crop(view, key, size=(16, 16)).whole()

  for kept, expected in ((lambda view: view, False), (views.computed, True)):
    made = jax.make_jaxpr(functools.partial(crop, kept=kept))(jax.random.key(0))
    assert ("4000,4000" in str(made)) == expected


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
