"""One example as a record of a prepared data set: a tf.train.Example."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import io
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from fcnjax import errors
from fcnjax.data import sources

_PNG = (1, 3, 4)  # channels that a PNG may have
_ORIENTATION = 0x0112  # EXIF 2.3
# (mode, channels) of files whose bytes are kept.
_KEPT = (("L", 1), ("L", 3), ("RGB", 3), ("RGBA", 4))


@dataclasses.dataclass(frozen=True)
class Form:
  """What all examples of a data set have in common.

  Attributes:
    classes: k names.
    channels: of the images.
    image: "encoded" as JPEG or PNG, or the data type of the stored arrays.
    second_classes: of the second task; None = there is none.
  """

  classes: tuple[str, ...]
  channels: int
  image: str
  second_classes: tuple[str, ...] | None


def form(splits: Mapping[str, Any]) -> Form:
  """Returns what the first example tells about all.

  Raises:
    InputError: if a split is empty or the splits' classes differ.
  """
  sets = {tuple(source.classes) for source in splits.values()}
  if len(sets) != 1 or not all(len(source) for source in splits.values()):
    raise errors.InputError(
      f"the splits {', '.join(splits)} must have examples, and all the same"
      " classes."
    )
  source = next(iter(splits.values()))
  example = source[0]
  image = example["image"]
  encoded = image.dtype == np.uint8 and image.shape[-1] in _PNG
  second = None
  if "second_label" in example:
    known = getattr(source, "second_classes", None)  # of a prepared one
    second = tuple(known or source.second.classes)
  return Form(
    classes=tuple(source.classes),
    channels=image.shape[-1],
    image="encoded" if encoded else image.dtype.name,
    second_classes=second,
  )


def features(form: Form) -> tfds.features.FeaturesDict:
  """Returns how TFDS reads the records."""
  shape = (None, None, form.channels)
  if form.image == "encoded":
    image = tfds.features.Image(shape=shape)
  else:
    image = tfds.features.Tensor(
      shape=shape, dtype=np.dtype(form.image), encoding="zlib"
    )
  found = {
    "image": image,
    "label": _labeled_image(form.classes),
    "name": tfds.features.Text(),
  }
  if form.second_classes is not None:
    found["second_label"] = _labeled_image(form.second_classes)
  return tfds.features.FeaturesDict(found)


def _labeled_image(classes: Sequence[str]) -> tfds.features.LabeledImage:
  return tfds.features.LabeledImage(
    labels=list(classes), shape=(None, None, 1), encoding_format="png"
  )


class Record(NamedTuple):
  """A serialized example, and what is counted of it.

  Attributes:
    data: a tf.train.Example.
    sums: [2, c], of the values and of their squares a channel; whole numbers
      of any size for uint8 images, so that totals are exact.
    size: pixels.
    label_counts: [256], pixels of each label.
    label_hash: of the label's size and values.
  """

  data: bytes
  sums: np.ndarray
  size: int
  label_counts: np.ndarray
  label_hash: bytes


def record(
  source: Any,
  index: int,
  features: tfds.features.FeaturesDict,
  form: Form,
) -> Record:
  """Reads, checks and serializes an example; threads may call it.

  Raises:
    InputError: if it cannot be read, or is not of the form of the first.
  """
  example = source[index]
  image, label = example["image"], example["label"]
  name = source.names[index]
  stored = form.image == "encoded"
  expected = np.dtype("uint8" if stored else form.image)
  if image.shape[-1] != form.channels or image.dtype != expected:
    raise errors.InputError(
      f"{name}: an image of {image.shape[-1]} channel(s) of {image.dtype}, but"
      f" the first has {form.channels} of {expected}; set data.channels, or"
      " save all images with equally many bits."
    )
  values = {
    "image": _encoded(source, index, image) if stored else image,
    "label": _png(label),
    "name": name,
  }
  if form.second_classes is not None:
    values["second_label"] = _png(example["second_label"])
  hashed = hashlib.sha256(f"{label.shape}".encode())
  hashed.update(np.ascontiguousarray(label))
  return Record(
    data=_serialized(values, features),
    sums=_sums(image),
    size=label.size,
    label_counts=np.bincount(label.ravel(), minlength=256),
    label_hash=hashed.digest(),
  )


def _serialized(
  values: dict[str, Any], features: tfds.features.FeaturesDict
) -> bytes:
  """As TFDS does it, but with the keys in the same order in every process."""
  serializer = example_serializer.ExampleSerializer(
    features.get_serialized_info()
  )
  example = serializer.get_tf_example(features.encode_example(values))
  return example.SerializeToString(deterministic=True)


def _sums(image: np.ndarray) -> np.ndarray:
  flat = image.reshape(-1, image.shape[-1])
  if image.dtype != np.uint8:
    wide = flat.astype(np.float64)
    return np.stack([wide.sum(0), np.square(wide).sum(0)]).astype(object)
  values = np.arange(256)
  histograms = np.stack([np.bincount(c, minlength=256) for c in flat.T])
  return np.stack([histograms @ values, histograms @ values**2]).astype(object)


def _encoded(source: Any, index: int, image: np.ndarray) -> bytes:
  """Returns the bytes of the image's file, or a PNG of its pixels."""
  if isinstance(source, sources.Files) and source.image_size is None:
    data = source.pairs[index][0].read_bytes()
    with PIL.Image.open(io.BytesIO(data)) as file:
      # Orientation is for viewers and not for TFDS, which gives the pixels as
      # they lie; palettes and transparency it reads in another way than we do.
      if (
        file.format in ("JPEG", "PNG")
        and (file.mode, image.shape[-1]) in _KEPT
        and PIL.Image.Image.getexif(file).get(_ORIENTATION, 1) == 1
      ):
        return data
  return _png(image[..., 0] if image.shape[-1] == 1 else image)


def _png(pixels: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
  return buffer.getvalue()
