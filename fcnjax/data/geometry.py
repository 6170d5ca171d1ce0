"""Image, label and weight moved together: the samplers that transforms share.

Nothing here is random. Pixel (y, x) covers the square [y, y+1) x [x, x+1), so
all sampling is at half-pixel centres. Image and weight are interpolated
bilinearly, the label takes its nearest pixel: no class is ever invented. Where
there is no source pixel, `boundary` decides: "fill" gives the colour `fill`,
the label 255 and the weight 0, "reflect" mirrors all three alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fcnjax import typing

# image float32 [h, w, c] in [0, 255], label uint8 [h, w] in [0, k) or 255,
# and optionally weight float32 [h, w] and second_label, as label.
Example = dict[str, tf.Tensor]
# One value, or one a channel.
PerChannel = float | int | Sequence[float | int]

BOUNDARIES = ("fill", "reflect")


def pixel_size(size: Sequence[int]) -> tf.Tensor:
  """Returns (height, width) as a tensor: int32 [2].

  Raises:
    ValueError: if they are not two positive numbers.
  """
  if len(size) != 2 or min(size) < 1:
    raise ValueError(f"size must be (height, width), got {tuple(size)}.")
  return tf.constant([int(side) for side in size], tf.int32)


def pixel_grid(size: tf.Tensor | Sequence[int]) -> tf.Tensor:
  """Returns where every pixel is: float32 [h, w, 2], (y, x) in pixels."""
  rows, columns = tf.meshgrid(
    tf.range(size[0]), tf.range(size[1]), indexing="ij"
  )
  return tf.cast(tf.stack([rows, columns], axis=-1), tf.float32)


def reflect(index: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
  """Returns indices or coordinates mirrored into [0, length - 1].

  The border pixel is not repeated: -1 becomes 1.
  """
  last = tf.cast(length - 1, index.dtype)
  period = tf.maximum(2 * last, 1)
  index = tf.math.floormod(index, period)
  return tf.minimum(tf.minimum(index, period - index), last)


def warp(
  example: Example,
  coordinates: tf.Tensor,
  *,
  boundary: str = "reflect",
  fill: PerChannel = 0.0,
) -> Example:
  """Returns the example sampled at other places.

  Args:
    example: image, label and optional weight.
    coordinates: float32 [h', w', 2], (y, x) of the source in pixels, where
      integers are the centres of pixels.
    boundary: "reflect" mirrors what lies outside; "fill" gives the colour
      `fill`, label 255 and weight 0 to each pixel whose nearest source pixel
      does not exist.
    fill: the colour of the padding, in [0, 255].

  Returns:
    The example at h' x w': image and weight bilinear, label nearest.

  Raises:
    ValueError: for an unknown boundary.
  """
  _check(boundary)
  size = tf.shape(example["label"])
  y, x = coordinates[..., 0], coordinates[..., 1]
  height, width = tf.unstack(tf.cast(size, tf.float32))
  inside = (y >= -0.5) & (y < height - 0.5) & (x >= -0.5) & (x < width - 0.5)
  if boundary == "reflect":
    y, x = reflect(y, size[0]), reflect(x, size[1])
  y = tf.clip_by_value(y, 0.0, height - 1)
  x = tf.clip_by_value(x, 0.0, width - 1)

  top, left = tf.cast(y, tf.int32), tf.cast(x, tf.int32)
  down = y - tf.cast(top, tf.float32)
  right = x - tf.cast(left, tf.float32)
  below = tf.minimum(top + 1, size[0] - 1)
  beside = tf.minimum(left + 1, size[1] - 1)
  nearest = (tf.where(down < 0.5, top, below) * size[1]) + tf.where(
    right < 0.5, left, beside
  )

  def sample(values, outside):
    flat = tf.reshape(values, [-1, *values.shape[2:]])
    if values.dtype == tf.uint8:
      moved = tf.gather(flat, nearest)
    else:
      # Written as differences, it gives the pixel itself at its centre.
      across = tf.reshape(right, _leading(right, values.ndim))
      along = tf.reshape(down, _leading(down, values.ndim))
      upper = tf.gather(flat, top * size[1] + left)
      upper += (tf.gather(flat, top * size[1] + beside) - upper) * across
      lower = tf.gather(flat, below * size[1] + left)
      lower += (tf.gather(flat, below * size[1] + beside) - lower) * across
      moved = upper + (lower - upper) * along
    if boundary == "reflect":
      return moved
    mask = tf.reshape(inside, _leading(inside, values.ndim))
    return tf.where(mask, moved, tf.cast(outside, values.dtype))

  return _mapped(example, sample, fill)


def window(
  example: Example,
  offset: tf.Tensor,
  size: tf.Tensor,
  *,
  boundary: str = "fill",
  fill: PerChannel = 0.0,
) -> Example:
  """Returns a window of the example, which may reach beyond it.

  Args:
    example: image, label and optional weight.
    offset: int32 [2], the row and column where the window begins.
    size: int32 [2], its height and width in pixels.
    boundary: "fill" or "reflect".
    fill: the colour of the padding, in [0, 255].

  Returns:
    The example at exactly `size`.

  Raises:
    ValueError: for an unknown boundary.
  """
  _check(boundary)
  shape = tf.shape(example["label"])
  if boundary == "reflect":
    rows, columns = (
      reflect(offset[i] + tf.range(size[i]), shape[i]) for i in (0, 1)
    )
    return _mapped(
      example,
      lambda values, _: tf.gather(tf.gather(values, rows), columns, axis=1),
    )
  start = tf.clip_by_value(offset, 0, shape)
  stop = tf.clip_by_value(offset + size, start, shape)
  before = tf.minimum(tf.maximum(-offset, 0), size)
  paddings = tf.stack([before, size - before - (stop - start)], axis=1)

  def cut(values, outside):
    values = values[start[0] : stop[0], start[1] : stop[1]]

    def padded():
      channels = [[[0, 0]]] * (values.ndim - 2)
      wide = tf.pad(values, tf.concat([paddings, *channels], axis=0))
      inside = tf.pad(tf.ones(stop - start, tf.bool), paddings)
      mask = tf.reshape(inside, _leading(inside, values.ndim))
      return tf.where(mask, wide, tf.cast(outside, values.dtype))

    # Most windows lie within.
    return tf.cond(tf.reduce_any(paddings > 0), padded, lambda: values)

  return _mapped(example, cut, fill)


def resized(
  example: Example, size: tf.Tensor, *, antialias: bool = False
) -> Example:
  """Returns the example at another size.

  Args:
    example: image, label and optional weight.
    size: int32 [2], height and width in pixels.
    antialias: whether image and weight are averaged when they shrink.
  """

  def resize(values, _):
    flat = values.ndim == 2
    values = tf.image.resize(
      values[..., None] if flat else values,
      size,
      "nearest" if values.dtype == tf.uint8 else "bilinear",
      antialias=antialias,
    )
    return values[..., 0] if flat else values

  return _mapped(example, resize)


def resized_window(
  example: Example,
  size: tf.Tensor,
  offset: tf.Tensor,
  shape: tf.Tensor,
  *,
  flipped: tf.Tensor | Sequence[bool] = (False, False),
  fill: PerChannel = 0.0,
) -> Example:
  """Returns `window(resized(example, size), offset, shape)`, to rounding.

  What the window does not show is not interpolated. The image may be uint8;
  what is returned is float32.

  Args:
    example: image, label and optional weight.
    size: int32 [2], height and width of the whole, resized, in pixels.
    offset: int32 [2], the row and column where the window begins.
    shape: int32 [2], its height and width in pixels.
    flipped: bool [2], along which axes (y, x) the window is reversed then.
    fill: the colour of what lies outside, in [0, 255].
  """
  old = tf.shape(example["label"])
  scales = tf.cast(old, tf.float32) / tf.cast(size, tf.float32)
  start = tf.clip_by_value(offset, 0, size)
  stop = tf.clip_by_value(offset + shape, start, size)
  sides = []
  for axis in (0, 1):
    place = tf.cast(tf.range(start[axis], stop[axis]), tf.float32) + 0.5
    place = tf.where(flipped[axis], tf.reverse(place, [0]), place)
    nearest = tf.cast(tf.floor(place * scales[axis]), tf.int32)
    between = place * scales[axis] - 0.5
    # There is at least a pixel of the example in every window.
    ends = tf.stack([between[0], between[-1]])
    lower = tf.cast(tf.floor(tf.reduce_min(ends)), tf.int32)
    upper = tf.cast(tf.floor(tf.reduce_max(ends)), tf.int32) + 1
    sides.append(
      {
        "nearest": tf.minimum(nearest, old[axis] - 1),
        "ends": ends - tf.cast(lower, tf.float32),
        "slice": slice(tf.maximum(lower, 0), tf.minimum(upper + 1, old[axis])),
        # The border is repeated where a place lies beyond the last centres.
        "before": tf.cast(lower < 0, tf.int32),
        "after": tf.cast(upper >= old[axis], tf.int32),
      }
    )
  rows, columns = sides

  def sample(values, _):
    if values.dtype == tf.uint8 and values.ndim == 2:
      # Whole rows are gathered much faster than single pixels.
      kept = tf.transpose(tf.gather(values, rows["nearest"]))
      return tf.transpose(tf.gather(kept, columns["nearest"]))
    flat = values.ndim == 2
    part = values[rows["slice"], columns["slice"]]
    part = part[..., None] if flat else part
    for axis, side in enumerate(sides):
      last = tf.shape(part)[axis] - 1
      ends = [tf.zeros([side["before"]], tf.int32)]
      ends += [tf.fill([side["after"]], last)]
      first, final = (tf.gather(part, e, axis=axis) for e in ends)
      part = tf.concat([first, part, final], axis=axis)
    longest = tf.cast(tf.maximum(tf.shape(part)[:2] - 1, 1), tf.float32)
    box = tf.stack(
      [side["ends"] / longest[axis] for axis, side in enumerate(sides)], axis=1
    )
    moved = tf.image.crop_and_resize(
      part[None], tf.reshape(box, [1, 4]), [0], stop - start
    )[0]
    return moved[..., 0] if flat else moved

  # Of the pixels that there are, the window shows those from here on.
  offset = tf.where(flipped, stop - shape - offset, offset - start)
  return window(_mapped(example, sample), offset, shape, fill=fill)


def mirrored(example: Example, axes: tf.Tensor) -> Example:
  """Returns the example reversed along the axes (y, x) that are true."""

  def reverse(values, _):
    channels = tf.zeros([values.ndim - 2], tf.bool)
    dims = tf.concat([axes, channels], axis=0)
    return tf.raw_ops.Reverse(tensor=values, dims=dims)

  return _mapped(example, reverse)


def turned(example: Example, turns: tf.Tensor) -> Example:
  """Returns the example turned counter-clockwise by 0 to 3 quarters."""
  height, width = tf.unstack(tf.shape(example["label"]))
  # The flat index of the source is first + down * row + right * column.
  last = height * width - 1
  first = tf.gather([0, width - 1, last, last - (width - 1)], turns)
  down = tf.gather([width, -1, -width, 1], turns)
  right = tf.gather([1, width, -1, -width], turns)
  rows = tf.where(turns % 2 == 0, height, width)
  columns = tf.where(turns % 2 == 0, width, height)
  index = first + down * tf.range(rows)[:, None] + right * tf.range(columns)
  return _mapped(
    example,
    lambda values, _: tf.gather(
      tf.reshape(values, [-1, *values.shape[2:]]), index
    ),
  )


def erased(
  example: Example, mask: tf.Tensor, *, fill: PerChannel, keep_label: bool
) -> Example:
  """Returns the example with nothing where the mask is true.

  Args:
    example: image, label and optional weight.
    mask: bool [h, w].
    fill: the colour there, in [0, 255].
    keep_label: whether labels and weight stay as they are; otherwise they
      become 255 and 0.
  """

  def erase(values, outside):
    here = tf.reshape(mask, _leading(mask, values.ndim))
    return tf.where(here, tf.cast(outside, values.dtype), values)

  changed = _mapped(example, erase, fill)
  return {**example, "image": changed["image"]} if keep_label else changed


def clipped(image: tf.Tensor, low: float, high: float) -> tf.Tensor:
  """Returns `tf.clip_by_value`, in one pass over the image instead of two."""
  return tf.raw_ops.ClipByValue(
    t=image, clip_value_min=low, clip_value_max=high
  )


def _mapped(
  example: Example,
  function: Callable[[tf.Tensor, Any], tf.Tensor],
  fill: PerChannel = 0.0,
) -> Example:
  """Returns the example with function(values, outside) for each of its maps."""
  outside = {
    "image": fill,
    "label": typing.IGNORE,
    "second_label": typing.IGNORE,
    "weight": 0.0,
  }
  moved = dict(example)
  for key in outside.keys() & example.keys():
    moved[key] = function(example[key], outside[key])
    # The number of channels is known, whatever moved the pixels.
    moved[key].set_shape([None, None, *example[key].shape[2:]])
  return moved


def _leading(values: tf.Tensor, rank: int) -> tf.Tensor:
  """Returns the shape of `values` with ones behind, up to `rank`."""
  return tf.concat([tf.shape(values), [1] * (rank - 2)], axis=0)


def _check(boundary: str) -> None:
  if boundary not in BOUNDARIES:
    raise ValueError(
      f"boundary must be one of {', '.join(BOUNDARIES)}, got {boundary!r}."
    )
