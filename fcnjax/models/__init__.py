"""Networks by name: image -> {"logits": ...}."""

from collections.abc import Callable
import difflib
import functools
import inspect
from typing import Any, NamedTuple

from flax import linen as nn

from fcnjax.models import fcn, segnet, unet
from fcnjax.models.backbones import vgg


class Entry(NamedTuple):
  """What is known of a network by name.

  Attributes:
    build: its constructor: a function, a module class, or a partial of one.
    paper: authors, venue and year.
    layers: (kernel, stride[, dilation]) of its deepest path, from which the
      receptive field follows.
    size: height and width of the paper's images, pixels: a legal input.
  """

  build: Callable[..., nn.Module]
  paper: str
  layers: tuple[tuple[int, ...], ...]
  size: tuple[int, int]


DTYPES = ("float32", "bfloat16", "float16")

_FCN = "Long, Shelhamer, Darrell: CVPR 2015, PAMI 2017"
_SEGNET = "Badrinarayanan, Kendall, Cipolla: PAMI 2017"
_UNET = "Ronneberger, Fischer, Brox: MICCAI 2015"


def _fcn_vgg16(**settings: Any) -> Entry:
  build = functools.partial(fcn.fcn_vgg16, **settings)
  return Entry(build, _FCN, fcn.VGG16_LAYERS, (500, 500))


def _unet(size: tuple[int, int], **settings: Any) -> Entry:
  build = functools.partial(unet.UNet, **settings)
  return Entry(build, _UNET, unet.layers(), size)


MODELS: dict[str, Entry] = {
  "fcn32s_vgg16": _fcn_vgg16(stride=32),
  "fcn16s_vgg16": _fcn_vgg16(stride=16),
  "fcn8s_vgg16": _fcn_vgg16(stride=8),
  "fcn8s_atonce_vgg16": _fcn_vgg16(stride=8, pool_scales=(0.01, 0.0001)),
  "segnet_vgg16": Entry(segnet.segnet_vgg16, _SEGNET, vgg.LAYERS, (360, 480)),
  "segnet_basic": Entry(
    segnet.segnet_basic, _SEGNET, segnet.basic_layers(), (360, 480)
  ),
  "unet": _unet((572, 572), padding="valid", variant="paper"),
  "unet_release": _unet((572, 572), padding="valid", variant="release"),
  "unet_same": _unet((512, 512), padding="same", variant="paper"),
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
  return {
    key: parameter.default
    for key, parameter in inspect.signature(build).parameters.items()
    if key not in fixed
  }


def create_model(
  name: str,
  *,
  num_classes: int,
  in_channels: int = 3,
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
    in_channels: channels of the images.
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
  build = MODELS[name].build
  shared = {"num_classes": num_classes, "in_channels": in_channels}
  return build(**shared, dtype=dtype, **settings)
