"""A small folder of images and masks that are drawn, with nothing wrong."""

import pathlib
import shutil

import numpy as np
import PIL.Image

SIZE = (48, 64)
COUNT = 10  # the last two are validated on


def draw(number):
  """A picture of blots in a few shades, and a mask of two rectangles."""
  random = np.random.default_rng(number)
  coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
  image = PIL.Image.fromarray(coarse).resize(SIZE[::-1])
  mask = np.zeros(SIZE, np.uint8)
  for label in (1, 2):
    row, column = random.integers(0, 20), random.integers(0, 40)
    mask[row : row + 24, column : column + 16] = label
  mask[-3:, -3:] = 2  # never covered
  return np.asarray(image), mask


def save(path, array, **words):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(array).save(path, **words)


def write(root: pathlib.Path) -> None:
  """Draws images/, masks/ and the lists train.txt and val.txt."""
  for number in range(COUNT):
    image, mask = draw(number)
    save(root / "images" / f"{number}.png", image)
    save(root / "masks" / f"{number}.png", mask)
  lines = [str(number) for number in range(COUNT)]
  (root / "train.txt").write_text("\n".join(lines[:-2]))
  (root / "val.txt").write_text("\n".join(lines[-2:]))


def mask_file(root, number):
  return root / "masks" / f"{number}.png"


def image_file(root, number):
  return root / "images" / f"{number}.png"


def pixels(path):
  with PIL.Image.open(path) as file:
    return np.asarray(file)


def all_masks(root, change):
  for path in (root / "masks").iterdir():
    save(path, change(pixels(path)))


def copy(source, target):
  shutil.copyfile(source, target)
