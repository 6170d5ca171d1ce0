"""ADE20K's scene parsing benchmark (2016): 150 classes of any scene.

Masks hold 0 = other, which is ignored, and 1 to 150. The names are the first
words of the benchmark's list; its 59th, "screen door", is told from its 131st,
"screen". The labels of the test images are not published.
"""

import pathlib

from fcnjax.data import images, labels, pairs as pairs_lib
from fcnjax.data.datasets import cards

CLASSES = tuple(
  """wall,building,sky,floor,tree,ceiling,road,bed,windowpane,grass,cabinet,
  sidewalk,person,earth,door,table,mountain,plant,curtain,chair,car,water,
  painting,sofa,shelf,house,sea,mirror,rug,field,armchair,seat,fence,desk,rock,
  wardrobe,lamp,bathtub,railing,cushion,base,box,column,signboard,chest,
  counter,sand,sink,skyscraper,fireplace,refrigerator,grandstand,path,stairs,
  runway,case,pool,pillow,screen door,stairway,river,bridge,bookcase,blind,
  coffee,toilet,flower,book,hill,bench,countertop,stove,palm,kitchen,computer,
  swivel,boat,bar,arcade,hovel,bus,towel,light,truck,tower,chandelier,awning,
  streetlight,booth,television,airplane,dirt,apparel,pole,land,bannister,
  escalator,ottoman,bottle,buffet,poster,stage,van,ship,fountain,conveyer,
  canopy,washer,plaything,swimming,stool,barrel,basket,waterfall,tent,bag,
  minibike,cradle,oven,ball,food,step,tank,trade,microwave,pot,animal,bicycle,
  lake,dishwasher,screen,blanket,sculpture,hood,sconce,vase,traffic,tray,
  ashcan,fan,pier,crt,plate,monitor,bulletin,shower,radiator,glass,clock,
  flag""".replace("\n  ", "").split(",")
)
_FOLDERS = {"train": "training", "val": "validation"}


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Pairs images/SPLIT and annotations/SPLIT."""
  folder = cards.holder(root, "annotations")
  below = _FOLDERS[split]
  found = pairs_lib.find(
    folder / "images" / below, folder / "annotations" / below
  )
  return list(found.values())


CARD = cards.Card(
  name="ade20k",
  title="ADE20K",
  classes=CLASSES,
  colors=images.palette(len(CLASSES) + 1)[1:],  # VOC's rule; 0 is other.
  label_map=labels.named_map("zero_is_ignored", num_classes=len(CLASSES)),
  ignore=(),
  splits={"train": 20_210, "val": 2000},
  # None are published: ImageNet's.
  mean=cards.IMAGENET_MEAN,
  std=cards.IMAGENET_STD,
  files=files,
  archives=(
    cards.Archive(
      name="ADEChallengeData2016.zip",
      url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
      digest="sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
    ),
  ),
  licence="non-commercial research and education (ADE20K's terms of use)",
  citation=(
    "Zhou, Zhao, Puig, Fidler, Barriuso, Torralba: Scene parsing through ADE20K"
    " dataset, CVPR 2017"
  ),
  obtain=(
    "Unpack ADEChallengeData2016.zip of data.csail.mit.edu/places/ADEchallenge."
  ),
)
