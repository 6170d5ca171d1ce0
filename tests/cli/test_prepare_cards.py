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
