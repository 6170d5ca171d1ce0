"""Two ways to dense predictions, each the other's oracle."""

import functools

from flax import linen as nn
import jax
from jax import lax
import numpy as np
import pytest

from fcnjax.models import blocks
from fcnjax.models.backbones import vgg
from fcnjax.ops import shift_and_stitch


class Classifier(nn.Module):
  """VGG16 to its scores; all subsampling removed if it is rarefied."""

  rarefied: bool = False

  @nn.compact
  def __call__(self, image):
    backbone = vgg.VGG16(
      widths=(2, 2, 3, 3, 3),
      first_padding=0,
      padding=0,
      rounding="floor",
      rarefied=self.rarefied,
      name="backbone",
    )
    x = backbone(image)["stage5"]
    conv = functools.partial(blocks.conv, padding=0, dtype="float32")
    dilation = 32 if self.rarefied else 1
    x = nn.relu(conv(4, 7, dilation=dilation, name="fc6")(x))
    x = nn.relu(conv(4, 1, name="fc7")(x))
    return conv(5, 1, name="score_fr")(x)


def test_a_whole_network_on_shifts_equals_its_rarefied_form():
  """VGG16, five pools, fc6, fc7, scores, a stride of 32: some of the shifts."""
  strided, dense = Classifier(), Classifier(rarefied=True)
  rng = np.random.default_rng(0)
  image = rng.normal(size=(1, 436, 441, 3)).astype(np.float32)
  variables = jax.jit(strided.init)(jax.random.key(0), image)
  network = jax.jit(lambda x: strided.apply(variables, x))
  expected = jax.jit(lambda x: dense.apply(variables, x))(image)
  assert expected.shape[1:3] == (436 - 404 + 1, 441 - 404 + 1)
  assert np.ptp(expected) > 0
  corners = [(0, 0), (0, 31), (31, 0), (31, 31)]
  for y, x in [*corners, *rng.integers(0, 32, (12, 2))]:
    shifted = np.pad(image[:, y:, x:], ((0, 0), (0, y), (0, x), (0, 0)))
    ours = expected[:, y::32, x::32]
    theirs = network(shifted)[:, : ours.shape[1], : ours.shape[2]]
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_rarefied_filter_is_a_dilated_one(stride):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 12, 13, 2)).astype(np.float32)
  kernel = rng.normal(size=(3, 2, 2, 4)).astype(np.float32)
  conv = functools.partial(
    lax.conv_general_dilated,
    window_strides=(1, 1),
    padding="VALID",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  got = conv(x, shift_and_stitch.rarefied(kernel, stride=stride))
  expected = conv(x, kernel, rhs_dilation=(stride, stride))
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("factor", "size"), [(1, (7, 9)), (2, (7, 9)), (8, (10, 27))]
)
def test_stitching_a_window_sum(factor, size):
  """Every pixel says the sum of its own window, whatever the stride."""
  x = np.random.default_rng(0).integers(0, 99, (2, *size, 3)).astype("f4")

  def network(x):
    return lax.reduce_window(
      x, np.float32(0), lax.add, (1, 3, 3, 1), (1, factor, factor, 1), "VALID"
    )

  got = shift_and_stitch.shift_and_stitch(network, x, factor=factor)
  windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
  np.testing.assert_allclose(got, windows.sum((-1, -2)))


def test_the_factor_is_positive():
  with pytest.raises(ValueError, match="factor must be positive"):
    shift_and_stitch.shift_and_stitch(
      lambda x: x, np.zeros((1, 2, 2, 1)), factor=0
    )
