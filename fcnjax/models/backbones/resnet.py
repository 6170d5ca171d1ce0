"""ResNet as a backbone, with any output stride.

Paper: He, Zhang, Ren and Sun, "Deep residual learning for image recognition",
  CVPR 2016, Table 1: 50 and 101 layers.
Implements: the two forms that segmentation networks are trained on. As
  torchvision and the PyTorch family have it (`stride_unit="first"`): the first
  unit of a stage strides, in its 3x3 convolution. As DeepLab's `resnet_v1_beta`
  has it (`stride_unit="last"`): the last unit of a stage strides. Both with the
  classic stem, 7x7 of stride 2, or the deep one, three 3x3 (`stem="deep"`).
Differs: the paper's unit strides in its first 1x1 convolution. Where a stride
  is taken out (`output_stride`), the layers behind it are dilated instead, with
  the same variables; in the first form the first unit of a stage still has the
  dilation of the stage before, as in torchvision. The pool is padded by 1 on
  both sides, where TensorFlow pads maps of even size behind only.
"""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks
from fcnjax.ops import max_pooling

# Units of the four stages (Table 1).
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)  # of a unit's 3x3; its output has four times more

STRIDE_UNITS = ("first", "last")
STEMS = {"classic": (64,), "deep": (64, 64, 128)}


def plan(
  *,
  depths: tuple[int, ...],
  output_stride: int,
  stride_unit: str,
  multi_grid: tuple[int, ...] = (1, 1, 1),
) -> list[list[tuple[int, int]]]:
  """Returns (stride, dilation) of every unit's 3x3 convolution, by stage.

  Args:
    depths: units of each stage.
    output_stride: 8, 16 or 32.
    stride_unit: "first" or "last" unit of a stage strides; with "last" the
      last stage does not stride, since there is none behind it.
    multi_grid: factors of the dilations of the last stage's units.

  Raises:
    ValueError: if an argument is none of these, or there are not as many
      factors as units.
  """
  blocks.check_choice("stride_unit", stride_unit, STRIDE_UNITS)
  blocks.check_output_stride(output_stride)
  if len(multi_grid) != depths[-1]:
    raise ValueError(
      f"multi_grid must name {depths[-1]} factors, one for each unit of the "
      f"last stage; got {multi_grid}."
    )
  stride, rate, stages = 4, 1, []
  for stage, depth in enumerate(depths):
    striding = stage > 0 if stride_unit == "first" else stage < len(depths) - 1
    position = 0 if stride_unit == "first" else depth - 1
    units = []
    for unit in range(depth):
      step, before = 1, rate
      if striding and unit == position:
        if stride < output_stride:
          step, stride = 2, stride * 2
        else:
          rate *= 2
      units.append((step, before))
    stages.append(units)
  last = [(s, r * g) for (s, r), g in zip(stages[-1], multi_grid, strict=True)]
  return [*stages[:-1], last]


def layers(
  depth: int,
  *,
  output_stride: int = 32,
  stride_unit: str = "first",
  stem: str = "classic",
  multi_grid: tuple[int, ...] = (1, 1, 1),
) -> tuple[tuple[int, ...], ...]:
  """Returns (kernel, stride, dilation) from image to stage5."""
  stages = plan(
    depths=DEPTHS[depth],
    output_stride=output_stride,
    stride_unit=stride_unit,
    multi_grid=multi_grid,
  )
  units = [(3, *unit) for stage in stages for unit in stage]
  convs = ((7, 2),) if stem == "classic" else ((3, 2), (3, 1), (3, 1))
  return (*convs, (3, 2), *units)


class Bottleneck(nn.Module):
  """1x1, 3x3, 1x1 convolutions beside a shortcut; ReLU after the sum.

  Attributes:
    width: channels of the first two convolutions.
    stride: of the 3x3 convolution and the shortcut.
    dilation: of the 3x3 convolution.
    norm: the normalisation f(x, name=...).
    dtype: compute dtype.
  """

  width: int
  stride: int
  dilation: int
  norm: Callable[..., Array]
  dtype: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"]
  ) -> tuple[Float[Array, "b h2 w2 d"], Float[Array, "b h2 w2 d"]]:
    """Returns the output, and the branch before the sum."""
    conv = functools.partial(blocks.conv, bias=False, dtype=self.dtype)
    y = nn.relu(self.norm(conv(self.width, 1, name="conv1")(x), name="bn1"))
    y = conv(
      self.width, 3, stride=self.stride, dilation=self.dilation, name="conv2"
    )(y)
    y = nn.relu(self.norm(y, name="bn2"))
    y = self.norm(conv(4 * self.width, 1, name="conv3")(y), name="bn3")
    if x.shape[-1] != y.shape[-1]:
      shortcut = conv(4 * self.width, 1, stride=self.stride, name="shortcut")
      x = self.norm(shortcut(x), name="shortcut_bn")
    elif self.stride > 1:
      x = x[:, :: self.stride, :: self.stride]
    return nn.relu(x + y), y


class ResNet(nn.Module):
  """image -> stage2 ... stage5, of strides 4 to `output_stride`.

  Besides "low_level" is DeepLabv3+'s end point of stride 4: the branch of the
  second unit of stage2, before the sum.

  Attributes:
    depths: units of the four stages.
    widths: of the units' 3x3 convolutions, by stage.
    stem: "classic" or "deep".
    stride_unit: see `plan`.
    output_stride: 8, 16 or 32; the variables are the same.
    multi_grid: see `plan`.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
    bn_epsilon: added to the variance.
    dtype: compute dtype.
  """

  depths: tuple[int, ...] = DEPTHS[101]
  widths: tuple[int, ...] = WIDTHS
  stem: str = "classic"
  stride_unit: str = "first"
  output_stride: int = 32
  multi_grid: tuple[int, ...] = (1, 1, 1)
  norm: str = "batch"
  bn_momentum: float = 0.9
  bn_epsilon: float = 1e-5
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Features:
    norm = blocks.norm_of(self, train=train, epsilon=self.bn_epsilon)
    stages = plan(
      depths=self.depths,
      output_stride=self.output_stride,
      stride_unit=self.stride_unit,
      multi_grid=self.multi_grid,
    )
    x = self._stem(jnp.asarray(image, self.dtype), norm)
    features = {"stage1": (x := blocks.kept(x))}
    x = max_pooling.max_pool(x, window=3, stride=2, padding=1)
    for number, (units, width) in enumerate(zip(stages, self.widths), 2):
      for i, (stride, dilation) in enumerate(units, 1):
        unit = Bottleneck(
          width, stride, dilation, norm, self.dtype, name=f"stage{number}_{i}"
        )
        x, branch = unit(x)
        if (number, i) == (2, 2):
          features["low_level"] = branch
      features[f"stage{number}"] = x = blocks.kept(x)
    return features

  def _stem(self, x: Array, norm: Callable[..., Array]) -> Array:
    blocks.check_choice("stem", self.stem, tuple(STEMS))
    kernel = 7 if self.stem == "classic" else 3
    for i, width in enumerate(STEMS[self.stem], 1):
      conv = blocks.conv(
        width,
        kernel,
        stride=2 if i == 1 else 1,
        bias=False,
        name=f"conv1_{i}",
        dtype=self.dtype,
      )
      x = nn.relu(norm(conv(x), name=f"conv1_{i}_bn"))
    return x
