"""U-Net's weight map by brute force, class weights by hand, caches by use."""

import concurrent.futures
import errno

import hypothesis
from hypothesis import strategies as st
import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from fcnjax import errors
from fcnjax.data import sources, weight_maps


class Source:
  classes = ("background", "cell")
  colors = ((0, 0, 0), (255, 255, 255))

  def __init__(self, labels):
    self.labels = labels
    self.names = [f"image{i}" for i in range(len(labels))]
    self.reads = 0

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    self.reads += 1
    return {"label": self.labels[index], "name": self.names[index]}


def brute_force(label, w0, sigma):
  """Eq. 2 of U-Net pixel by pixel; w_c = 1."""
  cells, count = ndimage.label(label == 1)
  weights = np.ones(label.shape)
  for y, x in np.argwhere(cells == 0):
    distances = sorted(
      np.hypot(*(np.argwhere(cells == i) - (y, x)).T).min()
      for i in range(1, count + 1)
    )
    if count >= 2:
      both = distances[0] + distances[1]
      weights[y, x] += w0 * np.exp(-(both**2) / (2 * sigma**2))
  weights[label == 255] = 0
  return weights


@hypothesis.given(
  seed=st.integers(0, 2**31 - 1),
  height=st.integers(1, 14),
  width=st.integers(1, 14),
  sigma=st.sampled_from([0.4, 1.0, 5.0]),
)
@hypothesis.settings(max_examples=60)
def test_separation_is_equation_two(seed, height, width, sigma):
  rng = np.random.default_rng(seed)
  label = (rng.uniform(size=(height, width)) < 0.3).astype(np.uint8)
  label[rng.uniform(size=label.shape) < 0.1] = 255
  weights = weight_maps.separation_weight_map(
    label, w0=10.0, sigma=sigma, class_weights=(1.0, 1.0)
  )
  assert weights.dtype == np.float32
  expected = brute_force(label, 10.0, sigma)
  np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_a_gap_of_one_pixel_weighs_as_computed_by_hand():
  label = np.array([[1, 1, 0, 1, 1, 0, 0]], np.uint8)
  weights = weight_maps.separation_weight_map(label, class_weights=(1.0, 1.0))
  # d1 + d2 = 1 + 1 in the gap, 1 + 4 and 2 + 5 to the right.
  gap = 10 * np.exp(-(np.array([2, 5, 7]) ** 2) / 50)
  expected = [1, 1, 1 + gap[0], 1, 1, 1 + gap[1], 1 + gap[2]]
  np.testing.assert_allclose(weights[0], expected, rtol=1e-6)


def test_diagonal_neighbours_are_two_cells():
  label = np.eye(2, dtype=np.uint8)
  weights = weight_maps.separation_weight_map(label, class_weights=(1.0, 1.0))
  assert weights[0, 1] > 9


def test_touching_instances_are_kept_apart_where_components_are_not():
  label = np.array([[0, 1, 1, 1, 1, 0]], np.uint8)
  instances = np.array([[0, 7, 7, 3, 3, 0]])
  settings = {"class_weights": (1.0, 1.0)}
  as_one = weight_maps.separation_weight_map(label, **settings)
  as_two = weight_maps.separation_weight_map(
    label, instances=instances, **settings
  )
  assert (as_one == 1).all()
  np.testing.assert_allclose(
    as_two[0], [1 + 10 * np.exp(-(4**2) / 50), 1, 1, 1, 1, as_two[0, 0]]
  )


def test_several_classes_can_be_cells():
  label = np.array([[2, 0, 3, 0, 4]], np.uint8)
  weights = weight_maps.separation_weight_map(
    label, foreground=(2, 3), class_weights=[1.0] * 5
  )
  assert weights[0, 1] > 9
  assert (weights[0, [0, 2]] == 1).all()


def test_classes_are_balanced_within_a_label_by_default():
  label = np.array([[0, 0, 0, 0, 0, 0, 1, 1, 255, 255]], np.uint8)
  weights = weight_maps.separation_weight_map(label, w0=0.0)
  assert (weights[label == 255] == 0).all()
  np.testing.assert_allclose(weights[label != 255].mean(), 1, rtol=1e-6)
  np.testing.assert_allclose(
    weights[label == 0].sum(), weights[label == 1].sum(), rtol=1e-6
  )


