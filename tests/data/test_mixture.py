"""Several sources as one: what is said of all, and what of none."""

import numpy as np
import pytest

from fcnjax import errors
from fcnjax.data import mixture, reading, scenes, sources, weight_maps


class Counted(sources.Arrays):
  """Knows its counts, as prepared data sets do; they are read nowhere else."""

  def class_statistics(self):
    labels = np.stack(self.labels)
    counts = np.stack([np.bincount(x.ravel(), minlength=3) for x in labels])
    sizes = np.array([x.size for x in labels])
    return counts.sum(0), (sizes[:, None] * (counts > 0)).sum(0)

  def labels_version(self):
    return str(np.stack(self.labels).tolist())


def arrays(kind, rows, *, count=3, **words):
  """Labels of three classes, by rows of 8 pixels."""
  label = np.repeat(np.repeat([0, 1, 2], rows)[:, None], 8, 1).astype(np.uint8)
  return kind(
    np.zeros((count, *label.shape, 3), np.uint8),
    np.stack([label] * count),
    classes=("a", "b", "c"),
    **words,
  )


def weights(source, cache=None):
  found = weight_maps.class_statistics(source, cache, num_classes=3)
  return weight_maps.median_frequency_weights(*found)


@pytest.mark.parametrize("counted", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_class_weights_are_of_all_parts(counted, tmp_path):
  """By hand: 3 images of 4, 3, 1 rows and 2 of 1, 0, 9, 8 pixels each."""
  kinds = [Counted if yes else sources.Arrays for yes in counted]
  parts = [
    arrays(kinds[0], (4, 3, 1)),
    arrays(kinds[1], (1, 0, 9), count=2),
  ]
  pixels = 8 * np.array([3 * 4 + 2, 3 * 3, 3 + 18])
  of_images = 8 * np.array([3 * 8 + 20, 3 * 8, 3 * 8 + 20])
  frequency = pixels / of_images
  expected = np.median(frequency) / frequency
  for _ in range(2):
    np.testing.assert_allclose(
      weights(mixture.Mixture(parts), tmp_path), expected
    )


def test_counts_are_kept_only_where_every_part_tells_its_version(tmp_path):
  first, other = arrays(Counted, (4, 3, 1)), arrays(sources.Arrays, (1, 1, 1))
  assert mixture.Mixture([first, other]).labels_version() is None
  weights(mixture.Mixture([first, other]), tmp_path)
  assert not list(tmp_path.iterdir())
  versions = {
    mixture.Mixture([arrays(Counted, a), arrays(Counted, b)]).labels_version()
    for a in ((4, 3, 1), (3, 4, 1))
    for b in ((4, 3, 1), (3, 4, 1))
  }
  assert len(versions) == 4


def test_scenes_can_be_mixed_and_counted(tmp_path):
  parts = [scenes.Scenes("train", count=3), scenes.Scenes("val", count=2)]
  mixed = mixture.Mixture(parts)
  found = weight_maps.image_class_counts(mixed, tmp_path, num_classes=9)
  alone = [
    weight_maps.image_class_counts(part, num_classes=9) for part in parts
  ]
  np.testing.assert_array_equal(found, np.concatenate(alone))
  assert mixed.names == ["train-0000", "train-0001", "train-0002", "val-0000",
                         "val-0001"]  # fmt: skip
  assert mixed[3]["name"] == "val-0000"


def test_nothing_of_the_first_part_alone_is_answered():
  mixed = mixture.Mixture([arrays(sources.Arrays, (1, 1, 1))] * 2)
  assert mixed.classes == ("a", "b", "c")
  assert mixed.channels == 3
  assert len(mixed.colors) == 3
  for name in ("pairs", "labels", "images", "image_size", "second"):
    assert not hasattr(mixed, name)


def test_the_table_is_one_only_where_all_read_alike():
  same = arrays(sources.Arrays, (1, 1, 1))
  mixed = mixture.Mixture([same, arrays(sources.Arrays, (2, 1, 1))])
  np.testing.assert_array_equal(mixed.table.targets, same.table.targets)
  other = arrays(sources.Arrays, (1, 1, 1), label_map={0: 1, 1: 0, 2: 2})
  mixed = mixture.Mixture([same, other])
  assert [mixed[i]["label"][0, 0] for i in (0, 3)] == [0, 1]
  with pytest.raises(errors.InputError, match="different tables"):
    _ = mixed.table


def test_other_classes_are_named_with_their_set():
  one = arrays(sources.Arrays, (1, 1, 1))
  other = sources.Arrays(one.images, one.labels, classes=("a", "b", "d"))
  with pytest.raises(errors.InputError, match="set 3 has the classes a, b, d"):
    mixture.Mixture([one, one, other])


def of_value(value, dtype, count=2):
  return sources.Arrays(
    np.full((count, 4, 5, 3), value, dtype),
    np.zeros((count, 4, 5), np.uint8),
    classes=("a", "b"),
  )


@pytest.mark.parametrize("deep", [{0}, {1}, {2}, {0, 2}, set()])
def test_one_set_of_finer_images_makes_all_as_fine(deep):
  """Whichever comes first; a grey value stays exactly what it was."""
  parts = [
    of_value(7.25, np.float32) if number in deep else of_value(7, np.uint8)
    for number in range(3)
  ]
  reader = reading.Reader(mixture.Mixture(parts), seed=0)
  assert len({reader.index(position) for position in range(6)}) == 6
  for position in range(6):
    image = reader.maps(position)["image"]
    assert image.dtype == (np.float32 if deep else np.uint8)
    value = 7.25 if reader.index(position) // 2 in deep else 7
    assert (image == value).all()


def test_a_finer_image_within_sets_of_bytes_is_named():
  odd = of_value(7, np.uint8)
  odd.images[1] = odd.images[1].astype(np.float32)
  odd.names[1] = "odd"
  mixed = mixture.Mixture([of_value(7, np.uint8), odd])
  reader = reading.Reader(mixed, seed=0)
  with pytest.raises(errors.InputError, match="odd has more than 8 bits"):
    reader.every(1)
