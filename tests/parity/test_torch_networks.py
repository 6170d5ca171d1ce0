"""The PyTorch networks of the benchmarks are ours, number for number."""

import functools
import importlib.util
import pathlib
import sys

import jax
import numpy as np
import pytest

from fcnjax import models, profile
from fcnjax.models import hdnet

torch = pytest.importorskip("torch")

_BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"

BOUND = 1e-4

CLASSES = 5

# Height and width, and what is narrower than in the paper: in both networks
# where it is not too large to be computed whole.
SIZES = {
  "unet": (188, 204),
  "unet_same": (32, 48),
  "segnet_vgg16": (45, 70),  # Pools round up.
  "fcn8s_vgg16": (33, 41),
}
_VGG = {"widths": (8, 12, 16, 24, 20)}
NARROW = {
  "unet": {"width": 8},
  "unet_same": {"width": 8},
  "segnet_vgg16": _VGG,
  "fcn8s_vgg16": _VGG | {"fc_channels": 40},
}


def _load(name):
  path = _BENCHMARKS / f"{name}.py"
  spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="module")
def networks():
  return _load("torch_networks")


@pytest.fixture(scope="module")
def measure():
  return _load("measure")


def _build(networks, name):
  """Returns the torch network, as narrow as ours."""
  options = NARROW.get(name, {})
  if name.startswith("unet"):
    return networks.UNet(CLASSES, same=name == "unet_same", **options)
  return networks.NETWORKS[name](CLASSES, **options)


def _shapes(model, size):
  image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
  return jax.eval_shape(model.init, jax.random.key(0), image)


def _to_torch(image):
  return torch.from_numpy(np.moveaxis(image, -1, 1).copy())


@pytest.mark.parametrize(
  "name",
  [
    "unet",
    "unet_same",
    "segnet_vgg16",
    "fcn8s_vgg16",
    "deeplabv3p_xception65",
    "deeplabv3p_resnet101",
    "hdnet_resnet50",  # That of 101 layers has the same lines.
  ],
)
def test_logits_are_ours(networks, measure, name):
  size = SIZES.get(name, (65, 81))
  options = NARROW.get(name, {})
  model = models.create_model(name, num_classes=CLASSES, **options)
  variables = measure.random_variables(_shapes(model, size))
  network = _build(networks, name).eval()
  count = networks.copy_variables(network, variables)
  learned = sum(x.size for x in jax.tree.leaves(variables["params"]))
  assert count == learned == sum(p.numel() for p in network.parameters())
  image = np.random.default_rng(1).normal(size=(2, *size, 3)).astype("f4")
  ours = jax.jit(functools.partial(model.apply, train=False))(variables, image)
  ours = np.asarray(ours["logits"])
  with torch.inference_mode():
    theirs = network(_to_torch(image).to(memory_format=torch.channels_last))
  theirs = np.moveaxis(theirs.numpy(), 1, -1)
  assert ours.shape == theirs.shape
  assert np.abs(ours - theirs).max() < BOUND * np.abs(theirs).max()
  assert np.abs(theirs).std() > 1e-3 * np.abs(theirs).max()


def test_whole_networks_have_as_many_parameters(networks):
  assert set(networks.NETWORKS) <= set(models.MODELS)
  for name, build in networks.NETWORKS.items():
    model = models.create_model(name, num_classes=CLASSES)
    size = models.MODELS[name].size
    with torch.device("meta"):
      network = build(CLASSES)
    theirs = sum(p.numel() for p in network.parameters())
    assert theirs == profile.parameters(model, size), name


def test_class_centres_are_ours(networks, measure):
  """The loss of HDNet's centres, and where they move to."""
  generator = np.random.default_rng(2)
  features = generator.normal(size=(2, 6, 7, 12)).astype("f4")
  label = generator.integers(0, CLASSES - 1, (2, 13, 21)).astype(np.int32)
  label[:, :5] = 255
  ours = hdnet.ClassCentres(CLASSES)
  table = generator.uniform(-1, 1, (CLASSES, 12)).astype("f4")
  seen = np.array([1, 0, 1, 0, 1], np.float32)
  state = {"centres": {"table": table, "seen": seen}}
  loss, changed = ours.apply(state, features, label, mutable=["centres"])
  theirs = networks.ClassCentres(CLASSES, 12).train()
  theirs.table.copy_(torch.from_numpy(table))
  theirs.seen.copy_(torch.from_numpy(seen))
  other = theirs(_to_torch(features), torch.from_numpy(label).long())
  np.testing.assert_allclose(loss, other.numpy(), rtol=1e-5)
  for name, value in changed["centres"].items():
    np.testing.assert_allclose(value, getattr(theirs, name), atol=1e-5)


def test_a_missing_variable_is_told(networks, measure):
  model = models.create_model("unet_same", num_classes=CLASSES, width=4)
  variables = measure.random_variables(_shapes(model, (16, 16)))
  network = networks.UNet(CLASSES, same=True, width=4)
  lonely = {**variables["params"], "other": {"kernel": np.zeros((3, 3, 1, 1))}}
  with pytest.raises(ValueError, match=r"has not \['params/other/kernel'\]"):
    networks.copy_variables(network, {"params": lonely})
  lonely = {k: v for k, v in variables["params"].items() if k != "up0"}
  with pytest.raises(ValueError, match="params/up0/conv1/kernel, which our"):
    networks.copy_variables(network, {"params": lonely})
