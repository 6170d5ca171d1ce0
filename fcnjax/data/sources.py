"""Random-access sources of examples: files, a card, arrays.

A source has a length and gives example i as a dict with "image" (uint8 or
float32 [h, w, c] in [0, 255]), "label" (uint8 [h, w] in [0, k) or 255) and
"name". Besides it has `names`, `classes`, `colors`, `channels`, and for the
checks `image(i)`, `raw_label(i)`, `label_file(i)` and `table`, the only place
where raw values become labels. `Files` also has `labels_version()`, by which
what is counted of its labels can be kept. Reading an example keeps nothing, so
threads may read at will.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
import hashlib
import json
import pathlib

from jaxtyping import Float, Integer, UInt8
import numpy as np
import PIL.Image

from fcnjax import errors, typing
from fcnjax.data import (
  datasets,
  images as images_lib,
  labels as labels_lib,
  pairs as pairs_lib,
)


class Files:
  """Pairs of an image file and a mask file.

  Attributes:
    pairs: (image file, mask file) of each example.
    names: the name of each example.
    classes: k names, position = label.
    colors: k RGB triples in [0, 255], position = label.
    channels: of the images; None = as in the files.
    table: how raw values become labels.
    image_size: (height, width) in pixels, or None = as in the files.
    resize_label: whether the label is resized with the image.
  """

  def __init__(
    self,
    pairs: Sequence[pairs_lib.Pair],
    *,
    classes: Sequence[str],
    colors: Sequence[Sequence[int]] = (),
    label_map: Mapping | str | None = None,
    ignore: int | Collection[int] = typing.IGNORE,
    channels: int | None = 3,
    image_size: tuple[int, int] | None = None,
    resize_label: bool = False,
    names: Sequence[str] | None = None,
    read_mask: Callable[[pathlib.Path], np.ndarray] | None = None,
    compare_sizes: bool = True,
  ):
    """Builds the index and compares the sizes of images and masks.

    Args:
      pairs: (image file, mask file); their headers are read, no pixels.
      classes: k names, position = label.
      colors: RGB triples in [0, 255]. They show the classes, and read colour
        masks: there, position = raw value, and there may be more than k.
        Without any, PASCAL VOC's palette shows the classes.
      label_map: {raw value: label in [0, k) or 255} or the name of one; see
        `labels.LabelTable`.
      ignore: raw value, or values, that become 255.
      channels: 1, 3, 4 or None; see `images.read_image`.
      image_size: (height, width) in pixels that images are resized to,
        bilinearly with antialiasing. None keeps theirs.
      resize_label: whether labels follow `image_size`, by nearest neighbour,
        as training needs. Otherwise they keep their own resolution, at which
        predictions are to be evaluated.
      names: of the examples; by default the images' stems.
      read_mask: mask file -> raw values, integers [h, w], for masks that
        `images.read_mask` cannot read or should not. Sizes of masks that are
        no images are compared when they are read.
      compare_sizes: False for those who read all files anyhow; no header is
        read then.

    Raises:
      InputError: if there are no pairs, a file is no image, or an image and
        its mask differ in size.
    """
    if not pairs:
      raise errors.InputError("no images: the data set or split is empty.")
    self.pairs = [(pathlib.Path(i), pathlib.Path(m)) for i, m in pairs]
    self.names = list(names or (image.stem for image, _ in self.pairs))
    self.classes = tuple(classes)
    self.channels = channels
    self.table = labels_lib.LabelTable.build(
      len(self.classes), label_map=label_map, ignore=ignore
    )
    self._mask_colors = colors or None
    self.colors = images_lib.class_colors(colors, len(self.classes))
    self.image_size = None if image_size is None else tuple(image_size)
    self.resize_label = resize_label
    self._read_mask = read_mask
    if compare_sizes:
      pairs_lib.compare_sizes(
        [pair for pair in self.pairs if not read_mask or _is_image(pair[1])]
      )

  def __len__(self) -> int:
    return len(self.pairs)

  def __getitem__(self, index: int) -> typing.Example:
    """Reads one example.

    Args:
      index: in [0, len(self)).

    Returns:
      "image", "label" and "name"; see the module.

    Raises:
      InputError: if a file is damaged or a mask has a wrong value; names it.
      IndexError: if `index` is out of range.
    """
    pair = self.pairs[index]
    image = self.image(index)
    label = self.table.apply(self.raw_label(index), name=str(pair[1]))
    if image.shape[:2] != label.shape:
      raise errors.InputError(
        pairs_lib.unequal(pair, image.shape[:2], label.shape)
      )
    if self.image_size is not None:
      image = resize_image(image, self.image_size)
      if self.resize_label:
        label = resize_label(label, self.image_size)
    return {"image": image, "label": label, "name": self.names[index]}

  def image(
    self, index: int
  ) -> UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]:
    """Returns an image as it is in its file, before any resizing."""
    return images_lib.read_image(self.pairs[index][0], channels=self.channels)

  def raw_label(self, index: int) -> Integer[np.ndarray, "h w"]:
    """Returns the values in a mask file, before any mapping or resizing."""
    if self._read_mask is not None:
      return self._read_mask(self.pairs[index][1])
    return images_lib.read_mask(self.pairs[index][1], colors=self._mask_colors)

  def label_file(self, index: int) -> str:
    """Returns the name of a mask file, for messages."""
    return str(self.pairs[index][1])

  def labels_version(self) -> str:
    """Returns a word that changes when any label does; reads no mask.

    It is made of the mask files' names, sizes and times of change, and of all
    that turns their values into labels.

    Raises:
      InputError: if a mask file has gone.
    """
    try:
      stats = [(str(mask), mask.stat()) for _, mask in self.pairs]
    except OSError as error:
      raise errors.InputError(
        f"mask {error.filename} cannot be read: {error.strerror}; put it back."
      ) from error
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    colors = np.asarray(self._mask_colors or ()).tolist()
    size = self.image_size if self.resize_label else None
    words = [files, colors, size]
    if self._read_mask is not None:
      reader = self._read_mask
      words.append(f"{reader.__module__}.{reader.__qualname__}")
    digest = hashlib.sha256(json.dumps(words).encode())
    digest.update(np.ascontiguousarray(self.table.targets))
    return digest.hexdigest()


class Arrays:
  """Images and labels that are in memory already; attributes as `Files`."""

  def __init__(
    self,
    images: Sequence[np.ndarray] | np.ndarray,
    labels: Sequence[np.ndarray] | np.ndarray,
    *,
    classes: Sequence[str],
    colors: Sequence[Sequence[int]] = (),
    label_map: Mapping | str | None = None,
    ignore: int | Collection[int] = typing.IGNORE,
    names: Sequence[str] | None = None,
  ):
    """Compares sizes; copies nothing.

    Args:
      images: each [h, w, c] or [h, w], any c; uint8, or float32 in [0, 255].
      labels: each an integer [h, w] of raw values.
      classes: k names, position = label.
      colors: k RGB triples in [0, 255]; by default PASCAL VOC's palette.
      label_map: see `Files`.
      ignore: see `Files`.
      names: of the examples; by default their positions.

    Raises:
      InputError: if counts, sizes or channels do not fit.
    """
    if len(images) != len(labels) or not len(images):
      raise errors.InputError(
        f"got {len(images)} images and {len(labels)} labels; expected as many"
        " of one as of the other, and at least one."
      )
    self.images = [image[..., None] if image.ndim == 2 else image
                   for image in images]  # fmt: skip
    self.labels = labels
    self.names = list(names or map(str, range(len(images))))
    self.classes = tuple(classes)
    self.channels = self.images[0].shape[-1]
    self.colors = images_lib.class_colors(colors, len(self.classes))
    self.table = labels_lib.LabelTable.build(
      len(self.classes), label_map=label_map, ignore=ignore
    )
    for name, image, label in zip(self.names, self.images, labels, strict=True):
      if image.shape[:2] != label.shape or image.shape[-1] != self.channels:
        raise errors.InputError(
          f"image {name} has the shape {image.shape} and its label"
          f" {label.shape}; expected [h, w, {self.channels}] and [h, w]."
        )

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> typing.Example:
    """Returns one example; see the module for its entries."""
    label = self.table.apply(self.labels[index], name=self.names[index])
    return {
      "image": self.image(index),
      "label": label,
      "name": self.names[index],
    }

  def image(
    self, index: int
  ) -> UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]:
    """Returns an image."""
    return self.images[index]

  def raw_label(self, index: int) -> Integer[np.ndarray, "h w"]:
    """Returns a label as it was given, before any mapping."""
    return self.labels[index]

  def label_file(self, index: int) -> str:
    """Returns the name of an example, for messages."""
    return self.names[index]


def card(
  name: str,
  root: pairs_lib.Path | None,
  split: str,
  *,
  extra: str | None = None,
  channels: int | None = None,
  image_size: tuple[int, int] | None = None,
  resize_label: bool = False,
  compare_sizes: bool = True,
) -> Files:
  """Opens a split of a data set with a card, in its official layout.

  Args:
    name: a key of `datasets.CARDS`.
    root: the data set's folder.
    split: one of the card's splits.
    extra: what is read in place of the images: a key of the card's `extra`,
      such as "depth". The names are those of the images all the same.
    channels: 1, 3 or 4 to read the images as; None = the card's, but of
      `extra` as in the files.
    image_size: see `Files`.
    resize_label: see `Files`.
    compare_sizes: see `Files`.

  Raises:
    InputError: if there is no such card or split, or the folder is missing;
      then it says where the data come from.
  """
  known = datasets.get(name)
  pairs = known.pairs(root, split)
  names = _names(pairs, root)
  if extra is not None:
    pairs = known.pairs(root, split, extra=extra)
  elif channels is None:
    channels = known.channels
  return Files(
    pairs,
    classes=known.classes,
    colors=known.colors,
    label_map=known.label_map,
    ignore=known.ignore,
    channels=channels,
    image_size=image_size,
    resize_label=resize_label,
    names=names,
    read_mask=known.read_mask,
    compare_sizes=compare_sizes,
  )


def _names(
  pairs: Sequence[pairs_lib.Pair], root: pairs_lib.Path | None
) -> list[str]:
  """Returns the images' stems; their paths below the root if two are alike."""
  names = [image.stem for image, _ in pairs]
  if len(set(names)) == len(names):
    return names
  return [
    image.relative_to(root or "").with_suffix("").as_posix()
    for image, _ in pairs
  ]


def _is_image(path: pathlib.Path) -> bool:
  return path.suffix.lower() in images_lib.EXTENSIONS


def resize_image(
  image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"],
  size: tuple[int, int],
) -> UInt8[np.ndarray, "H W c"] | Float[np.ndarray, "H W c"]:
  """Resizes an image bilinearly, half-pixel centres, averaging when smaller.

  Args:
    image: in [0, 255].
    size: (height, width) in pixels.
  """
  height, width = size
  planes = [
    np.asarray(
      PIL.Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(
        (width, height), PIL.Image.Resampling.BILINEAR
      )
    )
    for channel in range(image.shape[-1])
  ]
  return np.stack(planes, axis=-1)


def resize_label(
  label: UInt8[np.ndarray, "h w"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W"]:
  """Resizes a label by nearest neighbour, half-pixel centres."""
  height, width = size
  return np.asarray(
    PIL.Image.fromarray(label).resize(
      (width, height), PIL.Image.Resampling.NEAREST
    )
  )
