"""DeepLab v1 and v2: parameters, fields of view and sizes."""

import jax
import jax.numpy as jnp
import pytest

from fcnjax import models, profile


@pytest.mark.parametrize(
  ("kernel", "rate", "channels", "parameters", "field"),
  [
    (7, 4, 4096, 134_346_581, 224),
    (4, 4, 4096, 65_140_565, 128),
    (4, 8, 4096, 65_140_565, 224),
    (3, 12, 1024, 20_505_429, 224),
  ],
)
def test_the_table_of_fields_of_view(kernel, rate, channels, parameters, field):
  """v1, section 4, and its rule 8 ((k - 1) rate + 4) for the field."""
  model = models.create_model(
    "deeplab_largefov",
    num_classes=21,
    kernel=kernel,
    rates=(rate,),
    fc_channels=channels,
  )
  ours = profile.parameters(model, (65, 65))
  assert ours == parameters
  assert 8 * ((kernel - 1) * rate + 4) == field


def test_the_size_of_v1s_crop():
  """41 x 41 scores of 321 x 321 pixels."""
  model = models.create_model("deeplab_largefov", num_classes=21)
  features, _ = jax.eval_shape(
    lambda x: model.backbone().init_with_output(jax.random.key(0), x),
    jax.ShapeDtypeStruct((1, 321, 321, 3), jnp.float32),
  )
  assert features["stage5"].shape == (1, 41, 41, 512)


def test_v2_sums_the_scores_of_its_rates():
  """A branch whose scores are zero leaves the sum of the others."""
  model = models.create_model(
    "deeplabv2_vgg16", num_classes=2, widths=(2, 2, 2, 2, 3), fc_channels=4
  )
  head = model.head(num_classes=2, dtype="float32", bn_momentum=0.9)
  features = {"stage5": jax.random.normal(jax.random.key(0), (1, 9, 9, 3))}
  words = {"size": (9, 9), "train": False}
  variables = head.init(jax.random.key(1), features, **words)
  total = head.apply(variables, features, **words).scores
  alone = []
  for rate in (6, 12, 18, 24):
    params = {
      name: leaf
      if name.endswith(f"_{rate}")
      else jax.tree.map(jnp.zeros_like, leaf)
      for name, leaf in variables["params"].items()
    }
    alone.append(head.apply({"params": params}, features, **words).scores)
    assert jnp.abs(alone[-1]).max() > 0
  assert jnp.allclose(total, sum(alone), atol=1e-6)
