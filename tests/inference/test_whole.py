"""The whole image in one call."""

import numpy as np
import pytest

from fcnjax.inference import whole


def test_the_network_sees_a_mirrored_multiple_and_the_logits_are_cropped():
  image = np.random.default_rng(0).random((2, 5, 8, 3), np.float32)
  seen = []

  def predict(x):
    seen.append(x)
    return 2 * x[..., :2]

  logits = whole.whole_image(predict, image, multiple=4)
  np.testing.assert_array_equal(logits, 2 * image[..., :2])
  assert seen[0].shape == (2, 8, 8, 3)
  np.testing.assert_array_equal(seen[0][:, 5:], image[:, [3, 2, 1]])


def test_a_smaller_output_is_refused_with_the_remedy():
  image = np.zeros((1, 8, 9, 1), np.float32)
  with pytest.raises(ValueError, match=r"4x5 for 8x9.*overlap_tile"):
    whole.whole_image(lambda x: x[:, 2:-2, 2:-2], image)


def test_a_multiple_below_one_is_refused():
  with pytest.raises(ValueError, match="multiple"):
    whole.whole_image(lambda x: x, np.zeros((1, 2, 2, 1)), multiple=0)
