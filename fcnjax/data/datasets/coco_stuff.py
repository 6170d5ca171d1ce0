"""COCO-Stuff 10K v1.1: 10,000 images of COCO, 80 things and 91 kinds of stuff.

Masks are MATLAB matrices S of ids: 0 = unlabelled, 1 to 91 things, 92 to 182
stuff. COCO never annotated 11 of its things; without them 171 classes remain,
in the order of the ids. Version 1.0 numbered them otherwise: 1 = unlabelled, 2
to 81 the annotated things, 82 to 172 stuff. Each file lists its classes, which
tells the versions apart (cocostuff10k's convertAnnotationsToVersion11.m).
"""

import pathlib

from jaxtyping import Integer
import numpy as np

from fcnjax import errors, typing
from fcnjax.data import images, matlab
from fcnjax.data.datasets import cards

# Of ids 1 to 182.
_NAMES = tuple(
  """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,
  fire hydrant,street sign,stop sign,parking meter,bench,bird,cat,dog,horse,
  sheep,cow,elephant,bear,zebra,giraffe,hat,backpack,umbrella,shoe,eye glasses,
  handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,
  baseball glove,skateboard,surfboard,tennis racket,bottle,plate,wine glass,cup,
  fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,
  pizza,donut,cake,chair,couch,potted plant,bed,mirror,dining table,window,desk,
  toilet,door,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,
  sink,refrigerator,blender,book,clock,vase,scissors,teddy bear,hair drier,
  toothbrush,hair brush,banner,blanket,branch,bridge,building-other,bush,
  cabinet,cage,cardboard,carpet,ceiling-other,ceiling-tile,cloth,clothes,clouds,
  counter,cupboard,curtain,desk-stuff,dirt,door-stuff,fence,floor-marble,floor-other,
  floor-stone,floor-tile,floor-wood,flower,fog,food-other,fruit,furniture-other,
  grass,gravel,ground-other,hill,house,leaves,light,mat,metal,mirror-stuff,moss,
  mountain,mud,napkin,net,paper,pavement,pillow,plant-other,plastic,platform,
  playingfield,railing,railroad,river,road,rock,roof,rug,salad,sand,sea,shelf,
  sky-other,skyscraper,snow,solid-other,stairs,stone,straw,structural-other,
  table,tent,textile-other,towel,tree,vegetable,wall-brick,wall-concrete,
  wall-other,wall-panel,wall-stone,wall-tile,wall-wood,water-other,waterdrops,
  window-blind,window-other,wood""".replace("\n  ", "").split(",")
)
UNANNOTATED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_IDS = tuple(i for i in range(1, 183) if i not in UNANNOTATED)


# The first thing, the first and the last kind of stuff; the files spell some of
# the others in ways of their own.
_LANDMARKS = (1, 92, 182)


def read_mask(path: pathlib.Path) -> Integer[np.ndarray, "h w"]:
  """Reads a mask of ids.

  Raises:
    InputError: if the file lists other classes than version 1.1's.
  """
  names = [n for n in matlab.read_words(path, "names") if n != "unlabeled"]
  if len(names) != len(_NAMES) or any(
    names[i - 1] != _NAMES[i - 1] for i in _LANDMARKS
  ):
    wanted = ", ".join(f"{i} = {_NAMES[i - 1]}" for i in _LANDMARKS)
    raise errors.InputError(
      f"{path} numbers {len(names)} classes, expected the {len(_NAMES)} of"
      f" COCO-Stuff 10K v1.1 ({wanted}): v1.0 has other numbers; unpack"
      " cocostuff-10k-v1.1.zip instead."
    )
  return matlab.read_integers(path, "S")


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Returns images/N.jpg and annotations/N.mat of imageLists/SPLIT.txt."""
  folder = cards.holder(root, "imageLists")
  return [
    (folder / "images" / f"{stem}.jpg", folder / "annotations" / f"{stem}.mat")
    for stem in cards.stems(folder / "imageLists" / f"{split}.txt")
  ]


CARD = cards.Card(
  name="coco_stuff10k",
  title="COCO-Stuff 10K",
  classes=tuple(_NAMES[i - 1] for i in _IDS),
  colors=images.palette(len(_IDS) + 1)[1:],  # VOC's rule; 0 is unlabelled.
  label_map=dict.fromkeys((0, *UNANNOTATED), typing.IGNORE)
  | {raw: label for label, raw in enumerate(_IDS)},
  ignore=(),
  splits={"train": 9000, "test": 1000},
  # None are published: ImageNet's.
  mean=cards.IMAGENET_MEAN,
  std=cards.IMAGENET_STD,
  files=files,
  read_mask=read_mask,
  archives=(
    # No digest of it is published.
    cards.Archive(
      name="cocostuff-10k-v1.1.zip",
      url="http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/cocostuff-10k-v1.1.zip",
    ),
  ),
  licence="CC BY 4.0; the photographs are under Flickr's terms of use",
  citation=(
    "Caesar, Uijlings, Ferrari: COCO-Stuff: thing and stuff classes in context,"
    " CVPR 2018"
  ),
  obtain=(
    "Unpack cocostuff-10k-v1.1.zip, which"
    " https://github.com/nightrome/cocostuff10k links to."
  ),
)
