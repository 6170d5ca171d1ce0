"""What a split shares with the one that is trained on."""

from collections.abc import Iterator

from fcnjax.data import findings, labels as labels_lib
from fcnjax.data.checking import census, fingerprints

# JPEG of quality 30: 0.95. Frames are told apart by their masks.
_COPY_BY_MASK = 1.5
_ALIKE = 3.0  # of pictures that resemble each other across splits


def between(
  train, held, train_looks, held_looks, *, split: str
) -> Iterator[findings.Finding]:
  """Yields what a split shares with the training one, and what it does not.

  Args:
    train: `checks.Report` of the training split.
    held: of the other.
    train_looks: looks at the training split.
    held_looks: looks at the other.
    split: the other's name.
  """
  known = {}
  for look in train_looks:
    if look.picture:
      known.setdefault(look.picture.print.digest, look)
  leaked = [
    look
    for look in held_looks
    if look.picture and look.picture.print.digest in known
  ]
  if leaked:
    twin = known[leaked[0].picture.print.digest]
    yield census.finding(
      "leaked_images",
      "error",
      f"{len(leaked)} of {len(held_looks)} images"
      f" {labels_lib.verb(len(leaked), 'is', 'are')} trained on as well: the"
      f" pixels of {leaked[0].image_file} are those of {twin.image_file}.",
      "What is trained on tells nothing when it is validated on; take the"
      " copies out of one split.",
      leaked,
      part="image",
    )
  copies = _copied(train_looks, held_looks)
  if copies:
    twin, first = copies[0]
    held_copies = list(dict.fromkeys(copy.index for _, copy in copies))
    places = {look.index: look for look in held_looks}
    yield census.finding(
      "leaked_copies",
      "error",
      f"{len(held_copies)} of {len(held_looks)} images"
      f" {labels_lib.verb(len(held_copies), 'looks', 'look')} like one that is"
      " trained on, and"
      f" {labels_lib.verb(len(held_copies), 'has', 'have')} its mask:"
      f" {first.image_file} and"
      f" {twin.image_file}.",
      "Copies that were compressed or resized tell nothing when they are"
      " validated on; take them out of one split.",
      [places[index] for index in held_copies],
      part="image",
    )
  yield from _alike(
    train_looks, held_looks, but={copy.index for _, copy in copies}
  )
  unseen = [
    name
    for name, one, other in zip(train.classes, train.pixels, held.pixels)
    if other and not one
  ]
  if unseen and train.pixels.any():
    yield findings.Finding(
      code="classes_only_in_validation",
      severity="warning",
      message=(
        f"in {split}, but never trained on:"
        f" {labels_lib.listed(unseen, 'class', plural='classes')}."
      ),
      remedy=(
        "Split anew so that every class is trained on (--config.data.val_list,"
        " --config.data.val_fraction)."
      ),
    )


def _copied(train_looks, held_looks) -> list[tuple[census.Look, census.Look]]:
  """Returns (trained on, held) of copies in other pixels, the most alike first.

  Frames of a video look alike, too, but somebody drew each a mask of its own.
  Masks of one value tell nothing.
  """
  looks, near = _resembling(train_looks, held_looks, _COPY_BY_MASK)
  pairs = [(looks[pair.first], looks[pair.second], pair) for pair in near]
  return [
    (one, other) for one, other, pair in pairs if _same_mask(one, other, pair)
  ]


def _same_mask(one, other, pair) -> bool:
  if len(one.values) < 2 or not other.mask_digest:
    return False
  if one.mask_size == other.mask_size:
    return one.mask_digest == other.mask_digest
  return pair.difference <= fingerprints.COPY and fingerprints.same_sketch(
    one.mask_sketch, other.mask_sketch
  )


def _resembling(train_looks, held_looks, most):
  """Returns the looks at both splits, and which pairs of them look alike."""
  looks = [*train_looks, *held_looks]
  prints = [look.picture.print if look.picture else None for look in looks]
  return looks, fingerprints.near(prints, most=most, across=len(train_looks))


def _alike(train_looks, held_looks, *, but) -> Iterator[findings.Finding]:
  """Notes images of the two splits that look alike, but those positions."""
  looks, near = _resembling(train_looks, held_looks, _ALIKE)
  near = [pair for pair in near if looks[pair.second].index not in but]
  if near:
    places = dict.fromkeys(pair.second for pair in near)
    one, other = (looks[place] for place in near[0][:2])
    yield census.finding(
      "similar_across_splits",
      "note",
      f"{labels_lib.counted(len(places), 'image')}"
      f" {labels_lib.verb(len(places), 'looks', 'look')} nearly like one that"
      f" is trained on: {other.image_file} and {one.image_file}.",
      "If they are copies or frames of one scene, the score flatters: split by"
      " scene (--config.data.val_list).",
      [looks[place] for place in places],
      part="image",
    )
