"""From the config's data words to sources, and what is computed from them."""

from collections.abc import Callable
import functools
import pathlib
from typing import Any

import ml_collections

from fcnjax import errors
from fcnjax.cli import defaults, training_sets
from fcnjax.data import (
  datasets,
  findings,
  folders,
  mixture,
  scenes,
  second_source,
  sources,
  weight_maps,
)
from fcnjax.data.preparation import manifest

SPLITS = {"train": "train_split", "val": "eval_split", "test": "test_split"}


def _folder(data, split, size, resize_label, tell=findings.refuse):
  if split == "test":
    raise errors.InputError(
      "data.test_split: a folder has the splits train and val; give the test "
      "images as data.val_images and data.val_masks."
    )
  for key in ("images", "masks"):
    if not data[key]:
      raise errors.InputError(
        f"data.{key} is not set; give the folder, as in "
        f"--config.data.{key}=photos/{key}."
      )
  missing = [
    d for d in (data.images, data.masks) if not pathlib.Path(d).is_dir()
  ]
  if missing and data.obtain:
    raise errors.InputError(f"no folder {missing[0]}: {data.obtain}")
  if data.val_images and (data.second_images or data.second_masks):
    raise errors.InputError(
      "data.val_images: with data.second_images or data.second_masks, what is "
      "validated on is told by data.val_list or data.val_fraction."
    )
  words = {
    "images": data.images,
    "masks": data.masks,
    "split": split,
    "num_classes": data.num_classes or None,
    "class_names": data.class_names or None,
    "colors": data.colors,
    "label_map": _plain(data.label_map),
    "mask_values": data.mask_values or None,
    "ignore": data.ignore,
    "image_suffix": data.image_suffix,
    "mask_suffix": data.mask_suffix,
    "val_images": data.val_images or None,
    "val_masks": data.val_masks or None,
    "train_list": data.train_list or None,
    "val_list": data.val_list or None,
    "val_fraction": data.val_fraction,
    "channels": data.channels,
    "image_size": size,
    "resize_label": resize_label,
    "tell": tell,
    "compare_sizes": _compares_sizes(data, resize_label, tell),
  }
  source = folders.folder(**words)
  if data.second_images:
    other = {
      "images": data.second_images,
      "image_suffix": data.second_suffix,
      "channels": data.second_channels,
    }
    source = second_source.Second(
      source, folders.folder(**words | other), "image", log=data.second_log
    )
  if data.second_masks:
    source = second_source.Second(
      source, folders.folder(**words | _second_task(data)), "label"
    )
  return source


def _compares_sizes(data, train, tell):
  """Whether all files' heads are read before any is, which stops at a fault."""
  passes_over = train and data.on_bad_example == "skip"
  return tell is findings.refuse and not passes_over


def _second_task(data):
  return {
    "masks": data.second_masks,
    "num_classes": data.second_classes,
    "class_names": (),
    "colors": (),
    "mask_values": (),
  }


def _card(data, split, size, resize_label, tell=findings.refuse):
  def part(name, channels, extra=None):
    prepared = manifest.directory(data.root, name, extra)
    if data.root and manifest.is_finished(prepared):
      return _opened(prepared, split, channels, size, resize_label)
    return sources.card(
      name,
      data.root or None,
      split,
      extra=extra,
      channels=channels,
      image_size=size,
      resize_label=resize_label,
      compare_sizes=_compares_sizes(data, resize_label, tell),
    )

  source = part(data.source, data.channels, data.images or None)
  if data.second_images:
    other = part(data.source, data.second_channels, data.second_images)
    source = second_source.Second(source, other, "image", log=data.second_log)
  if data.second_masks:
    other = part(data.second_masks, data.channels)
    source = second_source.Second(source, other, "label")
  return source


