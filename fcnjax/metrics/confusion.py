"""The four FCN metrics from one confusion matrix over the whole data set.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic
Segmentation", section 5. The matrix is additive: count each batch on the
device, add the batches on the host as int64, and reduce once at the end. A mean
of the IoUs of batches is another, wrong number.
"""

from collections.abc import Sequence
import textwrap
from typing import Any

from jax import Array
import jax.numpy as jnp
from jaxtyping import Int32, Integer
import numpy as np

from fcnjax.typing import IGNORE

# The table warns when one class takes more than this share of the prediction.
DOMINANT_SHARE = 0.95


def confusion_matrix(
  labels: Integer[Array | np.ndarray, "*b"],
  predictions: Integer[Array | np.ndarray, "*b"],
  *,
  num_classes: int,
  ignore: int = IGNORE,
) -> Int32[Array, "{num_classes} {num_classes}"]:
  """Counts pixels by true and predicted class.

  A pixel is counted when its label is in [0, k) and not `ignore`, and its
  prediction is in [0, k); all others (255, -1, k, ...) are left out, never
  wrapped or clipped into a class.

  Args:
    labels: true classes in [0, k), or anything else for pixels to leave out.
    predictions: predicted classes in [0, k), of the shape of `labels`.
    num_classes: k; at most 46340, so that k * k fits into int32.
    ignore: a label that is left out even where it is below k.

  Returns:
    Counts int32 [k, k]: rows are the truth, columns the prediction. One call
    counts fewer than 2**31 pixels; add calls up as int64.
  """
  labels, predictions = jnp.asarray(labels), jnp.asarray(predictions)
  # Validity is decided in the given type: casting first could wrap a large
  # unsigned label into the range of the classes.
  counted = (
    (labels >= 0)
    & (labels < num_classes)
    & (labels != ignore)
    & (predictions >= 0)
    & (predictions < num_classes)
  )
  rows = jnp.where(counted, labels.astype(jnp.int32), num_classes)
  columns = jnp.where(counted, predictions.astype(jnp.int32), 0)
  bins = (rows * num_classes + columns).ravel()
  # Row k holds what is left out; it is cut off.
  counts = jnp.bincount(bins, length=(num_classes + 1) * num_classes)
  matrix = counts.reshape(num_classes + 1, num_classes)
  return matrix[:num_classes].astype(jnp.int32)


def scores(
  matrix: Integer[np.ndarray, "k k"], *, exclude: Sequence[int] = ()
) -> dict[str, Any]:
  """Reduces a confusion matrix to the four FCN metrics and per-class figures.

  With n_ij the pixels of class i predicted as j and t_i = sum_j n_ij:
  pixel accuracy sum_i n_ii / sum_i t_i, mean accuracy mean_i n_ii / t_i, IoU_i
  n_ii / (t_i + sum_j n_ji - n_ii), frequency-weighted IoU sum_i t_i IoU_i /
  sum_i t_i. Classes without a value (0/0) are left out of the means, as in the
  released `score.py`, and listed.

  Args:
    matrix: counts [k, k], rows the truth and columns the prediction.
    exclude: ids of classes without IoU and accuracy of their own; their pixels
      count as all others. SIFT Flow's test set lacks three classes.

  Returns:
    `pixel_accuracy`, `mean_accuracy`, `mean_iou`, `frequency_weighted_iou`:
      floats in [0, 1], or NaN when no pixel was counted.
    `iou`, `accuracy`: float64 [k] in [0, 1]; `iou` is NaN for a class in
      neither truth nor prediction, `accuracy` for one that is not in the truth.
    `truth_share`, `prediction_share`: float64 [k], shares of all counted
      pixels in [0, 1]; NaN when no pixel was counted.
    `absent`: ids of the classes in neither truth nor prediction.
  """
  counts = np.asarray(matrix).astype(np.float64)
  correct = np.diag(counts)
  truth, predicted = counts.sum(axis=1), counts.sum(axis=0)
  union = truth + predicted - correct
  total = counts.sum()
  iou = _ratio(correct, union)
  accuracy = _ratio(correct, truth)
  iou[list(exclude)] = accuracy[list(exclude)] = np.nan
  share = _ratio(truth, total)
  return {
    "pixel_accuracy": float(_ratio(correct.sum(), total)),
    "mean_accuracy": _mean(accuracy),
    "mean_iou": _mean(iou),
    "frequency_weighted_iou": float(
      _ratio((truth * np.nan_to_num(iou)).sum(), total)
    ),
    "iou": iou,
    "accuracy": accuracy,
    "truth_share": share,
    "prediction_share": _ratio(predicted, total),
    "absent": [int(i) for i in np.flatnonzero(union == 0)],
  }


