"""The user's mistakes: one line naming file and remedy, code 2, no change."""

import hashlib
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from fcnjax import locks
from fcnjax.cli import main, workdir as workdirs
from fcnjax.data import sources
from fcnjax.data.checking import checks

CONFIG = "configs/unet.py:folder"


def _write(path: pathlib.Path, array) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
  """Twelve good pairs of 40×40 with two classes."""
  random = np.random.default_rng(0)
  for index in range(12):
    image = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    mask = (image[..., 0] > 127).astype(np.uint8)
    _write(tmp_path / "images" / f"{index}.png", image)
    _write(tmp_path / "masks" / f"{index}.png", mask)
  return tmp_path


def _arguments(folder, *more):
  return [
    f"--config.data.images={folder}/images",
    f"--config.data.masks={folder}/masks",
    "--config.data.num_classes=2",
    *more,
  ]


def _snapshot(root):
  return {
    path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in root.rglob("*")
    if path.is_file() and path.name != locks.NAME
  }


def test_what_masks_become_is_told_before_anything_else(capsys, folder):
  for index in range(12):
    path = folder / "masks" / f"{index}.png"
    mask = np.asarray(PIL.Image.open(path)) * 254
    mask[0, :3] = 255
    _write(path, mask)
  words = (f"--config={CONFIG}", f"--workdir={folder}/run")
  names = "--config.data.class_names=('cell','gap')"
  values = "--config.data.mask_values=(0,254)"
  # Found when the data have been looked at, so that nothing is trained.
  wrong = "--config.accumulate=7"
  arguments = _arguments(folder, names, values, wrong)
  assert main.main(["train", *words, *arguments]) == 2
  said = capsys.readouterr()
  assert "accumulate" in said.err
  assert said.out.splitlines()[0] == "masks: 0→0, 254→1; 255 ignored"


def _fails(capsys, folder, *words, more=(), workdir=None, config=CONFIG):
  """Runs train; expects one line with all words, code 2, and no change."""
  before = _snapshot(folder)
  workdir = workdir or folder / "run"
  code = main.main(
    [
      "train",
      f"--config={config}",
      f"--workdir={workdir}",
      *_arguments(folder, *more),
    ]
  )
  error = capsys.readouterr().err
  assert code == 2, error
  lines = [line for line in error.splitlines() if line]
  assert len(lines) == 1, error
  for word in words:
    assert word in lines[0], error
  assert _snapshot(folder) == before


def test_missing_folder(capsys, folder):
  _fails(capsys, folder, "nowhere", more=["--config.data.images=nowhere"])


def test_unpaired_files(capsys, folder):
  (folder / "masks" / "3.png").unlink()
  (folder / "images" / "7.png").unlink()
  _fails(capsys, folder, "3", "7")


def test_values_out_of_range(capsys, folder):
  _write(folder / "masks" / "5.png", np.full((40, 40), 33, np.uint8))
  _fails(capsys, folder, "33", "5.png", "num_classes")


def test_masks_of_0_and_255(capsys, folder):
  for path in (folder / "masks").iterdir():
    _write(path, np.array(PIL.Image.open(path)) * 255)
  _fails(
    capsys, folder, "255", "mask_values", more=["--config.data.ignore=254"]
  )
  # By default 255 is ignored, and only one class is left.
  _fails(capsys, folder, "255", "data.mask_values=0,255")


def test_rgb_mask_with_an_unknown_colour(capsys, folder):
  mask = np.zeros((40, 40, 3), np.uint8)
  mask[3:5, 2] = (1, 2, 3)
  _write(folder / "masks" / "2.png", mask)
  _fails(
    capsys,
    folder,
    "2.png",
    "1, 2, 3",
    more=["--config.data.colors=((0,0,0),(255,0,0))"],
  )


def test_mask_of_another_size(capsys, folder):
  _write(folder / "masks" / "9.png", np.zeros((40, 41), np.uint8))
  _fails(capsys, folder, "9.png", "41")


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_truncated_png(capsys, folder, kind):
  path = folder / kind / "4.png"
  path.write_bytes(path.read_bytes()[:100])
  _fails(capsys, folder, "4.png")


def test_text_named_jpg(capsys, folder):
  (folder / "images" / "6.png").unlink()
  (folder / "images" / "6.jpg").write_text("this is no picture")
  _fails(capsys, folder, "6.jpg")


def test_all_ignored_masks(capsys, folder):
  for path in (folder / "masks").iterdir():
    _write(path, np.full((40, 40), 255, np.uint8))
  _fails(capsys, folder, "ignore")


def test_unknown_config_key(capsys, folder):
  _fails(capsys, folder, "data.images", more=["--config.data.imagse=x"])


def test_unknown_variant(capsys, folder):
  _fails(capsys, folder, "camvid_small", config="configs/unet.py:camvidsmall")


