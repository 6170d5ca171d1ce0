"""fcnjax check-data: what it prints, writes and returns."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from fcnjax.cli import main

CONFIG = "configs/unet.py:folder"


@pytest.fixture
def folder(tmp_path):
  """Twelve good pairs of 40×40 with two classes."""
  for kind in ("images", "masks"):
    (tmp_path / kind).mkdir()
  for index in range(12):
    random = np.random.default_rng(index)
    coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(coarse).resize((40, 40))
    image.save(tmp_path / "images" / f"{index}.png")
    mask = (np.asarray(image)[..., 0] > 127).astype(np.uint8)
    PIL.Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
  return tmp_path


def _check(folder, *more):
  return main.main(
    [
      "check-data",
      f"--config={CONFIG}",
      f"--config.data.images={folder}/images",
      f"--config.data.masks={folder}/masks",
      "--config.data.num_classes=2",
      "--config.data.transforms=()",
      "--config.batch_size=2",
      *more,
    ]
  )


def test_nothing_wrong(capsys, folder):
  assert _check(folder) == 0
  out = capsys.readouterr()
  assert "Nothing looks wrong." in out.out
  assert out.err == ""  # no bar where there is no terminal
  assert max(map(len, out.out.splitlines())) <= 80


def test_a_warning_is_no_failure(capsys, folder):
  assert _check(folder, "--config.batch_size=32") == 0
  assert "[batch_larger_than_set]" in capsys.readouterr().out


def test_everything_that_is_wrong_is_told_and_written(capsys, folder):
  (folder / "images" / "3.png").unlink()
  (folder / "masks" / "7.png").unlink()
  broken = folder / "images" / "5.png"
  broken.write_bytes(broken.read_bytes()[:-100])
  mask = np.zeros((39, 40), np.uint8)
  mask[5:9] = 1
  PIL.Image.fromarray(mask).save(folder / "masks" / "6.png")
  wrong = np.zeros((40, 40), np.uint8)
  wrong[9:20] = 44
  PIL.Image.fromarray(wrong).save(folder / "masks" / "8.png")
  output = folder / "check"
  assert _check(folder, f"--output={output}") == 2
  said = capsys.readouterr()
  codes = {
    "unpaired_files",
    "truncated_image",
    "unequal_sizes",
    "values_out_of_range",
  }
  for code in codes:
    assert said.out.count(f"[{code}]") == 1
  # The errors are said above; the last line only counts them.
  (line,) = said.err.splitlines()
  assert line.startswith("fcnjax: the data have 4 errors")

  record = json.loads((output / "check.json").read_text())
  assert record["schema"] == 1
  assert record["summary"] == {"errors": 4, "warnings": 0, "notes": 0}
  assert {finding["code"] for finding in record["findings"]} == codes
  assert all("--config.data." in finding["remedy"] or finding["files"]
             for finding in record["findings"])  # fmt: skip
  by_code = {finding["code"]: finding for finding in record["findings"]}
  assert by_code["values_out_of_range"]["files"] == [
    str(folder / "masks" / "8.png")
  ]
  assert sorted(by_code["unpaired_files"]["files"]) == [
    str(folder / "images" / "7.png"),
    str(folder / "masks" / "3.png"),
  ]
  images = sum(split["images"] for split in record["splits"].values())
  assert images == 10

  page = (output / "index.html").read_text()
  assert all(code in page for code in codes)
  assert "http" not in page  # complete in itself
  assert str(folder / "masks" / "8.png") in page
  assert page.count("data:image/jpeg;base64,") >= 10


def test_an_encoding_is_named_with_the_word_that_mends_it(capsys, folder):
  for path in (folder / "masks").iterdir():
    PIL.Image.fromarray(np.asarray(PIL.Image.open(path)) * 255).save(path)
  assert _check(folder) == 2
  out = capsys.readouterr().out
  remedy = next(
    word for word in out.split() if word.startswith("--config.data.mask_values")
  )
  assert _check(folder, remedy) == 0  # as it stands there


def test_what_cannot_be_opened_at_all_is_one_line(capsys, folder):
  assert _check(folder, "--config.data.images=nowhere") == 2
  out = capsys.readouterr()
  assert out.out == ""
  assert len(out.err.splitlines()) == 1
  assert "--config.data.images=DIR" in out.err


def test_a_folder_that_cannot_be_written_to(capsys, folder):
  (folder / "file").write_text("mine")
  assert _check(folder, f"--output={folder}/file/check") == 2
  assert "--output=" in capsys.readouterr().err
  assert (folder / "file").read_text() == "mine"


def test_all_pairs_gone(capsys, folder):
  for path in (folder / "masks").iterdir():
    path.rename(path.with_name(f"x{path.name}"))
  assert _check(folder) == 2
  assert "unpaired_files" in capsys.readouterr().out


def test_drawn_scenes_and_official_layouts(capsys, tmp_path):
  words = ["--config=configs/unet.py", "--config.data.train_split=val"]
  assert main.main(["check-data", *words, "--config.data.eval_split="]) == 0
  assert "train: 128 images" in capsys.readouterr().out


def test_a_damaged_file_of_an_official_layout(capsys, tmp_path):
  for split in ("train", "val"):
    (tmp_path / split).mkdir()
    (tmp_path / f"{split}annot").mkdir()
  counts = {"train": 367, "val": 101}
  small = PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8))
  for split, count in counts.items():
    lines = []
    for n in range(count):
      image = pathlib.Path(split, f"{n}.png")
      mask = pathlib.Path(f"{split}annot", f"{n}.png")
      small.save(tmp_path / image)
      PIL.Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / mask)
      lines.append(f"{image} {mask}")
    (tmp_path / f"{split}.txt").write_text("\n".join(lines))
  (tmp_path / "train" / "7.png").write_bytes(b"")
  code = main.main(
    [
      "check-data",
      "--config=configs/unet.py:camvid",
      f"--config.data.root={tmp_path}",
      "--config.data.test_split=",
    ]
  )
  assert code == 2
  assert "[empty_image]" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("transforms", "margin", "told"),
  [
    ("(('random_crop',{'size':(48,40)}),)", 0, True),
    ("(('random_crop',{'size':(48,40)}),)", 4, False),
    ("(('random_crop',{'size':(48,40),'boundary':'reflect'}),)", 0, False),
    ("(('random_scale',{}),('random_crop',{'size':(80,80)}))", 0, False),
    ("(('random_scale',{'maximum':1.5}),('random_crop',{'size':(80,80)}))", 0,
     True),
    ("(('resize',{'size':(99,99)}),('random_crop',{'size':(80,80)}))", 0,
     False),
  ],
)  # fmt: skip
def test_crops_that_are_larger_than_what_is_cut(
  capsys, folder, transforms, margin, told
):
  words = [
    f"--config.data.transforms={transforms}",
    f"--config.data.label_margin={margin}",
  ]
  assert _check(folder, *words) == 0
  assert ("[crop_larger_than_images]" in capsys.readouterr().out) == told


def test_faults_of_both_folders_and_of_every_line_are_told(capsys, folder):
  for kind in ("images", "masks"):
    (folder / f"val_{kind}").mkdir()
    for index in (10, 11):
      path = folder / kind / f"{index}.png"
      path.rename(folder / f"val_{kind}" / path.name)
  (folder / "masks" / "2.png").unlink()
  (folder / "val_masks" / "11.png").unlink()
  output = folder / "check"
  words = [
    f"--config.data.val_images={folder}/val_images",
    f"--config.data.val_masks={folder}/val_masks",
    f"--output={output}",
  ]
  assert _check(folder, *words) == 2
  assert capsys.readouterr().out.count("[unpaired_files]") == 1
  record = json.loads((output / "check.json").read_text())
  (finding,) = record["findings"]
  assert finding["splits"] == ["train", "eval"]
  assert finding["files"] == [
    str(folder / "images" / "2.png"),
    str(folder / "val_images" / "11.png"),
  ]

  (folder / "val.txt").write_text("0\nnobody\n1\nno one\n")
  (folder / "train.txt").write_text("3\n4\n5\n6\n")
  words = [
    f"--config.data.val_list={folder}/val.txt",
    f"--config.data.train_list={folder}/train.txt",
    f"--output={output}",
  ]
  assert _check(folder, *words) == 2
  record = json.loads((output / "check.json").read_text())
  (finding,) = record["findings"]
  assert finding["code"] == "list_names_no_pair"
  assert finding["files"] == [
    f"{folder}/val.txt: nobody",
    f"{folder}/val.txt: no one",
  ]
