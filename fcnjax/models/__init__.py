"""Networks by name: image -> {"logits": ...}."""

from collections.abc import Callable
import difflib
import functools
import inspect
from typing import Any, NamedTuple

from flax import linen as nn

from fcnjax.models import (
  deeplab,
  deeplabv3,
  dilation,
  fcn,
  fcn_coarse,
  hdnet,
  segnet,
  unet,
)
from fcnjax.models.backbones import resnet, vgg, xception


class Entry(NamedTuple):
  """What is known of a network by name.

  Attributes:
    build: its constructor: a function, a module class, or a partial of one.
    paper: authors, venue and year.
    layers: (kernel, stride[, dilation]) of its deepest path, from which the
      receptive field follows.
    size: height and width of the paper's images, pixels: a legal input.
    channels: of the images, unless they are asked for.
    defaults: of options, where they are not the constructor's.
  """

  build: Callable[..., nn.Module]
  paper: str
  layers: tuple[tuple[int, ...], ...]
  size: tuple[int, int]
  channels: int = 3
  defaults: dict[str, Any] = {}


DTYPES = ("float32", "bfloat16", "float16")

_FCN = "Long, Shelhamer, Darrell: CVPR 2015, PAMI 2017"
_SEGNET = "Badrinarayanan, Kendall, Cipolla: PAMI 2017"
_DILATION = "Yu, Koltun: ICLR 2016"
_DEEPLAB = "Chen, Papandreou, Kokkinos, Murphy, Yuille"
_V3 = "Chen, Papandreou, Schroff, Adam: 2017"
_V3P = "Chen, Zhu, Papandreou, Schroff, Adam: ECCV 2018"
_UNET = "Ronneberger, Fischer, Brox: MICCAI 2015"


def _fcn_vgg16(**settings: Any) -> Entry:
  build = functools.partial(fcn.fcn_vgg16, **settings)
  return Entry(build, _FCN, fcn.VGG16_LAYERS, (500, 500))


def _hdnet(depth: int) -> Entry:
  build = functools.partial(hdnet.HDNet, depths=resnet.DEPTHS[depth])
  layers = resnet.layers(depth, output_stride=8, stem="deep")
  # Of the location branch: conv5a, the largest surroundings, fuse, conv51.
  head = ((3, 1), (max(hdnet.RANGES), 1), (3, 1), (3, 1))
  paper = "Li, Kang, Zhu, Ye, Feng, Ming: Neurocomputing 2021"
  return Entry(build, paper, (*layers, *head), (480, 480))


def _basic(**settings: Any) -> Entry:
  build = functools.partial(
    segnet.segnet_basic, **{"decoder": "unpool", "addition": False} | settings
  )
  return Entry(build, _SEGNET, segnet.basic_layers(), (360, 480))


def _unet(size: tuple[int, int], **settings: Any) -> Entry:
  build = functools.partial(unet.UNet, **settings)
  return Entry(build, _UNET, unet.layers(), size)


def _fcn_resnet(depth: int) -> Entry:
  build = functools.partial(fcn_coarse.fcn_resnet, depths=resnet.DEPTHS[depth])
  layers = (*resnet.layers(depth, output_stride=8), (3, 1), (1, 1))
  return Entry(build, _FCN, layers, (520, 520))


def _dilation(**settings: Any) -> Entry:
  depth = settings.get("depth")
  layers = dilation.layers(depth) if depth else dilation.frontend_layers()
  build = functools.partial(dilation.Dilation, **settings)
  return Entry(build, _DILATION, layers, (500, 500))


def _deeplab_vgg16(venue: str, rates: tuple[int, ...]) -> Entry:
  layers = deeplab.vgg16_layers(max(rates))
  return Entry(
    deeplab.deeplab_vgg16,
    f"{_DEEPLAB}: {venue}",
    layers,
    (513, 513),
    defaults={"rates": rates},
  )


def _deeplabv3(depth: int) -> Entry:
  layers = (*_beta_layers(depth), (3, 1, 18), (1, 1))
  defaults = {"depths": resnet.DEPTHS[depth]}
  return Entry(deeplabv3.deeplabv3, _V3, layers, (513, 513), 3, defaults)


def _beta_layers(depth: int) -> tuple[tuple[int, ...], ...]:
  """Of the release's ResNet at output stride 16."""
  return resnet.layers(
    depth,
    output_stride=16,
    stride_unit="last",
    stem="deep",
    multi_grid=deeplabv3.MULTI_GRID,
  )


def _deeplabv3p(backbone: Any, layers: Any) -> Entry:
  build = functools.partial(deeplabv3.deeplabv3p, backbone=backbone)
  return Entry(build, _V3P, (*layers, (3, 1, 18)), (513, 513))


def _xception(depth: int) -> Entry:
  return _deeplabv3p(
    deeplabv3.xception_backbone(depth), xception.layers(depth, 16)
  )


def _resnet(depth: int) -> Entry:
  return _deeplabv3p(deeplabv3.resnet_backbone(depth), _beta_layers(depth))


