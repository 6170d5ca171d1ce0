"""Generated photographs and masks, for benchmarks that read files."""

import pathlib

import numpy as np
import PIL.Image

MEAN = (124.0, 116.0, 104.0)  # of ImageNet, in [0, 255]


def write(folder: pathlib.Path, count: int, size: tuple[int, int]) -> None:
  """Writes `count` smooth pictures with grain, and masks of 21 classes.

  Args:
    folder: gets images/ (JPEG) and masks/ (PNG, values in [0, 21)).
    count: of each.
    size: (height, width) in pixels, at least 100.
  """
  rng = np.random.default_rng(0)
  (folder / "images").mkdir()
  (folder / "masks").mkdir()
  height, width = size
  grain = rng.normal(0, 4, (height, width, 3)).astype(np.float32)
  for number in range(count):
    coarse = rng.integers(0, 256, (height // 25, width // 25, 3), np.uint8)
    smooth = PIL.Image.fromarray(coarse).resize((width, height), 3)
    picture = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    PIL.Image.fromarray(picture).save(
      folder / "images" / f"{number:05}.jpg", quality=90
    )
    coarse = rng.integers(0, 21, (height // 100, width // 100), np.uint8)
    PIL.Image.fromarray(coarse).resize((width, height), 0).save(
      folder / "masks" / f"{number:05}.png"
    )
