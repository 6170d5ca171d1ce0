"""What the loss multiplies with: pixel weights (U-Net), class weights (SegNet).

Both are computed once and kept on disk: one .npz file a label for the maps,
one a data set for the counts. The files are named by a hash of what they were
made from. For a map that is the label; for the counts it is the name, size and
time of change of every mask file and what makes labels of them, so counts are
stale only if masks were changed with their sizes and times kept. The folder
may be deleted.
"""

from collections.abc import Callable, Sequence
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any, NamedTuple
import uuid

from jaxtyping import Float, Integer, UInt8
import numpy as np
from scipy import ndimage

from fcnjax import errors, typing

# Goes into every hash; raise it when a formula below changes.
VERSION = 1


def separation_weight_map(
  label: UInt8[np.ndarray, "h w"],
  *,
  foreground: int | Sequence[int] = 1,
  instances: Integer[np.ndarray, "h w"] | None = None,
  w0: float = 10.0,
  sigma: float = 5.0,
  class_weights: Sequence[float] | None = None,
  ignore: int = typing.IGNORE,
) -> Float[np.ndarray, "h w"]:
  """Returns U-Net's pixel weights, which force thin gaps between cells open.

  w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)), where d1 and d2 are
  the distances to the nearest and the second nearest cell. The second term is
  that of background pixels; inside cells and with fewer than two cells it is
  0. Distances are Euclidean, from pixel centre to the nearest pixel centre of
  the cell; terms with d2 > 6 sigma, below 2e-8 w0, count as 0.

  Args:
    label: classes in [0, k) or `ignore`.
    foreground: the class or classes whose 4-connected components are cells.
    instances: which cell a pixel belongs to, 0 = none; instead of components.
    w0: height of the second term.
    sigma: its width in pixels; positive.
    class_weights: w_c, one a class. By default each class of this label has
      the same sum and the mean over the pixels that count is 1: w_c =
      pixels / (classes present * pixels of the class).
    ignore: the label whose weight is 0.

  Returns:
    float32 weights, at least 0.

  Raises:
    ValueError: if sigma is not positive, or a class has no class weight.

  Source: U-Net (MICCAI 2015) eq. 2.
  """
  if sigma <= 0:
    raise ValueError(f"sigma must be positive, got {sigma}.")
  if instances is None:
    cells, _ = ndimage.label(np.isin(label, foreground))
  else:
    cells = instances
  nearest, second = _two_distances(cells, reach=int(np.ceil(6 * sigma)))
  gap = np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
  weights = _balance(label, class_weights, ignore) + w0 * gap * (cells == 0)
  return np.where(label == ignore, 0.0, weights).astype(np.float32)


def median_frequency_weights(
  pixel_counts: Sequence[int] | np.ndarray,
  image_pixel_counts: Sequence[int] | np.ndarray,
) -> Float[np.ndarray, "k"]:
  """Returns SegNet's class weights: median frequency over class frequency.

  The frequency of a class is the number of its pixels over the number of
  pixels of the images that hold it. A class that occurs nowhere gets the
  weight 0 and has no part in the median.

  Args:
    pixel_counts: [k], pixels of each class.
    image_pixel_counts: [k], pixels of all images in which the class occurs.

  Returns:
    float64 [k]; the class of median frequency has weight 1.

  Raises:
    ValueError: if the shapes differ or a class has more pixels than the images
      that hold it.

  Source: SegNet (PAMI 2017) section 3.1, after Eigen and Fergus (ICCV 2015).
  """
  pixels = np.asarray(pixel_counts, np.float64)
  images = np.asarray(image_pixel_counts, np.float64)
  if pixels.shape != images.shape or (pixels > images).any():
    raise ValueError(
      "Expected two lists of one length, the second at least the first, got "
      f"{pixels.tolist()} and {images.tolist()}."
    )
  present = pixels > 0
  weights = np.zeros(pixels.shape)
  if present.any():
    frequency = pixels[present] / images[present]
    weights[present] = np.median(frequency) / frequency
  return weights


