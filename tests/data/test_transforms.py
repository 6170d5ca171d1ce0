"""Properties that every transform has, and what each one is there for."""

import inspect

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from fcnjax.data import transforms

# Every transform with parameters that do something.
STRONG = {
  "resize": {"size": (11, 8)},
  "random_scale": {"minimum": 0.4, "maximum": 2.5},
  "elastic": {"sigma": 3.0, "degrees": 40.0, "shift": 4.0},
  "rotate": {"degrees": 60.0, "quarter_turns": True},
  "jitter": {"pixels": 5},
  "random_crop": {"size": (9, 14)},
  "center_crop": {"size": (9, 14)},
  "pad_to": {"size": (15, 15)},
  "flip": {"vertical": True},
  "perspective": {"distortion": 0.2},
  "photometric": {"hue": 0.2, "gamma": 0.5},
  "grey_values": {"strength": 2.0},
  "blur": {"sigma": 4.0},
  "noise": {"sigma": 40.0},
  "cut_out": {"count": 2, "maximum": 0.6},
}
# ... and with parameters that change nothing.
IDLE = {
  "resize": {"size": (10, 13)},
  "random_scale": {"minimum": 1.0, "maximum": 1.0},
  "elastic": {"sigma": 0.0},
  "rotate": {"degrees": 0.0},
  "jitter": {"pixels": 0},
  "random_crop": {"size": (10, 13)},
  "center_crop": {"size": (10, 13)},
  "pad_to": {"size": (3, 13)},
  "flip": {"vertical": True, "probability": 0.0},
  "perspective": {"distortion": 0.0},
  "photometric": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
  "grey_values": {"strength": 0.0},
  "blur": {"sigma": 0.0},
  "noise": {"sigma": 0.0},
  "cut_out": {"count": 0},
}
KEYWORDS = {
  name: list(inspect.signature(function).parameters)[2:]
  for name, function in transforms.TRANSFORMS.items()
}
each_transform = pytest.mark.parametrize("name", list(transforms.TRANSFORMS))
each_with_probability = pytest.mark.parametrize(
  "name", [name for name, keys in KEYWORDS.items() if "probability" in keys]
)


def make_example(height=10, width=13, channels=3, seed=0, labels=(0, 3, 4)):
  rng = np.random.default_rng(seed)
  return {
    "image": tf.constant(
      rng.uniform(0, 255, (height, width, channels)), tf.float32
    ),
    "label": tf.constant(rng.choice(labels, (height, width)), tf.uint8),
    "weight": tf.constant(rng.uniform(0.5, 2, (height, width)), tf.float32),
  }


def apply(name, example, seed, **parameters):
  return transforms.TRANSFORMS[name](example, seed, **parameters)


def assert_equal(left, right):
  assert left.keys() == right.keys()
  for key in left:
    np.testing.assert_array_equal(left[key], right[key])


def test_every_transform_is_in_the_tables_above():
  assert STRONG.keys() == IDLE.keys() == transforms.TRANSFORMS.keys()


@hypothesis.given(
  name=st.sampled_from(list(transforms.TRANSFORMS)),
  height=st.integers(1, 20),
  width=st.integers(1, 20),
  channels=st.sampled_from([1, 3, 4]),
  seed=st.integers(0, 2**31 - 1),
)
@hypothesis.settings(max_examples=100)
def test_no_class_is_invented(name, height, width, channels, seed):
  example = make_example(height, width, channels, seed, labels=(2, 9, 254))
  moved = apply(name, example, (seed, 1), **STRONG[name])
  before = set(np.unique(example["label"]))
  assert set(np.unique(moved["label"])) <= before | {255}
  assert moved["label"].dtype == tf.uint8
  assert moved["image"].dtype == moved["weight"].dtype == tf.float32
  assert moved["image"].shape == (*moved["label"].shape, channels)
  assert moved["weight"].shape == moved["label"].shape
  image, weight = moved["image"].numpy(), moved["weight"].numpy()
  assert (image > -1e-3).all()
  assert (image < 255 + 1e-3).all()
  padding = moved["label"].numpy() == 255
  assert (weight[padding] == 0).all()
  assert (weight[~padding] > 0.49).all()


@hypothesis.given(
  name=st.sampled_from(
    [name for name, keys in KEYWORDS.items() if "boundary" in keys]
  ),
  side=st.integers(1, 20),
  seed=st.integers(0, 2**31 - 1),
)
def test_mirrored_borders_leave_nothing_to_ignore(name, side, seed):
  example = make_example(side, 21 - side, 1, seed)
  moved = apply(name, example, (seed, 2), boundary="reflect", **STRONG[name])
  before = set(np.unique(example["label"]))
  assert set(np.unique(moved["label"])) <= before
  assert (moved["weight"].numpy() > 0.49).all()


@each_with_probability
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_without_probability_nothing_changes(name, channels):
  example = make_example(channels=channels)
  for seed in range(3):
    idle = apply(
      name, example, (seed, 2), **STRONG[name] | {"probability": 0.0}
    )
    assert_equal(idle, example)


