"""Which pairs are trained on and which are validated on."""

import pathlib

import hypothesis
from hypothesis import strategies
import pytest

from fcnjax import errors
from fcnjax.data import splits


@pytest.fixture
def known():
  return {
    stem: (pathlib.Path(f"images/{stem}.png"), pathlib.Path(f"m/{stem}.png"))
    for stem in ("a", "b", "c d", "e")
  }


def _list(tmp_path, text, name="split.txt"):
  (tmp_path / name).write_text(text)
  return tmp_path / name


def test_one_list_leaves_the_rest_to_the_other_split(tmp_path, known):
  path = _list(tmp_path, "b\ne\n")
  for words in ({"val_list": path}, {"train_list": path}):
    own = "val" if "val_list" in words else "train"
    other = "train" if own == "val" else "val"
    assert list(splits.choose(known, split=own, **words)) == ["b", "e"]
    assert list(splits.choose(known, split=other, **words)) == ["a", "c d"]


def test_lists_must_not_share_images(tmp_path, known):
  path = _list(tmp_path, "b\n")
  other = _list(tmp_path, "a\nb.png\n", "other.txt")
  with pytest.raises(errors.InputError, match=r"share image b\."):
    splits.choose(known, split="val", train_list=path, val_list=other)


@hypothesis.given(
  stems=strategies.lists(
    strategies.text(min_size=1, max_size=8), min_size=2, unique=True
  ),
  added=strategies.lists(strategies.text(min_size=1, max_size=8)),
  fraction=strategies.floats(0.05, 0.95),
  seed=strategies.integers(0, 99),
)
def test_a_split_is_a_split(stems, added, fraction, seed):
  val = splits.held_out(stems, fraction=fraction, seed=seed)
  assert 0 < len(val) < len(stems)
  assert val <= set(stems)
  # Other order, same split.
  assert splits.held_out(stems[::-1], fraction=fraction, seed=seed) == val


def test_added_files_move_no_other():
  stems = [f"frame{n}" for n in range(300)]
  few = splits.held_out(stems[:100], fraction=0.2)
  many = splits.held_out(stems, fraction=0.2)
  assert few == many & set(stems[:100])
  assert 40 <= len(many) <= 80
  assert splits.held_out(stems, fraction=0.2, seed=1) != many
  assert many <= splits.held_out(stems, fraction=0.3)


def test_wrong_fractions():
  for fraction in (0.0, 1.0, -1.0):
    with pytest.raises(errors.InputError, match="val_fraction"):
      splits.held_out(["a", "b"], fraction=fraction)
  with pytest.raises(errors.InputError, match="1 image cannot"):
    splits.held_out(["a"], fraction=0.5)
