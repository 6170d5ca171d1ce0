"""The training set in device memory: batch t is a function of (seed, t).

For sets that fit there. Images and labels are put on the device once, as they
are stored; what a step needs from the host is which examples it sees. They are
cut, deformed and normalised by one jitted function, without TensorFlow.

The stream is ordered as pipeline.py's: position p = t * batch_size + j is place
p % n of epoch p // n, whose permutation comes from (seed, epoch), and the
random numbers of its transforms come from (seed, epoch, place). But permutation
and numbers are drawn by NumPy and JAX, and are others than tf.data's.
"""

from collections.abc import Iterator
from concurrent import futures
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fcnjax import errors, typing
from fcnjax.data import device_transforms, examples, recipes, views


class Resident:
  """A training set on the device, and the batches made of it.

  Attributes:
    nbytes: what it takes there, on each device.
  """

  def __init__(
    self,
    source: Any,
    *,
    batch_size: int,
    seed: int,
    transforms: recipes.Transforms = (),
    mean: recipes.PerChannel = 0.0,
    std: recipes.PerChannel = 1.0,
    label_margin: int = 0,
    workers: int = 2,
    replicated: jax.sharding.Sharding | None = None,
    by_example: jax.sharding.Sharding | None = None,
  ):
    """Reads the whole source, and puts it on the device.

    Args:
      source: see pipeline.training_batches.
      batch_size: examples a step, of all devices and processes together.
      seed: of the order and of the transforms.
      transforms: (name, parameters) in the order of application; the names are
        those of `device_transforms.TRANSFORMS`. Padding is filled with `mean`
        unless the parameters say otherwise.
      mean: subtracted from the image; one value or one a channel, in [0, 255].
      std: divides it then; likewise.
      label_margin: pixels cut from each side of label and weight, for networks
        with valid convolutions (U-Net: 92).
      workers: threads that read.
      replicated: where the set lies; None = on the first device.
      by_example: where the batches lie, their first axis over the devices;
        None = likewise.

    Raises:
      InputError: for an unknown transform, an unreadable example, transforms
        that do not end in a known size, or a set too large for the device.
    """
    if len(source) == 0:
      raise errors.InputError("The training set has no examples.")
    processes = jax.process_count()
    if batch_size < 1 or batch_size % processes:
      raise errors.InputError(
        f"batch_size must be a positive multiple of the {processes} "
        f"process(es), got {batch_size}."
      )
    maps = _read(source, workers)
    channels = maps[0]["image"].shape[-1]
    recipes.check_length("mean", mean, channels)
    recipes.check_length("std", std, channels)
    sizes = np.array([m["label"].shape for m in maps])
    areas = sizes.prod(axis=1)
    if areas.sum() >= 2**31:
      raise errors.InputError(
        f"data.resident: {areas.sum():,} pixels cannot be counted in 31 bits; "
        "set --config.data.resident=off, for which TensorFlow is needed."
      )
    held = {
      "pixels": {
        key: np.concatenate([_rows(m[key]) for m in maps]) for key in maps[0]
      },
      "first": (np.cumsum(areas) - areas).astype(np.int32),
      "size": sizes.astype(np.int32),
    }
    make = functools.partial(
      _batch,
      seed=seed,
      sizes=np.unique(sizes, axis=0),
      transforms=recipes.operations(
        transforms, device_transforms.TRANSFORMS, mean
      ),
      mean=mean,
      std=std,
      label_margin=label_margin,
    )
    self._names = list(map(str, source.names))
    self._batch_size, self._seed = batch_size, seed
    try:
      jax.eval_shape(make, held, self._where(0))
    except errors.InputError:
      raise
    except (TypeError, ValueError) as error:
      words = str(error).splitlines()[0]
      raise errors.InputError(f"data.transforms: {words}") from error
    self.nbytes = sum(array.nbytes for array in jax.tree.leaves(held))
    self._by_example = by_example
    try:
      self._held = jax.block_until_ready(jax.device_put(held, replicated))
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      raise errors.InputError(
        f"data.resident: the training set takes {self.nbytes / 1e9:.1f} GB, "
        "which the device has not; set --config.data.resident=off, for which "
        "TensorFlow is needed."
      ) from error
    self._make = jax.jit(make, out_shardings=by_example)

  def batch(self, step: int) -> typing.Batch:
    """Returns the batch of a step, on the device; waits for nothing.

    Returns:
      image float32 [b, h, w, c], label int32 [b, h', w'] and, if the source
      has them, weight float32 and second_label int32 [b, h', w'].
    """
    where = self._where(step)
    if self._by_example is None:
      where = jax.device_put(where)
    else:
      local = self._batch_size // jax.process_count()
      own = slice(jax.process_index() * local, None)
      where = jax.make_array_from_process_local_data(
        self._by_example, where[own][:local]
      )
    return self._make(self._held, where)

  def batches(self, start_step: int = 0) -> Iterator[typing.Batch]:
    """Yields the batches from a step on, without end."""
    while True:
      yield self.batch(start_step)
      start_step += 1

  def names(self, step: int) -> list[str]:
    """Returns the names of the examples of a (global) batch, in its order."""
    return [self._names[index] for index in self._where(step)[:, 0]]

  def _where(self, step: int) -> np.ndarray:
    """Returns int32 [b, 3]: index in the source, epoch, place in the epoch."""
    count = len(self._names)
    rows = []
    for position in range(
      step * self._batch_size, (step + 1) * self._batch_size
    ):
      epoch, place = divmod(position, count)
      index = _permutation(self._seed, epoch, count)[place]
      rows.append((index, epoch, place))
    return np.array(rows, np.int32)


