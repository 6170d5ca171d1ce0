"""From a source to training batches: batch t is a function of (seed, t).

The stream of examples has a position p = t * batch_size + j, and an order tells
which example of the source stands there (order.py). The random numbers of its
transforms come from (seed, p). So nothing has to be replayed: resuming at step
t is starting to count there, and P processes that make a Pth of every batch
make the same stream as one.

Batches are made for the way to a device, as bytes where that is enough; what
makes network's input of them there is normalization.py.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fcnjax import errors, typing
from fcnjax.data import (
  geometry,
  mixing as mixing_lib,
  order as orders,
  reading,
  recipes,
  transforms as transforms_lib,
)

TRANSFERS = ("uint8", "float32")


def training_batches(
  reader: reading.Reader,
  *,
  batch_size: int,
  start_step: int = 0,
  transforms: recipes.Transforms = (),
  mixing: recipes.Transforms = (),
  mean: geometry.PerChannel = 0.0,
  transfer: str = "uint8",
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 2,
  prefetch: int = 2,
  label_margin: int = 0,
) -> Iterator[typing.Batch]:
  """Returns an endless iterator of batches, from step `start_step` on.

  Args:
    reader: gives the maps of what stands at each position, to several threads
      at once; its seed is that of the transforms, too.
    batch_size: examples a step, of all processes together.
    start_step: the step of the first batch.
    transforms: (name, parameters) in the order of application; the names are
      those of `transforms.TRANSFORMS`. Padding is filled with `mean` unless
      the parameters say otherwise.
    mixing: (name, parameters) of `mixing.MIXERS`: what is pasted into an
      example, after the transforms, of others that were transformed alike.
    mean: of the training images; one value or one a channel, in [0, 255].
    transfer: "uint8" rounds what the transforms made of an image of bytes to
      whole grey values, which is off by half of one at most; "float32" does
      not. Other images are never rounded.
    process_index: this process; it makes the examples
      [process_index * b, (process_index + 1) * b) of every batch, where b is
      batch_size / process_count.
    process_count: how many processes share a batch.
    workers: examples read and transformed at the same time.
    prefetch: batches made in advance.
    label_margin: pixels cut from each side of label and weight, for networks
      with valid convolutions (U-Net: 92).

  Returns:
    An iterator of dicts of NumPy arrays: image uint8 or float32 [b, h, w, c] in
    [0, 255], label uint8 [b, h', w'] and, if the source has them, weight
    float32 and second_label uint8 [b, h', w']. `normalization.normalized` makes
    a `typing.Batch` of them. Closing it ends its threads.

  Raises:
    InputError: for an impossible batch size or an unknown transform at once;
      for an unreadable example, or examples of several sizes, with the batch
      that holds them.
  """
  # JAX owns the accelerators; TensorFlow would take all their memory.
  tf.config.set_visible_devices([], "GPU")
  if batch_size < 1 or batch_size % process_count:
    raise errors.InputError(
      f"batch_size must be a positive multiple of the {process_count} "
      f"process(es), got {batch_size}."
    )
  if transfer not in TRANSFERS:
    raise errors.InputError(
      f"data.transfer: {transfer!r} is unknown; use {' or '.join(TRANSFERS)}."
    )
  first, seed = reader.first, reader.seed
  recipes.check_length("mean", mean, first["image"].shape[-1])
  chosen = recipes.operations(transforms, transforms_lib.TRANSFORMS, mean)
  plan = mixing_lib.plan(mixing, seed)
  others = len(plan(0))
  rounded = transfer == "uint8" and first["image"].dtype == np.uint8
  failures: dict[int, Exception] = {}

  def read(position, into):
    try:
      return [*reader.maps(int(position)).values(), False]
    except Exception as error:
      # Stands in for the example; `_batches` raises the error as it was, where
      # TensorFlow would wrap it in a page of its own.
      failures[int(into)] = error
      return [*first.values(), True]

  def example_at(position, into):
    types = [tf.as_dtype(array.dtype) for array in first.values()]
    *arrays, failed = tf.numpy_function(
      read, [position, into], [*types, tf.bool]
    )
    failed.set_shape([])
    for array, like in zip(arrays, first.values()):
      array.set_shape([None, None, *like.shape[2:]])
    example = dict(zip(first, arrays))
    return _augmented(example, _stream_seed(seed, position), chosen), failed

  local = batch_size // process_count

  def make(counter):
    step = counter // local
    position = step * batch_size + process_index * local + counter % local
    example, failed = example_at(position, position)
    if others:
      boxes = tf.numpy_function(
        lambda p: plan(int(p)), [position], tf.float32, stateful=False
      )
      boxes.set_shape([others, 4])
    for number in range(others):
      example, failed = _mixed(
        example,
        failed,
        boxes[number],
        lambda number=number: example_at(
          position + (number + 1) * orders.FAR, position
        ),
      )
    example = _sent(example, rounded, label_margin)
    return {**example, "failed": failed, "position": position}

  options = tf.data.Options()
  options.threading.private_threadpool_size = workers + 1
  options.threading.max_intra_op_parallelism = 1
  options.autotune.enabled = False
  options.deterministic = True
  dataset = tf.data.Dataset.range(
    start_step * local, np.iinfo(np.int64).max
  ).map(
    tf.autograph.experimental.do_not_convert(make),
    num_parallel_calls=workers,
    deterministic=True,
  )
  dataset = dataset.batch(local, drop_remainder=True).prefetch(prefetch)
  return _batches(dataset.with_options(options), failures)


def _stream_seed(seed: int, number: tf.Tensor) -> tf.Tensor:
  """Returns an int32 [2] made of all bits of the seed and an int64 number."""
  return tf.random.stateless_uniform(
    [2],
    tf.stack([tf.constant(seed, tf.int64), number]),
    minval=None,
    maxval=None,
    dtype=tf.int32,
  )


def _augmented(
  example: geometry.Example,
  seed: tf.Tensor,
  operations: Sequence[tuple[str, Any, dict[str, Any]]],
) -> geometry.Example:
  fold = tf.random.experimental.stateless_fold_in
  seeds = [fold(seed, number) for number in range(len(operations))]
  done = 0
  if _scales_and_crops(operations):
    # A flip that follows costs nothing then.
    done = 3 if [name for name, *_ in operations[2:3]] == ["flip"] else 2
    words = [parameters for _, _, parameters in operations[:done]]
    example = _applied(
      ", ".join(name for name, *_ in operations[:done]),
      transforms_lib.scaled_crop,
      example,
      seeds,
      **dict(zip(("scale", "crop", "flip"), words)),
    )
  else:
    example = {**example, "image": tf.cast(example["image"], tf.float32)}
  for own, (name, operation, parameters) in list(zip(seeds, operations))[done:]:
    example = _applied(name, operation, example, own, **parameters)
  return example


def _applied(
  names: str, operation: Any, example: geometry.Example, seed, **parameters: Any
) -> geometry.Example:
  """Returns what an operation makes; its parameters' faults are the user's."""
  try:
    return operation(example, seed, **parameters)
  except (TypeError, ValueError) as error:
    words = str(error).splitlines()[0]
    raise errors.InputError(f"data.transforms, {names}: {words}") from error


def _scales_and_crops(operations) -> bool:
  """Whether it begins with what `transforms.scaled_crop` does in one."""
  if [name for name, *_ in operations[:2]] != ["random_scale", "random_crop"]:
    return False
  crop = operations[1][2]
  return crop.keys() <= {"size", "fill", "boundary"} and (
    crop.get("boundary", "fill") == "fill"
  )


def _batches(
  dataset: tf.data.Dataset, failures: dict[int, Exception]
) -> Iterator[typing.Batch]:
  batches = dataset.as_numpy_iterator()
  while True:
    try:
      batch = next(batches)
    except tf.errors.InvalidArgumentError as error:
      mixing = "data.mixing" in error.message
      if not mixing and "batch" not in error.message:
        raise
      if failures:  # The stand-in has another size than its neighbours.
        raise failures[min(failures)] from None
      if mixing:
        raise errors.InputError(
          "data.mixing: the examples have different sizes after "
          "data.transforms; end them with a random_crop or a resize."
        ) from None
      shapes = " ".join(error.message.split("Shapes are:")[-1].split())
      raise errors.InputError(
        "The examples of a batch have different sizes after data.transforms "
        f"({shapes}); end them with a random_crop or a resize, or use "
        "batch_size=1."
      ) from None
    failed, position = batch.pop("failed"), batch.pop("position")
    if failed.any():
      raise failures[int(position[failed][0])]
    if not batch["label"].size:
      raise errors.InputError(
        "data.label_margin leaves nothing of the labels of images of "
        f"{batch['image'].shape[1]}x{batch['image'].shape[2]} pixels; use "
        "larger ones."
      )
    yield batch


def _mixed(example, failed, box, other):
  """Returns the example with what another has in a box, and whether one failed.

  Without an area, the other is not made.
  """
  shape = tf.shape(example["label"])
  sides = tf.cast(tf.concat([shape, shape], axis=0), tf.float32)
  top, left, bottom, right = tf.unstack(tf.cast(tf.round(box * sides), "int32"))

  def pasted():
    theirs, theirs_failed = other()
    rows, columns = tf.range(shape[0])[:, None], tf.range(shape[1])[None, :]
    inside = (rows >= top) & (rows < bottom) & (columns >= left)
    inside &= columns < right
    same = tf.debugging.assert_equal(
      tf.shape(theirs["label"]), shape, message="data.mixing"
    )
    moved = {}
    with tf.control_dependencies([same]):
      for key, values in example.items():
        mask = inside[..., None] if values.ndim == 3 else inside
        moved[key] = tf.where(mask, theirs[key], values)
        moved[key].set_shape(values.shape)
    return moved, failed | theirs_failed

  return tf.cond(
    (bottom > top) & (right > left), pasted, lambda: (dict(example), failed)
  )


def _sent(
  example: dict[str, tf.Tensor], rounded: bool, label_margin: int
) -> dict[str, tf.Tensor]:
  """Returns the example as it travels to the device."""
  image = example["image"]
  if rounded:
    # Truncated, which costs less than to round.
    image = tf.cast(geometry.clipped(image + 0.5, 0.0, 255.5), tf.uint8)
  inner = slice(label_margin, -label_margin if label_margin else None)
  sent = {"image": image}
  for key in ("label", "second_label", "weight"):
    if key in example:
      sent[key] = example[key][inner, inner]
  return sent