@each_with_probability
def test_it_happens_with_the_given_probability(name):
  """Within three standard deviations of 40 draws."""
  example = make_example(12, 12)
  words = {"rotate": {"degrees": 60.0}, "flip": {}}.get(name, STRONG[name])
  same = [
    np.array_equal(
      apply(name, example, (seed, 2), **words, probability=0.7)["image"],
      example["image"],
    )
    for seed in range(40)
  ]
  assert abs(40 - sum(same) - 28) <= 3 * np.sqrt(40 * 0.7 * 0.3)


@each_transform
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_without_strength_nothing_changes(name, channels):
  example = make_example(channels=channels)
  assert_equal(apply(name, example, (1, 2), **IDLE[name]), example)


@each_transform
def test_the_same_seed_gives_the_same_example(name):
  example = make_example(40, 50)
  runs = [
    apply(name, example, (seed, 7), **STRONG[name]) for seed in (5, 5, 6, 8)
  ]
  assert_equal(runs[0], runs[1])
  if name not in ("resize", "center_crop", "pad_to"):
    images = {np.asarray(run["image"]).tobytes() for run in runs}
    assert len(images) > 1


@each_transform
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_in_a_data_set_as_eagerly(name, channels):
  """To the last bit: what is written is what TensorFlow's graphs compute."""
  example = make_example(24, 31, channels)

  def call(seed):
    unknown = {
      key: tf.ensure_shape(values, [None, None, *values.shape[2:]])
      for key, values in example.items()
    }
    moved = apply(name, unknown, tf.stack([seed, 3]), **STRONG[name])
    # What comes after may ask for the number of channels.
    assert moved["image"].shape[-1] == channels
    return moved

  data = tf.data.Dataset.range(3).map(
    tf.autograph.experimental.do_not_convert(call)
  )
  for seed, inside in enumerate(data):
    assert_equal(inside, apply(name, example, (seed, 3), **STRONG[name]))


def centre(mass):
  places = np.indices(mass.shape)
  return (places * mass).sum((1, 2)) / mass.sum()


@each_transform
@pytest.mark.parametrize("seed", range(6))
def test_image_and_label_stay_on_top_of_each_other(name, seed):
  """A disc in the corner, 255 where the class is 1: no half-pixel shift.

  The edge of labels has steps, which a disc's circumference evens out. Places
  are compared pixel by pixel in test_warps.py.
  """
  y, x = np.indices((64, 96))
  label = np.uint8(np.hypot(y - 15.3, x - 73.6) < 9.5)
  example = {
    "image": tf.constant(255.0 * label[..., None], tf.float32),
    "label": tf.constant(label),
    "weight": tf.constant(1.0 + label, tf.float32),
  }
  parameters = STRONG[name] | {
    "resize": {"size": (150, 111)},
    "random_crop": {"size": (60, 90)},
    "center_crop": {"size": (60, 90)},
    "pad_to": {"size": (80, 101)},
    "photometric": {"brightness": 0.0},
    "noise": {"sigma": 0.0},
  }.get(name, {})
  moved = {
    key: values.numpy()
    for key, values in apply(name, example, (seed, 1), **parameters).items()
  }
  image, weight = moved["image"][..., 0], moved["weight"]
  there, found = moved["label"] != 255, moved["label"] == 1
  if name not in ("photometric", "grey_values", "blur"):
    # Image and weight are interpolated at the very same places.
    np.testing.assert_allclose(
      image[there], 255 * (weight - 1)[there], atol=0.1
    )
  if found.sum() < 20 or found[:, -1].any():
    return  # Cut off by the border.
  limit = {"blur": 0.05} | dict.fromkeys(
    ("resize", "random_scale", "elastic", "rotate", "perspective"), 0.3
  )
  for mass in (image - image.min(), weight > 1.5):
    np.testing.assert_allclose(
      centre(mass), centre(found), atol=limit.get(name, 1e-4)
    )


@pytest.mark.parametrize("factor", [3, 5])
def test_a_single_pixel_stays_centred_when_enlarged(factor):
  label = np.zeros((7, 9), np.uint8)
  label[1, 6] = 1
  example = {
    "image": tf.constant(255.0 * label[..., None], tf.float32),
    "label": tf.constant(label),
  }
  expected = (np.array([1, 6]) + 0.5) * factor - 0.5
  for name, parameters in [
    ("resize", {"size": (7 * factor, 9 * factor)}),
    ("random_scale", {"minimum": 1.0 * factor, "maximum": 1.0 * factor}),
  ]:
    moved = apply(name, example, (0, 0), **parameters)
    np.testing.assert_allclose(centre(moved["label"].numpy()), expected)
    np.testing.assert_allclose(
      centre(moved["image"].numpy()[..., 0]), expected, atol=1e-4
    )


def test_random_scale_draws_all_of_its_steps_and_nothing_else():
  example = make_example(20, 40)
  sizes = {
    tuple(
      apply(
        "random_scale", example, (i, 0), minimum=0.5, maximum=2.0, step=0.25
      )["label"].shape
    )
    for i in range(80)
  }
  factors = np.arange(0.5, 2.01, 0.25)
  assert sizes == {(int(20 * f), int(40 * f)) for f in factors}


