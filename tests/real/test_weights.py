"""Class weights and separation maps on real labels."""

import time

import numpy as np
import PIL.Image
import pytest

from fcnjax.data import weight_maps

# Of SegNet's 367 label images of CamVid (trainannot), by a separate count:
# classes 0 to 10, void part of every image.
ELEVEN = [
  0.2793, 0.2017, 4.7865, 0.149, 1.0, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747,
  8.8587,
]  # fmt: skip
# ... and void the twelfth class.
TWELVE = [
  0.2565, 0.1853, 4.3963, 0.1369, 0.9185, 0.3873, 3.5331, 1.8127, 0.7246,
  5.8550, 8.1365,
]  # fmt: skip


class Labels:
  def __init__(self, root):
    lines = (root / "train.txt").read_text().split("\n")
    self.names = [line.split()[1] for line in lines if line]
    self.root = root

  def __len__(self):
    return len(self.names)

  def __getitem__(self, index):
    with PIL.Image.open(self.root / self.names[index]) as image:
      return {"label": np.asarray(image)}


@pytest.mark.parametrize(
  ("num_classes", "ignore", "expected"), [(11, 11, ELEVEN), (12, 255, TWELVE)]
)
def test_camvid_median_frequencies(real_data, num_classes, ignore, expected):
  counted = weight_maps.class_statistics(
    Labels(real_data / "camvid"), num_classes=num_classes, ignore=ignore
  )
  weights = weight_maps.median_frequency_weights(*counted)
  np.testing.assert_allclose(weights[:11], expected, atol=6e-5)


def test_separation_map_of_a_membrane_slice(real_data):
  labels = Labels(real_data / "isbi2012")
  label = (labels[0]["label"] > 0).astype(np.uint8)
  began = time.process_time()
  weights = weight_maps.separation_weight_map(label, class_weights=(1.0, 1.0))
  assert time.process_time() - began < 3
  assert label.shape == weights.shape == (512, 512)
  assert (weights[label == 1] == 1).all()
  # Membranes are thin walls between two cells: nearly all of them weigh more.
  assert 5 < weights[label == 0].mean() < 10
  assert weights.max() <= 1 + 10 * np.exp(-(2**2) / 50) + 1e-5
