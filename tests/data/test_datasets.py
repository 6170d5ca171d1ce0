"""The cards of data sets."""

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.data import datasets, sources


@pytest.mark.parametrize("card", datasets.CARDS.values(), ids=lambda c: c.name)
def test_cards_are_complete(card):
  count = len(card.classes)
  assert len(set(card.classes)) == len(set(card.colors)) == count
  assert len(card.mean) == len(card.std) == card.channels
  assert all(0 < value < 255 for value in (*card.mean, *card.std))
  assert card.class_weights is None or len(card.class_weights) == count
  assert set(card.splits) & {"train", "trainval"}
  assert set(card.splits) & {"val", "test"}
  assert all(count is None or count > 0 for count in card.splits.values())
  for words in (card.title, card.licence, card.citation, card.obtain):
    assert words
    assert "\n" not in words
  assert card.obtain.endswith(".")


def test_camvid_is_as_published():
  card = datasets.get("camvid")
  assert card.splits == {"train": 367, "val": 101, "test": 233}
  assert card.classes[6] == "SignSymbol"
  assert card.class_weights[6] == 9.6446
  assert 11 in card.ignore


def test_isbi_membrane_is_0():
  card = datasets.get("isbi2012")
  assert card.classes == ("membrane", "cell")
  assert card.label_map == {0: 0, 255: 1}
  assert card.splits == {"train": 24, "val": 6}


@pytest.mark.parametrize("name", ["camvid", "isbi2012"])
def test_missing_data_say_where_they_come_from(tmp_path, name):
  for root in (None, "", tmp_path / "nowhere", tmp_path):
    with pytest.raises(errors.InputError) as caught:
      sources.card(name, root, "train")
    message = str(caught.value)
    assert "github.com" in message
    assert "--config.data.root=DIR" in message
    assert datasets.get(name).licence in message
    assert "\n" not in message


def test_unknown_names_and_splits(tmp_path):
  with pytest.raises(errors.InputError, match="'voc'.*voc2012, nyudv2"):
    sources.card("voc", tmp_path, "train")
  with pytest.raises(errors.InputError, match="'test'; take one of train, val"):
    sources.card("isbi2012", tmp_path, "test")


def test_channels_are_the_cards_or_what_is_asked_for(tmp_path):
  for n in range(24, 30):
    for folder in ("image", "label"):
      (tmp_path / "train" / folder).mkdir(parents=True, exist_ok=True)
      PIL.Image.fromarray(np.zeros((4, 6), np.uint8)).save(
        tmp_path / "train" / folder / f"{n}.png"
      )
  for channels, expected in ((None, 1), (1, 1), (3, 3)):
    source = sources.card("isbi2012", tmp_path, "val", channels=channels)
    assert source.channels == expected
    assert source[0]["image"].shape == (4, 6, expected)


@pytest.mark.parametrize("prefix", ["", "/SegNet/CamVid/"])
def test_camvid_reads_its_own_and_the_published_lists(tmp_path, prefix):
  lines = []
  for n in range(2):
    for folder, array in (
      ("val", np.full((4, 6, 3), n, np.uint8)),
      ("valannot", np.array([[0, 11, 10]] * 4, np.uint8).repeat(2, 1)),
    ):
      (tmp_path / folder).mkdir(exist_ok=True)
      PIL.Image.fromarray(array).save(tmp_path / folder / f"{n}.png")
    lines.append(f"{prefix}val/{n}.png {prefix}valannot/{n}.png\n")
  (tmp_path / "val.txt").write_text("".join(lines))
  source = sources.card("camvid", tmp_path, "val")
  assert source.names == ["0", "1"]
  assert source[1]["image"][0, 0].tolist() == [1, 1, 1]
  assert source[0]["label"][0].tolist() == [0, 0, 255, 255, 10, 10]


def test_a_wrong_line_of_a_list(tmp_path):
  (tmp_path / "val.txt").write_text("val/1.png\n")
  with pytest.raises(errors.InputError, match=r"val\.txt has the line.*github"):
    sources.card("camvid", tmp_path, "val")
