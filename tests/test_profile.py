"""Costs counted by hand, and those that papers give."""

import functools
import json

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import pytest

from fcnjax import models, profile
from fcnjax.ops import max_pooling, resizing, transposed


class _Network(nn.Module):
  """One function of (parameter, image)."""

  function: object
  shape: tuple[int, ...]
  in_channels: int = 3

  @nn.compact
  def __call__(self, image, *, train=False):
    kernel = self.param("kernel", nn.initializers.ones, self.shape)
    return {"logits": self.function(kernel, image)}


def _convolve(kernel, image, **options):
  return lax.conv_general_dilated(
    image,
    kernel,
    **({"window_strides": (1, 1), "padding": "SAME"} | options),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _count(function, shape, **options):
  model = _Network(functools.partial(function), shape)
  return profile.multiply_adds(model, (10, 7), **options)


def test_parameters_leave_statistics_out():
  model = models.create_model("unet_same", num_classes=2, norm="batch", width=8)
  plain = models.create_model("unet_same", num_classes=2, width=8)
  # A scale for each of 18 convolutions' channels; their biases are as before.
  channels = 2 * (8 + 16 + 32 + 64 + 128 + 64 + 32 + 16 + 8)
  difference = profile.parameters(model, (16, 16)) - profile.parameters(
    plain, (16, 16)
  )
  assert difference == channels


# Kernel and stride 2, as XLA writes a transposed convolution.
TRANSPOSED = {"lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))}


@pytest.mark.parametrize(
  ("options", "shape", "expected"),
  [
    ({}, (3, 3, 3, 5), 10 * 7 * 9 * 3 * 5),
    ({"window_strides": (2, 2)}, (3, 3, 3, 5), 5 * 4 * 9 * 3 * 5),
    ({"padding": "VALID"}, (3, 3, 3, 5), 8 * 5 * 9 * 3 * 5),
    ({"feature_group_count": 3}, (3, 3, 1, 6), 10 * 7 * 9 * 6),
    (TRANSPOSED, (2, 2, 3, 5), 10 * 7 * 4 * 3 * 5),
    ({"rhs_dilation": (4, 4)}, (3, 3, 3, 5), 10 * 7 * 9 * 3 * 5),
  ],
)
def test_convolutions(options, shape, expected):
  assert _count(functools.partial(_convolve, **options), shape) == expected


def test_space_to_batch_pads_dilated_convolutions_to_their_rate():
  dilated = functools.partial(_convolve, rhs_dilation=(4, 4))
  count = _count(dilated, (3, 3, 3, 5), space_to_batch=True)
  assert count == 12 * 8 * 9 * 3 * 5
  assert _count(_convolve, (3, 3, 3, 5), space_to_batch=True) == 70 * 135


def test_a_transposed_convolution_counts_each_input_once_a_tap():
  def up(kernel, image):
    return transposed.transposed_conv(image, kernel, stride=2)

  assert _count(up, (2, 2, 3, 5)) == 10 * 7 * 4 * 3 * 5


def test_a_kernel_longer_than_the_stride_counts_no_padding():
  def up(kernel, image):
    return transposed.transposed_conv(image, kernel, stride=2)

  assert _count(up, (4, 4, 3, 5)) == 10 * 7 * 16 * 3 * 5


def test_fixed_interpolation_is_free():
  def resize(kernel, image):
    image = transposed.bilinear_deconv(image, factor=4)
    return resizing.resize_bilinear(image, (9, 8)) * kernel

  assert _count(resize, (1, 1, 1, 3)) == 0


def test_products_of_data_with_data_count():
  def attention(kernel, image):
    return jnp.einsum("bhwc,bijc->bhwij", image * kernel, image)

  assert _count(attention, (1, 1, 1, 3)) == 70 * 70 * 3


def test_called_and_repeated_programs_count():
  def repeated(kernel, image):
    @jax.jit
    def body(x, _):
      return jax.checkpoint(_convolve)(kernel, x), None

    return lax.scan(body, image, length=4)[0]

  assert _count(repeated, (3, 3, 3, 3)) == 4 * 70 * 81


def test_what_depends_on_values_is_refused():
  def unknown(kernel, image):
    return lax.cond(image.sum() > 0, jnp.sin, jnp.cos, image) * kernel

  with pytest.raises(ValueError, match="'cond'"):
    _count(unknown, (1, 1, 1, 3))


@pytest.mark.parametrize(
  ("layers", "expected"),
  [
    ([], (1, 1)),
    ([(3, 1), (3, 1)], (5, 1)),
    ([(3, 1, 2), (3, 1, 4)], (13, 1)),
    ([(7, 2), (3, 2), (1, 1)], (11, 4)),
    (models.MODELS["fcn32s_vgg16"].layers, (404, 32)),
    (models.MODELS["fcn32s_vgg16"].layers[:14], (100, 16)),  # pool4
    (models.MODELS["fcn32s_vgg16"].layers[:10], (44, 8)),  # pool3
    (models.MODELS["segnet_basic"].layers, (106, 16)),
    (models.MODELS["unet"].layers, (140, 16)),
  ],
)
def test_receptive_field(layers, expected):
  assert profile.receptive_field(layers) == expected


def test_the_memory_of_a_small_network_by_hand():
  """sin(k * x), its pool: kept are cos(k * x) and the places of the maxima."""

  def network(kernel, image):
    return max_pooling.max_pool(
      jnp.sin(image * kernel), window=2, rounding="ceil"
    )

  model = _Network(network, (1, 1, 1, 4), in_channels=4)
  values, indices = profile.training_memory(model, (10, 7))
  assert values == 10 * 7 * 4 * 4
  assert indices == 5 * 4 * 4 * 2 / 8


def test_segnets_indices_take_two_bits_a_window():
  model = models.create_model("segnet_vgg16", num_classes=11)
  _, indices = profile.training_memory(model, (360, 480))
  windows = 64 * 180 * 240 + 128 * 90 * 120 + 256 * 45 * 60
  windows += 512 * 23 * 30 + 512 * 12 * 15
  assert indices == windows * 2 // 8


def test_unet_as_published_is_described():
  entry = models.MODELS["unet"]
  model = models.create_model("unet", num_classes=2, in_channels=1)
  words = profile.describe(
    model, name="unet", paper=entry.paper, layers=entry.layers, size=entry.size
  )
  assert json.loads(json.dumps(words)) == {
    "name": "unet",
    "paper": entry.paper,
    "parameters": 31_030_658,
    # Two biases a level of 64 to 1024 channels, 3 a level on the way up, K.
    "kernel_parameters": 31_030_658 - 2 * 1984 - 3 * 960 - 2,
    "multiply_adds": words["multiply_adds"],
    "multiply_adds_space_to_batch": words["multiply_adds"],
    "receptive_field": 140,
    "output_stride": 16,
  }
  assert round(words["multiply_adds"] / 1e9, 1) == 150.4