def test_given_class_weights_are_taken_as_they_are():
  label = np.array([[0, 1, 2, 255]], np.uint8)
  weights = weight_maps.separation_weight_map(
    label, w0=0.0, class_weights=(0.5, 2.0, 3.0)
  )
  np.testing.assert_array_equal(weights, [[0.5, 2, 3, 0]])
  with pytest.raises(ValueError, match="Label 2 has no class weight"):
    weight_maps.separation_weight_map(label, class_weights=(1.0, 1.0))


def test_a_label_that_is_all_ignored_weighs_nothing():
  label = np.full((3, 4), 255, np.uint8)
  assert (weight_maps.separation_weight_map(label) == 0).all()


def test_the_width_must_be_positive():
  with pytest.raises(ValueError, match="sigma must be positive"):
    weight_maps.separation_weight_map(np.zeros((2, 2), np.uint8), sigma=0.0)


def test_median_frequency_by_hand():
  """Frequencies .1, .2, .4 and a class that never occurs."""
  weights = weight_maps.median_frequency_weights(
    [10, 10, 40, 0], [100, 50, 100, 0]
  )
  np.testing.assert_allclose(weights, [2.0, 1.0, 0.5, 0.0])


def test_median_frequency_of_nothing_is_zero():
  weights = weight_maps.median_frequency_weights([0, 0], [0, 0])
  np.testing.assert_array_equal(weights, [0, 0])


def test_median_frequency_refuses_impossible_counts():
  with pytest.raises(ValueError, match="second at least the first"):
    weight_maps.median_frequency_weights([5], [4])


def make_labels():
  first = np.array([[0, 0, 1], [0, 255, 255]], np.uint8)
  second = np.array([[2, 2, 2, 0]], np.uint8)
  return [first, second, np.full((2, 2), 255, np.uint8)]


def test_statistics_count_pixels_and_the_images_that_hold_them():
  counted = weight_maps.class_statistics(Source(make_labels()), num_classes=4)
  np.testing.assert_array_equal(counted.pixel_counts, [4, 1, 3, 0])
  np.testing.assert_array_equal(counted.image_pixel_counts, [10, 6, 4, 0])


def test_statistics_name_the_file_with_an_impossible_label():
  labels = [*make_labels(), np.array([[3, 9, 9]], np.uint8)]
  with pytest.raises(errors.InputError, match="image3: label 9 in 2 pixels"):
    weight_maps.class_statistics(Source(labels), num_classes=4)


@pytest.fixture
def files(tmp_path):
  """A function that opens 30 images, with masks of the values 0 and 1."""
  for n in range(30):
    for name in ("image", "mask"):
      array = np.full((4, 6), n % 2, np.uint8)
      PIL.Image.fromarray(array).save(tmp_path / f"{n}_{name}.png")
  pairs = [
    (tmp_path / f"{n}_image.png", tmp_path / f"{n}_mask.png") for n in range(30)
  ]
  return lambda **words: sources.Files(pairs, classes=("a", "b"), **words)


def test_statistics_are_kept_until_anything_changes(tmp_path, files):
  def count(source, **settings):
    settings = {"num_classes": 2} | settings
    counted = weight_maps.class_statistics(
      source, tmp_path / "cache", **settings
    )
    made = len(list((tmp_path / "cache").iterdir()))
    return counted.pixel_counts.tolist(), made

  assert count(files()) == ([360, 360], 1)
  assert count(files()) == ([360, 360], 1)
  wrapped = weight_maps.cached(files(), tmp_path / "weights")
  assert count(wrapped) == ([360, 360], 1)
  assert count(files(), num_classes=3) == ([360, 360, 0], 2)
  assert count(files(label_map={0: 1, 1: 255})) == ([0, 360], 3)
  # Any one of many masks: the key looks at all of them.
  mask = np.ones((4, 6), np.uint8)
  PIL.Image.fromarray(mask).save(tmp_path / "2_mask.png")
  assert count(files()) == ([336, 384], 4)


def test_kept_statistics_need_no_label(tmp_path, files):
  kept = weight_maps.class_statistics(files(), tmp_path / "c", num_classes=2)
  source = files()
  source.raw_label = None  # reading a label would fail
  again = weight_maps.class_statistics(source, tmp_path / "c", num_classes=2)
  np.testing.assert_array_equal(again, kept)


