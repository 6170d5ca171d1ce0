"""Dense predictions of a network that strides, without interpolation.

Long et al. 2015, section 3.2: a network of stride f, run on the f x f shifts of
an image, says something of every pixel; the same comes from running it once
without strides, its filters rarefied. A rarefied filter is a dilated one: that
is how the backbones compute it.
"""

from collections.abc import Callable

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def shift_and_stitch(
  network: Callable[[Array], Array],
  image: Float[Array | np.ndarray, "b h w c"],
  *,
  factor: int,
) -> Float[Array, "b h2 w2 k"]:
  """Returns the interlaced outputs of a network on all shifts of an image.

  For a network without padding inside, the result at (i, j) is what the network
  gives for the window of its receptive field whose first pixel is (i, j).

  Args:
    network: image -> map of stride `factor`, smaller than the image by its
      receptive field alone: without padding, sizes rounded down.
    image: padded as far as the result shall reach; at least factor - 1 pixels
      larger than the receptive field.
    factor: the network's stride; it is run factor x factor times.

  Returns:
    h - receptive field + 1 rows, and columns alike.

  Raises:
    ValueError: if the factor is not positive.
  """
  if factor < 1:
    raise ValueError(f"factor must be positive, got {factor}.")
  image = jnp.asarray(image)
  # A shift may cost a row or a column, where the last window no longer fits.
  rows, columns = (
    sum(_shape(network, image, {axis: shift})[axis] for shift in range(factor))
    for axis in (1, 2)
  )
  # All shifts have the image's size, so that the network compiles once; what
  # it says of the zeros behind is cut off.
  padded = jnp.pad(image, ((0, 0), (0, factor - 1), (0, factor - 1), (0, 0)))

  def shifted(shift):
    start = (0, shift // factor, shift % factor, 0)
    return network(lax.dynamic_slice(padded, start, image.shape))

  maps = lax.map(shifted, jnp.arange(factor**2))
  _, b, h, w, k = maps.shape
  maps = maps.reshape(factor, factor, b, h, w, k).transpose(2, 3, 0, 4, 1, 5)
  return maps.reshape(b, h * factor, w * factor, k)[:, :rows, :columns]


def rarefied(
  kernel: Float[Array | np.ndarray, "kh kw ci co"], *, stride: int
) -> Float[Array, "kh2 kw2 ci co"]:
  """Returns the filter with zeros between its taps, for an input not strided.

  f'[i, j] = f[i / s, j / s] where s divides i and j, else 0.

  Args:
    kernel: weights.
    stride: s, of the layer in front that no longer strides.
  """
  kernel = jnp.asarray(kernel)
  kh, kw, ci, co = kernel.shape
  size = (stride * (kh - 1) + 1, stride * (kw - 1) + 1)
  spread = jnp.zeros((*size, ci, co), kernel.dtype)
  return spread.at[::stride, ::stride].set(kernel)


def _shape(network, image, shifts: dict[int, int]) -> tuple[int, ...]:
  """Returns the shape of the map of an image without its first pixels."""
  size = [n - shifts.get(axis, 0) for axis, n in enumerate(image.shape)]
  shape = jax.ShapeDtypeStruct(tuple(size), image.dtype)
  return jax.eval_shape(network, shape).shape
