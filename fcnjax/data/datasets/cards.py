"""What is known about a data set: the form that every card fills in."""

from collections.abc import Callable
import dataclasses
import pathlib

import numpy as np

from fcnjax import errors
from fcnjax.data import pairs as pairs_lib

# Of ImageNet's images, RGB, in [0, 255]: for sets whose own are not published.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# The same as grey values.
IMAGENET_GREY_MEAN = (118.6,)
IMAGENET_GREY_STD = (57.6,)

Pair = tuple[pathlib.Path, pathlib.Path]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Archive:
  """A file that a data set comes in.

  Attributes:
    name: of the file, as it is downloaded.
    url: of the file; of the page that asks for a login, if `login`.
    digest: "sha1:..." or "sha256:..." in hexadecimal digits, as published with
      the data; None = none is.
    login: whether it must be downloaded by hand.
    folder: below the data set's folder, where it is unpacked; where the file
      itself is put, if it is none of .zip, .tar, .tgz and .tar.gz.
  """

  name: str
  url: str
  digest: str | None = None
  login: bool = False
  folder: str = "."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """A data set.

  Attributes:
    name: the word in configs.
    title: its name for people.
    classes: k names, position = label.
    colors: k RGB triples in [0, 255].
    label_map: {raw value: label}, or None where raw values are labels.
    ignore: raw values that become 255.
    channels: of the images; 1 = grey, 3 = RGB.
    splits: the labelled ones: {split: number of images}; None = no source
      tells the number.
    mean: of the training images, a channel, units of [0, 255].
    std: their standard deviation, likewise.
    class_weights: those published with the data set, or None.
    files: (folder, split) -> the pairs of files that the layout promises.
    extra: {word: (folder, split) -> files of further channels, in the order of
      `files`}, such as depth.
    read_mask: mask file -> raw values, integers [h, w]; None = an image of
      palette indices, grey values or `colors`.
    archives: what it is downloaded as, in the order of unpacking.
    licence: what may be done with the data.
    citation: whom to cite.
    obtain: where the data come from, one sentence.
  """

  name: str
  title: str
  classes: tuple[str, ...]
  colors: tuple[tuple[int, int, int], ...]
  label_map: dict[int, int] | None = None
  ignore: tuple[int, ...] = (255,)
  channels: int = 3
  splits: dict[str, int | None]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  class_weights: tuple[float, ...] | None = None
  files: Callable[[pathlib.Path, str], list[Pair]]
  extra: dict[str, Callable[[pathlib.Path, str], list[pathlib.Path]]] = (
    dataclasses.field(default_factory=dict)
  )
  read_mask: Callable[[pathlib.Path], np.ndarray] | None = None
  archives: tuple[Archive, ...] = ()
  licence: str
  citation: str
  obtain: str

  @property
  def borrows(self) -> bool:
    """Whether mean or deviation are ImageNet's, as none are published."""
    return self.mean in (IMAGENET_MEAN, IMAGENET_GREY_MEAN) or self.std in (
      IMAGENET_STD,
      IMAGENET_GREY_STD,
    )

  def pairs(
    self,
    root: str | pathlib.Path | None,
    split: str,
    *,
    extra: str | None = None,
  ) -> list[Pair]:
    """Returns the (image, mask) files of a split.

    Args:
      root: the folder that holds the data set.
      split: a key of `splits`.
      extra: a key of `extra`, whose files stand in for the images.

    Raises:
      InputError: if there is no such split or word, or the folder or a file is
        missing, or all are; then it says where the data come from and their
        licence.
    """
    if split not in self.splits:
      raise errors.InputError(
        f"{self.title} has no labelled split {split!r}; take one of"
        f" {', '.join(self.splits)}."
      )
    if extra is not None and extra not in self.extra:
      raise errors.InputError(
        f"{self.title} has no {extra!r} besides its images; it has"
        f" {', '.join(self.extra) or 'nothing'}."
      )
    remedy = (
      f"{self.obtain} Licence: {self.licence}. Then set --config.data.root=DIR."
      f" fcnjax prepare {self.name} --data-dir DIR verifies and converts it."
    )
    if not root:
      raise errors.InputError(f"{self.title} needs data.root. {remedy}")
    root = pathlib.Path(root)
    if not root.is_dir():
      raise errors.InputError(
        f"no folder {str(root)!r} with {self.title}. {remedy}"
      )
    try:
      pairs = self.files(root, split)
      if not pairs:
        raise errors.InputError(f"{root} has no images of the split {split!r}.")
      if extra is not None:
        others = self.extra[extra](root, split)
        pairs = [(other, mask) for other, (_, mask) in zip(others, pairs)]
    except errors.InputError as error:
      raise errors.InputError(f"{self.title}: {error} {remedy}") from error
    for file in (file for pair in pairs for file in pair):
      if not file.is_file():
        raise errors.InputError(
          f"{file} of {self.title} does not exist. {remedy}"
        )
    return pairs


def holder(root: pathlib.Path, part: str, *, depth: int = 3) -> pathlib.Path:
  """Returns the folder, at or below `root`, that has `part` in it.

  Archives put their files into folders of their own, and people unpack them
  into further ones.

  Args:
    root: where the search begins.
    part: a path below the folder that is searched for.
    depth: how many folders down it may be; what is least deep is found.

  Returns:
    The folder; `root` where there is none, so that what is missing is named.
  """
  folders = [root]
  for _ in range(depth + 1):
    for folder in folders:
      if (folder / part).exists():
        return folder
    folders = [
      below for folder in folders for below in sorted(folder.iterdir())
      if below.is_dir() and not below.name.startswith(".")
    ]  # fmt: skip
  return root


def stems(path: pathlib.Path) -> list[str]:
  """Returns the first word of each line of a list.

  Raises:
    InputError: if the list is missing or empty.
  """
  return [line.split()[0] for line in pairs_lib.read_lines(path)]
