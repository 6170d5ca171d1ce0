"""SUN RGB-D: 10,335 indoor scenes with depth, 37 classes.

Read as ankurhanda/sunrgbd-meta-data prepared it, since the original's one .mat
file of labels needs 64 GB of memory. Its labels img-000001 to img-005050 are
the test set, img-005051 to img-010335 the training set; the images of the
training set count from 1 again, as do the depths of both. 0 is void.
"""

import pathlib
import re

from fcnjax.data import images, labels
from fcnjax.data.datasets import cards

CLASSES = tuple(
  """wall floor cabinet bed chair sofa table door window bookshelf picture
  counter blinds desk shelves curtain dresser pillow mirror floor_mat clothes
  ceiling books fridge tv paper towel shower_curtain box whiteboard person
  night_stand toilet sink lamp bathtub bag""".split()  # noqa: SIM905
)
_TEST = 5050  # images, whose labels come first
_PAGE = "www.doc.ic.ac.uk/~ahanda"


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Pairs image n of a split with its label."""
  masks = _numbered(root / "labels", ".png")
  first = _TEST if split == "train" else 0
  return [
    (image, masks.get(n + first, _label(root, n + first)))
    for n, image in sorted(_images(root, split).items())
  ]


def depths(root: pathlib.Path, split: str) -> list[pathlib.Path]:
  """Returns the depths of a split's images: 16 bits, in no documented unit."""
  found = _counted_from_1(_numbered(root / "depth" / split, ".png"), split)
  return [
    found.get(n, root / "depth" / split / f"{n}.png")
    for n in sorted(_images(root, split))
  ]


def _images(root, split):
  return _counted_from_1(_numbered(root / "images" / split, ".jpg"), split)


def _label(root, number):
  return root / "labels" / f"img-{number:06}.png"


def _numbered(folder: pathlib.Path, ending: str) -> dict[int, pathlib.Path]:
  """Returns {number at the end of the name: file}, in any folder below."""
  found = {}
  for file in sorted(folder.rglob(f"*{ending}")):
    number = re.search(r"\d+$", file.stem)
    if number and not file.name.startswith("."):
      found[int(number[0])] = file
  return found


def _counted_from_1(found, split):
  """Takes the training set's files as well where they go on from 5051."""
  ahead = split == "train" and found and min(found) > _TEST
  return {n - _TEST * ahead: file for n, file in found.items()}


CARD = cards.Card(
  name="sun_rgbd",
  title="SUN RGB-D",
  classes=CLASSES,
  colors=images.palette(len(CLASSES) + 1)[1:],  # VOC's rule; 0 is void.
  label_map=labels.named_map("zero_is_ignored", num_classes=len(CLASSES)),
  splits={"train": 5285, "test": 5050},
  # None are published: ImageNet's.
  mean=cards.IMAGENET_MEAN,
  std=cards.IMAGENET_STD,
  files=files,
  extra={"depth": depths},
  # No digests are published. The README calls the labels' archive
  # sunrgbd_test_train_labels; the file is sunrgbd_train_test_labels.
  archives=(
    *(
      cards.Archive(
        name=f"SUNRGBD-{split}_images.tgz",
        url=f"http://{_PAGE}/SUNRGBD-{split}_images.tgz",
        folder=f"images/{split}",
      )
      for split in ("train", "test")
    ),
    cards.Archive(
      name="sunrgbd_train_test_labels.tar.gz",
      url="https://github.com/ankurhanda/sunrgbd-meta-data/raw/master/sunrgbd_train_test_labels.tar.gz",
      folder="labels",
    ),
    *(
      cards.Archive(
        name=f"sunrgb_{split}_depth.tgz",
        url=f"https://{_PAGE}/sunrgb_{split}_depth.tgz",
        folder=f"depth/{split}",
      )
      for split in ("train", "test")
    ),
  ),
  licence="none is stated; ask the authors before other use than research",
  citation=(
    "Song, Lichtenberg, Xiao: SUN RGB-D: a RGB-D scene understanding benchmark"
    " suite, CVPR 2015"
  ),
  obtain=(
    "Get the archives that https://github.com/ankurhanda/sunrgbd-meta-data"
    " names and unpack them in images/train, images/test, labels, depth/train"
    " and depth/test."
  ),
)
