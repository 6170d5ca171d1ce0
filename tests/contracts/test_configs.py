"""Every variant of every config is loaded, built and stepped, abstractly.

Stepped are the first of those that differ by their data alone.
"""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.cli import build, config as configs, defaults, open_data
from fcnjax.data import resident, sources, transforms
from fcnjax.training import state as states, step

ROOT = pathlib.Path(__file__).parents[2]


def _variants():
  for path in sorted((ROOT / "configs").glob("*.py")):
    text = path.read_text()
    for name in re.findall(r'^      "(\w*)":', text, re.MULTILINE):
      yield str(path) + (f":{name}" if name else "")


VARIANTS = list(_variants())


def test_every_config_has_the_variants_that_users_rely_on():
  names = {
    (pathlib.Path(v.split(":")[0]).stem, *v.split(":")[1:]) for v in VARIANTS
  }
  for config in ("dilation", "deeplab", "deeplabv3p", "hdnet"):
    assert (config,) in names
    assert (config, "folder") in names
  for config in ("fcn", "segnet", "unet"):
    assert (config,) in names
    for variant in (
      "camvid",
      "camvid_small",
      "isbi2012",
      "isbi2012_small",
      "folder",
    ):
      assert (config, variant) in names


@functools.cache
def _first_of_a_kind():
  kinds = {}
  for argument in VARIANTS:
    config = configs.load(argument)
    kind = (
      config.model.name,
      str(config.model.options),
      config.optimizer.name,
      str(config.optimizer.groups),
      config.accumulate > 1,
      config.loss.normalization,
      bool(config.data.second_masks),
    )
    kinds.setdefault(kind, argument)
  return set(kinds.values())


@pytest.mark.parametrize("argument", VARIANTS, ids=lambda a: a.split("/")[-1])
def test_a_variant_builds_and_steps(argument):
  config = configs.load(argument)
  assert set(configs.keys(config)) >= set(configs.keys(defaults.get_config()))
  configs.check(config)
  assert config.data.source in open_data.SOURCES
  for name, _ in config.data.transforms:
    assert name in transforms.TRANSFORMS
  channels = open_data.channels(config)
  assert len(config.data.mean) in (1, channels)
  model = build.model(config, num_classes=3)
  sizes = [
    tuple(parameters["size"])
    for name, parameters in config.data.transforms
    if name in ("random_crop", "resize", "center_crop", "pad_to")
  ]
  size = sizes[-1] if sizes else tuple(config.data.image_size)
  size = size if any(size) else (96, 96)
  margin = config.data.label_margin
  labels = tuple(side - 2 * margin for side in size)
  count = config.accumulate
  batch = {
    "image": jax.ShapeDtypeStruct((count, *size, channels), jnp.float32),
    "label": jax.ShapeDtypeStruct((count, *labels), jnp.int32),
  }
  if config.data.second_masks:
    batch["second_label"] = batch["label"]
  variables = jax.eval_shape(model.init, jax.random.key(0), batch["image"])
  optimizer = build.optimizer(config, variables["params"])
  state = jax.eval_shape(lambda v: states.create(v, optimizer), variables)
  if argument not in _first_of_a_kind():
    return

  def run(state, batch):
    return step.train_step(
      state,
      batch,
      apply=model.apply,
      optimizer=optimizer,
      seed=0,
      normalization=config.loss.normalization,
      accumulate=count,
    )

  new, metrics = jax.eval_shape(run, state, batch)
  assert jax.tree.structure(new) == jax.tree.structure(state)
  assert metrics["loss"].shape == ()


@pytest.mark.parametrize("argument", VARIANTS, ids=lambda a: a.split("/")[-1])
def test_a_variant_can_be_augmented_on_the_device(argument):
  """Of images of one size; what is not cropped may have no other."""
  data = configs.load(argument).data
  sizes = [(60, 80), (60, 80)]
  source = sources.Arrays(
    [np.zeros((*size, data.channels), np.uint8) for size in sizes],
    [np.zeros(size, np.uint8) for size in sizes],
    classes=("a", "b"),
  )
  refused = resident.refusal(source, transforms=data.transforms, gigabytes=1.0)
  assert refused == ""


@pytest.mark.parametrize(
  "name",
  ["fcn", "segnet", "unet", "dilation", "deeplab", "deeplabv3p", "hdnet"],
)
def test_a_docstring_tells_the_command(name):
  text = (ROOT / "configs" / f"{name}.py").read_text()
  assert f"python train.py --config=configs/{name}.py --workdir=" in text
