"""Two series of the Cell Tracking Challenge that U-Net was trained on.

PhC-U373: glioblastoma cells in phase contrast, 520 x 696, of which part of each
frame is annotated; DIC-HeLa: HeLa cells that touch, 512 x 512. Frames are
01/tNNN.tif, their cells 01_GT/SEG/man_segNNN.tif, 16 bits: 0 = background,
otherwise the number of the cell. Few frames have a mask; only those are read.

A class mask cannot tell touching cells apart, so where two cells are
neighbours the one of the higher number loses its pixels along the border to the
background. The cells are then the 4-connected components of class 1, as U-Net's
weight map (loss.separation) expects them.

The challenge's own test labels are not published: series 01 is "train", 02
"val" and both are "trainval".
"""

import functools
import pathlib

from jaxtyping import Integer, UInt8
import numpy as np

from fcnjax import errors
from fcnjax.data import images
from fcnjax.data.datasets import cards

_SERIES = {"train": ("01",), "val": ("02",), "trainval": ("01", "02")}


def separated(cells: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
  """Turns numbers of cells into classes, with background between cells.

  Args:
    cells: 0 = background, otherwise the number of the cell.

  Returns:
    1 inside cells, 0 elsewhere and where a cell of lower number is a neighbour
    (above, below, left or right).
  """
  border = np.zeros(cells.shape, bool)
  for axis in (0, 1):
    first = np.moveaxis(cells, axis, 0)[:-1]
    second = np.moveaxis(cells, axis, 0)[1:]
    touching = (first > 0) & (second > 0)
    edge = np.moveaxis(border, axis, 0)  # a view
    edge[:-1] |= touching & (first > second)
    edge[1:] |= touching & (second > first)
  return ((cells > 0) & ~border).astype(np.uint8)


def read_mask(path: pathlib.Path) -> UInt8[np.ndarray, "h w"]:
  """Reads a mask of numbers of cells as background 0 and separate cells 1."""
  return separated(images.read_mask(path))


def _files(root: pathlib.Path, split: str, *, folder: str) -> list[cards.Pair]:
  base = cards.holder(root, folder)
  base = base / folder if (base / folder).is_dir() else base
  pairs = []
  for series in _SERIES[split]:
    masks = base / f"{series}_GT" / "SEG"
    found = sorted(masks.glob("man_seg*.tif"))
    if not found:
      raise errors.InputError(f"{masks} holds no man_segNNN.tif.")
    for mask in found:
      number = mask.stem.removeprefix("man_seg").lstrip("_")
      pairs.append((base / series / f"t{number}.tif", mask))
  return pairs


def _card(name, folder, what, digest):
  return cards.Card(
    name=name,
    title=folder,
    classes=("background", "cell"),
    colors=((0, 0, 0), (230, 70, 60)),
    ignore=(),
    channels=1,
    # U-Net's paper counts 35 (PhC-U373) and 20 (DIC-HeLa) annotated frames in
    # the archives of 2015; no source tells how many today's have.
    splits=dict.fromkeys(_SERIES),
    # None are published: ImageNet's.
    mean=cards.IMAGENET_GREY_MEAN,
    std=cards.IMAGENET_GREY_STD,
    files=functools.partial(_files, folder=folder),
    read_mask=read_mask,
    archives=(
      cards.Archive(
        name=f"{folder}.zip",
        url=f"http://data.celltrackingchallenge.net/training-datasets/{folder}.zip",
        # The challenge publishes none; this is the one that the loaders of
        # torch_em check.
        digest=f"sha256:{digest}",
      ),
    ),
    licence="research, as the challenge's conditions of use say",
    citation=(
      "Ulman et al.: An objective comparison of cell-tracking algorithms,"
      " Nature Methods 2017"
    ),
    obtain=(
      f"Unpack {folder}.zip of http://data.celltrackingchallenge.net ({what})."
    ),
  )


PHC_U373 = _card(
  "phc_u373",
  "PhC-C2DH-U373",
  "glioblastoma cells in phase contrast",
  "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
)
DIC_HELA = _card(
  "dic_hela",
  "DIC-C2DH-HeLa",
  "HeLa cells in differential interference contrast",
  "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
)
