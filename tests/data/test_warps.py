"""Moved pixels against positions painted into the image, and homographies."""

import numpy as np
import pytest
from scipy import ndimage
import tensorflow as tf

from fcnjax.data import transforms, warps

# Every transform of the table, with parameters that move much.
PARAMETERS = {
  "resize": {"size": (31, 70)},
  "random_scale": {"minimum": 0.4, "maximum": 2.5, "aspect": 2.0},
  "elastic": {"degrees": 40.0, "shift": 4.0},
  "rotate": {"degrees": 60.0, "quarter_turns": True},
  "perspective": {"distortion": 0.2},
  "jitter": {"pixels": 9},
  "random_crop": {"size": (29, 52), "max_share": 0.3},
  "center_crop": {"size": (29, 52)},
  "pad_to": {"size": (51, 57)},
  "flip": {"vertical": True},
  "photometric": {"hue": 0.2, "gamma": 0.5},
  "grey_values": {},
  "blur": {},
  "noise": {},
  "cut_out": {"count": 3},
}
HEIGHT, WIDTH = 37, 45


def painted_example(seed=0):
  """An image whose channels 3 and 4 say where its pixels are."""
  rng = np.random.default_rng(seed)
  y, x = np.indices((HEIGHT, WIDTH)).astype(np.float32)
  colours = rng.uniform(0, 255, (HEIGHT, WIDTH, 3))
  return {
    "image": np.float32(np.dstack([colours, y, x])),
    "label": rng.integers(0, 9, (HEIGHT, WIDTH)).astype(np.uint8),
    "second_label": rng.integers(0, 9, (HEIGHT, WIDTH)).astype(np.uint8),
    "weight": 1 + y / 8 + x / 16,
  }


@pytest.mark.parametrize("name", list(transforms.TRANSFORMS))
@pytest.mark.parametrize("seed", range(4))
def test_all_maps_move_together(name, seed):
  """The painted place tells which label, second label and weight belong there.

  Places that a rounding could take for those of another pixel are left out.
  """
  example = painted_example()
  moved = transforms.TRANSFORMS[name](
    {k: tf.constant(v) for k, v in example.items()},
    (seed, 5),
    **PARAMETERS[name],
  )
  moved = {k: v.numpy() for k, v in moved.items()}
  there = moved["label"] != 255
  assert there.mean() > 0.3
  np.testing.assert_array_equal(there, moved["second_label"] != 255)
  np.testing.assert_array_equal(there, moved["weight"] > 0)
  assert (moved["image"][~there] == 0).all()
  y, x = moved["image"][..., 3], moved["image"][..., 4]
  clear = there & (np.abs(y % 1 - 0.5) > 1e-3) & (np.abs(x % 1 - 0.5) > 1e-3)
  assert clear.mean() > 0.2
  nearest = (np.rint(y[clear]).astype(int), np.rint(x[clear]).astype(int))
  for key in ("label", "second_label"):
    np.testing.assert_array_equal(moved[key][clear], example[key][nearest])
  np.testing.assert_allclose(
    moved["weight"][there], (1 + y / 8 + x / 16)[there], atol=1e-4
  )


CENTRED = {
  "flip": {"vertical": True},
  "rotate": {"degrees": 180.0, "quarter_turns": True},
  "elastic": {"sigma": 0.0, "degrees": 180.0},
  "random_scale": {"minimum": 0.6, "maximum": 6.0, "aspect": 1.5},
  "resize": {"size": (151, 118)},
  "center_crop": {"size": (11, 9)},
  "pad_to": {"size": (61, 71)},
  "blur": {"sigma": 3.0},
}


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("seed", range(8))
def test_a_delta_in_the_centre_stays_there(name, seed):
  image = np.zeros((31, 45, 1), np.float32)
  image[15, 22] = 255
  moved = transforms.TRANSFORMS[name](
    {
      "image": tf.constant(image),
      "label": tf.constant((image[..., 0] > 0).astype(np.uint8)),
    },
    (seed, 1),
    **CENTRED[name],
  )
  for mass in (moved["image"].numpy()[..., 0], moved["label"].numpy() == 1):
    mass = mass.astype(np.float64)
    if not mass.sum():
      continue  # Shrunk: the pixel may lie between those that are left.
    centre = (np.indices(mass.shape) * mass).sum((1, 2)) / mass.sum()
    # A label may lie on the border of two pixels, and go to one of them.
    limit = 0.5 if mass.max() == 1 else 1e-3
    middle = (np.array(mass.shape) - 1) / 2
    np.testing.assert_allclose(centre, middle, atol=limit)


STILL = {
  "perspective": {"distortion": 0.0},
  "photometric": {"hue": 0.2, "gamma": 0.3},
  "grey_values": {"strength": 1.0},
  "noise": {"sigma": 20.0},
  "cut_out": {"maximum": 0.6},
}


