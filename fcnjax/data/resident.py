"""The training set in device memory: batch t is a function of (seed, t).

For sets that fit there. Images and labels are put on the device once, as they
are stored; what a step needs from the host is which examples it sees. They are
cut, deformed and normalised by one jitted function, without TensorFlow.

The stream is pipeline.py's: an order tells which example stands at position
p = t * batch_size + j, and the random numbers of its transforms come from the
seed and p (as epoch and place in it). But these are drawn by JAX, and are
others than tf.data's.
"""

from collections.abc import Iterator
import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fcnjax import errors, hosts, typing
from fcnjax.data import (
  device_transforms,
  examples,
  mixing as mixing_lib,
  normalization,
  order as orders,
  reading,
  recipes,
  views,
)


class Resident:
  """A training set on the device, and the batches made of it.

  Attributes:
    nbytes: what it takes there, on each device.
    count: of the examples held.
  """

  def __init__(
    self,
    reader: reading.Reader,
    *,
    batch_size: int,
    transforms: recipes.Transforms = (),
    mixing: recipes.Transforms = (),
    mean: recipes.PerChannel = 0.0,
    std: recipes.PerChannel = 1.0,
    label_margin: int = 0,
    workers: int = 2,
    replicated: jax.sharding.Sharding | None = None,
    by_example: jax.sharding.Sharding | None = None,
    by_row: jax.sharding.Sharding | None = None,
  ):
    """Reads the whole source, and puts it on the device.

    Args:
      reader: gives the maps of all examples, and what stands at each position;
        its seed is that of the transforms, too.
      batch_size: examples a step, of all devices and processes together.
      transforms: (name, parameters) in the order of application; the names are
        those of `device_transforms.TRANSFORMS`. Padding is filled with `mean`
        unless the parameters say otherwise.
      mixing: (name, parameters) of `mixing.MIXERS`: what is pasted into an
        example, after the transforms, of others that were transformed alike.
      mean: subtracted from the image; one value or one a channel, in [0, 255].
      std: divides it then; likewise.
      label_margin: pixels cut from each side of label and weight, for networks
        with valid convolutions (U-Net: 92).
      workers: threads that read.
      replicated: where the set lies; None = on the first device.
      by_example: where the numbers lie that tell which examples a batch has,
        their first axis over the devices; None = likewise.
      by_row: where the batches lie; None = as these numbers.

    Raises:
      InputError: for an unknown transform, an unreadable example, transforms
        that do not end in a known size, or a set too large for the device.
    """
    processes = jax.process_count()
    if batch_size < 1 or batch_size % processes:
      raise errors.InputError(
        f"batch_size must be a positive multiple of the {processes} "
        f"process(es), got {batch_size}."
      )
    every = reader.every(workers)
    maps = [m for m in every if m is not None]
    # Where an example lies among those that can be read.
    self._rows = np.cumsum([m is not None for m in every]) - 1
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
      seed=reader.seed,
      sizes=np.unique(sizes, axis=0),
      transforms=recipes.operations(
        transforms, device_transforms.TRANSFORMS, mean
      ),
      mean=mean,
      std=std,
      label_margin=label_margin,
    )
    self.count = len(maps)
    self._reader, self._batch_size = reader, batch_size
    self._plan = mixing_lib.plan(mixing, reader.seed)
    self._boxes = len(self._plan(0))
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
      self._held = jax.block_until_ready(_put(held, replicated))
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      raise errors.InputError(
        f"data.resident: the training set takes {self.nbytes / 1e9:.1f} GB, "
        "which the device has not; set --config.data.resident=off, for which "
        "TensorFlow is needed."
      ) from error
    self._make = jax.jit(make, out_shardings=by_row or by_example)

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
      where = {
        key: hosts.spread(value[own][:local], self._by_example)
        for key, value in where.items()
      }
    return self._make(self._held, where)

  def batches(self, start_step: int = 0) -> Iterator[typing.Batch]:
    """Yields the batches from a step on, without end."""
    while True:
      yield self.batch(start_step)
      start_step += 1

  def indices(self, step: int) -> list[int]:
    """Returns which examples a (global) batch has; see `reading.Reader`."""
    return self._reader.indices(step, self._batch_size, self._plan)

  def names(self, step: int) -> list[str]:
    """Returns the names of the examples of a (global) batch, in its order."""
    return self._reader.names(step, self._batch_size, self._plan)

  def _where(self, step: int) -> dict[str, np.ndarray]:
    """Returns what a step needs from the host.

    "row" int32 [b, 1 + m]: where the example, and each that is pasted into it,
    lies; "place" int32 [b, 2]: the epoch, and the place in it; "box" float32
    [b, m, 4].
    """
    count = len(self._rows)
    positions = range(step * self._batch_size, (step + 1) * self._batch_size)
    rows = [
      [
        self._rows[self._reader.index(position + number * orders.FAR)]
        for number in range(self._boxes + 1)
      ]
      for position in positions
    ]
    return {
      "row": np.array(rows, np.int32),
      "place": np.array([divmod(p, count) for p in positions], np.int32),
      "box": np.stack([self._plan(position) for position in positions]),
    }


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
  maps = []
  for index in some:
    # What is bad is met again when all are read, and dealt with there.
    with contextlib.suppress(errors.InputError):
      maps.append(examples.training_maps(source, int(index), {}))
  if not maps:
    return ""
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


