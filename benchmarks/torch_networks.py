"""The networks that ours are raced against, in PyTorch.

Written as one writes PyTorch: modules of channels first, to be run in the
memory format channels_last. They are the same networks as ours, number for
number: tests/parity/test_torch_networks.py copies our variables into them and
compares the logits. What has a fast form in PyTorch has it here: fixed bilinear
deconvolutions are interpolations, and unpooling is `MaxUnpool2d`.

A network maps images [b, c, h, w] to logits [b, k, h, w] in float32. With
labels [b, h, w] it returns (logits, loss of its own) instead, which is 0 for
all but HDNet.
"""

from collections import OrderedDict
from collections.abc import Callable
import re
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

VGG_DEPTHS = (2, 2, 3, 3, 3)
VGG_WIDTHS = (64, 128, 256, 512, 512)
RESNET_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
RESNET_WIDTHS = (64, 128, 256, 512)

# Name, widths, stride of the last convolution, shortcut, units.
XCEPTION_65 = (
  ("entry_block1", (128,) * 3, 2, "conv", 1),
  ("entry_block2", (256,) * 3, 2, "conv", 1),
  ("entry_block3", (728,) * 3, 2, "conv", 1),
  ("middle_block1", (728,) * 3, 1, "sum", 16),
  ("exit_block1", (728, 1024, 1024), 2, "conv", 1),
  ("exit_block2", (1536, 1536, 2048), 1, "none", 1),
)
SEGNET_EPSILON = 1e-9
HDNET_RANGES = (3, 5, 7, 9, 11, 15, 19)


def resize(x: torch.Tensor, size: Any, align: bool = True) -> torch.Tensor:
  """Returns `x` interpolated bilinearly."""
  return F.interpolate(x, tuple(size), mode="bilinear", align_corners=align)