MODELS: dict[str, Entry] = {
  "fcn32s_vgg16": _fcn_vgg16(stride=32),
  "fcn16s_vgg16": _fcn_vgg16(stride=16),
  "fcn8s_vgg16": _fcn_vgg16(stride=8),
  "fcn8s_atonce_vgg16": _fcn_vgg16(stride=8, pool_scales=(0.01, 0.0001)),
  "fcn32s_late_fusion": Entry(
    fcn.fcn_late_fusion, _FCN, fcn.VGG16_LAYERS, (425, 560), channels=6
  ),
  "fcn32s_alexnet": Entry(
    fcn_coarse.fcn_alexnet, _FCN, fcn_coarse.ALEXNET_LAYERS, (500, 500)
  ),
  "fcn32s_googlenet": Entry(
    fcn_coarse.fcn_googlenet, _FCN, fcn_coarse.GOOGLENET_LAYERS, (500, 500)
  ),
  "fcn_resnet50": _fcn_resnet(50),
  "fcn_resnet101": _fcn_resnet(101),
  "segnet_vgg16": Entry(segnet.segnet_vgg16, _SEGNET, vgg.LAYERS, (360, 480)),
  "segnet_basic": _basic(),
  "segnet_basic_bilinear": _basic(decoder="bilinear"),
  "segnet_basic_encoder_addition": _basic(addition=True),
  "segnet_basic_single_channel_decoder": _basic(decoder="single_channel"),
  "fcn_basic": _basic(decoder="deconv", addition=True),
  "fcn_basic_no_addition": _basic(decoder="deconv"),
  "fcn_basic_no_dim_reduction": _basic(decoder="deconv_wide", addition=True),
  "fcn_basic_no_addition_no_dim_reduction": _basic(decoder="deconv_wide"),
  "bayesian_segnet": Entry(
    functools.partial(segnet.segnet_vgg16, dropout=0.5),
    "Kendall, Badrinarayanan, Cipolla: BMVC 2017",
    vgg.LAYERS,
    (360, 480),
  ),
  "unet": _unet((572, 572), padding="valid", variant="paper"),
  "unet_release": _unet((572, 572), padding="valid", variant="release"),
  "unet_same": _unet((512, 512), padding="same", variant="paper"),
  "dilation_frontend": _dilation(),
  "dilation7": _dilation(depth=7),
  "dilation8": _dilation(depth=8),
  "dilation10": _dilation(depth=10),
  "deeplab_largefov": _deeplab_vgg16("ICLR 2015", deeplab.V1_RATES),
  "deeplabv2_vgg16": _deeplab_vgg16("PAMI 2017", deeplab.V2_RATES),
  "deeplabv2_resnet101": Entry(
    deeplab.deeplabv2_resnet,
    f"{_DEEPLAB}: PAMI 2017",
    (*resnet.layers(101, output_stride=8), (3, 1, 24)),
    (513, 513),
  ),
  "deeplabv3_resnet50": _deeplabv3(50),
  "deeplabv3_resnet101": _deeplabv3(101),
  "deeplabv3p_xception41": _xception(41),
  "deeplabv3p_xception65": _xception(65),
  "deeplabv3p_xception71": _xception(71),
  "deeplabv3p_resnet50": _resnet(50),
  "deeplabv3p_resnet101": _resnet(101),
  "hdnet_resnet50": _hdnet(50),
  "hdnet_resnet101": _hdnet(101),
}


def list_models() -> list[str]:
  """Returns the names that `create_model` knows, sorted."""
  return sorted(MODELS)


def options(name: str) -> dict[str, Any]:
  """Returns the options of a network and their defaults.

  Raises:
    ValueError: if there is no network of this name.
  """
  if name not in MODELS:
    near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0)
    raise ValueError(
      f"There is no model {name!r}. Did you mean {near[0]!r}? "
      f"Known models: {', '.join(list_models())}."
    )
  build = MODELS[name].build
  fixed = {"num_classes", "in_channels", "dtype", "parent", "name"}
  fixed |= set(getattr(build, "keywords", ()))
  found = {
    key: parameter.default
    for key, parameter in inspect.signature(build).parameters.items()
    if key not in fixed
  }
  return found | MODELS[name].defaults


def create_model(
  name: str,
  *,
  num_classes: int,
  in_channels: int | None = None,
  dtype: str = "float32",
  **settings: Any,
) -> nn.Module:
  """Returns a network.

  `model.init(key, image)` makes its variables; `model.apply(variables, image,
  train=False)` returns {"logits": f32 [b, h, w, num_classes]} at the image's
  size. With `train=True` batch norm uses and, if "batch_stats" is mutable,
  records the batch's statistics, and dropout needs the key "dropout".

  Args:
    name: one of `list_models()`.
    num_classes: number of classes.
    in_channels: channels of the images; by default 3, or what the network was
      made for.
    dtype: compute dtype, one of `DTYPES`; parameters and logits are float32.
    **settings: the network's own options, see `options`. Lists become tuples.

  Raises:
    ValueError: if the name, an option or the dtype is unknown; the message
      names the known ones.
  """
  known = options(name)
  for key in settings:
    if key not in known:
      near = difflib.get_close_matches(key, known, n=1)
      hint = f" Did you mean {near[0]!r}?" if near else ""
      raise ValueError(
        f"Model {name!r} has no option {key!r}.{hint} "
        f"Its options: {', '.join(known)}."
      )
  if dtype not in DTYPES:
    raise ValueError(f"dtype must be one of {DTYPES}; got {dtype!r}.")
  settings = {
    key: tuple(value) if isinstance(value, list) else value
    for key, value in settings.items()
  }
  entry = MODELS[name]
  shared = {
    "num_classes": num_classes,
    "in_channels": in_channels or entry.channels,
    "dtype": dtype,
  }
  return entry.build(**shared, **(entry.defaults | settings))
