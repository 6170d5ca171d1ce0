"""One matrix over all examples, whatever their sizes and their number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax import typing
from fcnjax.inference import whole
from fcnjax.ops import resizing
from fcnjax.training import evaluation


def _examples(sizes, k=3, seed=0):
  random = np.random.default_rng(seed)
  for index, (height, width) in enumerate(sizes):
    label = random.integers(0, k, (height, width)).astype(np.uint8)
    label[0] = 255
    yield {
      "image": random.normal(size=(height, width, k)).astype(np.float32),
      "label": label,
      "name": str(index),
    }


def _brute(examples, k=3):
  matrix = np.zeros((k, k), np.int64)
  for example in examples:
    prediction = example["image"].argmax(-1)
    for t, p in zip(example["label"].ravel(), prediction.ravel()):
      if t != 255:
        matrix[t, p] += 1
  return matrix


def test_uneven_sizes_and_a_short_last_batch_count_every_pixel_once():
  sizes = [(4, 5)] * 5 + [(6, 3)] + [(4, 5)] * 2
  seen = []
  matrix = evaluation.evaluate(
    lambda image: jnp.asarray(image),
    _examples(sizes),
    num_classes=3,
    batch_size=4,
    visit=lambda label, prediction: seen.append((label, prediction)),
  )
  np.testing.assert_array_equal(matrix, _brute(_examples(sizes)))
  assert matrix.dtype == np.int64
  assert [label.shape for label, _ in seen] == sizes
  for (label, prediction), example in zip(seen, _examples(sizes)):
    np.testing.assert_array_equal(label, example["label"])
    np.testing.assert_array_equal(prediction, example["image"].argmax(-1))


def test_the_label_keeps_its_resolution():
  """A network that sees half the size is scored at the label's size."""
  label = np.zeros((8, 8), np.uint8)
  label[:, 4:] = 1
  image = np.zeros((4, 4, 2), np.float32)
  image[:, :2, 0] = image[:, 2:, 1] = 1
  matrix = evaluation.evaluate(
    jnp.asarray,
    [{"image": image, "label": label, "name": "a"}],
    num_classes=2,
  )
  np.testing.assert_array_equal(matrix, [[32, 0], [0, 32]])


@pytest.mark.parametrize("size", [(264, 256), (256, 256)])
def test_coarse_scores_count_as_their_logits_do(size):
  """Also where the label is of another size than what the network saw."""
  scores = np.random.default_rng(0).normal(size=(1, 33, 32, 20))
  coarse = typing.Coarse(jnp.float32(scores), (264, 256), "align_corners")
  logits = resizing.resize_bilinear(
    coarse.scores, coarse.size, convention=coarse.convention
  )
  label = np.random.default_rng(1).integers(0, 20, size).astype(np.uint8)
  example = {"image": np.zeros((264, 256, 3), np.float32), "label": label}
  matrices, maps = [], []
  for output in (coarse, logits):
    matrices.append(
      evaluation.evaluate(
        lambda image, output=output: output,
        [example],
        num_classes=20,
        visit=lambda label, prediction: maps.append(prediction),
      )
    )
  np.testing.assert_array_equal(*matrices)
  np.testing.assert_array_equal(*maps)
  assert matrices[0].sum() == label.size
  # Where nobody looks at the classes, there is no map of them.
  counted = evaluation.evaluate(lambda image: coarse, [example], num_classes=20)
  np.testing.assert_array_equal(counted, matrices[0])


def test_counting_needs_no_map_of_classes():
  scores = jax.ShapeDtypeStruct((1, 64, 128, 19), jnp.float32)
  label = jax.ShapeDtypeStruct((1, 512, 1024), jnp.int32)

  def memory(mapped):
    def count(scores, label):
      coarse = typing.Coarse(scores, (512, 1024))
      return evaluation._count(coarse, label, num_classes=19, mapped=mapped)

    _, prediction = jax.eval_shape(count, scores, label)
    assert (prediction is not None) == mapped
    compiled = jax.jit(count).lower(scores, label).compile()
    memory = compiled.memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes

  assert memory(False) < memory(True) - 4 * 512 * 1024  # A map of int32.


def test_no_example_gives_zeros():
  matrix = evaluation.evaluate(jnp.asarray, [], num_classes=2)
  np.testing.assert_array_equal(matrix, np.zeros((2, 2)))


def _blur(traced):
  """A network of valid sums over 3x3 pixels, padded by zeros; it counts."""

  @jax.jit
  def network(image):
    traced.append(image.shape)
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = image.shape[1:3]
    return sum(
      (1 + i) * padded[:, i : i + h, j : j + w]
      for i in range(3)
      for j in range(3)
    )

  return network


def test_twelve_sizes_in_two_buckets_compile_twice():
  """And count what the whole-image strategy counts, image by image."""
  evaluation._count.clear_cache()  # Of other tests' sizes.
  sizes = [(17 + i, 32 - i) for i in range(6)]
  sizes += [(16 - i, 17 + i) for i in range(6)]
  network = _blur([])

  def strategy(image):
    return whole.whole_image(network, image, multiple=16)

  one_by_one = [[], []]
  matrices = [
    evaluation.evaluate(
      strategy,
      list(_examples(sizes)),
      num_classes=3,
      visit=lambda *maps: one_by_one[0].append(maps),
    )
  ]
  traced = []
  network = _blur(traced)
  evaluation._count.clear_cache()
  matrices.append(
    evaluation.evaluate(
      strategy,
      list(_examples(sizes)),
      num_classes=3,
      batch_size=4,
      multiple=16,
      visit=lambda *maps: one_by_one[1].append(maps),
    )
  )
  assert traced == [(4, 32, 32, 3), (4, 16, 32, 3)]
  assert evaluation._count._cache_size() == 2
  np.testing.assert_array_equal(*matrices)
  for size, (label, map_), (label2, map2) in zip(sizes, *one_by_one):
    assert label.shape == map_.shape == size
    np.testing.assert_array_equal(label, label2)
    np.testing.assert_array_equal(map_, map2)


def test_a_resized_image_is_not_padded():
  """Its label would be interpolated at other places."""
  example = {
    "image": np.zeros((4, 4, 2), np.float32),
    "label": np.zeros((7, 7), np.uint8),
    "name": "a",
  }
  shapes = []

  def predict(image):
    shapes.append(image.shape)
    return jnp.asarray(image)

  evaluation.evaluate(predict, [example], num_classes=2, multiple=8)
  assert shapes == [(1, 4, 4, 2)]