def test_unknown_model_and_option(capsys, folder):
  _fails(capsys, folder, "unet_same", more=["--config.model.name=unet_sam"])
  _fails(capsys, folder, "widht", more=["--config.model.options.widht=3"])


@pytest.mark.parametrize(
  ("word", "message"),
  [
    ("loss.class_weights=median", "median_frequency"),
    ("loss.class_weights=1,2,3", "3 numbers for 2 classes"),
    ("data.transforms=(('flop',{}),)", "flip"),
    ("optimizer.schedule=polynomial", "poly"),
    ("optimizer.groups=(('decoder',2.0),)", "matches no parameter"),
    ("evaluation.strategy=tiles", "overlap_tile"),
    ("precision=float8", "bfloat16"),
    ("init_from=nowhere", "--config.init_from: no run in nowhere"),
    ("data.source=foldre", "folder"),
    ("loss.normalization=mean", "weights, pixels, sum"),
    ("eval_every=0", "at least 1"),
    ("steps=-3", "at least 1"),
    ("watchdog_seconds=-1", "at least 0"),
    ("accumulate=3", "do not divide"),
    ("optimizer.groups=('bias$',2.0,0.0)", "(('bias$', 2.0, 0.0),)"),
    ("data.transforms=('flip',{})", "(('flip', {}),)"),
    ("data.mixing=('mosaic',{})", "(('mosaic', {}),)"),
    ("data.colors=(0,0,0)", "((0, 0, 0), (128, 64, 128))"),
    ("init_drop=('(',)", "no run in"),
    ("statistics_batches=3", "statistics_batches=0"),
    ("evaluation.overlap=1.5", "overlap"),
    ("evaluation.scales=()", "scales"),
    ("evaluation.scales=(1.0, -0.5)", "scales"),
    ("evaluation.scales=('a',)", "(0.75, 1.0, 1.25)"),
    ("data.label_margin=3", "set it to 0"),
    ("data.image_size=256", "(height, width)"),
    ("evaluation.tile=388", "(height, width)"),
    ("evaluation.window=(256,0)", "(height, width)"),
    ("data.transforms=(('random_crop',{'size':256}),)", "(height, width)"),
    ("data.transforms=(('jitter',{'pixels':'x'}),)", "jitter"),
    ("model.options.depth=deep", "model: "),
    ("model.options.width=2.5", "expected int"),
    ("loss.sampling=0.0", "(0, 1]"),
    ("loss.balance=halves", "weight, sample"),
    ("loss.balance=sample", "needs loss.class_weights"),
    ("evaluation.samples=1", "at least 2, got 1"),
    ("evaluation.samples=3", "has no dropout"),
    ("evaluation.exclude=('moon',)", "'moon' is none of the classes"),
    ("init_widen=('(',)", "no run in"),
    ("loss.class_weights=1,2", "set one of them"),
    ("data={}", "a section of words"),
    ("model.options.a.b=1", "no such word"),
  ],
)
def test_words_that_are_unknown_or_do_not_fit(capsys, folder, word, message):
  more = {
    "init_drop": ["--config.init_from=nowhere"],
    "loss.class_weights=1,2": ["--config.loss.separation=10.0"],
    "init_widen": ["--config.init_from=nowhere"],
    "evaluation.samples": ["--config.model.options.dropout=0.0"],
    "statistics_batches": ["--config.model.options.norm=none"],
    "evaluation.overlap": [
      "--config.evaluation.strategy=sliding_window",
      "--config.evaluation.window=(32,32)",
    ],
  }
  more = more.get(word) or more.get(word.partition("=")[0], [])
  _fails(capsys, folder, message, more=[*more, f"--config.{word}"])


@pytest.mark.parametrize(
  ("word", "message"),
  [
    ("optimizer.schedule=never", "optimizer.schedule"),
    ("loss.normalization=none", "loss.normalization"),
    ("remat=all", "remat"),
    ("evaluation.strategy=parts", "evaluation.strategy"),
    ("workdir", "holds files but no run"),
  ],
)
def test_masks_are_not_read_before_the_config_is_right(
  capsys, folder, monkeypatch, word, message
):
  """Of large data that takes long."""

  def read(*args, **kwargs):
    raise AssertionError("masks were read")

  monkeypatch.setattr(checks, "check", read)
  monkeypatch.setattr(sources.Files, "raw_label", read)
  if word == "workdir":
    _fails(capsys, folder, message, workdir=folder / "images")
  else:
    _fails(capsys, folder, message, more=[f"--config.{word}"])


