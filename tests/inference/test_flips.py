"""An image and its mirror image."""

import numpy as np
import scipy.special

from fcnjax.inference import flips


def _predict(x):
  """Logits that depend on the column, so that mirroring changes them."""
  columns = np.arange(x.shape[2], dtype=np.float32)[:, None]
  return x[..., :3] * np.float32([1, 2, 3]) + columns * np.float32([0, 1, -1])


def test_the_mean_of_both_probabilities():
  image = np.random.default_rng(0).random((2, 3, 5, 3), np.float32)
  got = scipy.special.softmax(flips.flip_average(_predict, image), axis=-1)
  straight = scipy.special.softmax(_predict(image), axis=-1)
  back = scipy.special.softmax(_predict(image[:, :, ::-1]), axis=-1)
  np.testing.assert_allclose(got, (straight + back[:, :, ::-1]) / 2, rtol=1e-5)


def test_mirroring_the_image_mirrors_the_logits():
  image = np.random.default_rng(1).random((1, 4, 6, 3), np.float32)
  logits = flips.flip_average(_predict, image)
  mirrored = flips.flip_average(_predict, image[:, :, ::-1])
  np.testing.assert_allclose(mirrored[:, :, ::-1], logits, rtol=1e-5, atol=1e-6)
