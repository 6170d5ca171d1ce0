"""From a source to training batches: batch t is a function of (seed, t).

The stream of examples has a position p = t * batch_size + j. Its epoch is
p // n, its place in the epoch p % n, and a stateless permutation of (seed,
epoch) tells which example of the source stands there. The random numbers of
its transforms come from (seed, p). So nothing has to be replayed: resuming at
step t is starting to count there, and P processes that make a Pth of every
batch make the same stream as one.
"""

from collections.abc import Iterator, Sequence
import difflib
import inspect
from typing import Any

import numpy as np
import tensorflow as tf

from fcnjax import errors, typing
from fcnjax.data import geometry, transforms as transforms_lib

# (name in transforms.TRANSFORMS, its parameters), in order of application.
Transforms = Sequence[Sequence[Any]]


def training_batches(
  source: Any,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  transforms: Transforms = (),
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
  _check_length("mean", mean, channels)
  _check_length("std", std, channels)
  chosen = operations(transforms, mean)
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
  return [
    _name(source, _shuffled_index(tf.constant(p, tf.int64), seed, len(source)))
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


def _name(source: Any, index: Any) -> str:
  return str(source.names[int(index)])


def _arrays(
  source: Any, index: int, first: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns the maps of an example, of the same kind as the first one's."""
  example = source[index]
  arrays = {
    "image": np.asarray(example["image"], np.float32),
    "label": np.asarray(example["label"], np.uint8),
  }
  for key, dtype in (("weight", np.float32), ("second_label", np.uint8)):
    if key in example:
      arrays[key] = np.asarray(example[key], dtype)
  size, channels = arrays["image"].shape[:2], arrays["image"].shape[2]
  if any(array.shape[:2] != size for array in arrays.values()):
    sizes = ", ".join(
      f"{key} {array.shape[0]}x{array.shape[1]}"
      for key, array in arrays.items()
    )
    raise errors.InputError(
      f"{_name(source, index)}: {sizes} pixels; for training they must be "
      "equal."
    )
  if first and first["image"].shape[2] != channels:
    raise errors.InputError(
      f"{_name(source, index)} has {channels} channel(s), "
      f"{_name(source, 0)} has {first['image'].shape[2]}; set data.channels."
    )
  if first and first.keys() != arrays.keys():
    raise errors.InputError(
      f"{_name(source, index)} has {', '.join(arrays)}, {_name(source, 0)} has "
      f"{', '.join(first)}; all examples must have the same."
    )
  return arrays


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


def _check_length(name: str, values: Any, channels: int) -> None:
  if np.size(values) not in (1, channels):
    raise errors.InputError(
      f"data.{name} has {np.size(values)} values for images of {channels} "
      "channel(s); give one, or one a channel."
    )


def operations(
  transforms: Transforms, mean: geometry.PerChannel
) -> list[tuple[str, Any, dict[str, Any]]]:
  """Returns name, function and parameters of what the config's words mean.

  Args:
    transforms: (name, parameters) in the order of application.
    mean: what padding is filled with, unless the parameters say otherwise.

  Raises:
    InputError: on an unknown name or parameter, with the nearest known one.
  """
  found = []
  for name, parameters in transforms:
    table = transforms_lib.TRANSFORMS
    if name not in table:
      raise errors.InputError(
        f"data.transforms: unknown {name!r}{_nearest(name, table)}"
      )
    known = dict(inspect.signature(table[name]).parameters)
    del known["example"], known["seed"]
    for key in parameters:
      if key not in known:
        raise errors.InputError(
          f"data.transforms, {name}: no parameter {key!r}{_nearest(key, known)}"
        )
    for key, parameter in known.items():
      if parameter.default is parameter.empty and key not in parameters:
        raise errors.InputError(f"data.transforms, {name}: {key} is missing.")
    size = parameters.get("size", (1, 1))
    pair = isinstance(size, tuple | list) and len(size) == 2
    if not pair or not all(isinstance(side, int) and side > 0 for side in size):
      raise errors.InputError(
        f"data.transforms, {name}: size must be (height, width) in pixels, got "
        f"{size!r}."
      )
    chosen = {"fill": mean} if "fill" in known else {}
    for key, value in parameters.items():
      whole = isinstance(known[key].default, float) and isinstance(value, int)
      chosen[key] = float(value) if whole and key != "fill" else value
    found.append((name, table[name], chosen))
  return found


def _nearest(word: str, known: Any) -> str:
  close = difflib.get_close_matches(word, list(known), n=1)
  hint = f"; did you mean {close[0]!r}?" if close else "."
  return f"{hint} Known: {', '.join(known)}."