class ClassStatistics(NamedTuple):
  """Pixels of each class, and of the images in which the class occurs."""

  pixel_counts: np.ndarray  # int64 [k]
  image_pixel_counts: np.ndarray  # int64 [k]


def class_statistics(
  source: Any,
  directory: str | os.PathLike[str] | None = None,
  *,
  num_classes: int,
  ignore: int = typing.IGNORE,
  workers: int = 2,
  skip: bool = False,
) -> ClassStatistics:
  """Returns the class counts of a data set, for `median_frequency_weights`.

  Ignored pixels are no class, but they are pixels of their image.

  Args:
    source: examples with "label" uint8 [h, w], and their `names`; one that has
      been counted says so itself (`prepared.Prepared.class_statistics`).
    directory: where the counts are kept, if the source can tell cheaply
      whether its labels have changed (`sources.Files.labels_version`). Others,
      and None, are counted anew.
    num_classes: k; labels in [0, k) or `ignore`.
    ignore: the label that does not count.
    workers: threads.
    skip: whether examples that cannot be read are left out.

  Raises:
    InputError: if a label is neither in [0, k) nor `ignore`, a mask has gone,
      or the directory cannot be written to.
    OSError: if the disk is full.
  """
  known = getattr(source, "class_statistics", lambda: None)()
  if known is not None:
    return ClassStatistics(*known)
  counts, sizes = _counted(
    source, directory, num_classes, ignore, workers, skip
  )
  return ClassStatistics(
    counts.sum(axis=0), (sizes[:, None] * (counts > 0)).sum(axis=0)
  )


def image_class_counts(
  source: Any,
  directory: str | os.PathLike[str] | None = None,
  *,
  num_classes: int,
  ignore: int = typing.IGNORE,
  workers: int = 2,
  skip: bool = False,
) -> Integer[np.ndarray, "n k"]:
  """Returns how many pixels of each class each image has; int64.

  See `class_statistics`; what cannot be read and is skipped has none.
  """
  return _counted(source, directory, num_classes, ignore, workers, skip)[0]


def _counted(source, directory, num_classes, ignore, workers, skip):
  """Returns int64 [n, k], pixels of each class, and [n], of the image."""

  def count(index: int) -> tuple[np.ndarray, int]:
    try:
      label = source[index]["label"]
    except errors.InputError:
      if not skip:
        raise
      return np.zeros(num_classes, np.int64), 0
    counts = np.bincount(label.ravel(), minlength=256)
    counts[ignore] = 0
    if counts[num_classes:].any():
      worst = num_classes + int(np.argmax(counts[num_classes:]))
      raise errors.InputError(
        f"{source.names[index]}: label {worst} in {counts[worst]} pixels, but "
        f"num_classes is {num_classes}; map it with data.label_map or raise "
        "num_classes."
      )
    return counts[:num_classes], label.size

  path = None
  version = None
  if directory is not None:
    version = getattr(source, "labels_version", lambda: None)()
  if version is not None:
    words = ["image_class_counts", version, num_classes, ignore, skip]
    path = _folder(directory) / f"classes-{_hash(words, [])}.npz"
    images = len(source)
    kept = _load(path, counts=(images, num_classes), sizes=(images,))
    if kept is not None:
      return kept["counts"], kept["sizes"]
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    counts, sizes = zip(*pool.map(count, range(len(source))))
  found = {"counts": np.stack(counts), "sizes": np.array(sizes, np.int64)}
  if path is not None:
    _save(path, **found)
  return found["counts"], found["sizes"]


def cached(
  source: Any,
  directory: str | os.PathLike[str],
  function: Callable[..., np.ndarray] = separation_weight_map,
  **settings: Any,
) -> "Weighted":
  """Returns the source with a "weight" in every example, kept on disk.

  Args:
    source: examples with "label" uint8 [h, w].
    directory: where the maps are kept; made if it does not exist.
    function: label, **settings -> float32 [h, w].
    **settings: its parameters; numbers, strings and sequences of them.

  Raises:
    InputError: if the directory cannot be made.
  """
  return Weighted(source, _folder(directory), function, settings)


