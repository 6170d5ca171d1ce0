"""fcnjax check-data: what it prints, writes and returns."""

import json
import pathlib
import re
import sys

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


def test_a_terminal_has_a_bar_of_each_split(capsys, folder, monkeypatch):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  assert _check(folder) == 0
  said = capsys.readouterr()
  ends = re.findall(r"check-data: 100%[^\r]*?\| (\d+/\d+) \[", said.err)
  assert list(dict.fromkeys(ends)) == ["8/8", "4/4"]  # train, val
  assert "image/s" in said.err
  assert "check-data:" not in said.out


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
  assert "--output: " in capsys.readouterr().err
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
  said = capsys.readouterr().out
  assert ("[crop_larger_than_images]" in said) == told
  if told:  # The line to paste is one that puts it right.
    (line,) = re.findall(r"data\.transforms=\"(.*?)\"", said, re.DOTALL)
    assert line.count("'random_crop'") == 1
    words[0] = f"--config.data.transforms={line}"
    assert _check(folder, *words) == 0
    assert "[crop_larger_than_images]" not in capsys.readouterr().out


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
  assert finding["splits"] == ["train", "val"]
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
    f"{folder}/val.txt:2: nobody",
    f"{folder}/val.txt:4: no one",
  ]
  # Opening what is trained on reads both lists; the fault is val's.
  assert finding["splits"] == ["val"]
  assert f"data.val_list {folder}/val.txt, line 2," in finding["message"]
  (folder / "val.txt").write_text("0\n1\n")
  (folder / "train.txt").write_text("3\n4\n\n# one\nnobody\n5\n6\n")
  assert _check(folder, *words) == 2
  record = json.loads((output / "check.json").read_text())
  (finding,) = record["findings"]
  assert finding["splits"] == ["train"]
  assert f"data.train_list {folder}/train.txt, line 5," in finding["message"]


def _second_set(folder, count=3):
  """A further set: other pairs of 24×24, of the same two classes."""
  other = folder / "other"
  for kind in ("images", "masks"):
    (other / kind).mkdir(parents=True)
  for index in range(count):
    random = np.random.default_rng(100 + index)
    image = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    mask = (image[..., 0] > 127).astype(np.uint8)
    PIL.Image.fromarray(image).save(other / "images" / f"{index}.png")
    PIL.Image.fromarray(mask).save(other / "masks" / f"{index}.png")
  (other / "all.txt").write_text("\n".join(map(str, range(count))))
  words = {"images": f"{other}/images", "masks": f"{other}/masks",
           "train_list": f"{other}/all.txt", "val_list": ""}  # fmt: skip
  return other, words


def test_each_training_set_is_examined(capsys, folder):
  """Both sets have their own counts, files and faults."""
  other, words = _second_set(folder)
  mix = f"--config.data.mix=((1,{{}}),(3,{words}))"
  output = folder / "check"
  assert _check(folder, mix, f"--output={output}") == 0
  assert "Nothing looks wrong." in capsys.readouterr().out
  splits = json.loads((output / "check.json").read_text())["splits"]
  assert list(splits) == ["train, set 1", "train, set 2", "val"]
  assert splits["train, set 2"]["images"] == 3
  heights = splits["train, set 2"]["image_statistics"]["sizes"]["height"]
  assert heights == [24, 24, 24]
  counted = [
    np.bincount(np.asarray(PIL.Image.open(path)).ravel(), minlength=2)
    for path in (other / "masks").iterdir()
  ]
  assert [c["pixels"] for c in splits["train, set 2"]["classes"]] == np.sum(
    counted, axis=0
  ).tolist()

  # Damaged, unpaired, and of no class: each in its set, by its own file.
  broken = other / "images" / "1.png"
  broken.write_bytes(broken.read_bytes()[:-100])
  wrong = np.full((24, 24), 44, np.uint8)
  PIL.Image.fromarray(wrong).save(other / "masks" / "2.png")
  assert _check(folder, mix, f"--output={output}") == 2
  capsys.readouterr()
  record = json.loads((output / "check.json").read_text())
  found = {f["code"]: f for f in record["findings"]}
  assert found["truncated_image"]["splits"] == ["train, set 2"]
  assert found["truncated_image"]["files"] == [str(broken)]
  assert found["values_out_of_range"]["splits"] == ["train, set 2"]
  assert found["values_out_of_range"]["files"] == [str(other / "masks/2.png")]


