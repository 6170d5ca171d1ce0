"""Meshes, and a state of which each device has a part."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import checkpoints, errors, models
from fcnjax.cli import rows
from fcnjax.training import optimizers, sharding, state as states
from tests.training import spreading


def test_a_mesh_takes_the_devices_that_divide():
  for batch, space, expected in (
    (8, 2, (4, 2)),
    (6, 4, (2, 4)),
    (3, 2, (3, 2)),
    (1, 8, (1, 8)),
    (8, 3, (2, 3)),
  ):
    mesh = sharding.create_mesh(space=space, batch_size=batch)
    assert tuple(mesh.shape.values()) == expected


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ({"space": 9}, "mesh.space: 9 devices asked for, 8 found"),
    ({"space": 0}, "mesh.space: 0"),
    ({"data": 4, "space": 4}, "mesh.data: 4 devices of 4 .* give 1 to 2"),
    ({"data": 0}, "mesh.data: 0"),
    ({"data": 3, "space": 2}, "batch_size: 8 does not divide over 3"),
  ],
)
def test_a_mesh_that_cannot_be(words, message):
  with pytest.raises(errors.InputError, match=message):
    sharding.create_mesh(batch_size=8, **words)


def test_every_process_holds_whole_images_and_as_many(monkeypatch):
  found = jax.devices()
  own = {"local_devices": lambda process_index: found[4 * process_index :][:4]}
  own |= {"process_count": lambda: 2, "local_device_count": lambda: 4}
  for name, function in own.items():
    monkeypatch.setattr(jax, name, function)
  with pytest.raises(errors.InputError, match="use a divisor of 4"):
    sharding.create_mesh(space=8, batch_size=8)
  with pytest.raises(errors.InputError, match="use a multiple of 2"):
    sharding.create_mesh(space=2, batch_size=7)
  for batch_size, expected in (
    (8, [[0, 1], [2, 3], [4, 5], [6, 7]]),
    (6, [[0, 1], [4, 5]]),
  ):
    mesh = sharding.create_mesh(space=2, batch_size=batch_size)
    assert [[d.id for d in pair] for pair in mesh.devices] == expected


# data, space, whether parameters are cut: all of 2, 4 and 8 devices.
MESHES = [
  (count // space, space, cut)
  for count in (2, 4, 8)
  for space in (1, 2, 4, 8)
  if space <= count
  for cut in (False, True)
  if not cut or space < count
]


def test_the_same_losses_on_every_mesh():
  """Over three steps, relative 1e-5, with parameters whole and cut."""
  model = models.create_model(
    "unet_same", num_classes=3, width=3, depth=1, norm="batch"
  )
  size = (16, 6)
  variables = spreading.variables_of(model, size)
  batches = [
    spreading.batch_of(model, variables, size, count=8, seed=seed)
    for seed in range(3)
  ]
  one = spreading.Spread(model, variables, batches[0]).losses(batches)
  assert one[-1] != one[0]
  for data, space, shard in MESHES:
    spread = spreading.Spread(
      model, variables, batches[0], data=data, space=space, shard=shard
    )
    np.testing.assert_allclose(
      spread.losses(batches),
      one,
      rtol=1e-5,
      err_msg=f"{data} x {space}, parameters {'cut' if shard else 'whole'}",
    )


def test_a_step_reduces_its_gradient_once():
  """Four bytes a parameter; not in each block of rows, nor as Winograd has it.

  What docs/scaling.md predicts stands on this.
  """
  model = models.create_model("unet_same", num_classes=3, width=8, depth=2)
  size = (64, 64)
  variables = spreading.variables_of(model, size)
  batch = spreading.batch_of(model, variables, size, count=4)
  spread = spreading.Spread(model, variables, batch, data=4)
  gradient = sum(x.nbytes for x in jax.tree.leaves(variables["params"]))
  reduced = spread.collectives("all-reduce")
  # Besides, the loss and the pixels that count.
  assert gradient < sum(reduced) <= gradient + 16


def _shapes(*sizes):
  params = {str(n): np.zeros(s, np.float32) for n, s in enumerate(sizes)}
  return jax.eval_shape(
    lambda: states.create(
      {"params": params, "batch_stats": {"mean": jnp.zeros(4096)}},
      optimizers.adamw(0.1, params),
      ema=True,
    )
  )


def test_the_longest_axis_that_divides_is_cut():
  mesh = sharding.create_mesh(data=4, space=2, batch_size=4)
  sizes = ((3, 3, 64, 128), (3, 3, 128, 64), (64, 64), (4096,), (62, 68), (64,))
  state = _shapes(*sizes, (4097, 3))
  cut = sharding.of_state(state, mesh, shard_parameters=True)
  found = {name: tuple(own.spec) for name, own in cut.params.items()}
  assert found == {
    "0": (None, None, None, "data"),
    "1": (None, None, "data"),
    "2": (None, "data"),
    "3": ("data",),
    "4": (None, "data"),
    "5": (),  # Small.
    "6": (),  # Nothing divides.
  }
  assert cut.ema == cut.params
  moments = [s for s in cut.opt_state if hasattr(s, "mu")]
  assert [m.mu for m in moments] == [cut.params] == [m.nu for m in moments]
  assert cut.collections["batch_stats"]["mean"].is_fully_replicated
  assert cut.step.is_fully_replicated
  whole = sharding.of_state(state, mesh, shard_parameters=False)
  assert all(own.is_fully_replicated for own in jax.tree.leaves(whole))


def test_a_device_holds_its_part_of_the_state():
  """Of the compiled step; what moves is put together and cut again."""
  model = models.create_model("unet_same", num_classes=3, width=16, depth=1)
  size = (16, 16)
  variables = spreading.variables_of(model, size)
  batch = spreading.batch_of(model, variables, size, count=8)
  whole, cut = (
    spreading.Spread(model, variables, batch, data=8, shard=shard)
    for shard in (False, True)
  )
  images = sum(x.nbytes for x in batch.values()) / 8
  held = [spread.held() - images for spread in (whole, cut)]
  # But for what does not divide.
  assert held[1] < held[0] / 7
  assert not whole.collectives("all-gather")
  size = sum(own.nbytes for own in jax.tree.leaves(variables["params"]))
  assert sum(cut.collectives("all-gather")) >= 0.9 * size
  a, b = (spread.gradients(batch) for spread in (whole, cut))
  assert np.linalg.norm(a[0] - b[0]) < 1e-5 * np.linalg.norm(a[0])


def _placed(state, **words):
  mesh = sharding.create_mesh(batch_size=8, **words)
  return sharding.of_state(state, mesh, shard_parameters=True, least=1)


def test_a_checkpoint_lands_on_other_parts(tmp_path):
  random = np.random.default_rng(0)
  params = {"kernel": random.normal(size=(3, 16, 24)).astype(np.float32)}
  optimizer = optimizers.adamw(0.1, params)
  state = states.create({"params": params}, optimizer, ema=True)
  eight = jax.device_put(state, _placed(state, data=8))
  assert eight.params["kernel"].addressable_shards[0].data.shape == (3, 16, 3)
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(1, eight)
  saved.wait()
  for words, part in (
    ({"data": 1}, (3, 16, 24)),
    ({"data": 4, "space": 2}, (3, 16, 6)),
  ):
    abstract = jax.tree.map(
      lambda x, own: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own),
      state,
      _placed(state, **words),
    )
    again = saved.restore(1, abstract)
    chex.assert_trees_all_equal(jax.device_get(again), jax.device_get(state))
    assert again.params["kernel"].addressable_shards[0].data.shape == part
  saved.close()


def test_what_is_cut_is_put_together():
  mesh = sharding.create_mesh(data=8, batch_size=8)
  tree = {"kernel": np.arange(64.0, dtype=np.float32), "step": np.int32(3)}
  cut = jax.device_put(tree, sharding.replicated(mesh))
  assert sharding.whole(cut, mesh) is cut
  cut["kernel"] = jax.device_put(tree["kernel"], sharding.by_example(mesh))
  whole = sharding.whole(cut, mesh)
  assert whole["kernel"].is_fully_replicated
  chex.assert_trees_all_equal(jax.device_get(whole), tree)


def test_rows_of_batches_are_spread():
  mesh = sharding.create_mesh(data=2, space=4, batch_size=4)
  batch = {
    "image": np.arange(4 * 16 * 6 * 3.0).reshape(4, 16, 6, 3),
    "label": np.arange(4 * 8 * 6).reshape(4, 8, 6),
  }
  moved = sharding.to_devices(batch, mesh)
  for name, part in (("image", (2, 4, 6, 3)), ("label", (2, 2, 6))):
    assert moved[name].addressable_shards[0].data.shape == part
    np.testing.assert_array_equal(moved[name], batch[name])
  placed = sharding.placed(batch["image"], mesh)
  assert placed.sharding == sharding.by_row(mesh)
  for image, part in (
    (batch["image"][:, :15], (2, 15, 6, 3)),
    (batch["image"][:3], (3, 4, 6, 3)),
    (batch["image"][:3, :15], (3, 15, 6, 3)),
  ):
    placed = sharding.placed(image, mesh)
    assert placed.addressable_shards[0].data.shape == part


def _checked(name, height, space, **options):
  model = models.create_model(name, num_classes=3, **options)
  mesh = sharding.create_mesh(space=space, batch_size=1)
  image = jax.ShapeDtypeStruct((1, 572, 572, 3), np.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  rows.check(mesh, model, shapes, (height, 188))


@pytest.mark.parametrize(
  ("name", "height", "near", "options"),
  [
    ("unet_same", 200, (128, 256), {}),  # 8 devices times a stride of 16
    ("unet_same", 200, (192, 224), {"depth": 2}),
    ("segnet_basic", 200, (128, 256), {}),
    ("deeplabv3p_resnet50", 513, (512, 640), {"output_stride": 16}),
  ],
)
def test_the_nearest_rows_that_divide(name, height, near, options):
  with pytest.raises(errors.InputError) as error:
    _checked(name, height, 8, **options)
  found = re.search(
    r"nearest that do have (\d+) or (\d+) rows", str(error.value)
  )
  assert found, error.value
  assert tuple(int(n) for n in found.groups()) == near
  for legal in near:
    _checked(name, legal, 8, **options)


@pytest.mark.parametrize(
  "name", ["unet", "fcn32s_alexnet", "dilation_frontend"]
)
def test_networks_whose_maps_never_divide(name):
  with pytest.raises(errors.InputError, match="maps whose rows never divide"):
    _checked(name, 572, 4)
  _checked(name, 572, 1)