@dataclasses.dataclass(frozen=True)
class Weighted:
  """A source whose examples also have a "weight": see `cached`.

  Whatever else it is asked for (names, classes, ...) is that of `source`.
  """

  source: Any
  directory: pathlib.Path
  function: Callable[..., np.ndarray]
  settings: dict[str, Any]

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> typing.Example:
    example = self.source[index]
    words = [self.function.__module__, self.function.__qualname__]
    key = _hash([*words, self.settings], [example["label"]])
    path = self.directory / f"weight-{key}.npz"
    kept = _load(path, weight=example["label"].shape)
    if kept is None:
      weight = self.function(example["label"], **self.settings)
      kept = {"weight": np.asarray(weight, np.float32)}
      _save(path, **kept)
    return {**example, "weight": kept["weight"]}

  def __getattr__(self, name: str) -> Any:
    return getattr(self.source, name)


def _two_distances(
  cells: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the distances to the nearest and second nearest cell.

  Each cell's distances are computed in its own box grown by `reach` pixels
  only; beyond they are infinite.
  """
  nearest = np.full(cells.shape, np.inf)
  second = np.full(cells.shape, np.inf)
  for number, box in enumerate(ndimage.find_objects(cells), start=1):
    if box is None:
      continue
    window = tuple(
      slice(max(side.start - reach, 0), side.stop + reach) for side in box
    )
    distance = ndimage.distance_transform_edt(cells[window] != number)
    second[window] = np.minimum(
      second[window], np.maximum(nearest[window], distance)
    )
    nearest[window] = np.minimum(nearest[window], distance)
  return nearest, second


def _balance(
  label: np.ndarray, class_weights: Sequence[float] | None, ignore: int
) -> np.ndarray:
  """Returns w_c at every pixel; at ignored pixels anything."""
  counts = np.bincount(label.ravel(), minlength=256)
  counts[ignore] = 0
  table = np.zeros(256)
  present = np.flatnonzero(counts)
  if class_weights is None:
    table[present] = counts.sum() / (len(present) * counts[present])
  elif present.size and present[-1] >= len(class_weights):
    raise ValueError(
      f"Label {present[-1]} has no class weight; {len(class_weights)} given."
    )
  else:
    table[: len(class_weights)] = class_weights
  return table[label]


def _hash(words: list[Any], arrays: list[np.ndarray]) -> str:
  digest = hashlib.sha256(json.dumps([VERSION, words], sort_keys=True).encode())
  for array in arrays:
    digest.update(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array))
  return digest.hexdigest()[:32]


def _folder(directory: str | os.PathLike[str]) -> pathlib.Path:
  path = pathlib.Path(directory)
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    if error.errno in errors.OF_THE_DISK:
      raise
    raise errors.InputError(
      f"{path}: cannot make this folder for cached weights "
      f"({error.strerror}); name another one."
    ) from None
  return path


def _load(
  path: pathlib.Path, **shapes: tuple[int, ...]
) -> dict[str, np.ndarray] | None:
  """Returns the arrays kept there, or None if they are not what was written.

  Args:
    path: of the file.
    **shapes: of the arrays. One that was read in its whole length was compared
      with its checksum; a damaged header could make it shorter.
  """
  try:
    with path.open("rb") as file, np.load(file) as kept:
      arrays = dict(kept)
  except Exception:  # of zipfile, zlib and NumPy: of many types
    return None
  found = {name: array.shape for name, array in arrays.items()}
  return arrays if found == shapes else None


def _save(path: pathlib.Path, **arrays: np.ndarray) -> None:
  """Writes a file that is either whole or not there."""
  # Of this thread alone, where processes of several hosts write.
  part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
  try:
    with part.open("wb") as file:
      np.savez(file, **arrays)
    part.replace(path)
  except OSError as error:
    part.unlink(missing_ok=True)
    if error.errno in errors.OF_THE_DISK:
      raise  # No example is to blame.
    raise errors.InputError(
      f"{path}: cannot be written ({error.strerror}); name another folder for "
      "cached weights."
    ) from None