def test_a_network_of_valid_convolutions_needs_tiles_and_a_margin(
  capsys, folder
):
  valid = [
    "--config.model.name=unet",
    "--config.model.options.width=2",
    "--config.data.transforms=(('random_crop',{'size':(204,204)}),)",
  ]
  _fails(capsys, folder, "loses 92 pixels", "set it to 92", more=valid)
  valid += ["--config.data.label_margin=92"]
  _fails(capsys, folder, "strategy=whole", more=valid)


def test_unwritable_workdir(capsys, folder):
  (folder / "file").write_text("x")
  _fails(capsys, folder, "is a file", workdir=folder / "file" / "run")


def test_workdir_that_holds_something_else(capsys, folder):
  _fails(capsys, folder, "no run", workdir=folder / "images")


def test_workdir_with_a_foreign_config(capsys, folder):
  run = folder / "run"
  run.mkdir()
  (run / "config.json").write_text('{"name": "something else"}')
  _fails(capsys, folder, "is not a run's", workdir=run)


def test_a_workdir_that_another_process_trains_in(capsys, folder):
  run = folder / "run"
  run.mkdir()
  with workdirs.locked(run):
    _fails(capsys, folder, "another process is training", workdir=run)
  assert not (run / "config.json").exists()


def test_evaluating_a_run_that_cannot_be_written(capsys, folder, monkeypatch):
  run = folder / "run"
  run.mkdir()
  record = {
    "model": {"name": "unet_same", "options": {}},
    "resolved": {"classes": ["a", "b"], "colors": [[0, 0, 0], [1, 1, 1]]},
  }
  (run / "config.json").write_text(json.dumps(record))

  def denied(*args, **kwargs):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(pathlib.Path, "touch", denied)
  assert main.main(["evaluate", f"--workdir={run}"]) == 2
  assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("config.eval_evry = 100", "line 4: AttributeError"),
    ("config.eval_evry = 100", 'Did you mean "eval_every"'),
    ("config.data.workers = many", "line 4: NameError"),
    ("config.steps = 'ten'", "line 4: TypeError"),
    ("import nothing_of_this_name", "line 4: ModuleNotFoundError"),
  ],
)
def test_a_config_file_that_is_wrong(capsys, tmp_path, text, message):
  """Copied and changed, as configs/README.md proposes."""
  path = tmp_path / "mine.py"
  path.write_text(
    "from fcnjax.cli import defaults\ndef get_config(variant):\n"
    f"  config = defaults.get_config()\n  {text}\n  return config\n"
  )
  assert main.main(["check-data", f"--config={path}"]) == 2
  error = capsys.readouterr().err
  assert message in error
  assert len(error.splitlines()) == 1
  assert len(error) < 400


def test_workdir_of_another_network(capsys, folder):
  run = folder / "run"
  run.mkdir()
  config = {
    "model": {"name": "segnet_basic", "options": {}},
    "resolved": {"classes": ["a", "b"], "colors": [[0, 0, 0], [1, 1, 1]]},
  }
  (run / "config.json").write_text(json.dumps(config))
  _fails(capsys, folder, "another network", "segnet_basic", workdir=run)


def test_a_batch_that_does_not_divide(capsys, folder):
  _fails(
    capsys,
    folder,
    "batch_size",
    more=["--config.batch_size=3", "--config.mesh.data=8"],
  )


def test_rows_that_do_not_divide_over_the_devices(capsys, folder):
  words = ["--config.mesh.space=8", "--config.mesh.data=1"]
  words += ["--config.model.options.depth=2", "--config.data.transforms=()"]
  _fails(capsys, folder, "40", "32 or 64 rows", more=words)


def test_evaluate_and_predict_without_a_run(capsys, tmp_path):
  for command in (
    ["evaluate", f"--workdir={tmp_path}"],
    ["predict", f"--workdir={tmp_path}", "x.png", f"--output={tmp_path}/out"],
  ):
    assert main.main(command) == 2
    error = capsys.readouterr().err
    assert "no run" in error
    assert len(error.splitlines()) == 1


def test_check_data_prints_and_exits(capsys, folder):
  code = main.main(["check-data", f"--config={CONFIG}", *_arguments(folder)])
  out = capsys.readouterr()
  assert code == 0, out.err
  for line in out.out.splitlines():  # A path may be longer by itself.
    assert len(line) <= 80 or len(line.split()) <= 2, line
  _write(folder / "masks" / "5.png", np.full((40, 40), 33, np.uint8))
  assert (
    main.main(["check-data", f"--config={CONFIG}", *_arguments(folder)]) == 2
  )


def test_a_data_set_that_is_missing_says_where_it_comes_from(capsys):
  for config in ("configs/unet.py:camvid", "configs/fcn.py:voc2011"):
    code = main.main(["train", f"--config={config}", "--workdir=/tmp/never"])
    error = capsys.readouterr().err
    assert code == 2
    assert "--config.data." in error
    assert not pathlib.Path("/tmp/never").exists()
