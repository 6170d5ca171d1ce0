"""Short trainings on the real images, through the commands."""

import json

import numpy as np
import PIL.Image
import pytest

from fcnjax.cli import main


def _records(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_unet_learns_camvid_at_a_tiny_size(real_data, tmp_path):
  """In 150 steps it beats what a single class can reach, 0.025, by far."""
  code = main.main(
    [
      "train",
      "--config=configs/unet.py:camvid_small",
      f"--config.data.root={real_data / 'camvid'}",
      f"--workdir={tmp_path}",
      "--config.data.image_size=(90,120)",
      "--config.data.transforms=(('random_crop',{'size':(64,96)}),('flip',{}))",
      "--config.model.options.width=8",
      "--config.model.options.depth=3",
      "--config.steps=150",
      "--config.eval_every=150",
      "--config.checkpoint_every=150",
      "--config.batch_size=4",
      "--config.optimizer.learning_rate=0.003",
      "--config.loss.class_weights=none",
    ]
  )
  assert code == 0
  scores = json.loads((tmp_path / "evaluation.json").read_text())
  assert scores["split"] == "test"
  assert scores["images"] == 233
  # Scored at the labels' own 360 × 480, though the network saw 90 × 120.
  pixels = np.sum(scores["confusion_matrix"])
  assert 0.9 * 233 * 360 * 480 < pixels < 233 * 360 * 480
  assert scores["mean_iou"] > 0.1


@pytest.mark.slow
def test_valid_unet_with_separation_weights_and_overlap_tile(
  real_data, tmp_path, capsys
):
  code = main.main(
    [
      "train",
      "--config=configs/unet.py:isbi2012_small",
      f"--config.data.root={real_data / 'isbi2012'}",
      f"--workdir={tmp_path}/run",
      "--config.model.options.width=2",
      "--config.loss.separation=10.0",
      "--config.steps=3",
      "--config.log_every=1",
    ]
  )
  assert code == 0, capsys.readouterr().err
  records = _records(tmp_path / "run")
  assert [r["split"] for r in records] == ["train"] * 3 + ["val"]
  assert list((tmp_path / "run" / "cache" / "weights").iterdir())
  # Slices without labels, larger than a tile, are predicted whole.
  image = real_data / "isbi2012" / "test" / "image" / "0.png"
  code = main.main(
    [
      "predict",
      f"--workdir={tmp_path}/run",
      str(image),
      f"--output={tmp_path}/out",
    ]
  )
  assert code == 0, capsys.readouterr().err
  with PIL.Image.open(tmp_path / "out" / "0.png") as mask:
    assert mask.size == (512, 512)
