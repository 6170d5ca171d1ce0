"""The statistics pass gives the averages over the batches, and nothing else."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from fcnjax.training import statistics


class Norm(nn.Module):
  momentum: float

  @nn.compact
  def __call__(self, image, *, train=False):
    return nn.BatchNorm(
      use_running_average=not train, momentum=self.momentum, name="bn"
    )(image)


def test_equals_numpy():
  random = np.random.default_rng(0)
  batches = [
    {"image": random.normal(3, 2, (4, 5, 5, 2)).astype(np.float32)}
    for _ in range(6)
  ]
  variables = Norm(0.9).init(jax.random.key(0), batches[0]["image"])
  got = statistics.batch_norm_statistics(Norm(0.0).apply, variables, batches)
  means = [b["image"].mean((0, 1, 2)) for b in batches]
  variances = [b["image"].var((0, 1, 2)) for b in batches]
  np.testing.assert_allclose(got["bn"]["mean"], np.mean(means, 0), rtol=1e-5)
  np.testing.assert_allclose(got["bn"]["var"], np.mean(variances, 0), rtol=1e-4)


def test_needs_a_batch():
  with pytest.raises(ValueError, match="at least one batch"):
    statistics.batch_norm_statistics(Norm(0.0).apply, {}, [])
