"""Modified aligned Xception, the backbone of DeepLabv3+.

Paper: Chen, Zhu, Papandreou, Schroff and Adam, "Encoder-decoder with atrous
  separable convolution for semantic image segmentation", ECCV 2018, Fig. 4;
  after Chollet, "Xception", CVPR 2017.
Implements: the released code, Xception-41, 65 and 71: pools replaced by strided
  separable convolutions, batch norm after every depthwise 3x3, any output
  stride.
Differs: the paper says that a ReLU follows every depthwise 3x3 as well; in the
  release that is so in the last block only, and all others have one ReLU before
  the depthwise convolution.
"""

import functools
from typing import NamedTuple

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.models import blocks, separable


class Block(NamedTuple):
  """Units of one form; the stride is of each unit's third convolution."""

  name: str
  widths: tuple[int, int, int]
  stride: int
  shortcut: str = "conv"  # "sum", "none"
  units: int = 1


def _blocks(entry: tuple[tuple[int, int], ...], middle: int):
  first = tuple(
    Block(f"entry_block{i}", (width,) * 3, stride)
    for i, (width, stride) in enumerate(entry, 1)
  )
  return (
    *first,
    Block("middle_block1", (728,) * 3, 1, "sum", middle),
    Block("exit_block1", (728, 1024, 1024), 2),
    Block("exit_block2", (1536, 1536, 2048), 1, "none"),
  )


_ENTRY = ((128, 2), (256, 2), (728, 2))
BLOCKS = {
  41: _blocks(_ENTRY, 8),
  65: _blocks(_ENTRY, 16),
  71: _blocks(((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)), 16),
}

# Of the release's argument scope, for every kernel.
INIT = nn.initializers.truncated_normal(0.09)


def plan(
  table: tuple[Block, ...], output_stride: int
) -> list[tuple[Block, int, int]]:
  """Returns (block, stride, dilation): strides beyond become dilations.

  Args:
    table: the blocks.
    output_stride: 8, 16 or 32.

  Raises:
    ValueError: if the stride is none of these.
  """
  if output_stride not in (8, 16, 32):
    raise ValueError(f"output_stride must be 8, 16 or 32; got {output_stride}.")
  stride, rate, rows = 2, 1, []
  for block in table:
    if stride == output_stride:
      rows.append((block, 1, rate))
      rate *= block.stride
    else:
      rows.append((block, block.stride, 1))
      stride *= block.stride
  return rows


def layers(depth: int, output_stride: int = 32) -> tuple[tuple[int, ...], ...]:
  """Returns (kernel, stride, dilation) of the layers from image to stage5."""
  found = [(3, 2), (3, 1)]
  for block, stride, rate in plan(BLOCKS[depth], output_stride):
    found += [(3, 1, rate), (3, 1, rate), (3, stride, rate)] * block.units
  return tuple(found)


class Unit(nn.Module):
  """Three separable convolutions beside a shortcut.

  Attributes:
    widths: channels of the three.
    stride: of the third, and of the shortcut.
    dilations: of the three.
    shortcut: "conv" (1x1 and batch norm), "sum" or "none".
    activation_inside: whether ReLUs follow each batch norm, and none comes
      first.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
    bn_epsilon: added to the variance.
    dtype: compute dtype.
  """

  widths: tuple[int, int, int]
  stride: int
  dilations: tuple[int, int, int]
  shortcut: str
  activation_inside: bool
  norm: str
  bn_momentum: float
  bn_epsilon: float
  dtype: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"], *, train: bool
  ) -> tuple[Float[Array, "b h2 w2 d"], Float[Array, "b h w e"]]:
    """Returns the output, and that of the second separable convolution."""
    norm = blocks.norm_of(self, train=train, epsilon=self.bn_epsilon)
    y, second = x, None
    for i, (width, dilation) in enumerate(zip(self.widths, self.dilations), 1):
      y = separable.SeparableConv(
        width,
        stride=self.stride if i == 3 else 1,
        dilation=dilation,
        activation="inside" if self.activation_inside else "before",
        norm=norm,
        depthwise_init=INIT,
        pointwise_init=INIT,
        dtype=self.dtype,
        name=f"separable{i}",
      )(y)
      second = y if i == 2 else second
    if self.shortcut == "conv":
      conv = blocks.conv(
        self.widths[-1],
        1,
        stride=self.stride,
        bias=False,
        kernel_init=INIT,
        name="shortcut",
        dtype=self.dtype,
      )
      x = norm(conv(x), name="shortcut_bn")
    return (y if self.shortcut == "none" else x + y), second


class Xception(nn.Module):
  """image -> stage1 ... stage5, of strides 2 to `output_stride`.

  Besides "low_level" is the decoder's end point of stride 4: the second
  separable convolution of the block that strides to 8.

  Attributes:
    table: a row of `BLOCKS`, or one of its form.
    stem: channels of the two convolutions before.
    output_stride: 8, 16 or 32; the variables are the same.
    multi_grid: factors of the dilations in the last block.
    norm: see `blocks.norm`.
    bn_momentum: see `blocks.norm`.
    bn_epsilon: added to the variance; 1e-3 in the release.
    dtype: compute dtype.
  """

  table: tuple[Block, ...] = BLOCKS[65]
  stem: tuple[int, int] = (32, 64)
  output_stride: int = 32
  multi_grid: tuple[int, int, int] = (1, 1, 1)
  norm: str = "batch"
  bn_momentum: float = 0.9997
  bn_epsilon: float = 1e-3
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, image: Float[Array | np.ndarray, "b h w c"], *, train: bool = False
  ) -> typing.Features:
    words = {
      "norm": self.norm,
      "bn_momentum": self.bn_momentum,
      "bn_epsilon": self.bn_epsilon,
      "dtype": self.dtype,
    }
    norm = blocks.norm_of(self, train=train, epsilon=self.bn_epsilon)
    conv = functools.partial(
      blocks.conv, bias=False, kernel_init=INIT, dtype=self.dtype
    )
    x = conv(self.stem[0], 3, stride=2, name="conv1_1")(
      jnp.asarray(image, self.dtype)
    )
    x = nn.relu(norm(x, name="conv1_1_bn"))
    x = conv(self.stem[1], 3, name="conv1_2")(x)
    x = nn.relu(norm(x, name="conv1_2_bn"))
    features = {"stage1": (x := blocks.kept(x))}
    nominal = 2  # The stride without dilation, which names the stages.
    for block, stride, rate in plan(self.table, self.output_stride):
      last = block.shortcut == "none"
      grid = self.multi_grid if last else (1, 1, 1)
      for unit in range(1, block.units + 1):
        x, second = Unit(
          block.widths,
          stride,
          tuple(rate * factor for factor in grid),
          block.shortcut,
          activation_inside=last,
          name=f"{block.name}_unit{unit}",
          **words,
        )(x, train=train)
      if (nominal, block.stride) == (4, 2):
        features["low_level"] = second
      nominal *= block.stride
      features[f"stage{nominal.bit_length() - 1}"] = x = blocks.kept(x)
    return features