def test_labels_that_have_no_version_are_counted_anew(tmp_path):
  source = Source(make_labels() * 4)
  arrays = sources.Arrays(
    [np.zeros((*label.shape, 3), np.uint8) for label in source.labels],
    source.labels,
    classes=("a", "b", "c"),
  )
  for some in (source, arrays, weight_maps.cached(source, tmp_path / "w")):
    first = weight_maps.class_statistics(some, tmp_path / "c", num_classes=3)
    np.testing.assert_array_equal(first.pixel_counts, [16, 4, 12])
  for index in range(12):
    old = source.labels[index]
    source.labels[index] = np.full_like(old, 2)
    now = weight_maps.class_statistics(source, tmp_path / "c", num_classes=3)
    assert now.pixel_counts[2] == 12 - (old == 2).sum() + old.size
    source.labels[index] = old


def count_calls(label, **settings):
  count_calls.calls += 1
  return weight_maps.separation_weight_map(label, **settings)


@pytest.fixture
def calls():
  count_calls.calls = 0
  return lambda: count_calls.calls


def test_cached_maps_are_made_once(tmp_path, calls):
  labels = make_labels()
  source = weight_maps.cached(Source(labels), tmp_path / "new", count_calls)
  assert len(source) == 3
  assert source.names == ["image0", "image1", "image2"]
  assert source.classes == ("background", "cell")
  first = [source[i] for i in range(3)]
  assert calls() == 3
  for example, label in zip(first, labels):
    expected = weight_maps.separation_weight_map(label)
    np.testing.assert_array_equal(example["weight"], expected)
    np.testing.assert_array_equal(example["label"], label)
  again = weight_maps.cached(Source(labels), tmp_path / "new", count_calls)
  np.testing.assert_array_equal(again[0]["weight"], first[0]["weight"])
  assert calls() == 3


def test_other_settings_and_other_labels_have_other_maps(tmp_path, calls):
  labels = make_labels()
  narrow = weight_maps.cached(Source(labels), tmp_path, count_calls, sigma=2.0)
  wide = weight_maps.cached(Source(labels), tmp_path, count_calls, sigma=9.0)
  assert (narrow[0]["weight"] == narrow[0]["weight"]).all()
  assert calls() == 1
  wide[0]
  assert calls() == 2
  labels[0] = labels[0].T
  narrow[0]
  assert calls() == 3


def test_a_broken_file_is_made_again(tmp_path, calls):
  source = weight_maps.cached(Source(make_labels()), tmp_path, count_calls)
  expected = source[0]["weight"]
  (path,) = tmp_path.iterdir()
  whole = path.read_bytes()
  for broken in (b"", b"nonsense", whole[:-40]):
    path.write_bytes(broken)
    np.testing.assert_array_equal(source[0]["weight"], expected)
    assert path.read_bytes() == whole
  assert calls() == 4


def test_a_header_that_claims_less_is_not_believed(tmp_path, calls):
  """Of an array that is not read to its end no checksum is compared."""
  source = weight_maps.cached(Source(make_labels()), tmp_path, count_calls)
  expected = source[0]["weight"]
  (path,) = tmp_path.iterdir()
  whole = path.read_bytes()
  shape = f"({expected.shape[0]}, ".encode()
  for claim in (b"(1, ", b"(999999999, "):
    shorter = claim.ljust(len(shape)) if len(claim) < len(shape) else claim
    path.write_bytes(whole.replace(shape, shorter))
    np.testing.assert_array_equal(source[0]["weight"], expected)
  assert calls() == 3


def test_a_full_disk_is_no_fault_of_an_example(tmp_path, monkeypatch):
  """As that it would be skipped, where bad examples are."""

  def full(*arguments, **more):
    raise OSError(errno.ENOSPC, "No space left on device")

  source = weight_maps.cached(Source(make_labels()), tmp_path)
  monkeypatch.setattr(np, "savez", full)
  with pytest.raises(OSError, match="No space left") as caught:
    source[0]
  assert not isinstance(caught.value, errors.InputError)
  assert not list(tmp_path.iterdir())


def test_threads_may_make_the_same_map(tmp_path):
  source = weight_maps.cached(Source(make_labels()), tmp_path)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    maps = list(pool.map(lambda _: source[0]["weight"], range(40)))
  assert all((weight == maps[0]).all() for weight in maps)
  assert len(list(tmp_path.iterdir())) == 1


def test_a_file_in_place_of_the_directory_is_named(tmp_path):
  path = tmp_path / "file"
  path.write_text("")
  with pytest.raises(errors.InputError, match="file: cannot make"):
    weight_maps.cached(Source(make_labels()), path)


def test_a_directory_that_went_away_is_named(tmp_path):
  source = weight_maps.cached(Source(make_labels()), tmp_path / "gone")
  (tmp_path / "gone").rmdir()
  with pytest.raises(errors.InputError, match="cannot be written"):
    source[0]
