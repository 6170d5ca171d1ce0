"""Oxford-IIIT Pet: 7349 cats and dogs with trimaps, as TFDS splits them.

A trimap holds 1 = pet, 2 = background, 3 = border. "train" is the data set's
own list trainval.txt, as in TensorFlow Datasets' oxford_iiit_pet, "test" its
test.txt. Some files called .jpg are images of other kinds; all are read.
"""

import pathlib

from fcnjax.data.datasets import cards

_LISTS = {"train": "trainval", "test": "test"}
_PAGE = "https://thor.robots.ox.ac.uk/~vgg/data/pets"


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Returns images/NAME.jpg and annotations/trimaps/NAME.png of a list."""
  images = cards.holder(root, "images") / "images"
  masks = cards.holder(root, "annotations") / "annotations"
  return [
    (images / f"{stem}.jpg", masks / "trimaps" / f"{stem}.png")
    for stem in cards.stems(masks / f"{_LISTS[split]}.txt")
  ]


CARD = cards.Card(
  name="oxford_iiit_pet",
  title="Oxford-IIIT Pet",
  classes=("pet", "background", "border"),
  colors=((230, 70, 60), (0, 0, 0), (230, 220, 180)),
  label_map={1: 0, 2: 1, 3: 2},
  ignore=(),
  splits={"train": 3680, "test": 3669},
  # None are published: ImageNet's.
  mean=cards.IMAGENET_MEAN,
  std=cards.IMAGENET_STD,
  files=files,
  # The digests are TFDS's (oxford_iiit_pet/checksums.tsv). Called .tar.gz, they
  # are tar archives without compression.
  archives=(
    cards.Archive(
      name="images.tar.gz",
      url=f"{_PAGE}/images.tar.gz",
      digest="sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
    ),
    cards.Archive(
      name="annotations.tar.gz",
      url=f"{_PAGE}/annotations.tar.gz",
      digest="sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
    ),
  ),
  licence="CC BY-SA 4.0",
  citation="Parkhi, Vedaldi, Zisserman, Jawahar: Cats and dogs, CVPR 2012",
  obtain=(
    "Unpack images.tar.gz and annotations.tar.gz of"
    " https://www.robots.ox.ac.uk/~vgg/data/pets in one folder."
  ),
)