def test_random_crop_reaches_every_place_and_no_other():
  example = make_example(5, 6)
  rows = tf.range(5 * 6, dtype=tf.float32)
  example["image"] = tf.reshape(rows, [5, 6, 1])
  firsts = {
    float(apply("random_crop", example, (i, 0), size=(3, 4))["image"][0, 0, 0])
    for i in range(120)
  }
  assert firsts == {6 * y + x for y in range(3) for x in range(3)}


def test_random_crop_lies_anywhere_around_a_smaller_image():
  example = make_example(2, 2)
  corners = set()
  for i in range(60):
    moved = apply("random_crop", example, (i, 0), size=(4, 3), fill=9.0)
    inside = moved["label"].numpy() != 255
    assert inside.sum() == 4
    assert (moved["image"].numpy()[~inside] == 9).all()
    corners.add(tuple(np.argwhere(inside)[0]))
  assert corners == {(y, x) for y in range(3) for x in range(2)}


def test_jitter_moves_by_up_to_so_many_pixels():
  example = make_example(9, 9)
  example["label"] = tf.cast(tf.pad([[1]], [[4, 4], [4, 4]]), tf.uint8)
  places = {
    tuple(
      np.argwhere(apply("jitter", example, (i, 1), pixels=2)["label"] == 1)[0]
    )
    for i in range(200)
  }
  assert places == {(y, x) for y in range(2, 7) for x in range(2, 7)}


@pytest.mark.parametrize(
  ("parameters", "expected"),
  [
    ({}, 2),
    ({"vertical": True}, 4),
    ({"vertical": True, "horizontal": False}, 2),
    ({"probability": 1.0}, 1),
  ],
)
def test_flip_has_so_many_outcomes(parameters, expected):
  example = make_example()
  images = {
    apply("flip", example, (i, 0), **parameters)["image"].numpy().tobytes()
    for i in range(40)
  }
  assert len(images) == expected


def test_rotation_by_quarters_interpolates_nothing():
  example = make_example(6, 6)
  results = {
    apply("rotate", example, (i, 0), degrees=0.0, quarter_turns=True)["image"]
    .numpy()
    .tobytes()
    for i in range(40)
  }
  turned = {
    np.ascontiguousarray(np.rot90(example["image"], k)).tobytes()
    for k in range(4)
  }
  assert results == turned


def test_rotation_is_about_the_centre_and_within_its_limits():
  """A mark on the right of the centre: its angle is the rotation."""
  label = np.zeros((101, 101), np.uint8)
  label[49:52, 88:91] = 1
  example = {
    "image": tf.constant(255.0 * label[..., None], tf.float32),
    "label": tf.constant(label),
  }
  angles = []
  for i in range(40):
    moved = apply("rotate", example, (i, 0), degrees=30.0)
    y, x = centre(moved["image"].numpy()[..., 0]) - 50
    assert abs(np.hypot(y, x) - 39) < 0.1
    angles.append(np.degrees(np.arctan2(y, x)))
  assert -30.2 < min(angles) < -20
  assert 20 < max(angles) < 30.2


def test_elastic_moves_image_and_label_by_one_field():
  """An image that is its own label: nearest equals rounded, nearly always."""
  blobs = tf.random.stateless_uniform([8, 8, 1], (0, 0)) > 0.5
  blobs = tf.image.resize(tf.cast(blobs, tf.float32), (128, 128), "nearest")
  example = {"image": 255 * blobs, "label": tf.cast(blobs[..., 0], tf.uint8)}
  moved = apply("elastic", example, (3, 1))
  image = moved["image"].numpy()[..., 0] > 127.5
  assert np.mean(image == moved["label"].numpy()) > 0.99
  assert np.mean(image == (blobs.numpy()[..., 0] > 0.5)) < 0.95


@pytest.mark.parametrize(
  ("name", "parameters"),
  [
    ("random_scale", {"minimum": 2.0, "maximum": 1.0}),
    ("random_crop", {"size": (0, 4)}),
    ("random_crop", {"size": (4, 4), "boundary": "wrap"}),
    ("resize", {"size": (4, 4, 3)}),
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
    apply(name, make_example(), (0, 0), **parameters)


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (60, 90)])
def test_random_scale_of_a_short_side(size):
  """HDNet's: the shorter side becomes short_side times the factor."""
  example = make_example(*size)
  moved = transforms.random_scale(
    example, (1, 2), minimum=0.5, maximum=0.5, short_side=40
  )
  height, width = moved["label"].shape
  assert min(height, width) == 20
  assert max(height, width) == 30


def test_random_scale_of_the_aspect_alone_keeps_the_area():
  example = make_example(200, 100)
  ratios = []
  for seed in range(60):
    height, width = apply(
      "random_scale",
      example,
      (seed, 0),
      minimum=1.0,
      maximum=1.0,
      aspect=1.5,
    )["label"].shape
    assert abs(height * width / 20000 - 1) < 0.01
    ratios.append(np.log(height / width / 2) / np.log(1.5))
  assert -1.03 < min(ratios) < -0.8
  assert 0.8 < max(ratios) < 1.03
  assert abs(np.mean(ratios)) < 0.3
