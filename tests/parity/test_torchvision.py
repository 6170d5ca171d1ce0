"""With random weights, layer by layer, our networks are torchvision's."""

import jax
import numpy as np
import pytest

from fcnjax import models
from fcnjax.models import blocks
from fcnjax.models.backbones import alexnet, googlenet, resnet, vgg, xception

BOUND = 1e-4


@pytest.fixture
def image():
  return np.random.default_rng(0).normal(size=(2, 97, 129, 3)).astype("f4")


def _shapes(model, image):
  return jax.eval_shape(model.init, jax.random.key(0), image)


def _compare(torch_, model, network, rules, image, pairs):
  """Compares our features with the outputs of torch modules."""
  network = torch_.randomise(network)
  variables = torch_.variables(network, rules, _shapes(model, image))
  theirs = torch_.outputs_of(network, [name for _, name in pairs], image)
  ours = jax.jit(model.apply)(variables, image)
  for feature, name in pairs:
    error = torch_.relative_error(ours[feature], theirs[name])
    assert error < BOUND, (feature, name, error)


def _without(network, *names):
  """Takes modules out, so that their weights are not looked for."""
  for name in names:
    delattr(network, name)
  return network


def test_alexnet(torch_, image):
  network = torch_.torchvision.models.alexnet(weights=None).features
  model = alexnet.AlexNet(
    widths=(64, 192, 384, 256, 256),
    groups=1,
    lrn=False,
    first_padding=2,
    rounding="floor",
  )
  rules = [
    (str(index), f"conv{i}") for i, index in enumerate((0, 3, 6, 8, 10), 1)
  ]
  pairs = [("stage3", "2"), ("stage4", "5"), ("stage5", "12")]
  _compare(torch_, model, network, rules, image, pairs)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_vgg16(torch_, image, norm):
  build = {
    "none": torch_.torchvision.models.vgg16,
    "batch": torch_.torchvision.models.vgg16_bn,
  }[norm]
  network = build(weights=None).features
  names = iter(
    f"conv{stage}_{i}"
    for stage, depth in enumerate(vgg.DEPTHS, 1)
    for i in range(1, depth + 1)
  )
  rules, pairs = [], []
  for index, module in network.named_children():
    kind = type(module).__name__
    if kind == "Conv2d":
      name = next(names)
      rules.append((index, name))
    elif kind == "BatchNorm2d":
      rules.append((index, f"{name}_bn"))
    elif kind == "MaxPool2d":
      pairs.append((f"stage{len(pairs) + 1}", index))
  model = vgg.VGG16(norm=norm, rounding="floor")
  _compare(torch_, model, network, rules, image, pairs)


def test_googlenet(torch_, image):
  network = _without(
    torch_.torchvision.models.googlenet(
      weights=None, init_weights=False, aux_logits=False
    ),
    "fc",
    "dropout",
    "avgpool",
  )
  network.forward = lambda x: _googlenet_features(network, x)
  model = googlenet.GoogLeNet(lrn=False, five=3, fourth_pool=2, norm="batch")
  branches = {
    "branch1": "1x1",
    r"branch2\.0": "3x3_reduce",
    r"branch2\.1": "3x3",
    r"branch3\.0": "5x5_reduce",
    r"branch3\.1": "5x5",
    r"branch4\.1": "pool_proj",
  }
  rules = [
    (rf"inception(\d\w)\.{branch}\.(conv|bn)", rf"inception_\1_{name}/\2")
    for branch, name in branches.items()
  ]
  stem = {"conv1": "conv1", "conv2": "conv2_reduce", "conv3": "conv2"}
  rules += [(rf"{a}\.(conv|bn)", rf"{b}/\1") for a, b in stem.items()]
  pairs = [
    ("stage1", "conv1"),
    ("stage2", "conv3"),
    ("stage3", "inception3b"),
    ("stage4", "inception4e"),
    ("stage5", "inception5b"),
  ]
  _compare(torch_, model, network, rules, image, pairs)


def _googlenet_features(net, x):
  x = net.conv3(net.conv2(net.maxpool1(net.conv1(x))))
  x = net.inception3b(net.inception3a(net.maxpool2(x)))
  x = net.maxpool3(x)
  for letter in "abcde":
    x = getattr(net, f"inception4{letter}")(x)
  return net.inception5b(net.inception5a(net.maxpool4(x)))


def _resnet_rules(prefix=""):
  theirs, ours = (r"backbone\.", "backbone/") if prefix else ("", "")
  rules = [
    (f"{theirs}conv1", f"{ours}conv1_1"),
    (f"{theirs}bn1", f"{ours}conv1_1_bn"),
  ]
  for layer in range(1, 5):
    for unit in range(36):
      stem = rf"{theirs}layer{layer}\.{unit}\."
      name = f"{ours}stage{layer + 1}_{unit + 1}/"
      rules += [
        (stem + r"((conv|bn)\d)", name + r"\1"),
        (stem + r"downsample\.0", name + "shortcut"),
        (stem + r"downsample\.1", name + "shortcut_bn"),
      ]
  return rules


@pytest.mark.parametrize("depth", [50, 101])
def test_resnet(torch_, image, depth):
  build = getattr(torch_.torchvision.models, f"resnet{depth}")
  network = _without(build(weights=None), "fc", "avgpool")
  network.forward = lambda x: _resnet_features(network, x)
  model = resnet.ResNet(depths=resnet.DEPTHS[depth])
  pairs = [(f"stage{i + 1}", f"layer{i}") for i in range(1, 5)]
  _compare(torch_, model, network, _resnet_rules(), image, pairs)