def test_a_copy_of_what_is_evaluated_is_found_in_every_training_set(
  capsys, folder
):
  other, words = _second_set(folder)
  (folder / "val.txt").write_text("0\n1\n")
  copy = PIL.Image.open(folder / "images" / "1.png")
  copy.save(other / "images" / "1.png")
  PIL.Image.open(folder / "masks" / "1.png").save(other / "masks" / "1.png")
  lists = f"--config.data.val_list={folder}/val.txt"
  assert _check(folder, lists) == 0
  assert _check(folder, lists, f"--config.data.mix=((1,{{}}),(3,{words}))") == 2
  out = " ".join(capsys.readouterr().out.split())
  assert "Error (val): 1 of 2 images is trained on as well" in out


def test_what_is_trained_on_is_all_sets_together(capsys, folder):
  """A class, or images enough, of one set are there for the mixture."""
  _, words = _second_set(folder, count=20)
  for index in range(2, 12):
    PIL.Image.fromarray(np.zeros((40, 40), np.uint8)).save(
      folder / "masks" / f"{index}.png"
    )
  (folder / "val.txt").write_text("0\n1\n")
  alone = [f"--config.data.val_list={folder}/val.txt", "--config.batch_size=16"]
  assert _check(folder, *alone) == 0
  out = capsys.readouterr().out
  assert "[classes_only_in_validation]" in out
  assert "[batch_larger_than_set]" in out
  assert (
    _check(folder, *alone, f"--config.data.mix=((1,{{}}),(3,{words}))") == 0
  )
  out = capsys.readouterr().out
  assert "[classes_only_in_validation]" not in out
  assert "[batch_larger_than_set]" not in out


def test_a_set_of_other_classes_is_told_with_the_rest(capsys, folder):
  _, words = _second_set(folder)
  mix = (
    f"((1,{{}}),(1,{{'images':'nowhere'}}),(3,{words | {'num_classes': 3}}))"
  )
  assert _check(folder, f"--config.data.mix={mix}") == 2
  out = " ".join(capsys.readouterr().out.split())
  assert "Error (train, set 2): " in out
  assert "'nowhere', which is no folder" in out
  assert "Error (train, set 3): data.mix: data set 3 has the classes" in out
  assert "train, set 1: 8 images" in out


def test_a_transform_that_lacks_a_word_is_one_line(capsys, folder):
  words = "--config.data.transforms=(('random_crop',{}),)"
  assert _check(folder, words) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "random_crop: size is missing" in line


@pytest.mark.parametrize("name", ["index.html", "check.json"])
@pytest.mark.parametrize(
  "content",
  [
    b"mine",
    b"",
    b"<!doctype html><title>mine</title>",
    b'{"schema": 1}',
    b"[1]",
    b"\xff\xfe",
  ],
)
def test_what_it_did_not_write_is_never_replaced(capsys, folder, name, content):
  output = folder / "page"
  output.mkdir()
  (output / name).write_bytes(content)
  assert _check(folder, f"--output={output}") == 2
  said = capsys.readouterr()
  (line,) = said.err.splitlines()
  assert f"{output / name} exists and was not written by check-data" in line
  assert said.out == ""  # before anything is looked at
  assert [p.name for p in output.iterdir()] == [name]
  assert (output / name).read_bytes() == content


def test_its_own_files_are_replaced_whole(capsys, folder, monkeypatch):
  output = folder / "page"
  assert _check(folder, f"--output={output}") == 0
  assert _check(folder, f"--output={output}", "--config.batch_size=32") == 0
  page, record = (output / "index.html"), (output / "check.json")
  assert "batch_larger_than_set" in page.read_text()
  assert json.loads(record.read_text())["summary"]["warnings"] == 1
  assert {p.name for p in output.iterdir()} == {"index.html", "check.json"}

  # A full disk leaves what was there.
  before = page.read_bytes(), record.read_bytes()

  def full(path, content, **_):
    path.write_bytes(content[:9].encode())
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_text", full)
  assert _check(folder, f"--output={output}") == 2
  assert "No space left on device" in capsys.readouterr().err
  assert (page.read_bytes(), record.read_bytes()) == before
  assert {p.name for p in output.iterdir()} == {"index.html", "check.json"}


def test_one_image_that_looks_like_another_is_one(capsys, folder):
  (folder / "val.txt").write_text("0\n1\n")
  grey = np.asarray(PIL.Image.open(folder / "images" / "5.png")).copy()
  grey[0, 0] ^= 1  # Neither a copy of the file nor of its mask.
  PIL.Image.fromarray(grey).save(folder / "images" / "1.png")
  assert _check(folder, f"--config.data.val_list={folder}/val.txt") == 0
  out = " ".join(capsys.readouterr().out.split())
  assert "1 image looks nearly like one that is trained on" in out
