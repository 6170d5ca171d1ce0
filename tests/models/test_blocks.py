"""Normalisation by name, and the up-convolution."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.models import blocks, upsampling


class _Normalised(nn.Module):
  kind: str
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x, *, train):
    norm = blocks.norm(
      self.kind, train=train, momentum=0.75, epsilon=1e-5, dtype=self.dtype
    )
    return norm(x, name="norm")


def _apply(kind, x, *, train, dtype="float32"):
  model = _Normalised(kind, dtype)
  variables = model.init(jax.random.key(0), x, train=False)
  return variables, *model.apply(variables, x, train=train, mutable=True)


@pytest.fixture
def maps():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(3, 2, size=(2, 5, 4, 8)), jnp.float32)


def test_none_is_nothing(maps):
  variables, y, _ = _apply("none", maps, train=True)
  assert not variables
  np.testing.assert_array_equal(y, maps)


def test_batch_norm_uses_the_batch_and_remembers_a_quarter_of_it(maps):
  _, y, after = _apply("batch", maps, train=True)
  np.testing.assert_allclose(y.mean((0, 1, 2)), np.zeros(8), atol=1e-5)
  np.testing.assert_allclose(y.std((0, 1, 2)), np.ones(8), atol=1e-4)
  mean = after["batch_stats"]["norm"]["mean"]
  np.testing.assert_allclose(mean, 0.25 * maps.mean((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
  ("kind", "train"), [("batch", False), ("frozen", True)]
)
def test_running_statistics_stay(maps, kind, train):
  variables, y, after = _apply(kind, maps, train=train)
  jax.tree.map(np.testing.assert_array_equal, dict(after), variables)
  np.testing.assert_allclose(y, maps, rtol=1e-4)  # They start at 0 and 1.


def test_statistics_of_bfloat16_maps_are_float32(maps):
  # 300 + 1 is no bfloat16: sums in bfloat16 would be far off.
  x = jnp.asarray(maps + 300, jnp.bfloat16)
  _, y, after = _apply("batch", x, train=True, dtype="bfloat16")
  exact = 0.25 * np.asarray(x, np.float32).mean((0, 1, 2))
  stats = after["batch_stats"]["norm"]["mean"]
  assert (y.dtype, stats.dtype) == (jnp.bfloat16, jnp.float32)
  np.testing.assert_allclose(stats, exact, rtol=1e-6)


@pytest.mark.parametrize(
  ("channels", "groups"), [(3, 1), (8, 4), (12, 2), (64, 32), (256, 32)]
)
def test_group_norm_normalises_each_group_of_each_image(channels, groups):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(3, 2, size=(2, 6, 5, channels)), jnp.float32)
  _, y, _ = _apply("group", x, train=True)
  grouped = np.asarray(y).reshape(2, 30, groups, -1)
  np.testing.assert_allclose(grouped.mean((1, 3)), 0, atol=1e-5)
  np.testing.assert_allclose(grouped.std((1, 3)), 1, atol=1e-3)


def test_an_unknown_norm_is_refused(maps):
  with pytest.raises(
    ValueError, match="none, batch, frozen, folded, group; got 'bn'"
  ):
    _apply("bn", maps, train=False)


def test_up_conv_spreads_each_pixel_over_a_square():
  x = np.zeros((1, 3, 2, 4), np.float32)
  x[0, 1, 0, 2] = 1
  model = upsampling.UpConv(5)
  variables = model.init(jax.random.key(0), x)
  y = model.apply(variables, x)
  expected = np.zeros((1, 6, 4, 5), np.float32)
  expected[0, 2:4, 0:2] = variables["params"]["kernel"][:, :, 2]
  np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_up_conv_starts_from_the_variance_of_he():
  # One tap meets each output pixel: its incoming connections are 256, not 4
  # times as many.
  model = upsampling.UpConv(128)
  x = jnp.zeros((1, 1, 1, 256))
  kernel = model.init(jax.random.key(0), x)["params"]["kernel"]
  assert abs(float(kernel.std()) / (2 / 256) ** 0.5 - 1) < 0.02


def test_he_normal_is_not_truncated():
  model = nn.Sequential([blocks.conv(64, 3, name="conv", dtype="float32")])
  x = jnp.zeros((1, 4, 4, 64))
  kernel = jax.tree.leaves(model.init(jax.random.key(0), x)["params"])[1]
  deviation = (2 / (9 * 64)) ** 0.5
  assert abs(float(kernel.std()) / deviation - 1) < 0.02
  assert float(abs(kernel).max()) > 3 * deviation
