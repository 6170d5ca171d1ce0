"""PASCAL-Context: the whole scenes of VOC 2010, 59 classes or 60.

The masks name 459 things and stuff; the 59 most frequent are scored. Two
conventions are in use, with classes in different orders:

- "pascal_context": 59 classes in the order of the 459 names (alphabetical);
  everything else is ignored. HDNet, DANet, EncNet.
- "pascal_context_60": background, which is everything else, then VOC's 20
  classes and the other 39. FCN (pascalcontext_layers.py).

The splits are VOC 2010's lists ImageSets/Main/train.txt and val.txt.
"""

import pathlib

from jaxtyping import Integer
import numpy as np

from fcnjax import typing
from fcnjax.data import images, matlab
from fcnjax.data.datasets import cards

# Names of FCN's classes-59.txt in its order, and their numbers in the list of
# 459 (classes-400.txt; "table", "cloth" and "bedclothes" there).
RAW = {
  "aeroplane": 2,
  "bicycle": 23,
  "bird": 25,
  "boat": 31,
  "bottle": 34,
  "bus": 45,
  "car": 59,
  "cat": 65,
  "chair": 72,
  "cow": 98,
  "diningtable": 397,
  "dog": 113,
  "horse": 207,
  "motorbike": 258,
  "person": 284,
  "pottedplant": 308,
  "sheep": 347,
  "sofa": 368,
  "train": 416,
  "tvmonitor": 427,
  "bag": 9,
  "bed": 18,
  "bench": 22,
  "book": 33,
  "building": 44,
  "cabinet": 46,
  "ceiling": 68,
  "clothes": 80,
  "computer": 85,
  "cup": 104,
  "door": 115,
  "fence": 144,
  "floor": 158,
  "flower": 159,
  "food": 162,
  "grass": 187,
  "ground": 189,
  "keyboard": 220,
  "light": 232,
  "mountain": 259,
  "mouse": 260,
  "curtain": 105,
  "platform": 296,
  "sign": 355,
  "plate": 295,
  "road": 324,
  "rock": 326,
  "shelves": 349,
  "sidewalk": 354,
  "sky": 360,
  "snow": 366,
  "bedcloth": 19,
  "track": 415,
  "tree": 420,
  "truck": 424,
  "wall": 440,
  "water": 445,
  "window": 454,
  "wood": 458,
}
_NAMES = 459


def read_mask(path: pathlib.Path) -> Integer[np.ndarray, "h w"]:
  """Reads a mask of numbers in [0, 459]."""
  return matlab.read_integers(path, "LabelMap")


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Returns VOC 2010's images and trainval/NAME.mat of a list."""
  voc = cards.holder(root, "VOC2010") / "VOC2010"
  masks = cards.holder(root, "trainval") / "trainval"
  return [
    (voc / "JPEGImages" / f"{stem}.jpg", masks / f"{stem}.mat")
    for stem in cards.stems(voc / "ImageSets" / "Main" / f"{split}.txt")
  ]


def _card(name, title, classes, others):
  """Makes a card; raw values of no class become the label `others`."""
  label_map = dict.fromkeys(range(_NAMES + 1), others)
  label_map |= {
    RAW[word]: label for label, word in enumerate(classes) if word in RAW
  }
  return cards.Card(
    name=name,
    title=title,
    classes=classes,
    colors=images.palette(60)[60 - len(classes) :],  # VOC's rule
    label_map=label_map,
    ignore=(),
    splits={"train": 4998, "val": 5105},
    # FCN's mean (pascalcontext_layers.py); no deviation is published:
    # ImageNet's.
    mean=(122.679, 116.669, 104.007),
    std=cards.IMAGENET_STD,
    files=files,
    read_mask=read_mask,
    archives=(
      cards.Archive(
        name="VOCtrainval_03-May-2010.tar",
        url="http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
        digest="sha1:bf9985e9f2b064752bf6bd654d89f017c76c395a",
      ),
      # No digest of it is published.
      cards.Archive(
        name="trainval.tar.gz",
        url="https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
        folder="context",
      ),
    ),
    licence="none is stated; the photographs are under Flickr's terms of use",
    citation=(
      "Mottaghi, Chen, Liu, Cho, Lee, Fidler, Urtasun, Yuille: The role of"
      " context for object detection and semantic segmentation in the wild,"
      " CVPR 2014"
    ),
    obtain=(
      "Unpack VOCtrainval_03-May-2010.tar of"
      " host.robots.ox.ac.uk/pascal/VOC/voc2010 and trainval.tar.gz of"
      " www.cs.stanford.edu/~roozbeh/pascal-context in one folder"
      " (VOCdevkit/VOC2010, trainval)."
    ),
  )


CARD_59 = _card(
  "pascal_context",
  "PASCAL-Context",
  tuple(sorted(RAW, key=RAW.get)),
  typing.IGNORE,
)
CARD_60 = _card(
  "pascal_context_60",
  "PASCAL-Context with background",
  ("background", *RAW),
  0,
)
