"""Numbers of places in windows that tile an image, as others store them.

`pooling` notes where in its window a maximum was: row * width + column, a
uint8. SegNet (Badrinarayanan et al. 2017, section 3.1) stores 2 bits for a
window of 2x2 (`pack`, `unpack`); torch and TensorFlow store flat indices of the
image (`flat_indices`, `window_indices`).
"""

from typing import Literal

from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8
import numpy as np

Window = int | tuple[int, int]
Layout = Literal["torch", "tensorflow"]


def flat_indices(
  index: UInt8[Array | np.ndarray, "b ph pw c"],
  *,
  window: Window = 2,
  size: tuple[int, int],
  layout: Layout = "torch",
) -> Int[Array, "b ph pw c"]:
  """Returns places in the window as the flat indices of another framework.

  Args:
    index: place of each maximum, row * width + column inside the window.
    window: height and width of the window in pixels, or one number for both.
    size: height and width in pixels of the image that was pooled.
    layout: "torch": y * width + x, in the channel's plane (`max_pool2d`);
      "tensorflow": (y * width + x) * channels + channel, in the image
      (`max_pool_with_argmax` with `include_batch_in_index=False`).

  Returns:
    int32 indices; the axes stay [batch, height, width, channels].

  Raises:
    ValueError: if the layout is unknown, `size` does not fit, or an index would
      not fit in an int32.
  """
  window = pair(window, "window")
  index = jnp.asarray(index)
  channels = _channels(index.shape, size, layout)
  check_size(index.shape[1:3], window, size)
  index = index.astype(jnp.int32)
  y, x = np.indices(index.shape[1:3], np.int32)[:, None, :, :, None]
  y = y * window[0] + index // window[1]
  x = x * window[1] + index % window[1]
  flat = (y * size[1] + x) * channels
  if layout == "tensorflow":
    flat += np.arange(channels, dtype=np.int32)[None, None, None, :]
  return flat


def window_indices(
  flat: Int[Array | np.ndarray, "b ph pw c"],
  *,
  window: Window = 2,
  size: tuple[int, int],
  layout: Layout = "torch",
) -> UInt8[Array, "b ph pw c"]:
  """Returns flat indices of another framework as places in the window.

  The inverse of `flat_indices`, whose arguments it shares. Indices that come
  from overlapping or padded windows have no place here, and are not noticed.

  Raises:
    ValueError: if the layout is unknown or `size` does not fit.
  """
  window = pair(window, "window")
  flat = jnp.asarray(flat)
  channels = _channels(flat.shape, size, layout)
  check_size(flat.shape[1:3], window, size)
  flat = flat // channels
  row, column = flat // size[1] % window[0], flat % size[1] % window[1]
  return (row * window[1] + column).astype(jnp.uint8)


# By how many bits the place of each of a byte's four channels is shifted.
_PLACES_OF_BITS = np.arange(0, 8, 2, np.uint8).reshape(1, 1, 1, 1, 4)


def pack(index: UInt8[Array, "b ph pw c"]) -> UInt8[Array, "b ph pw d"]:
  """Returns four channels' places, each below 4, a byte: d = ceil(c / 4)."""
  b, ph, pw, c = index.shape
  index = jnp.pad(index, ((0, 0), (0, 0), (0, 0), (0, -c % 4)))
  index = index.reshape(b, ph, pw, -1, 4) << _PLACES_OF_BITS
  return lax.reduce(index, np.uint8(0), lax.bitwise_or, (4,))


def unpack(
  packed: UInt8[Array, "b ph pw d"], channels: int
) -> UInt8[Array, "b ph pw {channels}"]:
  """The inverse of `pack`, for as many channels."""
  b, ph, pw, _ = packed.shape
  index = packed[..., None] >> _PLACES_OF_BITS & np.uint8(3)
  return index.reshape(b, ph, pw, -1)[..., :channels]


def check_packed(packed: bool, window: tuple[int, int]) -> None:
  """Raises a ValueError if places of such a window do not fit into 2 bits."""
  if packed and window[0] * window[1] > 4:
    raise ValueError(
      f"packed places have 2 bits, which number the 4 pixels of a window; "
      f"{window} has {window[0] * window[1]}."
    )


def pair(value: Window, name: str, *, numbered: bool = True) -> tuple[int, int]:
  """Returns a window's or a stride's two sides.

  Raises:
    ValueError: if one is not positive or, if places in it are to be numbered,
      it has more than 256.
  """
  sides = (value, value) if isinstance(value, int) else tuple(value)
  if len(sides) != 2 or min(sides) < 1:
    raise ValueError(f"{name} must be one or two positive ints, got {value}.")
  if numbered and sides[0] * sides[1] > 256:
    raise ValueError(
      f"{name} {sides[0]}x{sides[1]} has {sides[0] * sides[1]} positions; a "
      "uint8 index numbers at most 256: use 16x16 or smaller."
    )
  return sides


def check_size(
  pooled: tuple[int, int], window: tuple[int, int], size: tuple[int, int]
) -> None:
  """Raises a ValueError if no rounding pools an image of `size` to `pooled`."""
  for p, k, n in zip(pooled, window, size):
    if not (p - 1) * k < n < (p + 1) * k:
      raise ValueError(
        f"size {tuple(size)} is not pooled to {tuple(pooled)} by windows of "
        f"{window}: give the size of the image that was pooled."
      )


def _channels(shape, size, layout):
  """The factor between the two flat layouts, checked for int32."""
  if layout not in ("torch", "tensorflow"):
    raise ValueError(f'layout must be "torch" or "tensorflow", got {layout!r}.')
  channels = shape[3] if layout == "tensorflow" else 1
  if size[0] * size[1] * channels > 2**31:
    raise ValueError(
      f"flat indices of {tuple(size)} with {channels} channels exceed int32."
    )
  return channels