def record(scores: dict[str, Any]) -> dict[str, Any]:
  """Returns the scores as JSON can hold them: lists, and None for NaN."""

  def plain(value: Any) -> Any:
    if isinstance(value, (list, np.ndarray)):
      return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
      return None if np.isnan(value) else float(value)
    return value

  return {name: plain(value) for name, value in scores.items()}


def warnings(
  scores: dict[str, Any], class_names: Sequence[str] | None = None
) -> list[str]:
  """Says in words when a good score hides a useless prediction.

  Args:
    scores: what `scores()` returned.
    class_names: k names; class ids where None.

  Returns:
    One line each: a class that takes more than 95 % of the predicted pixels
    (unless the truth is like that), classes of the truth that are never
    predicted, and classes in neither truth nor prediction.
  """
  names = _names(scores, class_names)
  truth, predicted = scores["truth_share"], scores["prediction_share"]
  lines = []
  for i, name in enumerate(names):
    if predicted[i] > DOMINANT_SHARE and truth[i] <= DOMINANT_SHARE:
      lines.append(
        f"{name} takes {predicted[i]:.1%} of the prediction, but is"
        f" {truth[i]:.1%} of the truth."
      )
  missed = [
    name for i, name in enumerate(names) if truth[i] > 0 and predicted[i] == 0
  ]
  if missed:
    lines.append(f"Never predicted though present: {', '.join(missed)}.")
  if scores["absent"]:
    absent = ", ".join(names[i] for i in scores["absent"])
    lines.append(
      f"In neither truth nor prediction, left out of the means: {absent}."
    )
  return lines


def table(
  scores: dict[str, Any], class_names: Sequence[str] | None = None
) -> str:
  """Writes the scores as a table of at most 80 columns.

  Args:
    scores: what `scores()` returned.
    class_names: k names; class ids where None. Long names are cut in the
      table and kept in the warnings.

  Returns:
    A line per class (IoU, accuracy, shares of truth and prediction, all in
    percent), the four metrics, and the warnings. No newline at the end.
  """
  names = _names(scores, class_names)
  shown = [name if len(name) <= 32 else name[:31] + "…" for name in names]
  width = max(map(len, [*shown, "frequency-weighted IoU"]))
  columns = ("iou", "accuracy", "truth_share", "prediction_share")
  header = f"{'class':<{width}}" + "".join(
    f"{word:>11}" for word in ("IoU", "accuracy", "of truth", "of pred.")
  )
  lines = [header, "-" * len(header)]
  for i, name in enumerate(shown):
    cells = "".join(f"{_percent(scores[c][i]):>11}" for c in columns)
    lines.append(f"{name:<{width}}{cells}")
  lines.append("-" * len(header))
  for name, key in (
    ("mean IoU", "mean_iou"),
    ("mean accuracy", "mean_accuracy"),
    ("pixel accuracy", "pixel_accuracy"),
    ("frequency-weighted IoU", "frequency_weighted_iou"),
  ):
    lines.append(f"{name:<{width}}{_percent(scores[key]):>11}")
  for warning in warnings(scores, names):
    lines.extend(_wrapped(warning))
  return "\n".join(lines)


def _ratio(a: Any, b: Any) -> np.ndarray:
  """a / b, NaN where b is zero, without a warning."""
  a, b = np.broadcast_arrays(np.float64(a), np.float64(b))
  return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)


def _mean(values: np.ndarray) -> float:
  """The mean over what is not NaN; NaN, without a warning, over nothing."""
  values = values[~np.isnan(values)]
  return float(values.mean()) if values.size else float("nan")


def _names(
  scores: dict[str, Any], class_names: Sequence[str] | None
) -> list[str]:
  k = len(scores["iou"])
  if class_names is None:
    return [str(i) for i in range(k)]
  if len(class_names) != k:
    raise ValueError(
      f"got {len(class_names)} class names for {k} classes;"
      " give one name per class."
    )
  return list(class_names)


def _percent(value: float) -> str:
  return "-" if np.isnan(value) else f"{100 * value:.2f}"


def _wrapped(text: str) -> list[str]:
  return textwrap.wrap(text, 80, initial_indent="! ", subsequent_indent="  ")
