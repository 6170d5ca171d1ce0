"""Colours of classes."""

import numpy as np

from fcnjax.report import colours


def test_the_palette_is_that_of_voc():
  palette = colours.palette(256)
  assert palette[:6] == (
    (0, 0, 0),
    (128, 0, 0),
    (0, 128, 0),
    (128, 128, 0),
    (0, 0, 128),
    (128, 0, 128),
  )
  assert palette[15] == (192, 128, 128)  # person
  assert palette[20] == (0, 64, 128)  # tvmonitor
  assert palette[255] == colours.NO_CLASS
  assert len(set(palette)) == 256


def test_what_is_no_class_has_its_own_colour():
  labels = np.array([[0, 1, 2, 255, -1]], np.int32)
  painted = colours.paint(labels, [(1, 2, 3), (4, 5, 6)])
  assert painted[0, :2].tolist() == [[1, 2, 3], [4, 5, 6]]
  assert (painted[0, 2:] == colours.NO_CLASS).all()
