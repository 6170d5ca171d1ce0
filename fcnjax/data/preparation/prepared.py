"""A data set in shards: `preparing` has written it, TFDS reads it, too.

The folder holds array_record files of tf.train.Examples, TFDS's metadata, and
fcnjax.json with what training asks for: names, classes, colours, counts. An
example is read at random, without TensorFlow.
"""

import bisect
import functools
import hashlib
import io
import itertools
import json
import os
import pathlib
from typing import Any
import zlib

from array_record.python import array_record_data_source
from jaxtyping import Float, UInt8
import numpy as np
import PIL.Image
from tensorflow_datasets.proto import tf_example_pb2

from fcnjax import errors, typing
from fcnjax.data import images as images_lib, labels as labels_lib, sources
from fcnjax.data.preparation import manifest

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Prepared:
  """A split of a prepared data set; threads may read at will.

  Attributes:
    directory: where it lies.
    names: the name of each example.
    classes: k names, position = label.
    colors: k RGB triples in [0, 255], position = label.
    second_classes: names likewise, of "second_label"; () = there is none.
    channels: of the images.
    table: labels are stored, so all in [0, k) are themselves, 255 is ignored.
    image_size: (height, width) in pixels, or None = as they are stored.
    resize_label: whether the label is resized with the image.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    split: str,
    *,
    channels: int | None = None,
    image_size: tuple[int, int] | None = None,
    resize_label: bool = False,
    task: str | None = None,
  ):
    """Reads the metadata and looks whether all shards are there.

    Args:
      directory: the folder with fcnjax.json.
      split: one of its splits.
      channels: 1, 3 or 4 to read the images as, of arrays 3 where there is 1,
        which is repeated; None = as they are stored.
      image_size: see `sources.Files`.
      resize_label: see `sources.Files`.
      task: whose labels examples have as "label", "first" or "second"; None =
        the first's, and the second's as "second_label" where there are any.

    Raises:
      InputError: if there is no whole data set, no such split or task, or the
        channels cannot be had.
    """
    self.directory = pathlib.Path(directory)
    known = manifest.read(self.directory)
    if split not in known["splits"]:
      raise errors.InputError(
        f"{directory} has no split {split!r}; take one of"
        f" {', '.join(known['splits'])}."
      )
    self._name = split
    self._split = known["splits"][split]
    self._stored = known["image"]  # "encoded" or a data type
    self.names = list(self._split["names"])
    self.classes = tuple(known["classes"])
    self.colors = tuple(map(tuple, known["colors"]))
    self.second_classes = tuple(known["second_classes"] or ())
    self._key = "label"
    self._labels = self._split["labels"]  # a hash of all
    if task == "second":
      if not self.second_classes:
        raise errors.InputError(
          f"{directory} holds no labels of a second task; prepare the images"
          " with data.second_masks in a new folder."
        )
      self._key = "second_label"
      self._labels = f"second of {known['content']}"  # which have no hash
      self.classes = self.second_classes
      self.colors = images_lib.class_colors((), len(self.classes))
    if task is not None:
      self.second_classes = ()
    self.channels = channels or known["channels"]
    self.table = labels_lib.LabelTable.build(len(self.classes))
    self.image_size = None if image_size is None else tuple(image_size)
    self.resize_label = resize_label
    arrays = {1: (1, 3)}.get(known["channels"], (known["channels"],))
    if self.channels not in (_MODES if self._stored == "encoded" else arrays):
      raise errors.InputError(
        f"data.channels: {channels}, but {directory} holds"
        f" {known['channels']} of {self._stored}; set data.channels="
        f"{known['channels']}."
      )
    shards = self._split["shards"]
    self._files = [self.directory / shard["file"] for shard in shards]
    self._ends = list(itertools.accumulate(s["images"] for s in shards))
    manifest.require_whole(self.directory, known, split)
    self._records = array_record_data_source.ArrayRecordDataSource(
      [
        f"{file}[0:{shard['images']}]"
        for file, shard in zip(self._files, shards, strict=True)
      ]
    )

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: int) -> typing.Example:
    """Reads one example.

    Args:
      index: in [0, len(self)).

    Returns:
      "image", "label" and "name", and "second_label" where the data have one;
      see `sources`.

    Raises:
      InputError: if a shard is damaged; names it.
      IndexError: if `index` is out of range.
    """
    features = self._features(index)
    example = {
      "image": self._image(features, index),
      "label": self._label(features[self._key], index),
      "name": self.names[index],
    }
    if self.second_classes:
      example["second_label"] = self._label(features["second_label"], index)
    if self.image_size is None:
      return example
    for key, value in example.items():
      if key == "image":
        example[key] = sources.resize_image(value, self.image_size)
      elif key.endswith("label") and self.resize_label:
        example[key] = sources.resize_label(value, self.image_size)
    return example

  @functools.cached_property
  def second(self) -> "Prepared":
    """The same examples, whose "label" is that of the second task.

    Raises:
      InputError: if there is none.
    """
    return Prepared(
      self.directory,
      self._name,
      channels=self.channels,
      image_size=self.image_size,
      resize_label=self.resize_label,
      task="second",
    )

  def image(
    self, index: int
  ) -> UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]:
    """Returns an image as it is stored, before any resizing."""
    return self._image(self._features(index), index)

  def raw_label(self, index: int) -> UInt8[np.ndarray, "h w"]:
    """Returns a label as it is stored, before any resizing."""
    return self._label(self._features(index)[self._key], index)

  def label_file(self, index: int) -> str:
    """Returns shard and name of an example, for messages."""
    return f"{self._files[self._shard(index)]}:{self.names[index]}"

  def labels_version(self) -> str:
    """Returns a word that changes when any label does; reads none."""
    size = self.image_size if self.resize_label else None
    words = json.dumps([self._labels, size])
    return hashlib.sha256(words.encode()).hexdigest()

  def class_statistics(self) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns what was counted when the data were prepared.

    Returns:
      Pixels of each class and of the images that hold it, int64 [k]; None
      where they must be counted anew: of the second task, and where labels are
      resized.
    """
    resized = self.image_size is not None and self.resize_label
    if resized or self._key != "label":
      return None
    return (
      np.asarray(self._split["pixel_counts"], np.int64),
      np.asarray(self._split["image_pixel_counts"], np.int64),
    )

  def _shard(self, index: int) -> int:
    return bisect.bisect_right(self._ends, index % len(self))

  def _features(self, index: int) -> dict[str, Any]:
    """Returns the values of a record: bytes, or a list of numbers."""
    if not -len(self) <= index < len(self):
      raise IndexError(f"example {index} of {len(self)}")
    try:
      # A negative index counts from the end; the records know none.
      record = self._records[index % len(self)]
      features = tf_example_pb2.Example.FromString(record).features.feature
    except Exception as error:  # of a library in C++: of many types
      raise self._damaged(index, error) from error
    return {
      key: (
        value.bytes_list.value[0]
        if value.bytes_list.value
        else list(value.int64_list.value)
      )
      for key, value in features.items()
    }

  def _image(self, features: dict[str, Any], index: int) -> np.ndarray:
    if self._stored != "encoded":
      image = self._array(features, "image", np.dtype(self._stored), index)
      return image.repeat(self.channels // image.shape[-1], axis=-1)
    image = self._decoded(features["image"], _MODES[self.channels], index)
    return image.reshape(*image.shape[:2], self.channels)

  def _label(self, data: bytes, index: int) -> np.ndarray:
    return self._decoded(data, "L", index)

  def _decoded(self, data: bytes, mode: str, index: int) -> np.ndarray:
    try:
      with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
      raise self._damaged(index, error) from error

  def _array(self, features, key, dtype, index) -> np.ndarray:
    try:
      data = zlib.decompress(features[f"{key}/value"])
      shape = features[f"{key}/shape"]
      return np.frombuffer(data, dtype).reshape(shape).copy()
    except (KeyError, ValueError, zlib.error) as error:
      raise self._damaged(index, error) from error

  def _damaged(self, index: int, error: Exception) -> errors.InputError:
    reason = " ".join(str(error).split()).rstrip(".")
    return errors.InputError(
      f"{self.label_file(index)} cannot be read: {reason}; the shard is"
      " damaged, copy it again, or prepare the data set in a new folder."
    )