def _put(held: Any, replicated: jax.sharding.Sharding | None) -> Any:
  """Puts on the devices what every process has read."""
  if replicated is None or replicated.is_fully_addressable:
    return jax.device_put(held, replicated)
  # `device_put` would gather it from all processes, to compare.
  return jax.tree.map(
    lambda x: jax.make_array_from_callback(x.shape, replicated, x.__getitem__),
    held,
  )


def _rows(values: np.ndarray) -> np.ndarray:
  """Returns [h, w, ...] as [h * w, ...]."""
  return values.reshape(-1, *values.shape[2:])


def _batch(held, where, *, seed, sizes, transforms, mean, std, label_margin):
  """Returns the batch of what `Resident._where` tells."""
  # Both words of the seed: `jax.random.key` keeps the lower one alone.
  key = jax.random.fold_in(jax.random.key(seed % 2**32), seed // 2**32 % 2**32)

  def maps_of(row, own):
    view = _view(held["pixels"], held["first"][row], held["size"][row], sizes)
    return _augmented(view, own, transforms).whole()

  def one(where):
    epoch, place = where["place"]
    own = jax.random.fold_in(jax.random.fold_in(key, epoch), place)
    maps = maps_of(where["row"][0], own)
    for number in range(where["box"].shape[0]):
      # Counted down, where the transforms are counted up.
      theirs = jax.random.fold_in(own, 2**32 - 1 - number)
      other = maps_of(where["row"][number + 1], theirs)
      maps = _pasted(maps, other, where["box"][number])
    return _finished(maps, mean, std, label_margin)

  return jax.vmap(one)(where)


def _pasted(maps: views.Maps, other: views.Maps, box: jax.Array) -> views.Maps:
  """Returns the maps with what another example has in a box; see mixing.py."""
  height, width = maps["label"].shape
  box = jnp.round(box * jnp.asarray([height, width] * 2, jnp.float32))
  rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
  inside = (rows >= box[0]) & (columns >= box[1])
  inside &= (rows < box[2]) & (columns < box[3])
  return {
    key: jnp.where(
      inside[..., None] if values.ndim == 3 else inside, other[key], values
    )
    for key, values in maps.items()
  }


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


def _finished(
  maps: views.Maps,
  mean: recipes.PerChannel,
  std: recipes.PerChannel,
  label_margin: int,
) -> views.Maps:
  """Returns the maps normalised, labels and weight without the margin."""
  inner = slice(label_margin, -label_margin if label_margin else None)
  cut = {
    key: values if key == "image" else values[inner, inner]
    for key, values in maps.items()
  }
  if not cut["label"].size:
    height, width = maps["label"].shape
    raise errors.InputError(
      "data.label_margin leaves nothing of the labels of images of "
      f"{height}x{width} pixels; use larger ones."
    )
  return normalization.normalized(cut, mean=mean, std=std)
