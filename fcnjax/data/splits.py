"""Which pairs are trained on and which are validated on."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib

from fcnjax import errors
from fcnjax.data import findings, labels, pairs as pairs_lib


def held_out(
  stems: Sequence[str], *, fraction: float, seed: int = 0
) -> set[str]:
  """Returns the stems of the validation split.

  Each stem is decided by a hash of itself and the seed, so that files that
  are added later move no other file from one split to the other. Hence the
  share is met only roughly. If one split would be empty, it gets the one stem
  that is nearest to it.

  Args:
    stems: all stems; at least two.
    fraction: share of the validation split, in (0, 1).
    seed: another seed is another split.

  Raises:
    InputError: if `fraction` is out of range or there are too few stems.
  """
  if not 0 < fraction < 1:
    raise errors.InputError(
      f"data.val_fraction must be between 0 and 1, got {fraction}."
    )
  if len(stems) < 2:
    raise errors.InputError(
      f"{len(stems)} image cannot be split into training and validation; add"
      " images, or name others in data.val_images and data.val_masks."
    )
  draws = {stem: _draw(stem, seed) for stem in stems}
  chosen = {stem for stem, draw in draws.items() if draw < fraction}
  if not chosen:
    chosen = {min(stems, key=draws.__getitem__)}
  if len(chosen) == len(stems):
    chosen.remove(max(stems, key=draws.__getitem__))
  return chosen


def choose(
  pairs: Mapping[str, pairs_lib.Match],
  *,
  split: str,
  train_list: pairs_lib.Path | None = None,
  val_list: pairs_lib.Path | None = None,
  fraction: float = 0.2,
  seed: int = 0,
  tell: findings.Tell = findings.refuse,
) -> dict[str, pairs_lib.Pair]:
  """Returns the pairs of a split.

  Args:
    pairs: {stem: pair} of both splits. With both lists, what they do not name
      may lack its partner (`pairs.match`).
    split: "train" or "val".
    train_list: list file of the training split. Without `val_list` the
      validation split is the rest.
    val_list: list file of the validation split; likewise.
    fraction: without list files: see `held_out`.
    seed: see `held_out`.
    tell: what is told of wrong lines, and of pairs in both lists.

  Raises:
    InputError: by default if a list is wrong, or the splits share a pair.
  """
  if train_list is None and val_list is None:
    val = held_out(list(pairs), fraction=fraction, seed=seed)
    return {
      stem: pair
      for stem, pair in pairs.items()
      if (stem in val) == (split == "val")
    }
  lists = {
    name: None
    if path is None
    else pairs_lib.read_list(
      path, known=pairs, word=f"data.{name}_list", tell=_of_split(name, tell)
    )
    for name, path in (("train", train_list), ("val", val_list))
  }
  own, other = lists[split], lists["train" if split == "val" else "val"]
  taken = set() if other is None else set(other.values())
  if own is None:
    return {stem: pair for stem, pair in pairs.items() if pair not in taken}
  shared = [stem for stem, pair in own.items() if pair in taken]
  if shared:
    tell(
      findings.Finding(
        code="shared_by_lists",
        severity="error",
        message=(
          f"{train_list} and {val_list} share"
          f" {labels.listed(shared, 'image', most=3)}."
        ),
        remedy=(
          "What is trained on tells nothing when it is validated on, take it"
          " out of one."
        ),
        files=tuple(str(own[stem][0]) for stem in shared),
      )
    )
  return own


def _of_split(name: str, tell: findings.Tell) -> findings.Tell:
  """Returns what is told of faults that are the validation split's.

  Opening either split reads both lists. The training split goes by the name
  that the caller has for it: there may be several.
  """
  if name == "train":
    return tell
  return lambda found: tell(dataclasses.replace(found, splits=(name,)))


def _draw(stem: str, seed: int) -> float:
  """Returns a number in [0, 1) that only the stem and the seed decide."""
  digest = hashlib.blake2b(f"{seed}:{stem}".encode(), digest_size=8).digest()
  return int.from_bytes(digest, "big") / 2**64
