"""Convolutions of 3x3 with half of the multiplications, along columns.

Four outputs beside each other take 12 multiplications with a kernel's row of
three; F(4, 3) takes 6, one for each of six mixtures of what the six inputs hold
and six mixtures of the row's weights, and mixes the products once more. Source:
Winograd, "Arithmetic Complexity of Computations" (1980); Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks" (2016), section 4.

The three rows of the kernel stay a sum. The nested form, along rows too, would
leave a quarter of the multiplications, but has 36 mixtures, which cost more
memory traffic and ten times more time to compile than they save here.

The mixtures' weights, up to 8, cost accuracy: in float32 the error is at most
3e-6 of the result's norm, where a plain sum stays below 1e-6; tests hold both.
"""

from typing import Any

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

OUTPUTS = 4  # of a tile
TAPS = 3

# Of inputs, of weights, and of products: A^T [(G g) * (B^T d)], for the points
# 0, 1, -1, 2, -2 and infinity.
_INPUTS = np.array(
  [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
  ],
  np.float32,
)
_WEIGHTS = np.array(
  [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
  ],
  np.float32,
)
_PRODUCTS = np.array(
  [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
  ],
  np.float32,
)

Padding = tuple[tuple[int, int], tuple[int, int]]


def conv(
  x: Float[Array | np.ndarray, "b h w c"],
  kernel: Float[Array | np.ndarray, "3 3 c d"],
  padding: Padding,
  rate: tuple[int, int],
  precision: Any = None,
) -> Float[Array, "b oh ow d"]:
  """Returns the convolution of stride 1.

  All rows of a mixture are multiplied with all rows of the kernel, and the
  products shifted when they are added: a few rows too many, but no copies of
  shifted maps.

  Args:
    x: features, float32.
    kernel: three rows of three taps, float32.
    padding: zeros at both ends of rows and columns, not negative.
    rate: pixels from one tap to the next, of rows and columns.
    precision: of the products, as JAX has it.
  """
  x, weights = jnp.asarray(x), _weights(jnp.asarray(kernel))
  height, width = (
    n + sum(pair) - (TAPS - 1) * r
    for n, pair, r in zip(x.shape[1:3], padding, rate)
  )
  products = []
  for mixture, weight in zip(_inputs(x, padding, rate, width), weights):
    product = jnp.matmul(
      mixture.reshape(-1, x.shape[-1]), weight, precision=precision
    )
    product = product.reshape(*mixture.shape[:-1], TAPS, -1)
    rows = [
      product[:, n * rate[0] : n * rate[0] + height, ..., n, :]
      for n in range(TAPS)
    ]
    products.append(sum(rows))
  y = jnp.stack(_mixtures(_PRODUCTS, products), axis=3)
  return y.reshape(x.shape[0], height, -1, y.shape[-1])[:, :, :width]


def image_gradient(
  x_size: tuple[int, int],
  cotangent: Float[Array | np.ndarray, "b oh ow d"],
  kernel: Float[Array | np.ndarray, "3 3 c d"],
  padding: Padding,
  rate: tuple[int, int],
  precision: Any = None,
) -> Float[Array, "b h w c"]:
  """Returns the gradient of `conv` by its image: `conv` transposed.

  So its mixtures of the cotangent are those of `filter_gradient`, and of the
  kernel those of `conv`; a convolution with the turned kernel has its own.

  Args:
    x_size: height and width of the image.
    cotangent: of the result, float32.
    kernel: see `conv`.
    padding: see `conv`.
    rate: see `conv`.
    precision: see `conv`.
  """
  weights = _weights(jnp.asarray(kernel))
  height = x_size[0] + sum(padding[0])
  maps = []
  for products, weight in zip(_outputs(cotangent, height, rate), weights):
    map_ = jnp.matmul(
      products.reshape(-1, weight.shape[1]), weight.T, precision=precision
    )
    maps.append(map_.reshape(*products.shape[:-1], -1))
  seen = _mixtures(_INPUTS.T, maps)
  columns = [
    jnp.pad(g, ((0, 0), (0, 0), (0, 1), (0, 0), (0, 0))) for g in seen[:OUTPUTS]
  ]
  # The last of what a tile sees are the first of the next cell.
  for n, g in enumerate(seen[OUTPUTS:]):
    columns[n] += jnp.pad(g, ((0, 0), (0, 0), (1, 0), (0, 0), (0, 0)))
  x = jnp.stack(columns, axis=3)
  x = x.reshape(*x.shape[:2], -1, x.shape[-1])
  top, left = padding[0][0], padding[1][0]
  return x[:, top : top + x_size[0], left : left + x_size[1]]


