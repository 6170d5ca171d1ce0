"""Cityscapes' fine annotations: 3475 street scenes of 1024 x 2048, 19 classes.

Masks are the labelIds of cityscapesScripts' helpers/labels.py, of which 19 are
scored; all others are ignored. The licence plate's id is -1, which those who
wrote the masks left out and 8 bits turn into 255: ignored, too. What is
published for the test images are placeholders, so they are no split here.
"""

import pathlib

from fcnjax.data import labels, pairs as pairs_lib
from fcnjax.data.datasets import cards

_CLASSES = {
  "road": (128, 64, 128),
  "sidewalk": (244, 35, 232),
  "building": (70, 70, 70),
  "wall": (102, 102, 156),
  "fence": (190, 153, 153),
  "pole": (153, 153, 153),
  "traffic light": (250, 170, 30),
  "traffic sign": (220, 220, 0),
  "vegetation": (107, 142, 35),
  "terrain": (152, 251, 152),
  "sky": (70, 130, 180),
  "person": (220, 20, 60),
  "rider": (255, 0, 0),
  "car": (0, 0, 142),
  "truck": (0, 0, 70),
  "bus": (0, 60, 100),
  "train": (0, 80, 100),
  "motorcycle": (0, 0, 230),
  "bicycle": (119, 11, 32),
}


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Pairs leftImg8bit/SPLIT and gtFine/SPLIT, in order of the cities."""
  found = pairs_lib.find(
    cards.holder(root, "leftImg8bit") / "leftImg8bit" / split,
    cards.holder(root, "gtFine") / "gtFine" / split,
    image_suffix="_leftImg8bit",
    mask_suffix="_gtFine_labelIds",
  )
  return list(found.values())


_PAGE = "https://www.cityscapes-dataset.com/downloads/"
CARD = cards.Card(
  name="cityscapes",
  title="Cityscapes",
  classes=tuple(_CLASSES),
  colors=tuple(_CLASSES.values()),
  label_map=labels.named_map("cityscapes_train_ids", num_classes=len(_CLASSES)),
  splits={"train": 2975, "val": 500},
  # Dilated convolutions' mean; no deviation is published: ImageNet's.
  mean=(73.16, 82.91, 72.39),
  std=cards.IMAGENET_STD,
  files=files,
  archives=(
    cards.Archive(
      name="gtFine_trainvaltest.zip",
      url=_PAGE,
      digest="sha1:99f532cb1af174f5fcc4c5bc8feea8c66246ddbc",
      login=True,
    ),
    cards.Archive(
      name="leftImg8bit_trainvaltest.zip",
      url=_PAGE,
      digest="sha1:2c0b77ce9933cc635adda307fbba5566f5d9d404",
      login=True,
    ),
  ),
  licence="non-commercial research and teaching (Cityscapes' terms of use)",
  citation=(
    "Cordts, Omran, Ramos, Rehfeld, Enzweiler, Benenson, Franke, Roth, Schiele:"
    " The Cityscapes dataset for semantic urban scene understanding, CVPR 2016"
  ),
  obtain=(
    "Register at https://www.cityscapes-dataset.com and unpack"
    " gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip in one folder."
  ),
)
