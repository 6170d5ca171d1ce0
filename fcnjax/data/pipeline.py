"""From a source to training batches: batch t is a function of (seed, t).

The stream of examples has a position p = t * batch_size + j. Its epoch is
p // n, its place in the epoch p % n, and a stateless permutation of (seed,
epoch) tells which example of the source stands there. The random numbers of
its transforms come from (seed, p). So nothing has to be replayed: resuming at
step t is starting to count there, and P processes that make a Pth of every
batch make the same stream as one.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fcnjax import errors, typing
from fcnjax.data import (
  examples,
  geometry,
  recipes,
  transforms as transforms_lib,
)


def training_batches(
  source: Any,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  transforms: recipes.Transforms = (),
  mean: geometry.PerChannel = 0.0,
  std: geometry.PerChannel = 1.0,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 2,
  prefetch: int = 2,
  label_margin: int = 0,
) -> Iterator[typing.Batch]:
  """Returns an endless iterator of batches, from step `start_step` on.

  Args:
    source: `len(source)` examples `source[i]`: dicts of image [h, w, c] with
      values in [0, 255], label uint8 [h, w] in [0, k) or 255, and optionally
      weight float32 [h, w] and second_label, as label; read in several threads
      at once.
    batch_size: examples a step, of all processes together.
    seed: of the order and of the transforms.
    start_step: the step of the first batch.
    transforms: (name, parameters) in the order of application; the names are
      those of `transforms.TRANSFORMS`. Padding is filled with `mean` unless
      the parameters say otherwise.
    mean: subtracted from the image; one value or one a channel, in [0, 255].
    std: divides it then; likewise.
    process_index: this process; it makes the examples
      [process_index * b, (process_index + 1) * b) of every batch, where b is
      batch_size / process_count.
    process_count: how many processes share a batch.
    workers: examples read and transformed at the same time.
    prefetch: batches made in advance.
    label_margin: pixels cut from each side of label and weight, for networks
      with valid convolutions (U-Net: 92).

  Returns:
    An iterator of dicts of NumPy arrays: image float32 [b, h, w, c], label
    int32 [b, h', w'] and, if the source has them, weight float32 and
    second_label int32 [b, h', w'].
    Closing it ends its threads.

  Raises:
    InputError: for an impossible batch size or an unknown transform at once;
      for an unreadable example, or examples of several sizes, with the batch
      that holds them.
  """
  # JAX owns the accelerators; TensorFlow would take all their memory.
  tf.config.set_visible_devices([], "GPU")
  if len(source) == 0:
    raise errors.InputError("The training set has no examples.")
  if batch_size < 1 or batch_size % process_count:
    raise errors.InputError(
      f"batch_size must be a positive multiple of the {process_count} "
      f"process(es), got {batch_size}."
    )
  first = _arrays(source, 0, {})
  channels = first["image"].shape[-1]
  recipes.check_length("mean", mean, channels)
  recipes.check_length("std", std, channels)
  chosen = recipes.operations(transforms, transforms_lib.TRANSFORMS, mean)
  failures: dict[int, Exception] = {}

  def read(index, position):
    try:
      return [*_arrays(source, int(index), first).values(), False]
    except Exception as error:
      # Stands in for the example; `_batches` raises the error as it was, where
      # TensorFlow would wrap it in a page of its own.
      failures[int(position)] = error
      return [*first.values(), True]

  local = batch_size // process_count

  def make(counter):
    step = counter // local
    position = step * batch_size + process_index * local + counter % local
    index = _shuffled_index(position, seed, len(source))
    types = [tf.as_dtype(array.dtype) for array in first.values()]
    *arrays, failed = tf.numpy_function(
      read, [index, position], [*types, tf.bool]
    )
    failed.set_shape([])
    for array, like in zip(arrays, first.values()):
      array.set_shape([None, None, *like.shape[2:]])
    example = _augmented(
      dict(zip(first, arrays)), _stream_seed(seed, position), chosen
    )
    example = _normalised(example, mean, std, label_margin)
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


def batch_names(
  source: Any, step: int, batch_size: int, seed: int
) -> list[str]:
  """Returns the names of the examples of one (global) batch, in its order."""
  count = len(source)
  return [
    str(
      source.names[int(_shuffled_index(tf.constant(p, tf.int64), seed, count))]
    )
    for p in range(step * batch_size, (step + 1) * batch_size)
  ]


def _shuffled_index(position: tf.Tensor, seed: int, count: int) -> tf.Tensor:
  """Returns which of `count` examples stands at an int64 position."""
  epoch, place = position // count, position % count
  return tf.random.experimental.index_shuffle(
    place,
    # Below zero, so that no example draws its transforms from the same seed.
    seed=_stream_seed(seed, -1 - epoch),
    max_index=tf.constant(count - 1, tf.int64),
  )


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
  for number, (name, operation, parameters) in enumerate(operations):
    own = tf.random.experimental.stateless_fold_in(seed, number)
    try:
      example = operation(example, own, **parameters)
    except (TypeError, ValueError) as error:
      words = str(error).splitlines()[0]
      raise errors.InputError(f"data.transforms, {name}: {words}") from error
  return example


def _batches(
  dataset: tf.data.Dataset, failures: dict[int, Exception]
) -> Iterator[typing.Batch]:
  batches = dataset.as_numpy_iterator()
  while True:
    try:
      batch = next(batches)
    except tf.errors.InvalidArgumentError as error:
      if "batch" not in error.message:
        raise
      if failures:  # The stand-in has another size than its neighbours.
        raise failures[min(failures)] from None
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


def _arrays(
  source: Any, index: int, first: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns the maps of an example, the image as float32."""
  maps = examples.training_maps(source, index, first)
  return maps | {"image": maps["image"].astype(np.float32)}


def _normalised(
  example: dict[str, tf.Tensor],
  mean: geometry.PerChannel,
  std: geometry.PerChannel,
  label_margin: int,
) -> dict[str, tf.Tensor]:
  image = (example["image"] - tf.constant(mean, tf.float32)) / tf.constant(
    std, tf.float32
  )
  inner = slice(label_margin, -label_margin if label_margin else None)
  normalised = {"image": image}
  for key in ("label", "second_label"):
    if key in example:
      normalised[key] = tf.cast(example[key][inner, inner], tf.int32)
  if "weight" in example:
    normalised["weight"] = example["weight"][inner, inner]
  return normalised