def _resnet_features(net, x):
  x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
  return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def test_fcn_resnet50(torch_, image):
  network = torch_.torchvision.models.segmentation.fcn_resnet50(
    weights=None, weights_backbone=None, num_classes=7
  )
  model = models.create_model("fcn_resnet50", num_classes=7)
  rules = [
    *_resnet_rules("backbone"),
    (r"classifier\.0", "head/conv"),
    (r"classifier\.1", "head/conv_bn"),
    (r"classifier\.4", "head/score"),
  ]
  network = torch_.randomise(network)
  variables = torch_.variables(network, rules, _shapes(model, image))
  layers = {"classifier.0": "conv"}
  _compare_layers(torch_, network, model, variables, image, layers)


def test_deeplabv3_resnet101(torch_, image):
  network = torch_.torchvision.models.segmentation.deeplabv3_resnet101(
    weights=None, weights_backbone=None, aux_loss=True, num_classes=7
  )
  model = models.create_model(
    "deeplabv3_resnet101",
    num_classes=7,
    variant="torchvision",
    output_stride=8,
    multi_grid=(1, 1, 1),
    auxiliary=True,
  )
  pyramid = r"classifier\.0\."
  rules = [
    *_resnet_rules("backbone"),
    (rf"{pyramid}convs\.(\d)\.0", r"head/aspp\1"),
    (rf"{pyramid}convs\.([0123])\.1", r"head/aspp\1_bn"),
    (rf"{pyramid}convs\.4\.1", "head/image_pooling"),
    (rf"{pyramid}convs\.4\.2", "head/image_pooling_bn"),
    (rf"{pyramid}project\.0", "head/concat_projection"),
    (rf"{pyramid}project\.1", "head/concat_projection_bn"),
    (r"classifier\.1", "head/last_conv"),
    (r"classifier\.2", "head/last_conv_bn"),
    (r"classifier\.4", "head/logits"),
    (r"aux_classifier\.0", "aux_head/conv"),
    (r"aux_classifier\.1", "aux_head/conv_bn"),
    (r"aux_classifier\.4", "aux_head/score"),
  ]
  network = torch_.randomise(network)
  # torchvision has the image-level feature last, the release has it first.
  variables = torch_.variables(network, rules, _shapes(model, image))
  head = variables["params"]["head"]
  kernel = head["concat_projection"]["kernel"]
  head["concat_projection"]["kernel"] = np.roll(kernel, 256, axis=2)
  layers = {
    "classifier.0.convs.0.0": "aspp0",
    "classifier.0.convs.1.0": "aspp1",
    "classifier.0.convs.2.0": "aspp2",
    "classifier.0.convs.3.0": "aspp3",
    "classifier.0.convs.4.1": "image_pooling",
    "classifier.0.project.0": "concat_projection",
    "classifier.1": "last_conv",
  }
  theirs = _compare_layers(torch_, network, model, variables, image, layers)
  aux = model.aux_head(num_classes=7, dtype="float32", bn_momentum=0.9)
  own = {name: tree["aux_head"] for name, tree in variables.items()}
  stage4 = {"stage4": jax.numpy.asarray(theirs["backbone.layer3"])}
  coarse = aux.apply(own, stage4, size=image.shape[1:3], train=False)
  ours = blocks.interpolated("logits", coarse)["logits"]
  assert torch_.relative_error(ours, theirs["aux"]) < BOUND


def _compare_layers(torch_, network, model, variables, image, layers):
  """Compares stages, the head's layers and the logits; returns torch's."""
  stages = {f"backbone.layer{i}": f"stage{i + 1}" for i in (1, 2, 3, 4)}
  theirs = torch_.outputs_of(network, [*stages, *layers], image)

  @jax.jit
  def run(variables, image):
    outputs, state = model.apply(
      variables, image, capture_intermediates=True, mutable=["intermediates"]
    )
    inner = state["intermediates"]
    found = {name: inner["backbone"]["__call__"][0][ours]
             for name, ours in stages.items()}  # fmt: skip
    found |= {name: inner["head"][ours]["__call__"][0]
              for name, ours in layers.items()}  # fmt: skip
    return found | {"out": outputs["logits"]}

  for name, ours in run(variables, image).items():
    assert torch_.relative_error(ours, theirs[name]) < BOUND, name
  return theirs


def test_xception65_of_timm(torch_, image):
  network = torch_.timm.create_model("xception65", num_classes=0)
  network.forward = network.forward_features
  model = xception.Xception()
  rules = [
    (r"stem\.0\.conv", "conv1_1"),
    (r"stem\.0\.bn", "conv1_1_bn"),
    (r"stem\.1\.conv", "conv1_2"),
    (r"stem\.1\.bn", "conv1_2_bn"),
  ]
  names = [
    f"{block.name}_unit{unit}"
    for block in xception.BLOCKS[65]
    for unit in range(1, block.units + 1)
  ]
  for index, name in enumerate(names):
    unit = rf"blocks\.{index}\."
    rules += [
      (unit + r"shortcut\.conv", f"{name}/shortcut"),
      (unit + r"shortcut\.bn", f"{name}/shortcut_bn"),
      (unit + r"stack\.conv(\d)\.conv_dw", rf"{name}/separable\1/depthwise"),
      (unit + r"stack\.conv(\d)\.bn_dw", rf"{name}/separable\1/depthwise_bn"),
      (unit + r"stack\.conv(\d)\.conv_pw", rf"{name}/separable\1/pointwise"),
      (unit + r"stack\.conv(\d)\.bn_pw", rf"{name}/separable\1/pointwise_bn"),
    ]
  pairs = [
    ("stage1", "stem"),
    ("stage2", "blocks.0"),
    ("low_level", "blocks.1.stack.conv2"),
    ("stage3", "blocks.1"),
    ("stage4", "blocks.18"),
    ("stage5", "blocks.20"),
  ]
  _compare(torch_, model, network, rules, image, pairs)
