"""What tests of prepared data sets share: sources of files, and comparisons."""

import numpy as np

from fcnjax.data import folders
from fcnjax.data.preparation import metadata, preparing

ABOUT = metadata.Description("mine", text="Mine.", citation="Me.")
NAMES = ("ground", "tree", "lake")


def noise(random, shape):
  """Noise that JPEG changes and PNG does not shrink."""
  return random.integers(0, 256, shape, dtype=np.uint8)


def files(folder, split="train", **words):
  return folders.folder(
    folder / "images",
    folder / "masks",
    split=split,
    class_names=NAMES,
    **words,
  )


def write(splits, directory, **words):
  return preparing.write(splits, directory, ABOUT, progress=False, **words)


def snapshot(directory):
  return {
    path.relative_to(directory).as_posix(): path.read_bytes()
    for path in directory.rglob("*")
    if path.is_file()
  }


def assert_equal(one, other):
  assert one.keys() == other.keys()
  for key, value in one.items():
    assert np.asarray(value).dtype == np.asarray(other[key]).dtype
    np.testing.assert_array_equal(value, other[key])
