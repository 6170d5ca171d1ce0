"""A run from its config to its masks, in one process."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest

from fcnjax.cli import batches, build, main, open_data, workdir
from fcnjax.data import scenes
from fcnjax.training import sharding


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A tiny run on one's own folder of images and masks of two sizes."""
  root = tmp_path_factory.mktemp("own")
  for kind in ("images", "masks"):
    (root / kind).mkdir()
  for index in range(16):
    source = scenes.Scenes("train", size=(64, 64 + 16 * (index % 2)), count=16)
    example = source[index]
    PIL.Image.fromarray(example["image"]).save(root / "images" / f"{index}.png")
    PIL.Image.fromarray(example["label"]).save(root / "masks" / f"{index}.png")
  arguments = [
    "train",
    "--config=configs/unet.py:folder",
    f"--workdir={root}/run",
    f"--config.data.images={root}/images",
    f"--config.data.masks={root}/masks",
    f"--config.data.num_classes={len(scenes.CLASSES)}",
    "--config.steps=4",
    "--config.log_every=1",
    "--config.eval_every=2",
    "--config.checkpoint_every=1",
    "--config.data.transforms=(('random_crop',{'size':(64,64)}),('flip',{}))",
    "--config.model.options.width=2",
    "--config.model.options.depth=2",
  ]
  assert main.main(arguments) == 0
  return root, arguments


def _records(root):
  lines = (root / "run" / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_the_workdir_holds_what_is_promised(run):
  root, _ = run
  path = root / "run"
  records = _records(root)
  assert [(r["step"], r["split"]) for r in records] == [
    (1, "train"),
    (2, "train"),
    (2, "val"),
    (3, "train"),
    (4, "train"),
    (4, "val"),
  ]
  assert {"loss", "images_per_second", "data_wait"} <= set(records[0])
  assert {
    "mean_iou",
    "pixel_accuracy",
    "mean_accuracy",
    "frequency_weighted_iou",
  } <= set(records[2])
  config = json.loads((path / "config.json").read_text())
  assert config["model"]["name"] == "unet_same"
  assert len(config["resolved"]["classes"]) == len(scenes.CLASSES)
  assert config["resolved"]["batches"] == "tf.data"
  assert (path / "report" / "index.html").stat().st_size > 1000
  assert list(path.glob("events.out.tfevents.*"))
  assert list((path / "overlays").glob("*.png"))
  assert (path / "checkpoints").is_dir()
  evaluation = json.loads((path / "evaluation.json").read_text())
  assert 0 <= evaluation["pixel_accuracy"] <= 1
  assert evaluation["boundary_f1"] is None  # The scenes' outlines are ignored.
  assert evaluation["split"] == "val"


def test_running_a_finished_run_again_changes_nothing(run, capsys):
  root, arguments = run
  before = _records(root), (root / "run" / "config.json").read_bytes()
  more = [*arguments, "--config.optimizer.learning_rate=0.5"]
  assert main.main(more) == 0
  assert "is finished: step 4 of 4" in capsys.readouterr().out
  after = _records(root), (root / "run" / "config.json").read_bytes()
  assert after == before


def test_scores_of_another_checkpoint_do_not_count_as_finished(run, capsys):
  root, arguments = run
  path = root / "run" / "evaluation.json"
  before = path.read_text()
  path.write_text(json.dumps(json.loads(before) | {"step": 1}))
  assert main.main(arguments) == 0
  assert "is finished" not in capsys.readouterr().out
  assert json.loads(path.read_text()) == json.loads(before)


def test_evaluate(run, capsys):
  root, _ = run
  assert main.main(["evaluate", f"--workdir={root}/run"]) == 0
  out = capsys.readouterr().out
  assert "mean IoU" in out
  assert max(map(len, out.splitlines())) <= 80
  evaluation = json.loads((root / "run" / "evaluation.json").read_text())
  assert evaluation["boundary_f1"] is None


def test_predict_any_size_and_mode(run, capsys):
  root, _ = run
  inputs = root / "new"
  inputs.mkdir()
  random = np.random.default_rng(0)
  colour = random.integers(0, 256, (33, 57, 3), dtype=np.uint8)
  PIL.Image.fromarray(colour).save(inputs / "rgb.jpg")
  PIL.Image.fromarray(colour[..., 0]).save(inputs / "grey.png")
  PIL.Image.fromarray(colour).quantize(8).save(inputs / "palette.png")
  deep = random.integers(0, 65536, (20, 21)).astype(np.uint16)
  PIL.Image.fromarray(deep).save(inputs / "deep.png")
  code = main.main(
    [
      "predict",
      f"--workdir={root}/run",
      str(inputs),
      f"--output={root}/out",
      "--probabilities",
    ]
  )
  assert code == 0, capsys.readouterr().err
  for name, size in (
    ("rgb", (57, 33)),
    ("grey", (57, 33)),
    ("palette", (57, 33)),
    ("deep", (21, 20)),
  ):
    mask = PIL.Image.open(root / "out" / f"{name}.png")
    assert mask.mode == "P"
    assert mask.size == size
    assert np.asarray(mask).max() < len(scenes.CLASSES)
    assert (root / "out" / "overlays" / f"{name}.png").is_file()
    with np.load(root / "out" / "probabilities" / f"{name}.npz") as stored:
      shares = stored["probabilities"].astype(np.float32)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-2)


