"""What every network of the table owes its users.

A new network is one line in SMALL, and one in SIZES if it is particular about
the images it takes.
"""

import collections
import functools
import math
import re

import chex
import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import losses, models
from fcnjax.models import folding, hdnet
from fcnjax.models.backbones import resnet, xception
from fcnjax.ops import resizing
from fcnjax.training import optimizers, sharding, state as states, step

CLASSES = 5

# Options that make a network so small that numbers can be computed with it.
_BASIC = {"width": 4, "kernel": 3}
_VGG = {"widths": (4, 4, 6, 8, 8), "fc_channels": 8}
_FCN = {"widths": (4, 4, 6, 8, 8), "fc_channels": 8, "first_padding": 1}
_DILATION = {"widths": (2, 2, 3, 4, 4), "fc_channels": 4}  # Of wide margins.
SMALL = {
  "fcn32s_vgg16": _FCN,
  "fcn16s_vgg16": _FCN | {"upsampling": "learned"},
  "fcn8s_vgg16": _FCN | {"norm": "batch"},
  "fcn8s_atonce_vgg16": _FCN,
  "fcn32s_late_fusion": _FCN,
  "fcn32s_alexnet": {"widths": (4, 4, 6, 6, 4), "fc_channels": 8},
  "fcn32s_googlenet": {"width": 0.1, "norm": "batch"},
  "fcn_resnet50": {"channels": 8},
  "fcn_resnet101": {"channels": 8},
  "segnet_vgg16": {"widths": (4, 4, 4, 4, 4)},
  "segnet_basic": _BASIC,
  "segnet_basic_bilinear": _BASIC,
  "segnet_basic_encoder_addition": _BASIC,
  "segnet_basic_single_channel_decoder": _BASIC,
  "fcn_basic": _BASIC,
  "fcn_basic_no_addition": _BASIC,
  "fcn_basic_no_dim_reduction": _BASIC,
  "fcn_basic_no_addition_no_dim_reduction": _BASIC,
  "bayesian_segnet": {"widths": (4, 4, 4, 4, 4)},
  "unet": {"width": 4, "depth": 2},
  "unet_release": {"width": 4, "depth": 2},
  "unet_same": {"width": 4, "depth": 2, "norm": "batch"},
  "dilation_frontend": _DILATION,
  "dilation7": _DILATION | {"context": "large"},
  "dilation8": _DILATION | {"norm": "batch"},
  "dilation10": _DILATION | {"context": "large"},
  "deeplab_largefov": _VGG,
  "deeplabv2_vgg16": _VGG,
  "deeplabv2_resnet101": {"rates": (1, 2)},
  "deeplabv3_resnet50": {"channels": 8, "auxiliary": True},
  "deeplabv3_resnet101": {"channels": 8},
  "deeplabv3p_xception41": {"channels": 8, "output_stride": 8},
  "deeplabv3p_xception65": {"channels": 8},
  "deeplabv3p_xception71": {"channels": 8, "image_pooling": False},
  "deeplabv3p_resnet50": {"channels": 8, "separable": True},
  "deeplabv3p_resnet101": {"channels": 8, "decoder": False},
  "hdnet_resnet50": {"channels": 8},
  "hdnet_resnet101": {"channels": 8, "centre_init": "random"},
}

# Which, made small, are others of the table but for numbers of layers: nothing
# is computed with these.
ALIKE = {
  "fcn32s_vgg16",
  "fcn_resnet101",
  "dilation7",
  "dilation10",
  "deeplabv3_resnet101",
  "deeplabv3p_xception65",
}

# Which are spread over devices as others of their family are.
SPREAD_ALIKE = ALIKE | {
  "fcn8s_atonce_vgg16",
  "segnet_basic_bilinear",
  "segnet_basic_encoder_addition",
  "segnet_basic_single_channel_decoder",
  "fcn_basic",
  "fcn_basic_no_addition",
  "fcn_basic_no_dim_reduction",
  "fcn_basic_no_addition_no_dim_reduction",
  "unet_release",
  "dilation_frontend",
  "deeplabv2_resnet101",
  "deeplabv3p_xception71",
  "deeplabv3p_resnet50",
  "deeplabv3p_resnet101",
  "hdnet_resnet101",
}

