"""What is wrong with a data set as a whole: copies, sizes, statistics."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
from typing import Any

from jaxtyping import Float
import numpy as np

from fcnjax.data import findings, labels as labels_lib
from fcnjax.data.checking import census, fingerprints

_IMBALANCE = 2000  # times the pixels of the rarest class
_OFF = 0.75  # standard deviations that a mean may be off
_FACTOR = 2.0  # by which a standard deviation may be off


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
  """What the config says of the images; the same words.

  Attributes:
    mean: one number or one a channel, in [0, 255].
    std: likewise.
    batch_size: images an update.
    image_size: (height, width) in pixels that images are resized to; None =
      they keep theirs.
    crop: (height, width) in pixels of random crops, without the margin that
      has no labels; None = there are none.
    scale: the greatest by which images are resized before they are cut.
    transforms: data.transforms, of which one is the crop.
    weighted: whether classes are weighted.
  """

  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  batch_size: int = 1
  image_size: tuple[int, int] | None = None
  crop: tuple[int, int] | None = None
  scale: float = 1.0
  transforms: tuple[tuple[str, Mapping[str, Any]], ...] = ()
  weighted: bool = False


def statistics(
  looks: Sequence[census.Look],
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]] | None:
  """Returns mean and standard deviation of all pixels, a channel.

  None if no image could be read, or they differ in their channels.
  """
  pictures = [look.picture for look in looks if look.picture]
  if len({len(picture.mean) for picture in pictures}) != 1:
    return None
  pixels = np.asarray([np.prod(picture.size) for picture in pictures])
  weights = pixels / pixels.sum()
  mean = weights @ np.stack([picture.mean for picture in pictures])
  square = weights @ np.stack([picture.square for picture in pictures])
  return mean, np.sqrt(np.maximum(square - mean**2, 0))


def of_split(
  report, looks: Sequence[census.Look]
) -> Iterator[findings.Finding]:
  """Yields what is found in one split: copies, and masks that repeat."""
  yield from _copies(looks)
  masks = fingerprints.groups(
    [look.mask_digest if len(look.values) > 1 else None for look in looks]
  )
  images = [look.picture.print.digest if look.picture else None
            for look in looks]  # fmt: skip
  for group in masks:
    # Of different images; else the copies are the fault.
    distinct = len({images[place] for place in group})
    if distinct > 2 and distinct > len(looks) / 2:
      found = [looks[place] for place in group]
      yield census.finding(
        "identical_masks",
        "warning",
        f"{len(found)} of {report.checked} masks are the same (first:"
        f" {found[0].mask_file}), of different images.",
        "Was one mask written under all names?",
        found,
        part="mask",
      )


def of_training(
  report, looks: Sequence[census.Look], words: Words
) -> Iterator[findings.Finding]:
  """Yields what of the training split does not fit the config."""
  yield from _normalisation(looks, words)
  if words.crop:
    crop = words.crop
    small = [
      look
      for look in looks
      if look.picture
      and (
        words.scale * np.asarray(words.image_size or look.picture.size) < crop
      ).any()
    ]
    if small:
      yield census.finding(
        "crop_larger_than_images",
        "warning" if len(small) > len(looks) / 2 else "note",
        f"crops of {crop[0]} x {crop[1]} pixels (height x width) are larger"
        f" than {len(small)} of {len(looks)} images; the rest of a crop is"
        " padded and ignored.",
        _smaller_crop(small, words),
        small,
        part="image",
      )
  if words.batch_size > len(looks):
    yield findings.Finding(
      code="batch_larger_than_set",
      severity="warning",
      message=(
        f"a batch has {labels_lib.counted(words.batch_size, 'image')} and the"
        f" set {len(looks)}, so that images occur repeatedly in one."
      ),
      remedy=f"Use --config.batch_size={len(looks)}",
    )
  seen = report.pixels[report.pixels > 0]
  if len(seen) > 1 and seen.max() > _IMBALANCE * seen.min():
    rare = int(np.argmin(np.where(report.pixels, report.pixels, np.inf)))
    often = int(np.argmax(report.pixels))
    yield findings.Finding(
      code="class_imbalance",
      severity="note" if words.weighted else "warning",
      message=(
        f"{report.classes[often]!r} has"
        f" {report.pixels[often] / report.pixels[rare]:,.0f} times the pixels"
        f" of {report.classes[rare]!r}, which may never be predicted."
      ),
      remedy="Consider --config.loss.class_weights=median_frequency",
    )


def _smaller_crop(small: Sequence[census.Look], words: Words) -> str:
  """Says how the crop fits into the smallest of these images.

  Its sides lose whole multiples of 32 where they can, so that a network that
  takes only certain sizes still takes them.
  """
  sides = [words.image_size or look.picture.size for look in small]
  room = np.floor(words.scale * np.min(sides, axis=0)).astype(int)
  size = []
  for side, most in zip(words.crop, room.tolist()):
    whole = side - 32 * math.ceil(max(0, side - most) / 32)
    size.append(whole if whole > 0 else most)
  transforms = []
  for name, parameters in words.transforms:
    if name == "random_crop":
      margins = np.subtract(parameters["size"], words.crop)
      now = tuple(int(s + m) for s, m in zip(size, margins))
      parameters = {**parameters, "size": now}
    transforms.append((name, dict(parameters)))
  return (
    f'Use --config.data.transforms="{tuple(transforms)!r}", whose crop fits'
    " into the smallest one."
  )


def _copies(looks) -> Iterator[findings.Finding]:
  prints = [look.picture.print if look.picture else None for look in looks]
  same, torn = [], []
  for group in fingerprints.groups([p.digest if p else None for p in prints]):
    found = [looks[place] for place in group]
    same += found
    if len({look.mask_digest for look in found if look.mask_digest}) > 1:
      torn += found
  if torn:
    yield census.finding(
      "conflicting_masks",
      "warning",
      f"{len(torn)} images are there repeatedly, under other names and with"
      f" other masks: the pixels of {torn[0].image_file} are those of"
      f" {torn[1].image_file}.",
      "Keep the right mask of each.",
      torn,
      part="image",
    )
  if len(same) > len(torn):
    same = [look for look in same if look not in torn]
    yield census.finding(
      "duplicate_images",
      "warning",
      f"{len(same)} files are the same images under other names: the pixels"
      f" of {same[0].image_file} are those of {same[1].image_file}.",
      "Keep one image of each, and its mask; copies count repeatedly.",
      same,
      part="image",
    )
  near = fingerprints.near(prints, most=fingerprints.COPY)
  if near:
    places = dict.fromkeys(p for pair in near for p in pair[:2])
    one, other = (looks[place] for place in near[0][:2])
    yield census.finding(
      "near_duplicates",
      "note",
      f"{len(places)} images look the same as another: {one.image_file} and"
      f" {other.image_file}.",
      "Copies that were compressed or resized, or frames of a still camera?",
      [looks[place] for place in places],
      part="image",
    )


def _normalisation(looks, words) -> Iterator[findings.Finding]:
  found = statistics(looks)
  if found is None or not words.mean or not words.std:
    return
  mean, std = found
  said_mean = np.resize(np.asarray(words.mean, np.float64), mean.shape)
  said_std = np.resize(np.asarray(words.std, np.float64), std.shape)
  fits = len(words.mean) in (1, len(mean)) and len(words.std) in (1, len(std))
  off = np.abs(mean - said_mean) / np.maximum(said_std, 1e-6)
  ratio = np.maximum(std, 1e-6) / np.maximum(said_std, 1e-6)
  wide = (ratio > _FACTOR) | (ratio < 1 / _FACTOR)
  if fits and not (off > _OFF).any() and not wide.any():
    return
  means, stds = _numbers(mean), _numbers(std)
  yield findings.Finding(
    code="mean_and_std",
    severity="warning",
    message=(
      f"the images have mean {means} and standard deviation {stds}, far from"
      f" --config.data.mean={_numbers(words.mean)} and"
      f" --config.data.std={_numbers(words.std)}, by which they are normalised."
    ),
    remedy=(
      f"Use --config.data.mean={means} --config.data.std={stds} unless"
      " pretrained weights expect others."
    ),
  )


def kinds(looks: Sequence[census.Look]) -> str:
  """Returns sizes and kinds in words, as in "360×480 pixels, RGB, 8 bits"."""
  pictures = [look.picture for look in looks if look.picture]
  if not pictures:
    return "no image can be read"
  sides = np.asarray([picture.size for picture in pictures])
  low, high = sides.min(axis=0), sides.max(axis=0)
  spans = [f"{a}" if a == b else f"{a}–{b}" for a, b in zip(low, high)]
  usual = Counter(
    (look.image_saved.channels, look.image_saved.bits)
    for look in looks
    if look.image_saved
  ).most_common(1)
  channels, bits = usual[0][0] if usual else (len(pictures[0].mean), 8)
  names = {1: "grey", 3: "RGB", 4: "RGBA"}
  return (
    f"{spans[0]}×{spans[1]} pixels (height×width),"
    f" {names.get(channels, f'{channels} channels')}, {bits} bits"
  )


def _numbers(values) -> str:
  return ",".join(f"{value:.1f}" for value in values)
