"""Cards read miniature copies of their data sets' official layouts."""

import numpy as np
import PIL.Image
import pytest
from scipy import ndimage
import scipy.io

from fcnjax import errors
from fcnjax.data import datasets, matlab, second_source, sources, weight_maps
from tests.data import layouts

NAMES = tuple(datasets.CARDS)


@pytest.mark.parametrize("name", NAMES)
def test_every_split_is_read_as_it_was_drawn(tmp_path, name):
  drawn = getattr(layouts, name)(tmp_path, seed=3)
  card = datasets.get(name)
  assert set(drawn) == set(card.splits)
  for split, examples in drawn.items():
    source = sources.card(name, tmp_path, split)
    assert source.names == list(examples)
    for i, (key, label) in enumerate(examples.items()):
      example = source[i]
      assert example["name"] == key
      np.testing.assert_array_equal(example["label"], label, err_msg=key)
      assert example["image"].shape == (*label.shape, card.channels)
      assert example["image"].dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_mask_is_named_with_its_source(tmp_path, name):
  getattr(layouts, name)(tmp_path, seed=0)
  split = next(iter(datasets.get(name).splits))
  source = sources.card(name, tmp_path, split)
  mask = source.pairs[1][1]
  mask.unlink()
  if name == "cityscapes":  # Otherwise they are drawn.
    polygons = mask.name.replace("labelIds.png", "polygons.json")
    mask.with_name(polygons).unlink()
  if name in ("phc_u373", "dic_hela"):  # Which frames have one is not told.
    assert len(sources.card(name, tmp_path, split)) == len(source) - 1
    return
  with pytest.raises(errors.InputError) as caught:
    sources.card(name, tmp_path, split)
  message = str(caught.value)
  assert mask.stem.removesuffix("_gtFine_labelIds") in message
  assert datasets.get(name).obtain in message
  assert "\n" not in message


def test_voc_reads_its_own_masks_and_sbds_where_a_split_is_sbds(tmp_path):
  layouts.voc2011(tmp_path, seed=0)
  layouts.voc2012(tmp_path, seed=0)
  for name, split, folders in (
    ("voc2011", "sbd_train", {"benchmark_RELEASE"}),
    ("voc2011", "seg11valid", {"TrainVal"}),
    ("voc2012", "trainaug", {"VOCdevkit", "benchmark_RELEASE"}),
  ):
    source = sources.card(name, tmp_path, split)
    tops = {m.relative_to(tmp_path).parts[0] for _, m in source.pairs}
    assert tops == folders
    for image, mask in source.pairs:
      assert (
        image.relative_to(tmp_path).parts[0]
        == (mask.relative_to(tmp_path).parts[0])
      )


@pytest.mark.parametrize(
  ("name", "extra", "channels"),
  [("nyudv2", "depth", 1), ("nyudv2", "hha", 3), ("sun_rgbd", "depth", 1)],
)
def test_further_channels_are_of_the_same_scenes(
  tmp_path, name, extra, channels
):
  getattr(layouts, name)(tmp_path, seed=0)
  for split in datasets.get(name).splits:
    images = sources.card(name, tmp_path, split)
    others = sources.card(name, tmp_path, split, extra=extra, channels=channels)
    both = second_source.Second(images, others, "image", log=extra == "depth")
    for i, (file, _) in enumerate(others.pairs):
      assert extra in file.relative_to(tmp_path).parts
      with PIL.Image.open(file) as picture:
        pixels = np.array(picture).reshape(*picture.size[::-1], channels)
      if extra == "depth":
        pixels = np.log(np.maximum(pixels.astype(float), 1))
        number = int(images.names[i].split("-")[-1].split("_")[-1])
        assert int(file.stem.split("_")[-1]) == number
      joined = both[i]["image"]
      assert joined.shape[-1] == 3 + channels
      np.testing.assert_allclose(joined[..., 3:], pixels, rtol=1e-5, atol=1e-4)
      np.testing.assert_array_equal(joined[..., :3], images[i]["image"])


def test_an_unknown_further_channel_lists_the_known(tmp_path):
  for name, word, known in (
    ("nyudv2", "flow", "depth, hha"),
    ("camvid", "hha", "nothing"),
  ):
    getattr(layouts, name)(tmp_path / name, seed=0)
    with pytest.raises(errors.InputError, match=f"'{word}'.* has {known}"):
      sources.card(name, tmp_path / name, "test", extra=word)


def test_sun_rgbds_training_images_may_go_on_from_5051(tmp_path):
  drawn = layouts.sun_rgbd(tmp_path, seed=0)
  for folder, form in (("images", "img-{:06}.jpg"), ("depth", "{}.png")):
    for file in sorted((tmp_path / folder / "train").iterdir(), reverse=True):
      number = int(file.stem.split("-")[-1])
      file.rename(file.with_name(form.format(number + 5050)))
  source = sources.card("sun_rgbd", tmp_path, "train")
  assert source.names[0] == "img-005051"
  for i, label in enumerate(drawn["train"].values()):
    np.testing.assert_array_equal(source[i]["label"], label)
  depths = sources.card(
    "sun_rgbd", tmp_path, "train", extra="depth", channels=1
  )
  assert depths.pairs[11][0].name == "5062.png"