def test_predict_by_sliding_window(run, capsys):
  root, _ = run
  source = root / "images" / "0.png"
  code = main.main(
    [
      "predict",
      f"--workdir={root}/run",
      str(source),
      f"--output={root}/slid",
      "--config.evaluation.strategy=sliding_window",
      "--config.evaluation.window=(32,32)",
    ]
  )
  assert code == 0, capsys.readouterr().err
  assert (root / "slid" / "0.png").is_file()


def test_several_views_and_a_run_older_than_a_word(run, capsys, tmp_path):
  root, _ = run
  shutil.copytree(root / "run", tmp_path / "run")
  file = tmp_path / "run" / "config.json"
  record = json.loads(file.read_text())
  del record["evaluation"]["flip"], record["evaluation"]["scales"]
  file.write_text(json.dumps(record))
  source = str(root / "images" / "0.png")

  def shares(*more):
    code = main.main(
      [
        "predict",
        f"--workdir={tmp_path}/run",
        source,
        f"--output={tmp_path}/out",
        "--probabilities",
        *more,
      ]
    )
    assert code == 0, capsys.readouterr().err
    with np.load(tmp_path / "out" / "probabilities" / "0.npz") as stored:
      return stored["probabilities"].astype(np.float32)

  once = shares()
  both = shares(
    "--config.evaluation.flip=True", "--config.evaluation.scales=(1.0,1.5)"
  )
  assert np.abs(once - both).max() > 1e-3
  np.testing.assert_allclose(both.sum(-1), 1, atol=1e-2)


def test_another_network_in_the_same_workdir_is_refused(run, capsys):
  root, arguments = run
  before = (root / "run" / "config.json").read_bytes()
  code = main.main([*arguments, "--config.model.options.width=3"])
  assert code == 2
  assert "another network" in capsys.readouterr().err
  assert (root / "run" / "config.json").read_bytes() == before


def test_a_change_that_the_checkpoint_does_not_fit_changes_nothing(run, capsys):
  root, arguments = run
  before = (root / "run" / "config.json").read_bytes()
  more = ["--config.ema_decay=0.9", "--config.steps=5"]
  assert main.main([*arguments, *more]) == 2
  error = capsys.readouterr().err
  assert "another network or optimizer" in error
  assert len(error.strip().splitlines()) == 1
  assert (root / "run" / "config.json").read_bytes() == before


def test_a_checkpoint_that_is_not_there(run, capsys):
  root, _ = run
  for which in ("99", "newest"):
    code = main.main(
      ["evaluate", f"--workdir={root}/run", f"--checkpoint={which}"]
    )
    assert code == 2
    assert f"--checkpoint={which}" in capsys.readouterr().err


def test_statistics_of_batch_norm_replace_the_running_averages(run):
  """SegNet's way, through the command, resumed or not."""
  root, arguments = run
  segnet = [a for a in arguments if "options" not in a and "config=" not in a]
  segnet = [a for a in segnet if not a.startswith("--workdir")]
  segnet += ["--config=configs/segnet.py:folder", f"--workdir={root}/segnet"]
  segnet += ["--config.model.options.width=2", "--config.model.options.depth=2"]
  segnet += ["--config.model.options.kernel=3", "--config.statistics_batches=1"]
  segnet += ["--config.checkpoint_every=2"]
  assert main.main(segnet) == 0
  # With the statistics of its only batch, a network gives the same in training
  # and in evaluation: at each step that was evaluated.
  config, classes, _ = workdir.read(root / "segnet")
  model = build.model(config, num_classes=len(classes))
  train = open_data.source(config, "train")
  mesh = sharding.create_mesh(batch_size=config.batch_size)
  made = batches.create(config, train, mesh, path="tf.data")
  batch = {k: np.asarray(v) for k, v in next(made.start(0)).items()}
  for step in ("2", "4"):
    variables, _ = workdir.restore(root / "segnet", config, step)
    evaluated = model.apply(variables, batch["image"])["logits"]
    trained, _ = model.apply(
      variables, batch["image"], train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(
      evaluated, trained["logits"], rtol=1e-3, atol=1e-4
    )


def test_init_from_names_what_it_drops(run, capsys):
  root, arguments = run
  other = [a for a in arguments if not a.startswith("--workdir")]
  other += [f"--workdir={root}/other", f"--config.init_from={root}/run"]
  other += ["--config.steps=1", "--config.data.num_classes=12"]
  assert main.main(other) == 2
  assert "score" in capsys.readouterr().err
  code = main.main([*other, "--config.init_drop=('score',)"])
  captured = capsys.readouterr()
  assert code == 0, captured.err
  assert "params/score/kernel: stays fresh" in captured.out


def test_a_loss_that_is_not_finite_ends_the_run(run, capsys):
  root, arguments = run
  broken = [a for a in arguments if not a.startswith("--workdir")]
  broken += [f"--workdir={root}/broken", "--config.checkpoint_every=1"]
  broken += ["--config.optimizer.learning_rate=1e12", "--config.steps=9"]
  broken += ["--config.optimizer.name=sgd", "--config.optimizer.warmup=0"]
  assert main.main(broken) == 1
  line = capsys.readouterr().err.splitlines()[-1]
  assert "at step" in line
  assert "batch: " in line
  step = int(line.split("at step ")[1].split()[0])
  saved = [int(p.name) for p in (root / "broken" / "checkpoints").iterdir()]
  assert max(saved, default=0) == step - 1