class ConvNorm(nn.Sequential):
  """Convolution, batch norm if wanted, ReLU if wanted."""

  def __init__(
    self,
    before: int,
    after: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    groups: int = 1,
    epsilon: float | None = 1e-5,
    bias: bool = False,
    relu: bool = True,
  ):
    pad = dilation * (kernel // 2) if padding is None else padding
    parts = OrderedDict(
      conv=nn.Conv2d(
        before,
        after,
        kernel,
        stride,
        pad,
        dilation,
        groups,
        bias=bias,
      )
    )
    if epsilon is not None:
      parts["bn"] = nn.BatchNorm2d(after, eps=epsilon)
    if relu:
      parts["relu"] = nn.ReLU(inplace=True)
    super().__init__(parts)


# --- U-Net -------------------------------------------------------------------


def _double_conv(before: int, after: int, padding: int) -> nn.Sequential:
  return nn.Sequential(
    OrderedDict(
      conv1=nn.Conv2d(before, after, 3, padding=padding),
      relu1=nn.ReLU(inplace=True),
      conv2=nn.Conv2d(after, after, 3, padding=padding),
      relu2=nn.ReLU(inplace=True),
    )
  )


class UNet(nn.Module):
  """The paper's U-Net, or the one of padded convolutions."""

  def __init__(
    self,
    classes: int,
    *,
    same: bool,
    channels: int = 3,
    width: int = 64,
    depth: int = 4,
  ):
    super().__init__()
    self.depth, padding = depth, int(same)
    widths = [width * 2**level for level in range(depth + 1)]
    for level, after in enumerate(widths):
      before = widths[level - 1] if level else channels
      self.add_module(f"down{level}", _double_conv(before, after, padding))
    for level, after in enumerate(widths[:-1]):
      up = nn.ConvTranspose2d(2 * after, after, 2, 2)
      self.add_module(f"upconv{level}", up)
      self.add_module(f"up{level}", _double_conv(2 * after, after, padding))
    self.dropout = nn.Dropout(0.5)
    self.score = nn.Conv2d(width, classes, 1)

  def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> Any:
    """Sides must be multiples of 2**depth, or legal for valid convolutions."""
    skips = []
    for level in range(self.depth + 1):
      x = F.max_pool2d(x, 2) if level else x
      x = getattr(self, f"down{level}")(x)
      x = self.dropout(x) if level >= self.depth - 1 else x
      skips.append(x)
    for level in reversed(range(self.depth)):
      x, skip = getattr(self, f"upconv{level}")(x), skips[level]
      top, left = ((a - b) // 2 for a, b in zip(skip.shape[2:], x.shape[2:]))
      skip = skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]
      x = getattr(self, f"up{level}")(torch.cat((skip, x), 1))
    return _result(self.score(x).float(), label)


# --- networks on VGG16 -------------------------------------------------------


def _vgg_stages(
  channels: int,
  widths: tuple[int, ...],
  epsilon: float | None,
  first_padding: int = 1,
) -> nn.ModuleList:
  stages, before = [], channels
  for stage, (depth, width) in enumerate(zip(VGG_DEPTHS, widths), 1):
    convs = OrderedDict()
    for i in range(1, depth + 1):
      padding = first_padding if stage == i == 1 else 1
      convs[f"conv{stage}_{i}"] = ConvNorm(
        before, width, 3, padding=padding, epsilon=epsilon, bias=True
      )
      before = width
    stages.append(nn.Sequential(convs))
  return nn.ModuleList(stages)


class SegNet(nn.Module):
  """SegNet on VGG16."""

  def __init__(
    self,
    classes: int,
    *,
    channels: int = 3,
    widths: tuple[int, ...] = VGG_WIDTHS,
  ):
    super().__init__()
    self.backbone = nn.ModuleDict(
      {"stages": _vgg_stages(channels, widths, SEGNET_EPSILON)}
    )
    norm = {"epsilon": SEGNET_EPSILON, "bias": True}
    stages = []
    for stage in (5, 4, 3, 2, 1):
      convs, width = OrderedDict(), widths[stage - 1]
      for i in range(VGG_DEPTHS[stage - 1], 1, -1):
        convs[f"conv{stage}_{i}_D"] = ConvNorm(width, width, 3, **norm)
      convs[f"conv{stage}_1_D"] = (
        ConvNorm(width, widths[stage - 2], 3, **norm)
        if stage > 1
        else nn.Conv2d(width, classes, 3, padding=1)
      )
      stages.append(nn.Sequential(convs))
    self.head = nn.ModuleDict({"stages": nn.ModuleList(stages)})
    self.pool = nn.MaxPool2d(2, 2, return_indices=True, ceil_mode=True)
    self.unpool = nn.MaxUnpool2d(2, 2)

  def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> Any:
    """Pools that round up are told the size when they are undone."""
    kept = []
    for stage in self.backbone["stages"]:
      x = stage(x)
      size = x.shape[2:]
      x, index = self.pool(x)
      kept.append((index, size))
    for stage in self.head["stages"]:
      index, size = kept.pop()
      x = stage(self.unpool(x, index, output_size=size))
    return _result(x.float(), label)


class FCN8s(nn.Module):
  """FCN-8s on VGG16 as released: padding 100, fixed bilinear upsampling."""

  def __init__(
    self,
    classes: int,
    *,
    channels: int = 3,
    widths: tuple[int, ...] = VGG_WIDTHS,
    fc_channels: int = 4096,
  ):
    super().__init__()
    self.backbone = nn.ModuleDict(
      {"stages": _vgg_stages(channels, widths, None, 100)}
    )
    self.head = nn.ModuleDict(
      {
        "fc6": nn.Conv2d(widths[4], fc_channels, 7),
        "fc7": nn.Conv2d(fc_channels, fc_channels, 1),
        "score_fr": nn.Conv2d(fc_channels, classes, 1),
        "score_pool4": nn.Conv2d(widths[3], classes, 1),
        "score_pool3": nn.Conv2d(widths[2], classes, 1),
      }
    )
    self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
    self.dropout = nn.Dropout(0.5)

  def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> Any:
    """Crops are the release's offsets."""
    head, size, pools = self.head, x.shape[2:], []
    for stage in self.backbone["stages"]:
      x = self.pool(stage(x))
      pools.append(x)
    x = self.dropout(F.relu(head["fc6"](x), inplace=True))
    x = self.dropout(F.relu(head["fc7"](x), inplace=True))
    x = _deconv(head["score_fr"](x).float(), 2)
    x = x + _crop(head["score_pool4"](pools[3]).float(), 5, x.shape[2:])
    x = _deconv(x, 2)
    x = x + _crop(head["score_pool3"](pools[2]).float(), 9, x.shape[2:])
    return _result(_crop(_deconv(x, 8), 31, size), label)


def _deconv(x: torch.Tensor, factor: int) -> torch.Tensor:
  """The deconvolution of a bilinear kernel of 2 factor, as interpolation."""
  x = F.pad(x, (1, 1, 1, 1))
  size = [side * factor for side in x.shape[2:]]
  x = resize(x, size, align=False)
  cut = factor // 2
  return x[:, :, cut : size[0] - cut, cut : size[1] - cut]


def _crop(x: torch.Tensor, offset: int, size: Any) -> torch.Tensor:
  height, width = size
  return x[:, :, offset : offset + height, offset : offset + width]


# --- ResNet, Xception --------------------------------------------------------


class Bottleneck(nn.Module):
  """1x1, 3x3, 1x1 beside a shortcut."""

  def __init__(self, before: int, width: int, stride: int, dilation: int):
    super().__init__()
    self.conv1 = nn.Conv2d(before, width, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(
      width, width, 3, stride, dilation, dilation, bias=False
    )
    self.bn2 = nn.BatchNorm2d(width)
    self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
    self.bn3 = nn.BatchNorm2d(4 * width)
    self.relu = nn.ReLU(inplace=True)
    self.stride = stride
    self.shortcut = None
    if before != 4 * width:
      self.shortcut = ConvNorm(before, 4 * width, 1, stride=stride, relu=False)

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the output, and the branch before the sum."""
    y = self.relu(self.bn1(self.conv1(x)))
    y = self.relu(self.bn2(self.conv2(y)))
    y = self.bn3(self.conv3(y))
    if self.shortcut is not None:
      x = self.shortcut(x)
    elif self.stride > 1:
      x = x[:, :, :: self.stride, :: self.stride]
    return self.relu(x + y), y


class ResNet(nn.Module):
  """ResNet of deep stem; the first or the last unit of a stage strides."""

  def __init__(
    self,
    channels: int,
    depths: tuple[int, ...],
    *,
    widths: tuple[int, ...] = RESNET_WIDTHS,
    output_stride: int,
    stride_unit: str,
    multi_grid: tuple[int, ...],
  ):
    super().__init__()
    self.conv1_1 = ConvNorm(channels, 64, 3, stride=2)
    self.conv1_2 = ConvNorm(64, 64, 3)
    self.conv1_3 = ConvNorm(64, 128, 3)
    self.pool = nn.MaxPool2d(3, 2, 1)
    self.names: list[str] = []
    before, stride, rate = 128, 4, 1
    for stage, (depth, width) in enumerate(zip(depths, widths)):
      last = stage == len(depths) - 1
      for unit in range(depth):
        step, dilation = 1, rate * (multi_grid[unit] if last else 1)
        if (
          (stage > 0 and unit == 0)
          if stride_unit == "first"
          else (not last and unit == depth - 1)
        ):
          if stride < output_stride:
            step, stride = 2, stride * 2
          else:
            rate *= 2
        name = f"stage{stage + 2}_{unit + 1}"
        self.add_module(name, Bottleneck(before, width, step, dilation))
        self.names.append(name)
        before = 4 * width

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the last map, and DeepLab's end point of stride 4."""
    x = self.pool(self.conv1_3(self.conv1_2(self.conv1_1(x))))
    low = x
    for name in self.names:
      x, branch = getattr(self, name)(x)
      low = branch if name == "stage2_2" else low
    return x, low


class SeparableConv(nn.Module):
  """Depthwise 3x3 and 1x1, with batch norm; ReLU in front or inside."""

  def __init__(
    self,
    before: int,
    after: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    inside: bool = True,
    epsilon: float = 1e-5,
  ):
    super().__init__()
    words = {"epsilon": epsilon, "relu": inside}
    self.inside = inside
    self.depthwise = ConvNorm(
      before,
      before,
      3,
      stride=stride,
      dilation=dilation,
      groups=before,
      **words,
    )
    self.pointwise = ConvNorm(before, after, 1, **words)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [b, c, h, w] to [b, d, h2, w2]."""
    return self.pointwise(self.depthwise(x if self.inside else F.relu(x)))


class XceptionUnit(nn.Module):
  """Three separable convolutions beside a shortcut."""

  def __init__(
    self,
    before: int,
    widths: tuple[int, ...],
    stride: int,
    dilation: int,
    shortcut: str,
  ):
    super().__init__()
    self.kind, last = shortcut, before
    for i, width in enumerate(widths, 1):
      conv = SeparableConv(
        last,
        width,
        stride=stride if i == 3 else 1,
        dilation=dilation,
        inside=shortcut == "none",
        epsilon=1e-3,
      )
      self.add_module(f"separable{i}", conv)
      last = width
    if shortcut == "conv":
      self.shortcut = ConvNorm(
        before, last, 1, stride=stride, epsilon=1e-3, relu=False
      )

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the output, and that of the second separable convolution."""
    second = self.separable2(self.separable1(x))
    y = self.separable3(second)
    if self.kind == "none":
      return y, second
    return y + (self.shortcut(x) if self.kind == "conv" else x), second


class Xception(nn.Module):
  """Modified aligned Xception-65."""

  def __init__(self, channels: int, *, output_stride: int, table: Any):
    super().__init__()
    self.conv1_1 = ConvNorm(channels, 32, 3, stride=2, epsilon=1e-3)
    self.conv1_2 = ConvNorm(32, 64, 3, epsilon=1e-3)
    self.names: list[str] = []
    before, stride, rate = 64, 2, 1
    for block, widths, step, shortcut, units in table:
      dilation = 1
      if stride == output_stride:
        dilation, rate, step = rate, rate * step, 1
      stride *= step
      for unit in range(1, units + 1):
        name = f"{block}_unit{unit}"
        self.add_module(
          name, XceptionUnit(before, widths, step, dilation, shortcut)
        )
        self.names.append(name)
        before = widths[-1]

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the last map, and the decoder's end point of stride 4."""
    x = low = self.conv1_2(self.conv1_1(x))
    for name in self.names:
      x, second = getattr(self, name)(x)
      low = second if name == "entry_block2_unit1" else low
    return x, low


# --- DeepLabv3+ --------------------------------------------------------------


class DeepLabHead(nn.Module):
  """Spatial pyramid and decoder."""

  def __init__(
    self,
    classes: int,
    deep: int,
    low: int,
    *,
    separable: bool,
    rates: tuple[int, ...] = (6, 12, 18),
    channels: int = 256,
  ):
    super().__init__()

    def conv(before, rate=1):
      if separable:
        return SeparableConv(before, channels, dilation=rate)
      return ConvNorm(before, channels, 3, dilation=rate)

    self.image_pooling = ConvNorm(deep, channels, 1)
    self.aspp0 = ConvNorm(deep, channels, 1)
    self.aspp1, self.aspp2, self.aspp3 = (conv(deep, rate) for rate in rates)
    self.concat_projection = ConvNorm(5 * channels, channels, 1)
    self.dropout = nn.Dropout(0.1)
    self.low_level = ConvNorm(low, 48, 1)
    self.decoder_conv1 = conv(channels + 48)
    self.decoder_conv2 = conv(channels)
    self.logits = nn.Conv2d(channels, classes, 1)

  def forward(
    self, x: torch.Tensor, low: torch.Tensor, size: Any
  ) -> torch.Tensor:
    """Returns logits of `size`."""
    pooled = self.image_pooling(x.mean((2, 3), keepdim=True))
    branches = [self.aspp0, self.aspp1, self.aspp2, self.aspp3]
    joined = [pooled.expand(-1, -1, *x.shape[2:])]
    joined += [branch(x) for branch in branches]
    x = self.dropout(self.concat_projection(torch.cat(joined, 1)))
    low = self.low_level(low)
    x = torch.cat((resize(x, low.shape[2:]), low), 1)
    x = self.logits(self.decoder_conv2(self.decoder_conv1(x)))
    return resize(x.float(), size)


class DeepLabV3Plus(nn.Module):
  """DeepLabv3+ of output stride 16."""

  def __init__(self, backbone: nn.Module, head: nn.Module):
    super().__init__()
    self.backbone, self.head = backbone, head

  def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> Any:
    """See the module."""
    return _result(self.head(*self.backbone(x), x.shape[2:]), label)


# --- HDNet -------------------------------------------------------------------


class LocationAwareAttention(nn.Module):
  """x + phi(u x), u from the cosines between pixels and surroundings."""

  def __init__(self, channels: int, reduced: int):
    super().__init__()
    self.theta = nn.Conv2d(channels, reduced, 1)
    self.fuse = ConvNorm(2 * len(HDNET_RANGES), 1, 3, bias=True)
    self.phi = nn.Conv2d(channels, channels, 1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [b, c, h, w] to the same shape."""
    theta = self.theta(x)

    def cosine(y):
      return F.cosine_similarity(y.float(), theta.float(), dim=1, eps=1e-8)

    mean = [
      F.avg_pool2d(theta, n, 1, n // 2, count_include_pad=False)
      for n in HDNET_RANGES
    ]
    largest = [F.max_pool2d(theta, n, 1, n // 2) for n in HDNET_RANGES]
    u = torch.stack([cosine(y) for y in (*mean, *largest)], 1)
    return x + self.phi(x * self.fuse(u.to(x.dtype)))


class HDNetHead(nn.Module):
  """Two branches, summed: returns (scores, the sum)."""

  def __init__(self, classes: int, before: int, channels: int):
    super().__init__()
    self.conv5a = ConvNorm(before, channels, 3)
    self.conv5c = ConvNorm(before, channels, 3)
    self.conv51 = ConvNorm(channels, channels, 3)
    self.conv52 = ConvNorm(channels, channels, 3)
    self.location = LocationAwareAttention(channels, channels // 4)
    self.gamma = nn.Parameter(torch.zeros(1))
    self.dropout = nn.Dropout2d(0.1)
    self.score = nn.Conv2d(channels, classes, 1)

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both at the features' size."""
    location = self.location(self.conv5a(x))
    y = self.conv5c(x)
    flat = y.flatten(2)
    energy = (flat @ flat.transpose(1, 2)).float()
    energy = energy.amax(-1, keepdim=True) - energy
    attended = energy.softmax(-1).to(flat.dtype) @ flat
    y = y + self.gamma * attended.view_as(y)
    total = self.conv51(location) + self.conv52(y)
    return self.score(self.dropout(total)).float(), total.float()


class ClassCentres(nn.Module):
  """The loss of feature distance to the classes' centres, which move."""

  def __init__(self, classes: int, channels: int, mu: float = 0.5):
    super().__init__()
    self.mu = mu
    self.register_buffer("table", torch.rand(classes, channels))
    self.register_buffer("seen", torch.zeros(classes))

  def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Returns the mean loss over the pixels that count."""
    small = F.interpolate(
      label[:, None].float(), x.shape[2:], mode="nearest-exact"
    )
    small = small[:, 0].long().flatten()
    rows = x.permute(0, 2, 3, 1).flatten(0, 2)
    table = self.table.clone()  # It moves before the backward pass.
    loss = F.cross_entropy(
      rows @ table.T, small, ignore_index=255, reduction="sum"
    ) / (small != 255).sum().clamp(min=1)
    if self.training:
      self._move(rows.detach(), small)
    return loss

  @torch.no_grad()
  def _move(self, rows: torch.Tensor, label: torch.Tensor) -> None:
    classes = torch.arange(len(self.table), device=label.device)
    chosen = (label[:, None] == classes).float()
    count = chosen.sum(0)
    mean = chosen.T @ rows / count.clamp(min=1)[:, None]
    mu = torch.where(self.seen > 0, self.mu, 0.0)[:, None]
    moved = F.normalize(mu * self.table + (1 - mu) * mean, dim=1)
    present = count > 0
    self.table.copy_(torch.where(present[:, None], moved, self.table))
    self.seen.copy_(torch.maximum(self.seen, present.float()))


class HDNet(nn.Module):
  """HDNet on a dilated ResNet of output stride 8."""

  def __init__(self, classes: int, depth: int, channels: int = 3):
    super().__init__()
    self.backbone = ResNet(
      channels,
      RESNET_DEPTHS[depth],
      output_stride=8,
      stride_unit="first",
      multi_grid=(1, 1, 1),
    )
    self.head = HDNetHead(classes, 2048, 512)
    self.centres = ClassCentres(classes, 512)

  def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> Any:
    """See the module; the loss is that of the feature distance."""
    scores, features = self.head(self.backbone(x)[0])
    logits = resize(scores, x.shape[2:])
    if label is None:
      return logits
    return logits, 0.1 * self.centres(features, label)


# --- by name -----------------------------------------------------------------


def _result(logits: torch.Tensor, label: torch.Tensor | None) -> Any:
  return logits if label is None else (logits, logits.new_zeros(()))


def _deeplab_resnet(classes: int) -> DeepLabV3Plus:
  backbone = ResNet(
    3,
    RESNET_DEPTHS[101],
    output_stride=16,
    stride_unit="last",
    multi_grid=(1, 2, 4),
  )
  return DeepLabV3Plus(
    backbone, DeepLabHead(classes, 2048, 256, separable=False)
  )


def _deeplab_xception(classes: int) -> DeepLabV3Plus:
  backbone = Xception(3, output_stride=16, table=XCEPTION_65)
  return DeepLabV3Plus(
    backbone, DeepLabHead(classes, 2048, 256, separable=True)
  )


# By the names of `fcnjax.list_models`: number of classes -> network.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
  "unet": lambda classes: UNet(classes, same=False),
  "unet_same": lambda classes: UNet(classes, same=True),
  "segnet_vgg16": SegNet,
  "fcn8s_vgg16": FCN8s,
  "deeplabv3p_xception65": _deeplab_xception,
  "deeplabv3p_resnet101": _deeplab_resnet,
  "hdnet_resnet50": lambda classes: HDNet(classes, 50),
  "hdnet_resnet101": lambda classes: HDNet(classes, 101),
}


# --- our variables in them ---------------------------------------------------

# From a module's name to ours; a list of stages has no counterpart.
_RENAMES = ((r"stages\.\d+\.", ""), (r"\.conv$", ""), (r"\.bn$", "_bn"))

_LEAVES = {
  "running_mean": ("batch_stats", "mean"),
  "running_var": ("batch_stats", "var"),
  "gamma": ("params", "gamma"),
  "table": ("centres", "table"),
  "seen": ("centres", "seen"),
  "bias": ("params", "bias"),
}


def copy_variables(network: nn.Module, variables: dict[str, Any]) -> int:
  """Gives a torch network the values of our variables.

  Args:
    network: changed in place.
    variables: of the network of the same name, as `init` makes them.

  Returns:
    The number of learned numbers that were copied: all of them.

  Raises:
    ValueError: if one side has a variable that the other has not, or of
      another shape.
  """
  ours = dict(_leaves(variables))
  modules = dict(network.named_modules())
  learned = dict(network.named_parameters())
  count = 0
  with torch.no_grad():
    for name, value in network.state_dict().items():
      module, _, leaf = name.rpartition(".")
      if leaf == "num_batches_tracked":
        continue
      path = module
      for pattern, new in _RENAMES:
        path = re.sub(pattern, new, path)
      word = "kernel" if value.ndim == 4 else "scale"
      collection, word = _LEAVES.get(leaf, ("params", word))
      path = "/".join((collection, *path.split("."), word))
      if path not in ours:
        raise ValueError(f"{name} is {path}, which our network has not.")
      array = np.array(ours.pop(path))
      if array.ndim == 3:  # Depthwise: [h, w, c].
        array = array[:, :, None]
      if array.ndim == 4:
        up = isinstance(modules[module], nn.ConvTranspose2d)
        array = array.transpose((2, 3, 0, 1) if up else (3, 2, 0, 1))
      if array.shape != tuple(value.shape):
        raise ValueError(
          f"{name} is {tuple(value.shape)}, {path} {array.shape}."
        )
      value.copy_(torch.from_numpy(np.ascontiguousarray(array)))
      count += array.size if name in learned else 0
  if ours:
    raise ValueError(f"The torch network has not {sorted(ours)}.")
  return count


def _leaves(tree: Any, path: str = "") -> Any:
  for name, inner in tree.items():
    here = f"{path}/{name}" if path else name
    if isinstance(inner, dict):
      yield from _leaves(inner, here)
    else:
      yield here, inner