OWN = [name for name in SMALL if name not in ALIKE]

# Backbones that are too deep to be computed with, in small.
_BLOCK = xception.Block
_RESNET = {"depths": (2, 1, 2, 3), "widths": (4, 4, 8, 8)}
_XCEPTION = {
  "stem": (4, 4),
  "table": (
    _BLOCK("entry_block1", (4, 4, 4), 2),
    _BLOCK("entry_block2", (4, 6, 6), 2),
    _BLOCK("entry_block3", (8, 8, 8), 2),
    _BLOCK("middle_block1", (8, 8, 8), 1, "sum", 2),
    _BLOCK("exit_block1", (8, 8, 8), 2),
    _BLOCK("exit_block2", (8, 8, 8), 1, "none"),
  ),
}


def _small_model(name, **more):
  words = SMALL[name] | more
  model = models.create_model(name, num_classes=CLASSES, **words)
  kind = getattr(getattr(model, "backbone", None), "func", None)
  shrunk = {resnet.ResNet: _RESNET, xception.Xception: _XCEPTION}.get(kind)
  if isinstance(model, hdnet.HDNet):
    return model.clone(**_RESNET)
  if shrunk is None:
    return model
  return model.clone(backbone=functools.partial(model.backbone, **shrunk))


# Sizes of images at default options, and how much smaller the logits are.
ANY = [((1, 1), 0), ((45, 61), 0), ((224, 97), 0)]
VALID = [((188, 204), 184), ((572, 572), 184)]
SIZES = {"unet": VALID, "unet_release": VALID}
SMALL_SIZE = {"unet": (48, 44), "unet_release": (48, 44)}


def test_every_network_is_tried():
  assert list(models.MODELS) == list(SMALL)


def _image(name, size, channels=None):
  channels = channels or models.MODELS[name].channels
  return jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)


def _forward(model, image, *, train=False):
  """Returns the shapes of outputs and variables."""
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return jax.eval_shape(
    lambda x: model.init_with_output(keys, x, train=train), image
  )


def _apply(model, variables, image):
  """Returns the shapes of outputs."""
  return jax.eval_shape(
    lambda v, x: model.apply(v, x, train=False), variables, image
  )


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_float32_at_the_size_of_the_image(name):
  """In bfloat16, of images of any size, by parameters that are float32."""
  model = models.create_model(name, num_classes=CLASSES, dtype="bfloat16")
  sizes = SIZES.get(name, ANY)
  outputs, variables = _forward(model, _image(name, sizes[-1][0]))
  shapes = {sizes[-1]: outputs}
  for size, smaller in [*sizes[:-1], (models.MODELS[name].size, None)]:
    shapes[size, smaller] = _apply(model, variables, _image(name, size))
  for (size, smaller), outputs in shapes.items():
    *_, height, width, classes = outputs["logits"].shape
    assert outputs["logits"].dtype == jnp.float32
    assert classes == CLASSES
    if smaller is not None:  # The size in the table need only be legal.
      assert (height, width) == tuple(side - smaller for side in size)
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    words = [entry.key for entry in path]
    automatic = [word for word in words if re.match(r"[A-Z]\w*_\d+$", word)]
    assert not automatic, f"{'/'.join(words)} has an automatic name"
    assert leaf.dtype == jnp.float32, words


@pytest.mark.parametrize("name", SMALL)
def test_training_has_the_same_variables_and_shapes(name):
  model = _small_model(name)
  image = _image(name, SMALL_SIZE.get(name, (37, 50)))
  outputs, variables = _forward(model, image, train=True)
  evaluated, same = _forward(model, image)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, same)
  assert outputs["logits"].shape == evaluated["logits"].shape


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(name, channels):
  channels += models.MODELS[name].channels - 3
  size = SMALL_SIZE.get(name, (37, 50))
  model = _small_model(name, in_channels=channels)
  _forward(model, _image(name, size, channels))
  with pytest.raises(ValueError, match=rf"{channels} channels.*got 3"):
    _forward(model, _image(name, size, 3))