def refusal(
  source: Any, *, transforms: recipes.Transforms, gigabytes: float
) -> str:
  """Returns why a set should not be held on the device, or "" if it should.

  It is judged by up to eight of its examples, which are read.

  Args:
    source: the training set.
    transforms: see `Resident`.
    gigabytes: what it may take on the device, in units of 1e9 bytes.
  """
  count = len(source)
  some = np.unique(np.linspace(0, count - 1, min(count, 8)).astype(int))
  maps = [examples.training_maps(source, int(index), {}) for index in some]
  needed = sum(a.nbytes for m in maps for a in m.values()) / len(maps) * count
  if needed > gigabytes * 1e9:
    return f"it takes {needed / 1e9:.1f} GB"
  areas = [m["label"].size for m in maps]
  if sum(areas) / len(areas) * count >= 2**31:
    return "its pixels cannot be counted in 31 bits"
  sizes = np.unique([m["label"].shape for m in maps], axis=0)
  chosen = recipes.operations(transforms, device_transforms.TRANSFORMS, 0.0)

  def whole(pixels, size):
    view = _view(pixels, 0, size, sizes)
    return _augmented(view, jax.random.key(0), chosen).whole()

  pixels = {key: _rows(value) for key, value in maps[0].items()}
  try:
    jax.eval_shape(whole, pixels, sizes[0].astype(np.int32))
  except errors.InputError as error:
    return str(error)
  return ""


def _read(source: Any, workers: int) -> list[dict[str, np.ndarray]]:
  first = examples.training_maps(source, 0, {})
  pool = futures.ThreadPoolExecutor(workers)
  try:
    rest = pool.map(
      lambda index: examples.training_maps(source, index, first),
      range(1, len(source)),
    )
    return [first, *rest]
  finally:
    pool.shutdown(cancel_futures=True)


def _rows(values: np.ndarray) -> np.ndarray:
  """Returns [h, w, ...] as [h * w, ...]."""
  return values.reshape(-1, *values.shape[2:])


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
  return np.random.default_rng((seed % 2**64, epoch)).permutation(count)


def _batch(held, where, *, seed, sizes, transforms, mean, std, label_margin):
  """Returns the batch of int32 [b, 3]: index, epoch, place."""
  # Both words of the seed: `jax.random.key` keeps the lower one alone.
  key = jax.random.fold_in(jax.random.key(seed % 2**32), seed // 2**32 % 2**32)

  def one(where):
    index, epoch, place = where
    view = _view(
      held["pixels"], held["first"][index], held["size"][index], sizes
    )
    own = jax.random.fold_in(jax.random.fold_in(key, epoch), place)
    maps = _augmented(view, own, transforms).whole()
    return _normalised(maps, mean, std, label_margin)

  return jax.vmap(one)(where)


def _view(pixels, first, size, sizes) -> views.View:
  """Returns a stored example; its size is known if all have the same."""
  height, width = (int(side) for side in sizes[0])
  return views.of_pixels(
    pixels,
    size=(height, width) if len(sizes) == 1 else (size[0], size[1]),
    largest=sizes,
    first=first,
  )


def _augmented(
  view: views.View, key: jax.Array, transforms: list[tuple[str, Any, dict]]
) -> views.View:
  for number, (name, operation, parameters) in enumerate(transforms):
    own = jax.random.fold_in(key, number)
    try:
      view = operation(view, own, **parameters)
    except (TypeError, ValueError) as error:
      words = str(error).splitlines()[0]
      raise errors.InputError(f"data.transforms, {name}: {words}") from error
  if not view.fixed:
    raise errors.InputError(
      "data.transforms: on the device, where the training set is held "
      "(data.resident), every example must end in one size; end them with a "
      "random_crop or a resize, or set --config.data.resident=off, for which "
      "TensorFlow is needed."
    )
  return view


def _normalised(
  maps: views.Maps,
  mean: recipes.PerChannel,
  std: recipes.PerChannel,
  label_margin: int,
) -> views.Maps:
  mean, std = (
    np.reshape(np.asarray(v, np.float32), (1, 1, -1)) for v in (mean, std)
  )
  image = (maps["image"] - mean) / std
  inner = slice(label_margin, -label_margin if label_margin else None)
  normalised = {"image": image}
  for key in maps.keys() - {"image"}:
    values = maps[key][inner, inner]
    weight = key == "weight"
    normalised[key] = values if weight else values.astype(jnp.int32)
  if not normalised["label"].size:
    raise errors.InputError(
      "data.label_margin leaves nothing of the labels of images of "
      f"{image.shape[0]}x{image.shape[1]} pixels; use larger ones."
    )
  return normalised
