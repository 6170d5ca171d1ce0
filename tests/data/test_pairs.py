"""Which mask belongs to which image."""

import pytest

from fcnjax import errors
from fcnjax.data import pairs


def _touch(folder, *names):
  for name in names:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
  return folder


def _find(tmp_path, images, masks, **words):
  return pairs.find(
    _touch(tmp_path / "images", *images),
    _touch(tmp_path / "masks", *masks),
    **words,
  )


def test_pairs_by_exact_stem_whatever_the_ending(tmp_path):
  found = _find(
    tmp_path,
    ["10.jpg", "1.JPG", "b/2.png", ".hidden.png", "notes.txt", ".x/9.png"],
    ["1.png", "10.png", "b/2.tif", "Thumbs.db"],
  )
  assert list(found) == ["1", "10", "b/2"]
  for stem, (image, mask) in found.items():
    assert image.with_suffix("") == tmp_path / "images" / stem
    assert mask.with_suffix("") == tmp_path / "masks" / stem


def test_suffixes(tmp_path):
  found = _find(
    tmp_path,
    ["a_leftImg8bit.png", "a_rightImg8bit.png"],
    ["a_gtFine_labelIds.png", "a_gtFine_color.png"],
    image_suffix="_leftImg8bit",
    mask_suffix="_gtFine_labelIds",
  )
  assert [(i.name, m.name) for i, m in found.values()] == [
    ("a_leftImg8bit.png", "a_gtFine_labelIds.png")
  ]


def test_one_folder_for_both(tmp_path):
  _touch(tmp_path, "a.png", "b.png", "a_mask.png", "b_mask.png")
  found = pairs.find(tmp_path, tmp_path, mask_suffix="_mask")
  assert [(i.name, m.name) for i, m in found.values()] == [
    ("a.png", "a_mask.png"),
    ("b.png", "b_mask.png"),
  ]


def test_lonely_files_are_listed_and_counted(tmp_path):
  with pytest.raises(errors.InputError) as caught:
    _find(tmp_path, ["a.jpg", *(f"i{n}.jpg" for n in range(19))],
          ["a.png", "z.png"])  # fmt: skip
  message = str(caught.value)
  assert "19 of 20 images" in message
  assert "i16, i17 and 9 more)" in message
  assert "1 of 2 masks" in message
  assert "(stem z)" in message
  assert str(tmp_path / "images") in message
  assert str(tmp_path / "masks") in message
  assert "\n" not in message


def test_a_mask_without_an_image_is_enough(tmp_path):
  with pytest.raises(errors.InputError, match=r"^1 of 2 masks .*\(stem b\)"):
    _find(tmp_path, ["a.jpg"], ["a.png", "b.png"])


def test_a_match_may_be_missing(tmp_path):
  images = _touch(tmp_path / "images", "a.jpg", "b.jpg")
  masks = _touch(tmp_path / "masks", "b.png", "c.png")
  assert pairs.match(images, masks) == {
    "a": (images / "a.jpg", None),
    "b": (images / "b.jpg", masks / "b.png"),
    "c": (None, masks / "c.png"),
  }


def test_a_missing_suffix_is_offered(tmp_path):
  with pytest.raises(errors.InputError, match="mask_suffix=_seg"):
    _find(tmp_path, ["a.jpg", "b.jpg"], ["a_seg.png", "b_seg.png"])


def test_two_files_of_one_stem(tmp_path):
  with pytest.raises(errors.InputError, match=r"a\.jpg and .*a\.png have"):
    _find(tmp_path, ["a.png", "a.jpg"], ["a.png"])


def test_missing_and_empty_folders(tmp_path):
  (tmp_path / "empty").mkdir()
  full = _touch(tmp_path / "full", "a.png")
  with pytest.raises(errors.InputError, match="data.images is '.*nowhere'"):
    pairs.find(tmp_path / "nowhere", full)
  with pytest.raises(errors.InputError, match="data.masks '.*empty' holds no"):
    pairs.find(full, tmp_path / "empty")
  with pytest.raises(errors.InputError, match="ends with '_x'"):
    pairs.find(full, full, mask_suffix="_x")


@pytest.fixture
def known(tmp_path):
  names = ["a.png", "b.png", "c d.png", "e.png"]
  return _find(tmp_path, names, names)


def _list(tmp_path, text):
  (tmp_path / "split.txt").write_text(text)
  return tmp_path / "split.txt"


def test_lists_of_stems_names_and_pairs(tmp_path, known):
  path = _list(tmp_path, "# mine\nb\n\nc d\na.png\nimages/e.png masks/e.png\n")
  found = pairs.read_list(path, known=known)
  assert list(found.values()) == [
    known["b"], known["c d"], known["a"], known["e"],
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("a\nx\n", "line 2, is 'x', which is no stem"),
    ("images/e.png masks/q.png\n", r"names .*masks/q\.png, which does not"),
    ("# nothing\n", "is empty"),
    ("a\nf\n", "lists stem f without mask in data.masks. .*data.mask_suffix"),
    ("a\nf.png\n", "lists stem f without mask"),
    ("g\na\n", "lists stem g without image in data.images"),
  ],
)
def test_wrong_lists(tmp_path, known, text, words):
  lonely = tmp_path / "images" / "f.png", tmp_path / "masks" / "g.png"
  known = known | {"f": (lonely[0], None), "g": (None, lonely[1])}
  with pytest.raises(errors.InputError, match=words):
    pairs.read_list(_list(tmp_path, text), known=known)


def test_a_missing_list(tmp_path, known):
  with pytest.raises(errors.InputError, match="No such file"):
    pairs.read_list(tmp_path / "no.txt", known=known)
  (tmp_path / "no.txt").write_bytes(b"\xff\xfe\x00\xd8")
  with pytest.raises(errors.InputError, match="no UTF-8"):
    pairs.read_list(tmp_path / "no.txt", known=known)


def test_a_list_may_name_files_in_folders_but_not_ambiguously(tmp_path):
  for kind in ("images", "masks"):
    for name in ("a/1", "b/1", "b/2"):
      path = tmp_path / kind / f"{name}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(b"")
  known = pairs.match(tmp_path / "images", tmp_path / "masks")
  found = pairs.read_list(_list(tmp_path, "b/1.png\n2.png\na/1"), known=known)
  assert list(found) == ["b/1", "b/2", "a/1"]
  with pytest.raises(
    errors.InputError, match="line 1, is '1.png', which is stems a/1"
  ):
    pairs.read_list(_list(tmp_path, "1.png\n"), known=known)