@pytest.mark.parametrize("name", SMALL)
def test_statistics_of_single_batches_can_be_recorded(name):
  """Which training asks of every network, whether it has batch norm or not."""
  model = models.create_model(name, num_classes=CLASSES)
  assert model.clone(bn_momentum=0.0).bn_momentum == 0


@pytest.mark.parametrize("name", SMALL)
def test_an_unknown_option_is_refused_with_the_known_ones(name):
  option = next(iter(SMALL[name]))
  with pytest.raises(ValueError) as error:
    models.create_model(name, num_classes=CLASSES, **{option[:-1]: 1})
  assert f"Did you mean {option!r}?" in str(error.value)
  for known in models.options(name):
    assert known in str(error.value)


@pytest.fixture(scope="module", params=OWN)
def small(request):
  """A small network with variables that are nowhere zero, and images."""
  name = request.param
  model = _small_model(name)
  size = SMALL_SIZE.get(name, (37, 50))
  rng = np.random.default_rng(0)
  shape = (3, *size, models.MODELS[name].channels)
  image = rng.normal(size=shape).astype(np.float32)
  _, shapes = _forward(model, image)

  def draw(path, leaf):
    if path[0].key != "params":  # Statistics of batch norm.
      return np.full(leaf.shape, path[-1].key == "var", np.float32)
    noise = rng.normal(size=leaf.shape).astype(np.float32)
    if path[-1].key == "kernel":
      return noise * (2 / math.prod(leaf.shape[:-1])) ** 0.5
    return noise * 0.1 + (path[-1].key == "scale")

  variables = jax.tree_util.tree_map_with_path(draw, shapes)
  return model, variables, image


def _step(model, variables, batch, *, devices):
  """Returns the step's gradients, collections and metrics, on the host."""
  optimizer = optimizers.sgd(1.0, variables["params"], momentum=0.0)
  mesh = sharding.create_mesh(data=devices, batch_size=len(batch["image"]))
  state = states.create(variables, optimizer)
  placement = sharding.of_state(state, mesh, shard_parameters=False)
  run = sharding.jitted(
    functools.partial(
      step.train_step,
      apply=model.apply,
      optimizer=optimizer,
      seed=0,
      aux_weight=0.4,
      takes_label=getattr(model, "takes_label", False),
    ),
    mesh,
    placement,
  )
  state = jax.device_put(state, placement)
  state, metrics = run(state, sharding.to_devices(batch, mesh))
  params, collections = jax.device_get((state.params, state.collections))
  gradients = jax.tree.map(np.subtract, variables["params"], params)
  return gradients, collections, jax.device_get(metrics)


def _batch(model, variables, image):
  """Returns eight images, of whose labels some are ignored."""
  rng = np.random.default_rng(2)
  images = rng.normal(size=(8, *image.shape[1:])).astype(np.float32)
  outputs = jax.eval_shape(lambda x: model.apply(variables, x), image)
  size = outputs["logits"].shape[1:3]
  label = rng.integers(0, CLASSES, (8, *size)).astype(np.int32)
  label[0] = label[3, :4] = 255
  return {"image": images, "label": label}


def test_a_step_is_finite_reaches_all_and_is_that_of_eight_devices(
  small, request
):
  """Batch statistics, class centres and gradients are those of all images.

  In float64: noise through tens of batch norms over a few pixels amplifies
  float32's rounding to per cents of a gradient.
  """
  model, variables, image = small
  batch = _batch(model, variables, image)
  with jax.enable_x64(True):
    model = model.clone(dtype="float64")
    variables = jax.tree.map(np.float64, variables)
    batch["image"] = np.float64(batch["image"])
    one = _step(model, variables, batch, devices=1)
    eight = None
    if request.node.callspec.params["small"] not in SPREAD_ALIKE:
      eight = _step(model, variables, batch, devices=8)
  assert one[2]["finite"]
  for path, leaf in jax.tree_util.tree_leaves_with_path(one[0]):
    words = jax.tree_util.keystr(path)
    assert np.isfinite(leaf).all(), words
    # What a batch norm behind takes away again may learn nothing.
    if path[-1].key != "bias" or "batch_stats" not in variables:
      assert np.any(leaf != 0), f"{words} learns nothing"
  rest = {k: v for k, v in variables.items() if k != "params"}
  for old, new in zip(jax.tree.leaves(rest), jax.tree.leaves(one[1])):
    assert np.isfinite(new).all()
    assert np.any(old != new)
  if eight is None:
    return
  np.testing.assert_allclose(eight[2]["loss"], one[2]["loss"], rtol=1e-5)
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(one),
    jax.tree.leaves(eight),
    strict=True,
  ):
    np.testing.assert_allclose(
      a,
      b,
      rtol=0,
      atol=1e-4 * np.abs(a).max() + 1e-7,
      err_msg=jax.tree_util.keystr(path),
    )


