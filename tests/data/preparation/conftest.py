"""A folder of many kinds of files, and the data set that is made of it."""

import numpy as np
import PIL.Image
import pytest

from tests.data.preparation import converting


@pytest.fixture
def folder(tmp_path):
  """Eleven images of several sizes and encodings with three classes and 255."""
  random = np.random.default_rng(0)
  for index in range(11):
    height, width = 20 + index, 30 - index
    image = PIL.Image.fromarray(converting.noise(random, (height, width, 3)))
    mask = random.choice([0, 1, 2, 255], (height, width)).astype(np.uint8)
    mask = PIL.Image.fromarray(np.where(index < 5, mask % 2, mask))
    image_file = tmp_path / "images" / f"n{index}.jpg"
    words = {}
    if index == 3:  # greys are repeated
      image = image.convert("L")
    elif index == 4:
      image_file = image_file.with_suffix(".png")
    elif index == 5:  # a palette
      image = image.quantize(16)
      image_file = image_file.with_suffix(".png")
    elif index == 6:
      image_file = image_file.with_suffix(".png")
      image.putalpha(100)
    elif index == 7:
      image_file = image_file.with_suffix(".tif")
    elif index == 8:  # turned by a right angle for viewing
      image = image.transpose(PIL.Image.Transpose.ROTATE_90)
      words["exif"] = PIL.Image.Exif()
      words["exif"][0x0112] = 6
    for file, picture in (
      (image_file, image),
      (tmp_path / "masks" / f"n{index}.png", mask),
    ):
      file.parent.mkdir(exist_ok=True)
      picture.save(file, **(words if file is image_file else {}))
  return tmp_path


@pytest.fixture
def written(folder):
  splits = {
    split: converting.files(folder, split) for split in ("train", "val")
  }
  assert converting.write(splits, folder / "out", shard_images=3)
  return splits, folder / "out"
