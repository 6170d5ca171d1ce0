"""From raw values to labels, in one place, and the likely causes."""

import numpy as np
import pytest

from fcnjax import errors
from fcnjax.data import labels

_RAW = np.array([[0, 1, 2], [3, 200, 255]])


def _apply(raw, num_classes, **words):
  table = labels.LabelTable.build(num_classes, **words)
  return table.apply(np.asarray(raw), name="m.png").ravel().tolist()


@pytest.mark.parametrize("number", [-2, 1, 256])
def test_a_number_of_classes_that_cannot_be_is_told_as_it_was_given(number):
  with pytest.raises(errors.InputError, match=rf"\[2, 255\], got {number};"):
    labels.class_names(number)


def test_without_a_map_raw_values_are_labels():
  assert _apply([[0, 3, 255]], 4) == [0, 3, 255]
  assert _apply([[0, 3, 11, 255]], 4, ignore=(11, 255)) == [0, 3, 255, 255]
  assert _apply([[0, 3, 11]], 4, ignore=11) == [0, 3, 255]
  for empty in ({}, "", None):
    assert _apply([[0, 3]], 4, label_map=empty) == [0, 3]


def test_a_map_is_the_whole_truth():
  words = {"label_map": {7: 0, "8": 1, 9: 255}}  # JSON's keys are strings
  assert _apply([[7, 8, 9, 255]], 2, **words) == [0, 1, 255, 255]
  with pytest.raises(errors.InputError, match="holds value 0,"):
    _apply([[0, 7]], 2, **words)


def test_a_map_goes_before_ignore():
  assert _apply([[0, 255]], 2, label_map={0: 0, 255: 1}) == [0, 1]


def test_the_map_is_applied_once():
  shift = labels.named_map("zero_is_ignored", num_classes=3)
  assert shift == {0: 255, 1: 0, 2: 1, 3: 2}
  assert _apply([[0, 1, 2, 3]], 3, label_map="zero_is_ignored") == [
    255,
    0,
    1,
    2,
  ]


def test_cityscapes():
  ids = labels.named_map("cityscapes_train_ids", num_classes=19)
  assert sorted(set(ids.values())) == [*range(19), 255]
  # Road, car and bicycle of cityscapesScripts' table; 0 to 6 are void.
  assert (ids[7], ids[26], ids[33], ids[6]) == (0, 13, 18, 255)


def test_16_bit_values():
  assert _apply([[1000, 65535]], 2, label_map={1000: 1, 65535: 0}) == [1, 0]


def test_a_wrong_value_names_the_file_and_the_values():
  with pytest.raises(
    errors.InputError, match=r"mask m\.png holds values 3, 200, num_classes 3"
  ):
    _apply(_RAW, 3)


@pytest.mark.parametrize(
  ("values", "num_classes", "files", "words"),
  [
    ([0, 255], 2, (), r"mask_values=0,255"),
    ([0, 7, 11, 33], 19, (), "Cityscapes.*cityscapes_train_ids"),
    ([0, 1, 2, 3], 3, (), "zero_is_ignored.*num_classes=4"),
    ([10, 20, 30], 3, (), r"mask_values=10,20,30"),
    (range(200), 3, (), "photograph"),
    ([0, 7, 250], 2, ("a.png", "b.JPG"), "JPEG"),
    ([0, 77], 3, (), "data.label_map="),
  ],
)
def test_likely_causes(values, num_classes, files, words):
  cause = labels.likely_cause(values, num_classes=num_classes, files=files)
  np.testing.assert_equal("\n" in str(cause), False)
  with pytest.raises(errors.InputError, match=words):
    raise errors.InputError(str(cause))


def test_wrong_words():
  for label_map, words in (
    ({0: 5}, "sends 0 to 5"),
    ({-1: 0}, "sends -1 to 0"),
    ({"road": 0}, "whole numbers"),
    ("ade", "'ade'.*cityscapes_train_ids"),
  ):
    with pytest.raises(errors.InputError, match=words):
      labels.LabelTable.build(3, label_map=label_map)
  for count in (1, 256):
    with pytest.raises(errors.InputError, match=f"got {count}"):
      labels.LabelTable.build(count)


