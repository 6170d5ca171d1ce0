"""What data.mix may say, and that all else is one line."""

import pytest

from fcnjax import errors
from fcnjax.cli import defaults, training_sets


def configured(mix, **words):
  config = defaults.get_config()
  config.data.update({"source": "folder", "num_classes": 3, **words})
  config.data.mix = mix
  return config


def test_one_set_is_the_config_itself():
  config = configured(())
  assert training_sets.of(config) == [("train", config)]


def test_each_set_has_its_own_words():
  config = configured(
    (
      (3, {}),
      (
        0.5,
        {"images": "b", "image_size": (8, 9), "label_map": {1: 0, 7: 1}},
      ),
      (1, {"label_map": "zero_is_ignored", "val_fraction": 0}),
    ),
    images="a",
    masks="m",
    label_map={0: 2},
  )
  (_, one), (_, two), (name, three) = training_sets.of(config)
  assert name == "train, set 3"
  assert [c.data.images for c in (one, two, three)] == ["a", "b", "a"]
  assert two.data.masks == "m"
  assert two.data.image_size == (8, 9)
  assert one.data.label_map.to_dict() == {0: 2}
  assert dict(two.data.label_map) == {1: 0, 7: 1}
  assert three.data.label_map == "zero_is_ignored"
  assert three.data.val_fraction == 0
  assert all(c.data.mix == () for c in (one, two, three))
  assert config.data.images == "a"


@pytest.mark.parametrize(
  ("mix", "said"),
  [
    ((1, 2), "entry 1 is 1; expected"),
    (((1, {}), 2), "entry 2 is 2; expected"),
    (((1, 2, 3),), "expected .weight, "),
    ((("a", {}),), "expected .weight, "),
    (((0, {}),), "the weight above 0"),
    (((float("nan"), {}),), "the weight above 0"),
    (((float("inf"), {}),), "the weight above 0"),
    (((1, "images"),), "expected .weight, "),
    (((1, {"images": 7}),), "entry 1: data.images is 7; expected .* ''"),
    (((1, {"colors": 7}),), "data.colors is 7"),
    (((1, {"channels": "grey"}),), "data.channels is 'grey'"),
    (((1, {"image_size": (8,)}),), "entry 1: --config.data.image_size"),
    (((1, {"image": "b"}),), "no word data.image; did you mean 'images'"),
    (((1, {7: "b"}),), "no word data.7"),
    (((1, {"mask_sufix": "b"}),), "did you mean 'mask_suffix'"),
    (((1, {"mix": ()}),), "data.mix is one for all sets"),
    (((1, {"train_splits": ""}),), "did you mean 'train_split'"),
  ],
)
def test_what_cannot_be_meant_is_one_line(mix, said):
  with pytest.raises(errors.InputError, match=said) as caught:
    training_sets.of(configured(mix))
  assert "\n" not in str(caught.value)


def test_every_word_makes_a_source_or_is_refused():
  """No other word of an entry could act."""
  data = defaults.get_config().data
  assert set(training_sets.WORDS) < set(data)
  refused = set(data) - set(training_sets.WORDS)
  assert {
    "transforms", "mean", "std", "sampling", "mixing", "on_bad_example",
    "workers", "resident", "transfer", "label_margin", "eval_split",
  } < refused  # fmt: skip
  for word in refused:
    with pytest.raises(errors.InputError, match=f"entry 1: data.{word} is one"):
      training_sets.of(configured(((1, {word: data[word]}),)))
