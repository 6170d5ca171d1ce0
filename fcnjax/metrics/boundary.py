"""Do the outlines lie where they should? BF, the boundary F1 score, and trimap.

Source of BF: Csurka, Larlus, Perronnin, "What is a good evaluation measure for
semantic segmentation?", BMVC 2013, as SegNet measures it (section 4.2).

One difference to the released MATLAB script: it pairs boundary pixels one to
one (`correspondPixels`); here a boundary pixel is right when any boundary pixel
of the other map is near enough, as the paper's definition reads. The script's
figure is the lower one where boundaries are doubled or thick.
"""

from jaxtyping import Bool, Float, Integer
import numpy as np
from scipy import ndimage, spatial

from fcnjax.typing import IGNORE


def bf_score(
  label: Integer[np.ndarray, "h w"],
  prediction: Integer[np.ndarray, "h w"],
  *,
  num_classes: int,
  tolerance: int | float = 0.0075,
  ignore: int = IGNORE,
  classes: str = "truth",
) -> Float[np.ndarray, " {num_classes}"]:
  """Scores the outlines of each class of one image.

  Precision is the share of the predicted boundary that is within the tolerance
  of the true one, recall the share of the true boundary that is within the
  tolerance of the predicted one; the score is their harmonic mean. Where
  neither map has a boundary (a class fills the image), it is 1 if the masks are
  equal and else 0; where only one has, it is 0. A class whose whole outline
  lies in ignored pixels is not scored: nobody knows where it runs.

  Args:
    label: true classes in [0, k); `ignore` and all else are left out, with the
      boundaries to them.
    prediction: predicted classes in [0, k).
    num_classes: k.
    tolerance: share of the image's diagonal; 0.0075 is 4.5 pixels at 480x360.
    ignore: a label that is left out even where it is below k.
    classes: "truth" scores the classes in the image's truth (the paper),
      "truth_or_prediction" also those that are only predicted (the released
      script), whose score is 0.

  Returns:
    float64 [k] in [0, 1]; NaN for the classes that are not scored.

  Raises:
    ValueError: if `classes` is another word, or the shapes differ.
  """
  if classes not in ("truth", "truth_or_prediction"):
    raise ValueError(
      f'classes must be "truth" or "truth_or_prediction", got "{classes}".'
    )
  counted = (label >= 0) & (label < num_classes) & (label != ignore)
  distance = tolerance * np.hypot(*label.shape)
  result = np.full(num_classes, np.nan)
  for i in range(num_classes):
    truth = (label == i) & counted
    predicted = (prediction == i) & counted
    if truth.any() or (classes == "truth_or_prediction" and predicted.any()):
      result[i] = _f1(truth, predicted, counted, distance)
  return result


def mean_bf_score(values: Float[np.ndarray, "n k"]) -> float:
  """Averages over the classes of each image, then over the images.

  Args:
    values: one row of `bf_score()` per image; NaN is left out.

  Returns:
    A value in [0, 1]; NaN if there is nothing to average.
  """
  scored = ~np.isnan(values)
  counts = scored.sum(axis=1)
  sums = np.where(scored, values, 0).sum(axis=1)
  if not counts.any():
    return float("nan")
  return float((sums[counts > 0] / counts[counts > 0]).mean())


def trimap(
  label: Integer[np.ndarray, "h w"], *, width: int | float, ignore: int = IGNORE
) -> Bool[np.ndarray, "h w"]:
  """Marks the band along the outlines, where blurred maps go wrong.

  Mean IoU over the pixels of the band alone shows how sharp a map is (Chen et
  al., "DeepLabv3+", section 4.3 and figure 5).

  Args:
    label: true classes, or `ignore`.
    width: largest distance, in pixels, to a pixel of another class or to an
      ignored one.
    ignore: the label of ignored pixels, which are in no band.

  Returns:
    True in the band.
  """
  band = np.zeros(label.shape, bool)
  for value in np.unique(label[label != ignore]):
    inside = label == value
    if not inside.all():  # Of a class that fills the image there is no outline.
      band |= inside & (ndimage.distance_transform_edt(inside) <= width)
  return band


def boundary(
  mask: Bool[np.ndarray, "h w"], counted: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
  """Marks the pixels whose right, lower or lower right neighbour differs.

  So the boundary is one pixel wide and, as in the Berkeley `seg2bdry`, the
  image's own border is none.

  Args:
    mask: where the class is.
    counted: pixels that take part; a pair is compared when both do.

  Returns:
    True on the boundary.
  """
  result = np.zeros_like(mask)
  for y, x in ((0, 1), (1, 0), (1, 1)):
    height, width = mask.shape[0] - y, mask.shape[1] - x
    result[:height, :width] |= (
      (mask[:height, :width] != mask[y:, x:])
      & counted[:height, :width]
      & counted[y:, x:]
    )
  return result


def _f1(
  truth: np.ndarray,
  predicted: np.ndarray,
  counted: np.ndarray,
  distance: float,
) -> float:
  edges = [np.argwhere(boundary(m, counted)) for m in (truth, predicted)]
  if not len(edges[0]) and (_around(truth) & ~counted).any():
    return np.nan
  if not len(edges[0]) and not len(edges[1]):
    return float(np.array_equal(truth, predicted))
  if not len(edges[0]) or not len(edges[1]):
    return 0.0
  trees = [spatial.KDTree(points) for points in edges]
  recall = _near(edges[0], trees[1], distance)
  precision = _near(edges[1], trees[0], distance)
  if precision + recall == 0:
    return 0.0
  return 2 * precision * recall / (precision + recall)


def _around(mask: np.ndarray) -> np.ndarray:
  return ndimage.binary_dilation(mask, np.ones((3, 3), bool))


def _near(points: np.ndarray, tree: spatial.KDTree, distance: float) -> float:
  """The share of the points with a neighbour within the distance."""
  # The bound of the search is exclusive; the tolerance is not.
  bound = np.nextafter(distance, np.inf)
  found, _ = tree.query(points, distance_upper_bound=bound)
  return float(np.isfinite(found).mean())
