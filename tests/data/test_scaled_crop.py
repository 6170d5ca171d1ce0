"""Scaling and cropping in one is scaling, then cropping, to rounding."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from fcnjax.data import crops, geometry, pipeline, reading, transforms


def example(size):
  rng = np.random.default_rng(0)
  return {
    "image": tf.constant(rng.integers(0, 256, (*size, 3), np.uint8)),
    "label": tf.constant(rng.integers(0, 9, size, np.uint8)),
    "second_label": tf.constant(rng.integers(0, 9, size, np.uint8)),
    "weight": tf.constant(rng.uniform(0, 9, size).astype(np.float32)),
  }


@pytest.mark.parametrize("size", [(37, 53), (8, 60), (5, 9), (1, 1), (1, 40)])
@pytest.mark.parametrize("scale", [{}, {"step": 0.25}, {"short_side": 20}])
def test_it_is_one_after_the_other(size, scale):
  """Larger and smaller than the window, so that it is padded too."""
  made = example(size)
  floats = {**made, "image": tf.cast(made["image"], tf.float32)}
  crop = {"size": (16, 20), "fill": (1.0, 2.0, 3.0)}
  flips = (None, {}, {"vertical": True})
  for seed, flip in zip(range(9), itertools.cycle(flips)):
    seeds = [tf.constant([seed, number]) for number in (1, 2, 3)]
    one = transforms.scaled_crop(made, seeds, scale=scale, crop=crop, flip=flip)
    other = transforms.random_scale(floats, seeds[0], **scale)
    other = crops.random_crop(other, seeds[1], **crop)
    if flip is not None:
      other = transforms.flip(other, seeds[2], **flip)
    assert one.keys() == other.keys()
    for key in ("label", "second_label"):
      np.testing.assert_array_equal(one[key], other[key])
    np.testing.assert_allclose(one["image"], other["image"], atol=3e-3)
    np.testing.assert_allclose(one["weight"], other["weight"], atol=2e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (31, 53), (97, 49)])
@pytest.mark.parametrize("floats", [False, True])
def test_factor_1_and_a_crop_of_everything_change_nothing(size, floats):
  """To the last bit, whether the image is of bytes or of floats."""
  made = example(size)
  if floats:
    made["image"] = tf.cast(made["image"], tf.float32) + 0.3
  seeds = [tf.constant([4, number]) for number in (1, 2, 3)]
  scale = {"minimum": 1.0, "maximum": 1.0}
  for flip in (None, {"vertical": True, "probability": 0.0}):
    same = transforms.scaled_crop(
      made, seeds, scale=scale, crop={"size": size}, flip=flip
    )
    assert same.keys() == made.keys()
    assert same["image"].dtype == tf.float32
    for key in made:
      np.testing.assert_array_equal(same[key], made[key], err_msg=key)


@pytest.mark.parametrize(
  ("scale", "crop"),
  [({}, (16, 20)), ({"step": 0.25, "aspect": 1.5}, (70, 64))],
)
def test_in_a_data_set_as_eagerly(scale, crop):
  """To the last bit, within the image and beyond it."""
  made = example((37, 53))

  def call(seed):
    unknown = {
      key: tf.ensure_shape(values, [None, None, *values.shape[2:]])
      for key, values in made.items()
    }
    return transforms.scaled_crop(
      unknown,
      [tf.stack([seed, number]) for number in (1, 2, 3)],
      scale=scale,
      crop={"size": crop, "fill": (1.0, 2.0, 3.0)},
      flip={"vertical": True},
    )

  data = tf.data.Dataset.range(5).map(
    tf.autograph.experimental.do_not_convert(call)
  )
  for seed, inside in enumerate(data):
    eager = call(tf.constant(seed, tf.int64))
    assert inside.keys() == eager.keys()
    for key in eager:
      np.testing.assert_array_equal(inside[key], eager[key], err_msg=key)


def test_every_pixel_of_the_resized_image_is_where_it_was():
  """Against tf.image.resize, window by window, up to the borders."""
  made = example((11, 7))
  whole = geometry.resized(
    {**made, "image": tf.cast(made["image"], tf.float32)}, tf.constant([23, 5])
  )
  for top, left in itertools.product(range(0, 20, 3), range(4)):
    part = geometry.resized_window(
      made, tf.constant([23, 5]), tf.constant([top, left]), tf.constant([3, 1])
    )
    expected = whole["image"][top : top + 3, left : left + 1]
    np.testing.assert_allclose(part["image"], expected, atol=1e-3)


def test_the_pipeline_rounds_to_the_nearest_grey_value():
  """Half a value off at most from what is not rounded, the labels equal."""

  class Source:
    names = ("a", "b", "c")

    def __len__(self):
      return 3

    def __getitem__(self, index):
      rng = np.random.default_rng(index)
      return {
        "image": rng.integers(0, 256, (30, 40, 3), np.uint8),
        "label": rng.integers(0, 5, (30, 40), np.uint8),
      }

  taken = {}
  for transfer in pipeline.TRANSFERS:
    stream = pipeline.training_batches(
      reading.Reader(Source(), seed=0),
      batch_size=4,
      transforms=(
        ("random_scale", {}),
        ("random_crop", {"size": (24, 24)}),
        ("flip", {}),
        ("photometric", {}),
      ),
      transfer=transfer,
    )
    taken[transfer] = [next(stream) for _ in range(4)]
    stream.close()
  for rounded, exact in zip(*taken.values()):
    assert rounded["image"].dtype == np.uint8
    assert rounded["image"].nbytes * 4 == exact["image"].nbytes
    error = rounded["image"] - exact["image"]
    assert np.abs(error).max() <= 0.5
    assert 0.2 < error.std() < 0.32  # Uniform: 0.289.
    np.testing.assert_array_equal(rounded["label"], exact["label"])