def _prepared(data, split, size, resize_label, tell=findings.refuse):
  del tell
  if not data.root:
    raise errors.InputError(
      "data.source=prepared: set --config.data.root=DIR, the folder that "
      "fcnjax prepare-folder --output DIR has written."
    )
  if data.second_images:
    raise errors.InputError(
      "data.second_images: prepared images hold all their channels; leave it "
      "empty, and let data.channels be the number of all."
    )
  task = None if data.second_masks else "first"
  source = _opened(data.root, split, data.channels, size, resize_label, task)
  found = len(source.second_classes)
  if data.second_masks and not found:
    raise errors.InputError(
      f"data.second_masks: {data.root} was prepared without; leave it empty "
      "or prepare the images with data.second_masks in a new folder."
    )
  if data.second_masks and data.second_classes != found:
    raise errors.InputError(
      f"data.second_classes: {data.second_classes}, but the second labels in "
      f"{data.root} have {found} classes; set data.second_classes={found}."
    )
  return source


def _opened(directory, split, channels, size, resize_label, task="first"):
  # TFDS, by whose messages the records are read, takes most of a second.
  from fcnjax.data.preparation import prepared

  return prepared.Prepared(
    directory,
    split,
    channels=channels,
    image_size=size,
    resize_label=resize_label,
    task=task,
  )


def _scenes(data, split, size, resize_label):
  del resize_label
  if data.channels != 3:
    raise errors.InputError(
      "data.source=scenes: the embedded images are RGB; leave data.channels=3."
    )
  return scenes.Scenes(split, **({"size": size} if size else {}))


SOURCES: dict[str, Callable[..., Any]] = {
  "scenes": _scenes,
  "folder": _folder,
  "prepared": _prepared,
  **dict.fromkeys(datasets.CARDS, _card),
}


def _plain(value: Any) -> Any:
  return value.to_dict() if hasattr(value, "to_dict") else value


# Those that can tell of faults instead of stopping at the first.
_TELLING = (_folder, _card)


def source(
  config: ml_collections.ConfigDict,
  which: str,
  *,
  tell: findings.Tell = findings.refuse,
) -> Any:
  """Returns the source of a split.

  Args:
    config: the whole config.
    which: "train", "val" or "test": the word of `SPLITS`. In "train"
      labels follow `image_size`; in the others they keep their resolution.
    tell: what is told of files that do not fit together; see
      `folders.folder`.

  Raises:
    InputError: if the data are not there or the words do not fit, and by
      default if files do not fit together.
  """
  data = config.data
  if data.mix and which == "train":
    return mixture.Mixture(
      [source(own, "train", tell=tell) for _, own in training_sets.of(config)]
    )
  second = config.evaluation.task == "second" and which != "train"
  if second and not data.second_masks:
    raise errors.InputError(
      "evaluation.task: 'second', but data.second_masks is not set."
    )
  if second and data.source != "prepared":
    other = (
      {"source": data.second_masks}
      if data.source in datasets.CARDS
      else _second_task(data)
    )
    data = data.copy_and_resolve_references()
    with data.ignore_type(), data.unlocked():
      data.update(other | {"second_masks": ""})
  if data.source not in SOURCES:
    raise errors.InputError(
      f"data.source: {data.source!r} is unknown; choose one of "
      f"{', '.join(SOURCES)}."
    )
  if data.source == "scenes" and (data.second_images or data.second_masks):
    raise errors.InputError(
      "data.second_images, data.second_masks: the embedded scenes have "
      "neither; they are for data.source=folder and for data sets."
    )
  split = data[SPLITS[which]]
  if not split:
    raise errors.InputError(
      f"data.{SPLITS[which]} is not set; this data set has no such split. To "
      "score other images, give them as --config.data.val_images=DIR "
      "--config.data.val_masks=DIR."
    )
  size = tuple(data.image_size) if any(data.image_size) else None
  opened = SOURCES[data.source]
  told = {"tell": tell} if opened in _TELLING else {}
  found = opened(data, split, size, which == "train", **told)
  if not second and data.num_classes not in (0, len(found.classes)):
    raise errors.InputError(
      f"data.num_classes: {data.num_classes}, but the data of "
      f"data.source={data.source} have {len(found.classes)} classes; leave the "
      "word out, it is for data.source=folder."
    )
  # The records of prepared data hold the labels of both tasks.
  return found.second if second and data.source == "prepared" else found


