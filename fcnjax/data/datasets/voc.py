"""PASCAL VOC 2011 and 2012 with the Semantic Boundaries Dataset: 21 classes.

Value 255 is the boundary of objects and void. SBD (Hariharan et al., ICCV 2011)
labels 11,355 images of VOC 2011 in MATLAB files and has no boundary. VOC's own
mask is taken where a split is VOC's, SBD's where it is SBD's.

| split | images | what it is |
|---|---|---|
| train, val, trainval | | VOC's own |
| sbd_train (2011) | 8498 | SBD's training list: what FCN was trained on |
| seg11valid (2011) | 736 | val without sbd_train: what FCN is scored on |
| trainaug (2012) | 10,582 | train, and SBD without val: DeepLab's |
| trainvalaug (2012) | 12,031 | trainval, and SBD |
| rv_val (2012) | 346 | val without SBD: CRF-RNN's RV-VOC12 |
"""

import functools
import pathlib

from jaxtyping import Integer
import numpy as np

from fcnjax.data import images, matlab
from fcnjax.data.datasets import cards

CLASSES = tuple(
  """background aeroplane bicycle bird boat bottle bus car cat chair cow
  diningtable dog horse motorbike person pottedplant sheep sofa train
  tvmonitor""".split()  # noqa: SIM905
)
CITATION = (
  "Everingham, Eslami, Van Gool, Williams, Winn, Zisserman: The PASCAL visual"
  " object classes challenge, a retrospective, IJCV 2015; Hariharan, Arbelaez,"
  " Bourdev, Maji, Malik: Semantic contours from inverse detectors, ICCV 2011"
)
LICENCE = "research; the photographs are under Flickr's terms of use"


def read_mask(path: pathlib.Path) -> Integer[np.ndarray, "h w"]:
  """Reads VOC's indexed PNG or SBD's .mat."""
  if path.suffix == ".mat":
    return matlab.read_integers(path, "GTcls", "Segmentation")
  return images.read_mask(path)


def _files(root: pathlib.Path, split: str, *, year: int) -> list[cards.Pair]:
  # The archive of 2011 unpacks to TrainVal/VOCdevkit, 2012's to VOCdevkit.
  voc = cards.holder(root, f"VOC{year}") / f"VOC{year}"
  sbd = cards.holder(root, "dataset/cls") / "dataset"

  def voc_list(name: str) -> list[str]:
    return cards.stems(voc / "ImageSets" / "Segmentation" / f"{name}.txt")

  def sbd_lists(*names: str) -> set[str]:
    return {s for name in names for s in cards.stems(sbd / f"{name}.txt")}

  own: list[str] = []
  others: list[str] = []
  if split == "sbd_train":
    others = cards.stems(sbd / "train.txt")
  elif split == "seg11valid":
    trained = sbd_lists("train")
    own = [stem for stem in voc_list("val") if stem not in trained]
  elif split == "rv_val":
    labelled = sbd_lists("train", "val")
    own = [stem for stem in voc_list("val") if stem not in labelled]
  elif split in ("trainaug", "trainvalaug"):
    own = voc_list(split.removesuffix("aug"))
    others = sorted(sbd_lists("train", "val") - {*own, *voc_list("val")})
  else:
    own = voc_list(split)
  return [
    *(
      (
        voc / "JPEGImages" / f"{stem}.jpg",
        voc / "SegmentationClass" / f"{stem}.png",
      )
      for stem in own
    ),
    *(
      (sbd / "img" / f"{stem}.jpg", sbd / "cls" / f"{stem}.mat")
      for stem in others
    ),
  ]


_SBD = cards.Archive(
  name="benchmark.tgz",
  url="http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
  digest="sha1:7129e0a480c2d6afb02b517bb18ac54283bfaa35",
)


def _card(year: int, archive: cards.Archive, splits: dict[str, int]):
  return cards.Card(
    name=f"voc{year}",
    title=f"PASCAL VOC {year}",
    classes=CLASSES,
    colors=images.palette(len(CLASSES)),
    splits=splits,
    # FCN's mean; no deviation is published: ImageNet's.
    mean=(122.67892, 116.66877, 104.00699),
    std=cards.IMAGENET_STD,
    files=functools.partial(_files, year=year),
    read_mask=read_mask,
    archives=(archive, _SBD),
    licence=LICENCE,
    citation=CITATION,
    obtain=(
      f"Unpack {archive.name} of host.robots.ox.ac.uk/pascal/VOC/voc{year}, and"
      " for SBD's splits benchmark.tgz of www.eecs.berkeley.edu, in one folder"
      f" (VOCdevkit/VOC{year}, benchmark_RELEASE/dataset)."
    ),
  )


VOC2011 = _card(
  2011,
  cards.Archive(
    # torchvision knows its MD5, no source a SHA.
    name="VOCtrainval_25-May-2011.tar",
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2011/VOCtrainval_25-May-2011.tar",
  ),
  {
    "train": 1112,
    "val": 1111,
    "trainval": 2223,
    "sbd_train": 8498,
    "seg11valid": 736,
  },
)
VOC2012 = _card(
  2012,
  cards.Archive(
    name="VOCtrainval_11-May-2012.tar",
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    digest="sha1:4e443f8a2eca6b1dac8a6c57641b67dd40621a49",
  ),
  {
    "train": 1464,
    "val": 1449,
    "trainval": 2913,
    "trainaug": 10_582,
    "trainvalaug": 12_031,
    "rv_val": 346,
  },
)
