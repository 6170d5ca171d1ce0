"""Every data set of a card is prepared from its official layout."""

import ast
import dataclasses
import email.message
import hashlib
import shlex
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest

from fcnjax.cli import config as configs, main, open_data
from fcnjax.data import datasets
from fcnjax.data.preparation import manifest, unpacking
from tests.data import layouts

each_card = pytest.mark.parametrize("name", tuple(datasets.CARDS))


@each_card
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
  _expect_prepared(out, card, drawn)

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


def _expect_prepared(out, card, drawn):
  """What is read from `out` is what was drawn, split by split."""
  config = configs.load("configs/unet.py:folder")
  config.data.source, config.data.root = card.name, str(out)
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
    assert manifest.is_finished(manifest.directory(out, card.name, extra))


# What of a layout is in the archives that share a folder; in others is all.
PARTS = {
  "benchmark.tgz": "benchmark_RELEASE",
  "gtFine_trainvaltest.zip": "gtFine",
  "leftImg8bit_trainvaltest.zip": "leftImg8bit",
  "images.tar.gz": "images",
  "annotations.tar.gz": "annotations",
}


def _packed(card, official, folder):
  """Packs a layout into the card's own archives; returns these with digests."""
  folder.mkdir()
  left = {path for path in official.rglob("*") if path.is_file()}
  held = {
    archive: official
    / archive.folder
    / (
      PARTS.get(archive.name, ".")
      if archive.name.endswith(unpacking.ENDINGS)
      else archive.name
    )
    for archive in card.archives
  }
  made = {}
  # The deepest first; then what is left.
  for archive in sorted(held, key=lambda a: -len(held[a].parts)):
    target, base = folder / archive.name, official / archive.folder
    mine = [p for p in sorted(left) if p.is_relative_to(held[archive])]
    assert mine, archive.name
    left -= set(mine)
    if target.suffix == ".zip":
      with zipfile.ZipFile(target, "w") as file:
        for path in mine:
          file.write(path, path.relative_to(base))
    elif target.suffix in (".tar", ".gz", ".tgz"):
      mode = "w" if target.suffix == ".tar" else "w:gz"
      with tarfile.open(target, mode) as file:
        for path in mine:
          file.add(path, path.relative_to(base))
    else:
      shutil.copy(held[archive], target)
    kind = (archive.digest or "sha256").split(":")[0]
    digits = hashlib.new(kind, target.read_bytes()).hexdigest()
    made[archive] = dataclasses.replace(archive, digest=f"{kind}:{digits}")
  assert not left
  return tuple(made[archive] for archive in card.archives)


@pytest.fixture
def packed(tmp_path, monkeypatch):
  """Returns a function that draws and packs a card: card, drawn, archives."""

  def pack(name):
    official, folder = tmp_path / "official", tmp_path / "archives"
    official.mkdir()
    drawn = getattr(layouts, name)(official, seed=7)
    card = datasets.get(name)
    card = dataclasses.replace(
      card,
      splits={split: len(examples) for split, examples in drawn.items()},
      archives=_packed(card, official, folder),
    )
    shutil.rmtree(official)
    monkeypatch.setitem(datasets.CARDS, name, card)
    return card, drawn, folder

  def refuse(request, **_):
    raise urllib.error.HTTPError(
      request.full_url, 404, "Not Found", email.message.Message(), None
    )

  monkeypatch.setattr(urllib.request, "urlopen", refuse)
  return pack


def _contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@each_card
def test_archives_by_hand_are_verified_unpacked_and_prepared(
  tmp_path, packed, capsys, name
):
  card, drawn, folder = packed(name)
  before, out = _contents(folder), tmp_path / "out"
  words = ["prepare", name, f"--data-dir={out}", f"--from={folder}"]
  assert main.main(words) == 0, capsys.readouterr().err
  text = capsys.readouterr().out
  for split, count in card.splits.items():
    assert f"{count} in {split}" in text
  _expect_prepared(out, card, drawn)
  assert _contents(folder) == before
  # What the data set publishes itself needs no other.
  own = [line for line in text.splitlines() if "may be added: " in line]
  published = name in ("camvid", "isbi2012")
  assert len(own) == (not published)
  known = manifest.read(manifest.directory(out, name))
  for words in own:
    mean, std = shlex.split(words.partition(": ")[2])
    for word, value in (("mean", mean), ("std", std)):
      key, _, numbers = value.partition("=")
      assert key == f"--config.data.{word}"
      np.testing.assert_allclose(
        ast.literal_eval(numbers), known[word], atol=1e-3
      )


@each_card
def test_a_wrong_digest_and_a_missing_archive_are_one_line(
  tmp_path, packed, capsys, name
):
  card, _, folder = packed(name)
  words = ["prepare", name, f"--from={folder}"]

  def fails(case):
    out = tmp_path / case
    before = _contents(folder)
    assert main.main([*words, f"--data-dir={out}"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("fcnjax: ")
    assert line.count("\n") == 1
    assert not manifest.is_finished(manifest.directory(out, name))
    assert _contents(folder) == before
    return line

  for number, archive in enumerate(card.archives):
    file = folder / archive.name
    right = file.read_bytes()
    file.write_bytes(right + b"?")
    line = fails(f"wrong{number}")
    kind, digits = archive.digest.split(":")
    found = hashlib.new(kind, right + b"?").hexdigest()
    assert f"{file} has the {kind} {found}, expected {digits}" in line
    file.unlink()
    line = fails(f"missing{number}")
    if len(card.archives) == 1:  # Nothing at all is given.
      assert card.obtain in line
    else:
      assert archive.name in line
      assert archive.url in line
      assert ("needs a login" if archive.login else "404 Not Found") in line
    file.write_bytes(right)


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
    for which in ("train", "val"):
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
