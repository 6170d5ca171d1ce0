"""Averages over views: against SciPy's softmax and torch's resizing."""

import numpy as np
import pytest
import scipy.special

from fcnjax.inference import views


def _predict(x):
  """Logits that depend on the column, so that mirroring changes them."""
  columns = np.arange(x.shape[2], dtype=np.float32)[:, None]
  x = np.asarray(x)
  return x[..., :3] * np.float32([1, 2, 3]) + columns * np.float32([0, 1, -1])


def test_the_mean_of_an_image_and_its_mirror_image():
  image = np.random.default_rng(0).random((2, 3, 5, 3), np.float32)
  logits = views.average(_predict, image, flip=True)
  got = scipy.special.softmax(logits, axis=-1)
  straight = scipy.special.softmax(_predict(image), axis=-1)
  back = scipy.special.softmax(_predict(image[:, :, ::-1]), axis=-1)
  np.testing.assert_allclose(got, (straight + back[:, :, ::-1]) / 2, rtol=1e-5)


def test_mirroring_the_image_mirrors_the_logits():
  image = np.random.default_rng(1).random((1, 4, 6, 3), np.float32)
  settings = {"scales": (0.5, 1.0), "flip": True}
  logits = views.average(_predict, image, **settings)
  mirrored = views.average(_predict, image[:, :, ::-1], **settings)
  np.testing.assert_allclose(mirrored[:, :, ::-1], logits, rtol=1e-4, atol=1e-5)


def test_the_mean_over_scales_is_torch_s():
  torch = pytest.importorskip("torch")
  image = np.random.default_rng(2).random((2, 8, 10, 3), np.float32)

  def resized(x, size):
    x = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    x = torch.nn.functional.interpolate(x, size, mode="bilinear")
    return np.moveaxis(x.numpy(), 1, -1)

  expected = np.zeros((2, 8, 10, 3))
  for size in ((8, 10), (12, 15), (20, 25)):
    view = scipy.special.softmax(_predict(resized(image, size)), axis=-1)
    expected += resized(view, (8, 10)) / 3
  logits = views.average(_predict, image, scales=(1.0, 1.5, 2.5))
  got = scipy.special.softmax(logits, axis=-1)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_turning_the_image_turns_the_logits(flip):
  """And a network that does not know directions is not changed by turns."""
  image = np.random.default_rng(1).random((1, 4, 6, 3), np.float32)
  words = {"flip": flip, "turns": True}
  logits = np.asarray(views.average(_predict, image, **words))
  turned = views.average(_predict, np.rot90(image, 1, (1, 2)), **words)
  np.testing.assert_allclose(
    np.rot90(turned, -1, (1, 2)), logits, rtol=1e-4, atol=1e-5
  )
  plain = views.average(lambda x: x[..., :2], image)
  same = views.average(lambda x: x[..., :2], image, **words)
  np.testing.assert_allclose(same, plain, rtol=1e-5, atol=1e-6)
  assert np.any(np.abs(logits - views.average(_predict, image)) > 0.01)


def test_what_all_views_exclude_stays_finite():
  image = np.zeros((1, 2, 2, 1), np.float32)
  logits = views.average(lambda x: np.float32([0, -500]) + 0 * x, image)
  assert np.isfinite(logits).all()


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,)])
def test_scales_that_are_none_are_refused(scales):
  with pytest.raises(ValueError, match="positive"):
    views.average(_predict, np.zeros((1, 2, 2, 3), np.float32), scales=scales)
