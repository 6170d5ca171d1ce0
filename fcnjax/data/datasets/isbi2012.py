"""ISBI 2012: 30 slices of electron microscopy, 512 x 512, membrane and cell.

The challenge has no validation split and its test labels were never
published. Neighbouring slices are nearly alike, so the last six are held out
as a block: train on slices 0 to 23, report on 24 to 29.
"""

import pathlib

from fcnjax.data.datasets import cards

_SLICES = {"train": range(24), "val": range(24, 30)}


def files(root: pathlib.Path, split: str) -> list[cards.Pair]:
  """Returns the pairs train/image/N.png, train/label/N.png."""
  folder = cards.holder(root, "train/image") / "train"
  return [
    (folder / "image" / f"{n}.png", folder / "label" / f"{n}.png")
    for n in _SLICES[split]
  ]


CARD = cards.Card(
  name="isbi2012",
  title="ISBI 2012",
  classes=("membrane", "cell"),
  colors=((230, 70, 60), (200, 200, 200)),
  label_map={0: 0, 255: 1},
  ignore=(),
  channels=1,
  splits={name: len(slices) for name, slices in _SLICES.items()},
  # Over all pixels of the 24 training slices.
  mean=(125.151,),
  std=(43.560,),
  files=files,
  archives=(
    cards.Archive(
      # Packed anew at each download, so it has no digest.
      name="unet.zip",
      url="https://github.com/zhixuhao/unet/archive/refs/heads/master.zip",
    ),
  ),
  licence="non-commercial image segmentation research (challenge's terms)",
  citation=(
    "Cardona et al., PLoS Biology 2010; Arganda-Carreras et al., Frontiers in"
    " Neuroanatomy 2015"
  ),
  obtain=(
    "Get the folder data/membrane of https://github.com/zhixuhao/unet"
    " (train/image/N.png and train/label/N.png)."
  ),
)
