"""NYUDv2: 1449 indoor scenes with depth, 40 classes (Gupta et al., CVPR 2013).

Read as FCN's authors prepared it (nyud.tar.gz; nyud_layers.py): images, depth
in 16 bits and HHA as PNG, labels as MATLAB matrices of 0 = void and 1 to 40.
HHA is horizontal disparity, height above ground and angle with gravity (Gupta
et al., ECCV 2014). The lists are those of FCN's repository; "trainval" is the
training and the validation list, one after the other.
"""

import pathlib

from jaxtyping import Integer
import numpy as np

from fcnjax.data import images, labels, matlab
from fcnjax.data.datasets import cards

CLASSES = tuple(
  """wall,floor,cabinet,bed,chair,sofa,table,door,window,bookshelf,picture,
  counter,blinds,desk,shelves,curtain,dresser,pillow,mirror,floor mat,clothes,
  ceiling,books,refridgerator,television,paper,towel,shower curtain,box,
  whiteboard,person,night stand,toilet,sink,lamp,bathtub,bag,otherstructure,
  otherfurniture,otherprop""".replace("\n  ", "").split(",")
)
# Where FCN's repository keeps its lists.
LISTS = (
  "https://raw.githubusercontent.com/shelhamer/fcn.berkeleyvision.org/"
  "1305c7378a9f0ab44b2c936f4d60e4687e3d8743/data"
)


def read_mask(path: pathlib.Path) -> Integer[np.ndarray, "h w"]:
  """Reads a label: 0 = void, 1 to 40."""
  return matlab.read_integers(path, "segmentation")


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Returns data/images/img_N.png and segmentation/img_N.mat of a list."""
  folder = cards.holder(root, "segmentation")
  return [
    (
      folder / "data" / "images" / f"img_{number}.png",
      folder / "segmentation" / f"img_{number}.mat",
    )
    for number in _numbers(root, split)
  ]


def _numbers(root, split):
  names = ("train", "val") if split == "trainval" else (split,)
  return [
    number
    for name in names
    for number in cards.stems(cards.holder(root, f"{name}.txt") / f"{name}.txt")
  ]


def _extra(kind):
  def others(root: pathlib.Path, split: str) -> list[pathlib.Path]:
    folder = cards.holder(root, f"data/{kind}") / "data" / kind
    return [folder / f"img_{number}.png" for number in _numbers(root, split)]

  return others


CARD = cards.Card(
  name="nyudv2",
  title="NYUDv2",
  classes=CLASSES,
  colors=images.palette(len(CLASSES) + 1)[1:],  # VOC's rule; 0 is void.
  label_map=labels.named_map("zero_is_ignored", num_classes=len(CLASSES)),
  splits={"train": 381, "val": 414, "trainval": 795, "test": 654},
  # FCN's mean (nyud_layers.py); no deviation is published: ImageNet's.
  mean=(92.318, 97.203, 116.190),
  std=cards.IMAGENET_STD,
  files=files,
  extra={"depth": _extra("depth"), "hha": _extra("hha")},
  read_mask=read_mask,
  archives=(
    # No digest of it is published.
    cards.Archive(
      name="nyud.tar.gz", url="http://dl.caffe.berkeleyvision.org/nyud.tar.gz"
    ),
    *(
      cards.Archive(name=f"{name}.txt", url=f"{LISTS}/nyud/{name}.txt")
      for name in ("train", "val", "test")
    ),
  ),
  licence="none is stated; ask the authors before other use than research",
  citation=(
    "Silberman, Hoiem, Kohli, Fergus: Indoor segmentation and support inference"
    " from RGBD images, ECCV 2012; Gupta, Arbelaez, Malik: Perceptual"
    " organization and recognition of indoor scenes, CVPR 2013"
  ),
  obtain=(
    "Unpack nyud.tar.gz of dl.caffe.berkeleyvision.org and put train.txt,"
    " val.txt and test.txt of data/nyud of"
    " https://github.com/shelhamer/fcn.berkeleyvision.org beside it."
  ),
)