def filter_gradient(
  x: Float[Array | np.ndarray, "b h w c"],
  cotangent: Float[Array | np.ndarray, "b oh ow d"],
  padding: Padding,
  rate: tuple[int, int],
  precision: Any = None,
) -> Float[Array, "3 3 c d"]:
  """Returns the gradient of `conv` by its kernel.

  Args:
    x: features, float32.
    cotangent: of the result, float32.
    padding: see `conv`.
    rate: see `conv`.
    precision: see `conv`.
  """
  x, cotangent = jnp.asarray(x), jnp.asarray(cotangent)
  width, d, c = *cotangent.shape[2:], x.shape[-1]
  inputs = _inputs(x, padding, rate, width)
  gradients = [
    jnp.matmul(
      mixture.reshape(-1, c).T,
      products.reshape(-1, TAPS * d),
      precision=precision,
    )
    for mixture, products in zip(
      inputs, _outputs(cotangent, inputs[0].shape[1], rate)
    )
  ]
  taps = jnp.stack(_mixtures(_WEIGHTS.T, gradients))
  return taps.reshape(TAPS, c, TAPS, d).transpose(2, 0, 1, 3)


def _inputs(x, padding, rate, width):
  """Returns six mixtures [b, padded h, tiles, rate, c] of what a tile sees."""
  x = jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0)))
  tiles = _tiles(width, rate)
  cells = _cells(x, tiles + 1, rate, padding[1][0])
  seen = [
    cells[:, :, n // OUTPUTS : n // OUTPUTS + tiles, n % OUTPUTS]
    for n in range(OUTPUTS + TAPS - 1)
  ]
  return _mixtures(_INPUTS, seen)


def _outputs(cotangent, height, rate):
  """Returns six mixtures [b, height, tiles, rate, 3 d] of a tile's cotangents.

  Beside each other, in copies, is what each row of the kernel saw of the padded
  map. The gradients by image and kernel share them.
  """
  rest = height - cotangent.shape[1]
  seen = jnp.concatenate(
    [
      jnp.pad(cotangent, ((0, 0), (n, rest - n), (0, 0), (0, 0)))
      for n in (0, rate[0], 2 * rate[0])
    ],
    axis=-1,
  )
  cells = _cells(seen, _tiles(cotangent.shape[2], rate), rate, 0)
  return _mixtures(_PRODUCTS.T, [cells[:, :, :, n] for n in range(OUTPUTS)])


def _weights(kernel):
  """Returns six mixtures [c, 3 d] of the taps, rows beside each other."""
  c, d = kernel.shape[2:]
  taps = kernel.transpose(1, 2, 0, 3).reshape(TAPS, c, TAPS * d)
  return _mixtures(_WEIGHTS, taps)


def _tiles(width, rate):
  """Returns how many cells hold the columns of the result."""
  return -(-width // (OUTPUTS * rate[1]))


def _cells(x, count, rate, before):
  """Returns the columns [b, h, cells, outputs, rate, c], zeros outside.

  A tile's outputs lie `rate` columns apart, so that `rate` tiles share a cell.
  """
  columns = count * OUTPUTS * rate[1]
  edges = ((0, 0, 0), (0, 0, 0), (before, columns - before - x.shape[2], 0))
  x = lax.pad(x, jnp.zeros((), x.dtype), (*edges, (0, 0, 0)))
  return x.reshape(*x.shape[:2], count, OUTPUTS, rate[1], x.shape[-1])


def _mixtures(weights, maps):
  """Returns a weighted sum of the maps for each row of weights."""
  return [sum(m * w for w, m in zip(row, maps) if w) for row in weights]