COARSE = ("deeplab", "hdnet", "fcn_resnet", "segnet_basic_bilinear")


def test_coarse_scores_tell_what_the_logits_tell(small, request):
  """The interpolation of the one is the other; loss and gradient are equal."""
  model, variables, image = small
  mutable = [k for k in variables if k != "params"]

  def apply(x):
    keys = {"dropout": jax.random.key(0)}
    return model.apply(variables, x, train=True, rngs=keys, mutable=mutable)[0]

  outputs = jax.eval_shape(apply, image)
  names = [name for name in outputs if name.startswith("coarse_")]
  expected = request.node.callspec.params["small"].startswith(COARSE)
  assert bool(names) == expected
  logits = [name for name in outputs if name.endswith("logits")]
  assert len(logits) == (2 if expected else 1) * len(names or ["logits"])
  if not names:
    return
  outputs = jax.jit(apply)(image)
  random = np.random.default_rng(3)
  for name in names:
    coarse, full = outputs[name], outputs[name.removeprefix("coarse_")]
    assert coarse.size == full.shape[1:3]
    label = random.integers(0, CLASSES, full.shape[:3]).astype(np.int32)
    label[0, :9] = 255
    weights = losses.pixel_weights(label)

    def plain(scores, coarse=coarse, label=label, weights=weights):
      logits = resizing.resize_bilinear(
        scores, coarse.size, convention=coarse.convention
      )
      return losses.total_cross_entropy(logits, label, weights), logits

    def fused(scores, coarse=coarse, label=label, weights=weights):
      return losses.total_upsampled_cross_entropy(
        scores,
        label,
        weights,
        convention=coarse.convention,
        implementation="tiles",
      )

    (loss, same), gradient = jax.jit(jax.value_and_grad(plain, has_aux=True))(
      coarse.scores
    )
    np.testing.assert_allclose(same, full, rtol=1e-5, atol=1e-5)
    by_tiles, its_gradient = jax.jit(jax.value_and_grad(fused))(coarse.scores)
    np.testing.assert_allclose(by_tiles, loss, rtol=1e-5)
    np.testing.assert_allclose(
      its_gradient, gradient, atol=1e-5 * np.abs(gradient).max()
    )


def test_evaluation_is_a_pure_function_of_each_image_also_in_bfloat16(small):
  model, variables, image = small
  apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
  logits = apply(image)
  np.testing.assert_array_equal(logits, apply(image))
  np.testing.assert_allclose(apply(image[::-1])[::-1], logits, 1e-5, 1e-5)
  among_others = np.concatenate([image[1:2], 9 * image[2:], -image[:1]])
  np.testing.assert_allclose(apply(among_others)[:1], logits[1:2], 1e-5, 1e-5)
  network = model.clone(dtype="bfloat16")
  half = jax.jit(lambda x: network.apply(variables, x)["logits"])(image)
  assert np.isfinite(half).all()
  spread = np.linalg.norm(logits - logits.mean())
  assert 0 < np.linalg.norm(half - logits) / spread < 0.1