@pytest.mark.parametrize("name", STILL)
def test_what_moves_nothing_leaves_a_delta_where_it_is(name):
  """The pixel alone stands out, and has the class; unless it is erased."""
  delta = np.zeros((31, 45), bool)
  delta[15, 22] = True
  example = {
    "image": tf.constant(np.float32(255 * delta)[..., None].repeat(3, -1)),
    "label": tf.constant(delta.astype(np.uint8)),
  }
  kept = 0
  for seed in range(12):
    moved = transforms.TRANSFORMS[name](example, (seed, 1), **STILL[name])
    label = moved["label"].numpy()
    seen = delta & (label != 255)
    np.testing.assert_array_equal(label == 1, seen)
    bright = moved["image"].numpy() > 128
    np.testing.assert_array_equal(bright, seen[..., None].repeat(3, -1))
    kept += seen.any()
  assert kept == 12 or (name == "cut_out" and 3 < kept < 12), kept


@pytest.mark.parametrize(
  ("name", "parameters", "reach"),
  [
    ("jitter", {"pixels": 9}, ((-9, -9), (9, 9))),
    ("random_crop", {"size": (20, 60)}, ((-17, 0), (0, 15))),
  ],
)
def test_a_delta_moves_by_whole_pixels_as_its_label_does(
  name, parameters, reach
):
  """And all else by as much: the painted places are those of the shift."""
  example = painted_example() | {
    "label": np.zeros((HEIGHT, WIDTH), np.uint8),
    "second_label": np.zeros((HEIGHT, WIDTH), np.uint8),
  }
  example["label"][18, 22] = example["second_label"][18, 22] = 1
  shifts = set()
  for seed in range(12):
    moved = transforms.TRANSFORMS[name](
      {k: tf.constant(v) for k, v in example.items()}, (seed, 5), **parameters
    )
    moved = {k: v.numpy() for k, v in moved.items()}
    places = np.argwhere(moved["label"] == 1)
    if len(places) == 0:
      continue
    shift = places[0] - (18, 22)
    shifts.add(tuple(shift))
    rows, columns = np.argwhere(moved["label"] != 255).T
    source = rows - shift[0], columns - shift[1]
    for key in example:
      np.testing.assert_array_equal(
        moved[key][rows, columns], example[key][source], err_msg=key
      )
  assert len(shifts) > 5
  least, greatest = reach
  assert (np.min(list(shifts), axis=0) >= least).all()
  assert (np.max(list(shifts), axis=0) <= greatest).all()


def solved(corners, height, width):
  """The homography of four pairs of corners, by NumPy: a function of (y, x)."""
  source = np.array([(0, 0), (0, 1), (1, 1), (1, 0)]) * (height - 1, width - 1)
  target = source + corners * (height - 1, width - 1)
  rows, values = [], []
  for (y, x), (v, u) in zip(source, target):
    rows += [[y, x, 1, 0, 0, 0, -v * y, -v * x]]
    rows += [[0, 0, 0, y, x, 1, -u * y, -u * x]]
    values += [v, u]
  matrix = np.append(np.linalg.solve(rows, values), 1).reshape(3, 3)
  y, x = np.indices((height, width))
  v, u, w = np.einsum("ij,jhw->ihw", matrix, np.stack([y, x, np.ones_like(y)]))
  return np.stack([v / w, u / w])


@pytest.mark.parametrize("seed", range(5))
def test_perspective_is_the_homography_of_its_corners(seed):
  example = painted_example(seed)
  corners = tf.random.stateless_uniform([4, 2], (seed, 3), -0.2, 0.2).numpy()
  moved = warps.perspective(
    {k: tf.constant(v) for k, v in example.items()},
    (seed, 3),
    distortion=0.2,
    boundary="reflect",
  )
  places = solved(corners.astype(np.float64), HEIGHT, WIDTH)
  for channel in range(5):
    expected = ndimage.map_coordinates(
      example["image"][..., channel], places, order=1, mode="mirror"
    )
    np.testing.assert_allclose(
      moved["image"][..., channel], expected, atol=2e-2
    )


@pytest.mark.parametrize("corner", range(16))
def test_the_greatest_distortion_folds_nothing(corner):
  """Neighbours stay neighbours, the right way round: the determinant is > 0."""
  signs = np.array([[int(b) for b in f"{corner:04b}"]] * 2).T * 2.0 - 1
  for mix in (np.ones(2), np.array([1, -1])):
    places = solved(0.2499 * signs * mix, 41, 41)
    down, right = np.diff(places, axis=1)[..., :-1], np.diff(places, axis=2)
    right = right[:, :-1]
    assert (down[0] * right[1] - down[1] * right[0] > 0).all()


def test_nothing_moves_where_the_corners_stay():
  grid = tf.random.stateless_uniform([5, 6, 2], (0, 0))
  assert not warps._homography(tf.zeros([4, 2]), grid).numpy().any()
