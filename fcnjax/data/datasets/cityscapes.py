"""Cityscapes' fine annotations: 3475 street scenes of 1024 x 2048, 19 classes.

Masks are the labelIds of cityscapesScripts' helpers/labels.py, of which 19 are
scored; all others are ignored. The licence plate's id is -1, which those who
wrote the masks left out and 8 bits turn into 255: ignored, too. Where an image
has no mask of labelIds but the polygons that it is drawn from, they are drawn.
What is published for the test images are placeholders, so they are no split.
"""

import json
import pathlib

from jaxtyping import Integer
import numpy as np
import PIL.Image
import PIL.ImageDraw

from fcnjax import errors
from fcnjax.data import images, labels
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


# Names in the order of their ids, from 0 on.
_IDS = {
  name: number
  for number, name in enumerate(
    """unlabeled,ego vehicle,rectification border,out of roi,static,dynamic,
    ground,road,sidewalk,parking,rail track,building,wall,fence,guard rail,
    bridge,tunnel,pole,polegroup,traffic light,traffic sign,vegetation,terrain,
    sky,person,rider,car,truck,bus,caravan,trailer,train,motorcycle,
    bicycle""".replace("\n    ", "").split(",")
  )
}
_NOT_DRAWN = ("license plate", "license plategroup")


def draw(path: pathlib.Path) -> Integer[np.ndarray, "h w"]:
  """Draws a file of polygons, later ones over earlier ones.

  Returns:
    labelIds; "cargroup" is a car, and what is not covered is 0.

  Raises:
    InputError: if the file is damaged or has an unknown label.
  """
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
    mask = PIL.Image.new("L", (found["imgWidth"], found["imgHeight"]))
    canvas = PIL.ImageDraw.Draw(mask)
    for thing in found["objects"]:
      name = thing["label"]
      if thing.get("deleted") or name in _NOT_DRAWN:
        continue
      number = _IDS[name if name in _IDS else name.removesuffix("group")]
      canvas.polygon([tuple(point) for point in thing["polygon"]], fill=number)
  except (KeyError, OSError, TypeError, ValueError) as error:
    raise errors.InputError(
      f"{path} cannot be drawn ({type(error).__name__}: {error}); the file is"
      " probably damaged, unpack it again."
    ) from error
  return np.array(mask)


def read_mask(path: pathlib.Path) -> Integer[np.ndarray, "h w"]:
  """Reads labelIds, or draws them from polygons."""
  return draw(path) if path.suffix == ".json" else images.read_mask(path)


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Pairs leftImg8bit/SPLIT and gtFine/SPLIT, in order of the cities."""
  photos = cards.holder(root, "leftImg8bit") / "leftImg8bit" / split
  masks = cards.holder(root, "gtFine") / "gtFine" / split
  pairs = []
  for photo in sorted(photos.glob("*/*_leftImg8bit.png")):
    stem = photo.stem.removesuffix("leftImg8bit")
    mask = masks / photo.parent.name / f"{stem}gtFine_labelIds.png"
    polygons = mask.with_name(f"{stem}gtFine_polygons.json")
    drawn = not mask.is_file() and polygons.is_file()
    pairs.append((photo, polygons if drawn else mask))
  if not pairs:
    raise errors.InputError(f"{photos} holds no CITY/*_leftImg8bit.png.")
  return pairs


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
  read_mask=read_mask,
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