def test_cityscapes_polygons_are_drawn_where_there_are_no_label_ids(tmp_path):
  drawn = layouts.cityscapes(tmp_path, seed=5)
  masks = sorted((tmp_path / "gtFine").rglob("*_labelIds.png"))
  for mask in masks[1:]:
    mask.unlink()
  for split, examples in drawn.items():
    source = sources.card("cityscapes", tmp_path, split)
    assert source.names == list(examples)
    for i, label in enumerate(examples.values()):
      np.testing.assert_array_equal(source[i]["label"], label)
  source = sources.card("cityscapes", tmp_path, "val")
  path = source.pairs[0][1]
  whole = path.read_text()
  for text in (whole[:-9], whole.replace('"pole', '"pile'), "[1]"):
    path.write_text(text)
    with pytest.raises(
      errors.InputError, match="polygons.json.*drawn"
    ) as caught:
      source[0]
    assert "\n" not in str(caught.value)


def test_the_two_conventions_of_pascal_context_are_published_ones():
  card = datasets.get("pascal_context")
  kept = {int(word) for word in layouts.PASCAL_CONTEXT_KEPT} - {0}
  scored = {raw for raw, label in card.label_map.items() if label != 255}
  assert scored == kept
  by_raw = [card.label_map[raw] for raw in sorted(kept)]
  assert by_raw == list(range(59))
  assert card.classes[:4] == ("aeroplane", "bag", "bed", "bedcloth")
  other = datasets.get("pascal_context_60")
  assert {raw for raw, label in other.label_map.items() if label} == kept
  for word, label in layouts.PASCAL_CONTEXT_60_ORDER.items():
    assert other.classes[label] == word
  # Both say the same of every raw value.
  for raw in kept:
    assert (
      card.classes[card.label_map[raw]] == (other.classes[other.label_map[raw]])
    )


def test_class_numbers_are_the_official_ones():
  """Raw value and name, as the data sets' own documents have them."""
  for name, raw, word in (
    ("voc2012", 15, "person"),
    ("nyudv2", 20, "floor mat"),
    ("nyudv2", 40, "otherprop"),
    ("sift_flow", 28, "sky"),
    ("sift_flow_geometric", 3, "vertical"),
    ("sun_rgbd", 37, "bag"),
    ("ade20k", 13, "person"),
    ("ade20k", 59, "screen door"),
    ("ade20k", 131, "screen"),
    ("ade20k", 150, "flag"),
    ("coco_stuff10k", 13, "stop sign"),
    ("coco_stuff10k", 90, "toothbrush"),
    ("coco_stuff10k", 92, "banner"),
    ("coco_stuff10k", 182, "wood"),
    ("cityscapes", 7, "road"),
    ("cityscapes", 33, "bicycle"),
    ("oxford_iiit_pet", 1, "pet"),
  ):
    card = datasets.get(name)
    label = raw if card.label_map is None else card.label_map[raw]
    assert card.classes[label] == word


def test_sift_flows_images_without_labels_are_left_out(tmp_path):
  """2,488 images are published for training, 2,486 of them with labels."""
  unlabelled = {"highway_bost181", "street_urb506"}
  for name in ("sift_flow", "sift_flow_geometric"):
    drawn = list(getattr(layouts, name)(tmp_path, seed=0)["trainval"])
    listed = (tmp_path / "trainval.txt").read_text().split()
    assert set(listed) - set(drawn) == unlabelled
    assert sources.card(name, tmp_path, "trainval").names == drawn
    assert datasets.get(name).splits["trainval"] == 2488 - len(unlabelled)
    # A list that leaves them out itself gives the same.
    (tmp_path / "trainval.txt").write_text("\n".join(drawn))
    assert sources.card(name, tmp_path, "trainval").names == drawn


