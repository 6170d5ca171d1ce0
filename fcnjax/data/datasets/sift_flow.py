"""SIFT Flow: 2688 outdoor scenes of 256 x 256, 33 semantic and 3 geometric.

Two cards of the same images: what a pixel is ("sift_flow") and how its surface
lies ("sift_flow_geometric"). Masks are MATLAB matrices S; 0 is void in the
semantic ones, -1 in the geometric ones. The lists are those of FCN's
repository, which leave out the two images without annotation. Cow, desert and
moon do not occur in the test images.
"""

import pathlib

from jaxtyping import Integer
import numpy as np

from fcnjax.data import images, labels, matlab
from fcnjax.data.datasets import cards, nyudv2

CLASSES = tuple(
  """awning balcony bird boat bridge building bus car cow crosswalk desert door
  fence field grass moon mountain person plant pole river road rock sand sea
  sidewalk sign sky staircase streetlight sun tree window""".split()  # noqa: SIM905
)
GEOMETRIC = ("sky", "horizontal", "vertical")
_FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"
_UNANNOTATED = ("highway_bost181", "street_urb506")


def read_mask(path: pathlib.Path) -> Integer[np.ndarray, "h w"]:
  """Reads a mask of either kind; void is 0."""
  return np.maximum(matlab.read_integers(path, "S").astype(np.int64), 0)


def _files(masks):
  def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
    folder = cards.holder(root, "SemanticLabels")
    listed = cards.stems(cards.holder(root, f"{split}.txt") / f"{split}.txt")
    return [
      (
        folder / "Images" / _FOLDER / f"{stem}.jpg",
        folder / masks / _FOLDER / f"{stem}.mat",
      )
      for stem in listed
      if stem not in _UNANNOTATED
    ]

  return files


def _card(name, title, classes, masks):
  return cards.Card(
    name=name,
    title=title,
    classes=classes,
    colors=images.palette(len(classes) + 1)[1:],  # VOC's rule; 0 is void.
    label_map=labels.named_map("zero_is_ignored", num_classes=len(classes)),
    splits={"trainval": 2486, "test": 200},
    # FCN's mean (siftflow_layers.py); no deviation is published: ImageNet's.
    mean=(108.353, 115.294, 114.578),
    std=cards.IMAGENET_STD,
    files=_files(masks),
    read_mask=read_mask,
    archives=(
      # No digest of it is published.
      cards.Archive(
        name="SiftFlowDataset.zip",
        url="http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",
      ),
      *(
        cards.Archive(
          name=f"{split}.txt", url=f"{nyudv2.LISTS}/sift-flow/{split}.txt"
        )
        for split in ("trainval", "test")
      ),
    ),
    licence="none is stated; ask the authors before other use than research",
    citation=(
      "Liu, Yuen, Torralba: Nonparametric scene parsing via label transfer,"
      " PAMI 2011; Tighe, Lazebnik: SuperParsing, ECCV 2010 (geometric labels)"
    ),
    obtain=(
      "Unpack SiftFlowDataset.zip of www.cs.unc.edu/~jtighe and put"
      " trainval.txt and test.txt of data/sift-flow of"
      " https://github.com/shelhamer/fcn.berkeleyvision.org beside it."
    ),
  )


SEMANTIC_CARD = _card("sift_flow", "SIFT Flow", CLASSES, "SemanticLabels")
GEOMETRIC_CARD = _card(
  "sift_flow_geometric",
  "SIFT Flow's geometric labels",
  GEOMETRIC,
  "GeoLabels",
)
