"""metrics.jsonl and TensorBoard's events: what is written, kept and dropped."""

import io
import json

import numpy as np
import PIL.Image
from tensorflow.python.summary import summary_iterator

from fcnjax.training import writers


def test_resuming_drops_what_lies_after_the_checkpoint(tmp_path):
  path = tmp_path / "metrics.jsonl"
  lines = [{"step": s, "split": "train", "loss": 0.0} for s in (1, 2, 3, 4)]
  path.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 5, "spl')
  writers.keep_until(path, 3)
  kept = [json.loads(line)["step"] for line in path.read_text().splitlines()]
  assert kept == [1, 2, 3]


def test_lines_of_an_evaluation_that_no_checkpoint_knows_are_dropped(tmp_path):
  path = tmp_path / "metrics.jsonl"
  lines = [
    {"step": step, "split": split} for step in (1, 2, 3) for split in "tv"
  ]
  lines = [r | {"split": {"t": "train", "v": "val"}[r["split"]]} for r in lines]
  path.write_text("".join(json.dumps(record) + "\n" for record in lines))
  writers.keep_until(path, 2)
  assert len(path.read_text().splitlines()) == 4
  writers.keep_until(path, 2, evaluated=False)
  kept = [json.loads(line) for line in path.read_text().splitlines()]
  assert kept == lines[:3]


def test_damaged_lines_are_left_out(tmp_path):
  path = tmp_path / "metrics.jsonl"
  good = [{"step": step, "split": "val", "loss": 0.1} for step in (1, 2)]
  one, two = (json.dumps(record) for record in good)
  bad = ["[1]", "3", '{"step": "1", "split": "val"}', '{"step": 1}', "[" * 9999]
  lines = [one, *bad, two[:-3], two.replace("loss", "los\x00"), two]
  path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
  writers.keep_until(path, 2)
  kept = [json.loads(line) for line in path.read_text().splitlines()]
  assert kept == good


def test_nan_becomes_null_in_json(tmp_path):
  writer = writers.Writer(tmp_path, resume=0)
  writer.write(1, "val", {"mean_iou": np.float32("nan"), "iou": np.ones(2)})
  writer.close()
  record = json.loads((tmp_path / "metrics.jsonl").read_text())
  assert record == {
    "step": 1,
    "split": "val",
    "mean_iou": None,
    "iou": [1.0, 1.0],
  }


def test_tensorboard_events_are_read_by_tensorflow(tmp_path):
  """And what is to be hidden of the run before: all from step 3 on."""
  panel = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
  writer = writers.Writer(tmp_path, resume=2)
  writer.write(3, "train", {"loss": 0.75, "iou": [1.0]})
  (file,) = tmp_path.glob("events.out.tfevents.*")
  # Each is there at once, not when the run ends.
  assert len(list(summary_iterator.summary_iterator(str(file)))) == 3
  writer.images(4, "val", {"a": panel})
  version, start, loss, image = summary_iterator.summary_iterator(str(file))
  writer.close()
  assert version.file_version == "brain.Event:2"
  assert (start.step, start.session_log.status) == (3, start.session_log.START)
  (value,) = loss.summary.value
  assert (loss.step, value.tag, value.simple_value) == (3, "train/loss", 0.75)
  (value,) = image.summary.value
  assert (image.step, value.tag) == (4, "val/a")
  picture = PIL.Image.open(io.BytesIO(value.image.encoded_image_string))
  np.testing.assert_array_equal(picture, panel)