def test_vocs_palette_is_the_official_one():
  """Colours as the development kit lists them."""
  colors = datasets.get("voc2012").colors
  assert colors[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
  assert colors[15] == (192, 128, 128)
  assert colors[20] == (0, 64, 128)


def test_coco_stuff_of_version_1_0_is_refused(tmp_path):
  """Its files have 172 names: unlabeled, 80 things and 91 kinds of stuff."""
  layouts.coco_stuff10k(tmp_path, seed=0)
  source = sources.card("coco_stuff10k", tmp_path, "train")
  path = source.pairs[0][1]
  content = scipy.io.loadmat(path, variable_names=["S", "names"])
  mask = np.maximum(content["S"], 1)
  right = [cell.item() for cell in content["names"][:, 0]]
  things = [f"thing {i}" for i in range(2, 81)]
  first = ["unlabeled", "person", *things, *right[91:]]
  assert len(first) == 172
  # As many as version 1.1 has, in another order.
  turned = [*right[91:], *right[:91]]
  for names, count in ((first, 171), (turned, 182), (right[:91], 91)):
    scipy.io.savemat(path, {"S": mask, "names": layouts.cells(names)})
    with pytest.raises(
      errors.InputError,
      match=f"{path.name} numbers {count} classes, expected the 182.*v1.1.zip",
    ) as caught:
      source[0]
    assert "\n" not in str(caught.value)
  for others in ({}, {"names": np.eye(2)}, {"names": "person"}):
    scipy.io.savemat(path, {"S": mask} | others)
    with pytest.raises(errors.InputError, match="no list of words names"):
      source[0]
  # Whether nothing is among the names does not matter.
  for names in (right, ["unlabeled", *right]):
    scipy.io.savemat(path, {"S": mask, "names": layouts.cells(names)})
    expected = datasets.get("coco_stuff10k").label_map
    np.testing.assert_array_equal(
      source[0]["label"], np.vectorize(expected.get)(mask)
    )


@pytest.mark.parametrize("name", ["phc_u373", "dic_hela"])
def test_cells_that_touch_stay_apart_for_unets_weights(tmp_path, name):
  getattr(layouts, name)(tmp_path, seed=0)
  source = sources.card(name, tmp_path, "train")
  label = source[0]["label"]
  with PIL.Image.open(source.pairs[0][1]) as image:
    cells = np.array(image)
  found, count = ndimage.label(label)  # 4-connected, as the weights take them
  assert count == len(np.unique(cells)) - 1 == 4
  for number in range(1, count + 1):  # Each is one cell, and no other's part.
    assert len(np.unique(cells[found == number])) == 1
  weight = weight_maps.separation_weight_map(label)
  lost = (cells > 0) & (label == 0)
  assert lost.any()
  assert weight[lost].min() > 5 > weight[label == 1].max()


def test_a_cards_root_may_be_any_folder_around_the_data(tmp_path):
  layouts.voc2012(tmp_path / "a" / "b", seed=0)
  for root in ("a", "a/b"):
    assert len(sources.card("voc2012", tmp_path / root, "rv_val")) == 2


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "cannot be read"),
    (b"no MATLAB at all" * 20, "cannot be read"),
    ({"T": np.zeros((2, 2))}, "has no matrix S"),
    ({"S": "text"}, "has no matrix S"),
    ({"S": np.zeros((2, 2, 2))}, "has no matrix S"),
    ({"S": np.full((2, 2), 0.5)}, "broken numbers"),
    ({"S": np.full((2, 2), np.nan)}, "broken numbers"),
  ],
)
def test_a_mat_file_without_a_mask_is_one_line(tmp_path, content, message):
  path = tmp_path / "x.mat"
  if isinstance(content, bytes):
    path.write_bytes(content)
  else:
    scipy.io.savemat(path, content)
  with pytest.raises(errors.InputError, match=rf"x\.mat.*{message}") as caught:
    matlab.read_integers(path, "S")
  assert "\n" not in str(caught.value)


def test_truncated_mat_files_and_missing_fields_are_one_line(tmp_path):
  path = tmp_path / "x.mat"
  mask = np.random.default_rng(0).integers(0, 21, (40, 50), np.uint8)
  fields = {"Segmentation": mask}
  scipy.io.savemat(path, {"GTcls": fields}, do_compression=True)
  found = matlab.read_integers(path, "GTcls", "Segmentation")
  np.testing.assert_array_equal(found, mask)
  with pytest.raises(errors.InputError, match=r"no matrix GTcls\.Other"):
    matlab.read_integers(path, "GTcls", "Other")
  with pytest.raises(errors.InputError, match="no matrix GTcls"):
    matlab.read_integers(path, "GTcls")
  data = path.read_bytes()
  for length in (100, 140, len(data) // 2, len(data) - 3):
    path.write_bytes(data[:length])
    with pytest.raises(errors.InputError, match="x.mat"):
      matlab.read_integers(path, "GTcls", "Segmentation")
  with pytest.raises(errors.InputError, match="does not exist"):
    matlab.read_integers(tmp_path / "y.mat", "S")


def test_archives_are_named_once_and_their_digests_are_whole():
  for card in datasets.CARDS.values():
    places = [(a.folder, a.name) for a in card.archives]
    assert len(set(places)) == len(places) > 0
    for archive in card.archives:
      assert archive.url.startswith(("http://", "https://"))
      if archive.digest is not None:
        kind, digits = archive.digest.split(":")
        assert len(bytes.fromhex(digits)) == {"sha1": 20, "sha256": 32}[kind]
  assert all(a.login for a in datasets.get("cityscapes").archives)
