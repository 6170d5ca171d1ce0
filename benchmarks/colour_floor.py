"""How much of the embedded data set does colour alone tell?

Counts the classes of the training pixels in a table over quantised RGB and
position, predicts the most frequent class of each cell ("frequent"), or the
one that it is the largest part of ("balanced"), and prints the mean IoU on
the validation scenes. A network has to beat this floor by far; a data set
where it is high tests nothing.

  python benchmarks/colour_floor.py

Mean IoU with the defaults (1024 training, 128 validation scenes of 96 x 96):

  colours  places  frequent  balanced
  8^3      1 x 1   0.102     0.087
  16^3     1 x 1   0.106     0.086
  32^3     1 x 1   0.106     0.084
  8^3      4 x 4   0.111     0.087
"""

import argparse

import numpy as np

from fcnjax.data import scenes
from fcnjax.metrics import confusion


def floor(
  train,
  val,
  *,
  num_classes: int,
  bins: int = 16,
  cells: int = 1,
  balanced: bool = False,
) -> dict:
  """Scores a colour table.

  Args:
    train: a source of RGB images.
    val: another one.
    num_classes: k.
    bins: steps of red, of green and of blue.
    cells: the table also knows the position, on a grid of `cells` x `cells`.
    balanced: whether each class weighs the same, however rare it is.

  Returns:
    The dict of `confusion.scores`.
  """
  table = np.zeros((num_classes, cells * cells * bins**3))
  for example in (train[i] for i in range(len(train))):
    code, label = _codes(example["image"], bins, cells), example["label"]
    keep = label < num_classes
    np.add.at(table, (label[keep], code[keep]), 1)
  if balanced:
    table /= np.maximum(table.sum(axis=1, keepdims=True), 1)
  # A colour that was never seen gets the most frequent class.
  guess = np.where(table.any(axis=0), table.argmax(axis=0), 0)
  matrix = np.zeros((num_classes, num_classes), np.int64)
  for example in (val[i] for i in range(len(val))):
    prediction = guess[_codes(example["image"], bins, cells)]
    keep = example["label"] < num_classes
    np.add.at(matrix, (example["label"][keep], prediction[keep]), 1)
  return confusion.scores(matrix)


def _codes(image, bins, cells):
  """Returns the table's column of every pixel, [h, w]."""
  height, width, _ = image.shape
  steps = image.astype(np.int64) * bins // 256
  color = (steps[..., 0] * bins + steps[..., 1]) * bins + steps[..., 2]
  row = np.arange(height)[:, None] * cells // height
  column = np.arange(width)[None, :] * cells // width
  return color * cells * cells + row * cells + column


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--size", type=int, default=96, help="pixels")
  parser.add_argument("--train", type=int, default=1024, help="scenes")
  parser.add_argument("--val", type=int, default=128, help="scenes")
  words = parser.parse_args()
  size = (words.size, words.size)
  train = scenes.Scenes("train", size=size, count=words.train)
  val = scenes.Scenes("val", size=size, count=words.val)
  for bins, cells in ((8, 1), (16, 1), (32, 1), (8, 4)):
    for balanced in (False, True):
      scores = floor(
        train,
        val,
        num_classes=len(scenes.CLASSES),
        bins=bins,
        cells=cells,
        balanced=balanced,
      )
      print(
        f"{bins:2d}^3 colours, {cells} x {cells} places,"
        f" {'balanced' if balanced else 'frequent':8s}"
        f"  mean IoU {scores['mean_iou']:.3f}"
        f"  pixel accuracy {scores['pixel_accuracy']:.3f}"
      )


if __name__ == "__main__":
  main()
