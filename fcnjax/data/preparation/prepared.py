"""A data set in shards: `preparing` has written it, TFDS reads it, too.

The folder holds array_record files of tf.train.Examples, TFDS's metadata, and
fcnjax.json with what training asks for: names, classes, colours, counts. An
example is read at random, without TensorFlow.
"""

import bisect
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
from fcnjax.data import labels as labels_lib, sources
from fcnjax.data.preparation import manifest

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Prepared:
  """A split of a prepared data set; threads may read at will.

  Attributes:
    directory: where it lies.
    names: the name of each example.
    classes: k names, position = label.
    colors: k RGB triples in [0, 255], position = label.
    second_classes: likewise, of "second_label"; () = there is none.
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
  ):
    """Reads the metadata and looks whether all shards are there.

    Args:
      directory: the folder with fcnjax.json.
      split: one of its splits.
      channels: 1, 3 or 4 to read the images as; None = as they are stored.
      image_size: see `sources.Files`.
      resize_label: see `sources.Files`.

    Raises:
      InputError: if there is no whole data set, no such split, or the channels
        cannot be had.
    """
    self.directory = pathlib.Path(directory)
    known = manifest.read(self.directory)
    if split not in known["splits"]:
      raise errors.InputError(
        f"{directory} has no split {split!r}; take one of"
        f" {', '.join(known['splits'])}."
      )
    self._split = known["splits"][split]
    self._stored = known["image"]  # "encoded" or a data type
    self.names = list(self._split["names"])
    self.classes = tuple(known["classes"])
    self.colors = tuple(map(tuple, known["colors"]))
    self.second_classes = tuple(known["second_classes"] or ())
    self.channels = channels or known["channels"]
    self.table = labels_lib.LabelTable.build(len(self.classes))
    self.image_size = None if image_size is None else tuple(image_size)
    self.resize_label = resize_label
    if self.channels not in (
      _MODES if self._stored == "encoded" else [known["channels"]]
    ):
      raise errors.InputError(
        f"data.channels: {channels}, but {directory} holds"
        f" {known['channels']} of {self._stored}; set data.channels="
        f"{known['channels']}."
      )
    shards = self._split["shards"]
    self._files = [self.directory / shard["file"] for shard in shards]
    self._ends = list(itertools.accumulate(s["images"] for s in shards))
    for file, shard in zip(self._files, shards, strict=True):
      size = file.stat().st_size if file.is_file() else 0
      if size != shard["bytes"]:
        raise errors.InputError(
          f"{file} has {size} bytes, expected {shard['bytes']}: a part of the"
          " data set is missing; copy it again, or prepare it in a new folder."
        )
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
      "label": self._label(features["label"], index),
      "name": self.names[index],
    }
    if "second_label" in features:
      example["second_label"] = self._label(features["second_label"], index)
    if self.image_size is None:
      return example
    for key, value in example.items():
      if key == "image":
        example[key] = sources.resize_image(value, self.image_size)
      elif key.endswith("label") and self.resize_label:
        example[key] = sources.resize_label(value, self.image_size)
    return example

  def image(
    self, index: int
  ) -> UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]:
    """Returns an image as it is stored, before any resizing."""
    return self._image(self._features(index), index)

  def raw_label(self, index: int) -> UInt8[np.ndarray, "h w"]:
    """Returns a label as it is stored, before any resizing."""
    return self._label(self._features(index)["label"], index)

  def label_file(self, index: int) -> str:
    """Returns shard and name of an example, for messages."""
    return f"{self._files[self._shard(index)]}:{self.names[index]}"

  def labels_version(self) -> str:
    """Returns a word that changes when any label does; reads none."""
    size = self.image_size if self.resize_label else None
    words = json.dumps([self._split["labels"], size])
    return hashlib.sha256(words.encode()).hexdigest()

  def class_statistics(self) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns what was counted when the data were prepared.

    Returns:
      Pixels of each class and of the images that hold it, int64 [k]; None
      where labels are resized, so that they must be counted anew.
    """
    if self.image_size is not None and self.resize_label:
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
      return self._array(features, "image", np.dtype(self._stored), index)
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
