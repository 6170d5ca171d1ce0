"""A run on one mesh, and on another, from the same command."""

import json

import numpy as np
import pytest

from fcnjax.cli import main


def _train(path, *words):
  return main.main(
    [
      "train",
      "--config=configs/unet.py",
      f"--workdir={path}",
      "--config.model.options.width=2",
      "--config.model.options.depth=2",
      "--config.model.options.norm=batch",
      "--config.optimizer.name=adamw",
      "--config.optimizer.schedule=constant",  # The runs have other ends.
      "--config.ema_decay=0.5",
      "--config.batch_size=4",
      "--config.log_every=1",
      "--config.eval_every=2",
      "--config.data.resident=on",
      "--config.data.transforms=(('random_crop',{'size':(32,32)}),)",
      "--config.data.image_size=(32,32)",
      "--config.evaluation.overlays=0",
      *words,
    ]
  )


def _records(path, split):
  lines = (path / "metrics.jsonl").read_text().splitlines()
  return [r for r in map(json.loads, lines) if r["split"] == split]


def test_a_run_goes_on_on_another_mesh(tmp_path, capsys):
  """The same losses and scores; checkpoints of parts go on as a whole."""
  eight = (
    "--config.mesh.data=2",
    "--config.mesh.space=4",
    "--config.mesh.shard_parameters=True",
  )
  one = ("--config.mesh.data=1",)
  assert _train(tmp_path / "a", *one, "--config.steps=4") == 0
  assert _train(tmp_path / "b", *eight, "--config.steps=2") == 0
  assert _train(tmp_path / "b", *one, "--config.steps=4") == 0
  losses, others = (
    [r["loss"] for r in _records(tmp_path / name, "train")] for name in "ab"
  )
  assert len(losses) == 4
  np.testing.assert_allclose(others, losses, rtol=1e-5)
  scores, others = (_records(tmp_path / name, "val") for name in "ab")
  assert [r["step"] for r in scores] == [2, 4]
  for ours, theirs in zip(scores, others, strict=True):
    assert ours["pixel_accuracy"] == pytest.approx(
      theirs["pixel_accuracy"], abs=1e-3
    )
  assert "resuming" in capsys.readouterr().out


def test_rows_that_do_not_divide(tmp_path, capsys):
  words = ("--config.mesh.space=8", "--config.mesh.data=1")
  assert _train(tmp_path / "x", *words, "--config.data.image_size=(36,36)",
    "--config.data.transforms=()") == 2  # fmt: skip
  error = capsys.readouterr().err
  assert "the nearest that do have 32 or 64 rows" in error
  assert not (tmp_path / "x").exists()
