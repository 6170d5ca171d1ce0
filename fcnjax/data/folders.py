"""The user's own folders of images and masks, opened as a source."""

from collections.abc import Collection, Mapping, Sequence
import pathlib

from fcnjax import errors, typing
from fcnjax.data import (
  findings,
  labels as labels_lib,
  pairs as pairs_lib,
  sources,
  splits,
)


def folder(
  images: pairs_lib.Path,
  masks: pairs_lib.Path,
  *,
  split: str,
  num_classes: int | None = None,
  class_names: Sequence[str] | None = None,
  colors: Sequence[Sequence[int]] = (),
  label_map: Mapping | str | None = None,
  mask_values: Sequence[int] | None = None,
  ignore: int | Collection[int] = typing.IGNORE,
  image_suffix: str = "",
  mask_suffix: str = "",
  val_images: pairs_lib.Path | None = None,
  val_masks: pairs_lib.Path | None = None,
  train_list: pairs_lib.Path | None = None,
  val_list: pairs_lib.Path | None = None,
  val_fraction: float = 0.2,
  seed: int = 0,
  channels: int | None = 3,
  image_size: tuple[int, int] | None = None,
  resize_label: bool = False,
  tell: findings.Tell = findings.refuse,
  compare_sizes: bool = True,
) -> sources.Files:
  """Opens a split of the user's own images and masks.

  What is validated on is decided by the folders `val_images` and `val_masks`,
  or by the list files `train_list` and `val_list`, or else by `val_fraction`,
  drawn by a hash of the stem (`splits.held_out`). Frames of a video resemble
  their neighbours: give those folders or lists.

  Two lists may choose from larger folders: what they do not name is passed
  over. One list alone leaves the rest to the other split. Unless there are two
  lists, every image needs a mask and every mask an image.

  Args:
    images: folder of the images.
    masks: folder of the masks, paired by exact stem (`pairs.find`).
    split: "train" or "val".
    num_classes: k; may be left out with `class_names`.
    class_names: k names, position = label.
    colors: see `sources.Files`.
    label_map: see `sources.Files`.
    mask_values: short for a `label_map`: the raw value of each class in turn,
      as (0, 255) for black-and-white masks.
    ignore: see `sources.Files`.
    image_suffix: see `pairs.find`.
    mask_suffix: see `pairs.find`.
    val_images: folder of the validation images.
    val_masks: folder of their masks.
    train_list: list file (`pairs.read_list`) of the training split.
    val_list: list file of the validation split.
    val_fraction: in (0, 1).
    seed: of the split by `val_fraction`.
    channels: see `sources.Files`.
    image_size: see `sources.Files`.
    resize_label: see `sources.Files`.
    tell: what is told of files that are not paired and of lists that are
      wrong. By default it stops there, and also where sizes differ; others
      are given all that can be opened, of any size.
    compare_sizes: see `sources.Files`.

  Raises:
    InputError: if anything is missing or contradictory, and by default if it
      is unpaired or of unequal size; says what and where.
    ValueError: if `split` is neither "train" nor "val".
  """
  if split not in ("train", "val"):
    raise ValueError(f"split must be 'train' or 'val', got {split!r}.")
  classes = labels_lib.class_names(num_classes, names=class_names)
  if mask_values:
    label_map = labels_lib.value_map(
      mask_values, num_classes=len(classes), label_map=label_map
    )
  suffixes = {"image_suffix": image_suffix, "mask_suffix": mask_suffix}
  if (val_images is None) != (val_masks is None):
    raise errors.InputError(
      "data.val_images and data.val_masks go together; got only"
      f" {val_images or val_masks}."
    )
  if val_images is not None:
    if train_list is not None or val_list is not None:
      raise errors.InputError(
        "data.val_images and the lists (data.train_list, data.val_list) both"
        " say what is validated on; give one of them."
      )
    _apart(images, val_images)
    train = split == "train"
    chosen = pairs_lib.find(
      images if train else val_images,
      masks if train else val_masks,
      tell=tell,
      **suffixes,
    )
  else:
    two_lists = train_list is not None and val_list is not None
    chosen = splits.choose(
      (pairs_lib.match if two_lists else pairs_lib.find)(
        images, masks, tell=tell, **suffixes
      ),
      split=split,
      train_list=train_list,
      val_list=val_list,
      fraction=val_fraction,
      seed=seed,
      tell=tell,
    )
  return sources.Files(
    list(chosen.values()),
    names=list(chosen),
    classes=classes,
    colors=colors,
    label_map=label_map,
    ignore=ignore,
    channels=channels,
    image_size=image_size,
    resize_label=resize_label,
    compare_sizes=compare_sizes and tell is findings.refuse,
  )


def _apart(images: pairs_lib.Path, val_images: pairs_lib.Path) -> None:
  """Raises an InputError if one folder is, or lies in, the other."""
  train, val = (pathlib.Path(path).resolve() for path in (images, val_images))
  if train.is_relative_to(val) or val.is_relative_to(train):
    raise errors.InputError(
      f"data.images {str(images)!r} and data.val_images {str(val_images)!r}"
      " share images; what is trained on tells nothing when it is validated"
      " on, give two folders apart, or lists."
    )