# What is said of a folder's files; other sources know it themselves.
_OF_FOLDERS = (
  "images",
  "masks",
  "image_suffix",
  "mask_suffix",
  "class_names",
  "colors",
  "mask_values",
  "ignore",
  "label_map",
  "val_fraction",
  "val_images",
  "val_masks",
  "train_list",
  "val_list",
)


def unused(config: ml_collections.ConfigDict, source: Any) -> str:
  """Returns a line about words of a folder that no folder is there for, or "".

  They are no error: a config of a folder, by which the folder was prepared,
  also trains on what was prepared.

  Args:
    config: the whole config.
    source: what `source` has returned for it.
  """
  data = config.data
  if data.source == "folder" or data.mix:
    return ""
  usual = defaults.get_config().data
  words = [word for word in _OF_FOLDERS if data[word] != usual[word]]
  if data.source in datasets.CARDS and "images" in words:
    words.remove("images")  # which of its pictures are seen
  if tuple(data.class_names) == tuple(source.classes):
    words = [word for word in words if word != "class_names"]
  if not words:
    return ""
  named = ", ".join(f"data.{word}" for word in words)
  return (
    f"not used with data.source={data.source}: {named}; leave out what is for "
    "data.source=folder"
  )


def channels(config: ml_collections.ConfigDict) -> int:
  """Returns the number of channels that the network sees."""
  data = config.data
  return data.channels + (data.second_channels if data.second_images else 0)


def class_weights(
  config: ml_collections.ConfigDict, train: Any
) -> Callable[[pathlib.Path], tuple[float, ...] | None]:
  """Returns a function of a cache folder: to a factor for each class, or None.

  The words are checked at once, before anything is written; what must be
  counted is counted, and cached, when the function is called.

  Raises:
    InputError: if loss.class_weights is no known word and no k numbers, or
      loss.separation is set besides.
  """
  word, count = config.loss.class_weights, len(train.classes)
  power = config.loss.class_weight_power
  if word in ("", "none"):
    if config.loss.balance == "sample":
      raise errors.InputError(
        "loss.balance: 'sample' needs loss.class_weights, by which the pixels "
        "are drawn; set --config.loss.class_weights=median_frequency."
      )
    return lambda cache: None
  if config.loss.separation:
    raise errors.InputError(
      f"loss.class_weights: {word!r}, but loss.separation balances the classes "
      "already (w_c of U-Net's eq. 2); set one of them to 'none' or 0."
    )
  if word == "median_frequency":
    return functools.partial(
      _median_frequency, train, power, config.data.on_bad_example == "skip"
    )
  if word == "card":
    weights = getattr(
      datasets.CARDS.get(config.data.source), "class_weights", None
    )
    if not weights:
      raise errors.InputError(
        f"loss.class_weights='card': the data set {config.data.source!r} has "
        "no published ones; use 'median_frequency'."
      )
    return lambda cache: tuple(w**power for w in weights)
  try:
    weights = tuple(float(w) for w in word.strip("()[]").split(","))
  except ValueError as error:
    raise errors.InputError(
      f"loss.class_weights: {word!r} is unknown; use none, median_frequency, "
      "card or numbers as in '0.5,2,1'."
    ) from error
  if len(weights) != count:
    raise errors.InputError(
      f"loss.class_weights: {len(weights)} numbers for {count} classes "
      f"({', '.join(train.classes)}); give one a class."
    )
  return lambda cache: tuple(w**power for w in weights)


def _median_frequency(
  train: Any, power: float, skip: bool, cache: pathlib.Path
) -> tuple[float, ...]:
  found = weight_maps.class_statistics(
    train, cache, num_classes=len(train.classes), skip=skip
  )
  weights = weight_maps.median_frequency_weights(
    found.pixel_counts, found.image_pixel_counts
  )
  return tuple(float(w) ** power for w in weights)


def with_pixel_weights(
  config: ml_collections.ConfigDict, train: Any, cache: pathlib.Path
) -> Any:
  """Returns the source with U-Net's weight maps if loss.separation is set."""
  if not config.loss.separation:
    return train
  return weight_maps.cached(
    train,
    cache / "weights",
    w0=config.loss.separation,
    sigma=config.loss.separation_sigma,
    foreground=config.loss.separation_class,
  )