def test_mask_values():
  assert labels.value_map((0, 255), num_classes=2) == {0: 0, 255: 1}
  for values in ((0, 1, 2), (0, 0)):
    with pytest.raises(errors.InputError, match="2 different values"):
      labels.value_map(values, num_classes=2)
  with pytest.raises(errors.InputError, match="one of them"):
    labels.value_map((0, 1), num_classes=2, label_map={0: 0})


def test_class_names():
  assert labels.class_names(2) == ("class 0", "class 1")
  assert labels.class_names(None, names=["a", "b"]) == ("a", "b")
  with pytest.raises(errors.InputError, match="data.num_classes"):
    labels.class_names(None)
  with pytest.raises(errors.InputError, match="is 3.*2 names"):
    labels.class_names(3, names=["a", "b"])


@pytest.mark.parametrize(
  ("num_classes", "words", "line"),
  [
    (3, {}, "masks: 0–2 are classes; 255 ignored"),
    (255, {}, "masks: 0–254 are classes; 255 ignored"),
    (3, {"ignore": ()}, "masks: 0–2 are classes"),
    (11, {"ignore": (11, 255)}, "masks: 0–10 are classes; 11, 255 ignored"),
    (
      2,
      {"label_map": {0: 0, 255: 1}, "ignore": (7, 8)},
      "masks: 0→0, 255→1; 7–8 ignored",
    ),
    (3, {"label_map": {5: 1, 6: 2, 7: 2}, "ignore": ()}, "masks: 5–6→1–2, 7→2"),
    (
      150,
      {"label_map": "zero_is_ignored"},
      "masks: 1–150→0–149; 0, 255 ignored",
    ),
    (2, {"label_map": {0: 255}}, "masks: none are classes; 0, 255 ignored"),
  ],
)
def test_a_table_is_described(num_classes, words, line):
  assert labels.LabelTable.build(num_classes, **words).describe() == line


def test_a_long_description_is_cut():
  table = labels.LabelTable.build(19, label_map="cityscapes_train_ids")
  line = table.describe()
  assert line.startswith("masks: 7–8→0–1, 11–13→2–4, 17→5, 19–28→6–15, ")
  assert len(line) == 80
  assert line.endswith("…")


def test_listed():
  assert labels.listed([3], "value") == "value 3"
  assert labels.listed([3, 4], "value") == "values 3, 4"
  assert labels.listed("abcdef", "file", most=2) == "files a, b and 4 more"


def test_an_ignored_value_is_no_class_even_below_k():
  table = labels.LabelTable.build(3, ignore=0)
  raw = np.array([[0, 1, 2]])
  np.testing.assert_array_equal(table.apply(raw, name="m"), [[255, 1, 2]])
  # A label map counts more: it names the value as a class.
  table = labels.LabelTable.build(2, ignore=255, label_map={0: 0, 255: 1})
  raw = np.array([[0, 255]])
  np.testing.assert_array_equal(table.apply(raw, name="m"), [[0, 1]])


@pytest.mark.parametrize("label_map", [None, {5: 0, 9: 2, 255: 1}])
def test_bytes_become_what_wider_numbers_become(label_map):
  """All values of a byte, in any order in memory; refused ones, too."""
  table = labels.LabelTable.build(4, label_map=label_map, ignore=(7, 200))
  rng = np.random.default_rng(0)
  values = np.flatnonzero(table.targets[:256] >= 0)
  raw = rng.choice(values, (37, 41)).astype(np.uint8).T
  made = table.apply(raw, name="m.png")
  np.testing.assert_array_equal(made, table.targets[raw])
  np.testing.assert_array_equal(made, table.apply(raw.astype(int), name="m"))
  assert made.dtype == np.uint8
  made[:] = 0  # Of its own memory.
  assert raw.any()
  for value in sorted({*range(256)} - {*values.tolist()}):
    raw[3, 4] = value
    with pytest.raises(errors.InputError, match=str(value)):
      table.apply(raw, name="m.png")
