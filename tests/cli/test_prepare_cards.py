"""Every data set of a card is prepared from its official layout."""

import dataclasses

import numpy as np
import pytest

from fcnjax.cli import config as configs, main, open_data
from fcnjax.data import datasets
from fcnjax.data.preparation import manifest
from tests.data import layouts


@pytest.mark.parametrize("name", tuple(datasets.CARDS))
def test_prepared_labels_are_those_that_were_drawn(
  tmp_path, monkeypatch, capsys, name
):
  official, out = tmp_path / "official", tmp_path / "out"
  official.mkdir()
  drawn = getattr(layouts, name)(official, seed=5)
  counts = {split: len(examples) for split, examples in drawn.items()}
  card = dataclasses.replace(datasets.get(name), splits=counts)
  monkeypatch.setitem(datasets.CARDS, name, card)
  words = ["prepare", name, f"--data-dir={out}", f"--from={official}"]
  assert main.main(words) == 0, capsys.readouterr().err

  config = configs.load("configs/unet.py:folder")
  config.data.source, config.data.root = name, str(out)
  config.data.channels = card.channels
  for split, examples in drawn.items():
    config.data.train_split = split
    source = open_data.source(config, "train")
    assert type(source).__name__ == "Prepared"
    assert list(source.names) == list(examples)
    assert source.classes == card.classes
    for i, label in enumerate(examples.values()):
      np.testing.assert_array_equal(source[i]["label"], label)
  for extra in card.extra:
    assert manifest.is_finished(manifest.directory(out, name, extra))

  # One image too few is told, and nothing is written.
  split, count = next(iter(counts.items()))
  more = dataclasses.replace(card, splits={**counts, split: count + 1})
  monkeypatch.setitem(datasets.CARDS, name, more)
  capsys.readouterr()
  other = tmp_path / "other"
  assert main.main([*words[:2], f"--data-dir={other}", words[3]]) == 2
  line = capsys.readouterr().err
  assert f"{count} images in the split {split!r}" in line
  assert f"expected {count + 1}" in line
  assert line.count("\n") == 1
  assert not manifest.is_finished(manifest.directory(other, name))


@pytest.mark.parametrize(
  ("variant", "names"),
  [
    ("siftflow", ("sift_flow", "sift_flow_geometric")),
    ("nyudv2_rgbd", ("nyudv2",)),
    ("nyudv2_rgb_hha", ("nyudv2",)),
  ],
)
def test_a_second_part_is_prepared_too(
  tmp_path, monkeypatch, capsys, variant, names
):
  """What a variant sees is the same of files and of shards."""
  official, out = tmp_path / "official", tmp_path / "out"
  official.mkdir()
  for name in names:
    drawn = getattr(layouts, name)(official, seed=1)
    counts = {split: len(examples) for split, examples in drawn.items()}
    card = dataclasses.replace(datasets.get(name), splits=counts)
    monkeypatch.setitem(datasets.CARDS, name, card)
  words = ["prepare", *names, f"--data-dir={out}", f"--from={official}"]
  assert main.main(words) == 0, capsys.readouterr().err
  config = configs.load(f"configs/fcn.py:{variant}")
  for task in ("first", "second")[: 1 + bool(config.data.second_masks)]:
    config.evaluation.task = task
    for which in ("train", "eval"):
      config.data.root = str(official)
      files = open_data.source(config, which)
      config.data.root = str(out)
      source = open_data.source(config, which)
      first = source.first if hasattr(source, "first") else source
      assert type(first).__name__ == "Prepared"
      assert source.names == files.names
      assert source.classes == files.classes
      for index in range(len(files)):
        assert source[index].keys() == files[index].keys()
        for key, value in files[index].items():
          np.testing.assert_array_equal(source[index][key], value)
