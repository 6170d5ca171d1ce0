"""A step that is not finite ends the run, is left out, or is gone back from."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from fcnjax import checkpoints
from fcnjax.cli import main, non_finite
from fcnjax.data import scenes
from fcnjax.training import sharding, step as steps

SPOILT = 5  # the step whose images are not numbers


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Trains a tiny network for eight steps; returns the exit code."""
  source = scenes.Scenes("train", size=(32, 32), count=8)
  for kind, key in (("images", "image"), ("masks", "label")):
    (tmp_path / kind).mkdir()
    for index in range(len(source)):
      picture = PIL.Image.fromarray(source[index][key])
      picture.save(tmp_path / kind / f"{index}.png")
  train_step = steps.train_step

  def spoilt_step(state, batch, **words):
    # At a lower learning rate nothing is wrong.
    spoils = (state.step == SPOILT - 1) & (state.scale == 1)
    image = jnp.where(spoils, jnp.nan, batch["image"])
    return train_step(state, {**batch, "image": image}, **words)

  monkeypatch.setattr(steps, "train_step", spoilt_step)

  def start(*words):
    return main.main(
      [
        "train",
        "--config=configs/unet.py:folder",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.images={tmp_path}/images",
        f"--config.data.masks={tmp_path}/masks",
        f"--config.data.num_classes={len(source.classes)}",
        "--config.data.transforms=(('random_crop',{'size':(16,16)}),)",
        "--config.data.val_fraction=0.25",
        "--config.model.options.width=2",
        "--config.model.options.depth=1",
        "--config.evaluation.overlays=0",
        "--config.steps=8",
        "--config.batch_size=2",
        "--config.log_every=1",
        "--config.eval_every=8",
        "--config.checkpoint_every=2",
        *words,
      ]
    )

  return start


def _lines(folder):
  lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return {r["step"]: r["loss"] for r in records if r["split"] == "train"}


def _saved(folder):
  saved = checkpoints.Checkpoints(folder / "run" / "checkpoints", writing=False)
  saved.close()
  return saved.steps


def test_stop_names_the_files_and_keeps_the_batch(run, tmp_path, capsys):
  assert run() == 1
  (line,) = [x for x in capsys.readouterr().err.splitlines() if "nan" in x]
  assert "at step 5" in line
  assert _saved(tmp_path) == [2, 4]
  assert max(_lines(tmp_path)) == 4
  (file,) = (tmp_path / "run" / "nonfinite").iterdir()
  assert file.name == "step_5.npz"
  assert str(file) in line
  batch = np.load(file)
  assert batch["image"].shape == (2, 16, 16, 3)
  assert batch["label"].shape == (2, 16, 16)
  assert len(batch["names"]) == 2
  for name in batch["names"]:
    assert str(name) in line


def test_skip_counts_and_changes_nothing(run, tmp_path, capsys):
  assert run("--config.nan_policy=skip") == 0
  assert "at step 5" in capsys.readouterr().err
  losses = _lines(tmp_path)
  assert losses[5] is None
  assert all(losses[step] is not None for step in (1, 2, 3, 4, 6, 7, 8))
  lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  counts = [json.loads(line).get("skipped_steps") for line in lines]
  assert counts == [0, 0, 0, 0, 1, 1, 1, 1, None]


def test_restore_goes_on_at_half_the_rate(run, tmp_path, capsys):
  assert run("--config.nan_policy=restore") == 0
  assert "back at step 4" in capsys.readouterr().err
  losses = _lines(tmp_path)
  assert list(losses) == [1, 2, 3, 4, 5, 6, 7, 8]
  assert None not in losses.values()
  saved = checkpoints.Checkpoints(
    tmp_path / "run" / "checkpoints", writing=False
  )
  assert saved.latest == 8
  saved.close()


def test_a_policy_must_be_known(run, capsys):
  assert run("--config.nan_policy=hope") == 2
  assert "stop, skip, restore" in capsys.readouterr().err


def test_examples_are_put_together_of_their_parts():
  """Of the devices of one process of several."""
  mesh = sharding.create_mesh(data=4, space=2, batch_size=4)
  batch = {
    "image": np.arange(4 * 6 * 2 * 3).reshape(4, 6, 2, 3),
    "weight": np.arange(4.0),
  }
  for name, array in batch.items():
    place = (
      sharding.by_row(mesh) if array.ndim > 1 else sharding.by_example(mesh)
    )
    shards = jax.device_put(array, place).addressable_shards
    # In any order, and those of the last two examples.
    own = [s for s in reversed(shards) if (s.index[0].start or 0) >= 2]
    joined = non_finite._joined(own)
    np.testing.assert_array_equal(joined, array[2:], err_msg=name)