@pytest.mark.parametrize(
  "name", [name for name in OWN if "norm" in models.options(name)]
)
def test_folded_batch_norm_computes_the_same(name):
  """And nothing of it is left but biases, also in bfloat16.

  There, too, the truth is the float32 network: to compare two networks that
  round differently would add up both errors.
  """
  model = _small_model(name, norm="batch")
  size = SMALL_SIZE.get(name, (37, 50))
  image = _image(name, size)
  _, shapes = _forward(model, image)
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    noise = rng.normal(size=leaf.shape).astype(np.float32)
    if path[-1].key == "kernel":
      return noise * (2 / math.prod(leaf.shape[:-1])) ** 0.5
    if path[-1].key in ("var", "scale"):
      return np.exp(0.3 * noise)
    return 0.3 * noise

  def apply(network, variables, x):
    return network.apply(variables, x)["logits"]

  variables = jax.tree_util.tree_map_with_path(draw, shapes)
  x = rng.normal(size=image.shape).astype(np.float32)
  truth = jax.jit(apply, static_argnums=0)(model, variables, x)
  spread = np.linalg.norm(truth - truth.mean())
  for dtype, bound in (("float32", 1e-5), ("bfloat16", 0.1)):
    folded = folding.fold_batch_norm(model.clone(dtype=dtype), variables, image)
    network = _small_model(name, norm="folded").clone(dtype=dtype)
    _, expected = _forward(network, image)
    expected = {k: expected[k] for k in folded}
    for tree in (folded, expected):  # Only training runs it.
      tree["params"].pop("aux_head", None)
    chex.assert_trees_all_equal_shapes_and_dtypes(folded, expected)
    assert "batch_stats" not in folded
    program = jax.jit(apply, static_argnums=0).trace(network, folded, x)
    # Attention and local response normalisation have their own.
    if not isinstance(model, hdnet.HDNet):
      assert "rsqrt" not in str(program.jaxpr)
    ours = program.lower().compile()(folded, x)
    assert np.linalg.norm(ours - truth) < bound * spread


# Learned upsampling of scores, which are float32.
FLOAT32_CONVOLUTIONS = {"fcn16s_vgg16": 2}


def _operands(program, found):
  """Counts (primitive, dtypes of its first two operands) of a program."""
  for eqn in program.eqns:
    kinds = [str(x.aval.dtype) for x in eqn.invars[:2]]
    found[(eqn.primitive.name, *kinds)] += 1
    for inner in core.jaxprs_in_params(eqn.params):
      _operands(inner, found)
  return found


@pytest.mark.parametrize("name", OWN)
def test_bfloat16_is_for_convolutions_and_not_for_sums(name):
  """The policy of `blocks`, in the program of a training step."""
  model = _small_model(name).clone(dtype="bfloat16")
  image = _image(name, SMALL_SIZE.get(name, (37, 50)))
  outputs, variables = _forward(model, image)
  optimizer = optimizers.adamw(1e-3, variables["params"])
  state = jax.eval_shape(
    lambda v: states.create(v, optimizer, ema=True), variables
  )
  size = outputs["logits"].shape[:3]
  batch = {"image": image, "label": jax.ShapeDtypeStruct(size, jnp.int32)}
  run = functools.partial(
    step.train_step,
    apply=model.apply,
    optimizer=optimizer,
    seed=0,
    aux_weight=0.4,
    ema_decay=0.9,
    takes_label=getattr(model, "takes_label", False),
  )
  after, metrics = jax.eval_shape(run, state, batch)
  for leaf in jax.tree.leaves((after.params, after.ema, after.collections)):
    assert leaf.dtype == jnp.float32
  for leaf in jax.tree.leaves((after.opt_state, metrics)):
    assert leaf.dtype in (jnp.float32, jnp.int32, jnp.bool_)

  def forward(variables, x):
    changes = [key for key in variables if key != "params"]
    keys = {"dropout": jax.random.key(0)}
    return model.apply(variables, x, train=True, mutable=changes, rngs=keys)

  program = jax.make_jaxpr(forward)(variables, image).jaxpr
  found = _operands(program, collections.Counter())
  convolutions = {
    k[1:]: n for k, n in found.items() if k[0].startswith("conv_")
  }
  assert convolutions.pop(("bfloat16", "bfloat16")) > 0
  assert sum(convolutions.values()) == FLOAT32_CONVOLUTIONS.get(name, 0)
  for primitive in ("reduce_sum", "reduce_window_sum", "cumsum"):
    assert not any(k[:2] == (primitive, "bfloat16") for k in found), primitive
