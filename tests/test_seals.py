"""A seal knows every changed, cut, lost and swapped file."""

import json

import numpy as np
import pytest

from fcnjax import seals


@pytest.fixture
def folder(tmp_path):
  random = np.random.default_rng(0)
  (tmp_path / "deep" / "er").mkdir(parents=True)
  for name, size in (("a", 1000), ("deep/b", 1), ("deep/er/c", 0)):
    (tmp_path / name).write_bytes(random.bytes(size))
  seals.write(tmp_path, {"step": 3, "mean_iou": 0.25})
  return tmp_path


def test_what_is_as_it_was_is_sound(folder):
  seals.check(folder)
  assert seals.read(folder) == {"step": 3, "mean_iou": 0.25}


@pytest.mark.parametrize("name", ["a", "deep/b", "seal.json"])
def test_every_flipped_bit_is_found(folder, name):
  """All bits of the small files, and some of the large one."""
  whole = (folder / name).read_bytes()
  bits = range(8 * len(whole))
  for bit in bits if len(whole) < 10 else bits[:: len(whole) // 25]:
    torn = bytearray(whole)
    torn[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(torn)
    with pytest.raises(seals.BrokenError, match=name):
      seals.check(folder)
  (folder / name).write_bytes(whole)
  seals.check(folder)


@pytest.mark.parametrize("name", ["a", "deep/b", "seal.json"])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_cut_file_is_found(folder, name, kept):
  whole = (folder / name).read_bytes()
  (folder / name).write_bytes(whole[: int(kept * len(whole))])
  told = name if name == seals.NAME else f"{name} has .* bytes where "
  with pytest.raises(seals.BrokenError, match=told):
    seals.check(folder)


def test_lost_files_are_named(folder):
  (folder / "deep" / "er" / "c").unlink()
  with pytest.raises(seals.BrokenError, match="deep/er/c: No such file"):
    seals.check(folder)
  (folder / "seal.json").unlink()
  with pytest.raises(seals.BrokenError, match=r"it has no seal\.json"):
    seals.read(folder)


def test_a_fact_that_was_changed_is_no_fact(folder):
  seal = json.loads((folder / "seal.json").read_text())
  seal["facts"]["mean_iou"] = 0.75
  (folder / "seal.json").write_text(json.dumps(seal))
  with pytest.raises(seals.BrokenError, match="not what was written"):
    seals.read(folder)


@pytest.mark.parametrize("text", ["[]", "null", "{}", '"a"', "[" * 10000])
def test_any_other_json_is_no_seal(folder, text):
  (folder / "seal.json").write_text(text)
  with pytest.raises(seals.BrokenError):
    seals.read(folder)
