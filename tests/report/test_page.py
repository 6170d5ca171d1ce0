"""The page of a run, whatever is missing from its workdir."""

import base64
import html.parser
import io
import json
import math
import re

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.metrics import confusion
from fcnjax.report import figures, overlays, page


class Checker(html.parser.HTMLParser):
  """Holds the images, the text, and whether every tag is closed in order."""

  VOID = ("meta", "img", "br", "hr")

  def __init__(self, text):
    super().__init__()
    self.open, self.images, self.words = [], [], []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    values = dict(attrs)
    if tag == "img":
      self.images.append(values["src"])
    assert "href" not in values
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open[-1:] != ["style"]:
      self.words.append(data)

  @property
  def text(self):
    return " ".join(self.words)


def read(workdir):
  return Checker(page.write(workdir).read_text(encoding="utf-8"))


def write_metrics(workdir):
  rows = [
    {"step": 10 * t, "split": "train", "loss": 1 / (t + 1)} for t in range(9)
  ]
  rows.append({"step": 80, "split": "val", "mean_iou": 0.43, "iou": [0.4, 0.5]})
  rows.append({"step": 80, "split": "val", "loss": math.nan})
  lines = [json.dumps(row) for row in rows]
  (workdir / "metrics.jsonl").write_text(
    "\n".join([*lines, '{"step": 90, "spl'])
  )


def write_evaluation(workdir):
  matrix = np.array([[90, 0, 0], [8, 0, 0], [0, 0, 0]])
  record = confusion.record(confusion.scores(matrix))
  record |= {
    "classes": ["sky & <air>", "car", "cow"],
    "colors": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    "split": "test",
    "step": 80,
    "confusion_matrix": matrix.tolist(),
  }
  (workdir / "evaluation.json").write_text(json.dumps(record))


def test_an_empty_workdir_has_a_page(tmp_path):
  assert "Nothing has been measured yet" in read(tmp_path).text


def test_a_missing_workdir_is_the_users_mistake(tmp_path):
  with pytest.raises(errors.InputError, match="no workdir"):
    page.write(tmp_path / "nowhere")
  assert not (tmp_path / "nowhere").exists()


def test_an_unwritable_page_is_one_line(tmp_path):
  (tmp_path / "report").write_text("a file in the way")
  with pytest.raises(errors.InputError, match="cannot write"):
    page.write(tmp_path)


def test_metrics_alone_give_curves_and_the_last_scores(tmp_path):
  write_metrics(tmp_path)
  checked = read(tmp_path)
  assert "80 steps" in checked.text
  assert "43.0 %" in checked.text
  assert len(checked.images) == 2


def test_a_full_run_is_one_file_that_needs_no_other(tmp_path):
  write_metrics(tmp_path)
  write_evaluation(tmp_path)
  (tmp_path / "config.json").write_text(
    json.dumps({"model": {"name": "unet_same"}, "note": "</pre><script>"})
  )
  picture = np.zeros((8, 30, 3), np.uint8)
  overlays.save(tmp_path / "overlays", {"a": picture, "b <i>": picture})
  (tmp_path / "overlays" / "c.png").write_text("torn")
  checked = read(tmp_path)
  assert "unet_same" in checked.text
  assert "sky & <air>" in checked.text
  assert "Never predicted though present: car." in checked.text
  assert "left out of the means: cow." in checked.text
  assert "</pre><script>" in checked.text
  assert len(checked.images) == 2 + 1 + 2
  for source in checked.images:
    kind, data = re.fullmatch(r"data:image/(\w+);base64,(.*)", source).groups()
    with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as image:
      assert image.format.lower() == kind
      image.load()
  text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
  assert "rgb(4,5,6)" in text
  assert "http" not in text


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", '{"iou": 3}'])
def test_broken_files_are_left_out(tmp_path, content):
  for name in ("config.json", "evaluation.json", "metrics.jsonl"):
    (tmp_path / name).write_text(content)
  read(tmp_path)


def test_many_overlays_are_bounded_to_the_last(tmp_path):
  picture = np.zeros((2, 2, 3), np.uint8)
  names = [f"step_{i:03}" for i in range(30)]
  overlays.save(tmp_path / "overlays", dict.fromkeys(names, picture))
  checked = read(tmp_path)
  assert len(checked.images) == 24
  assert "step_029" in checked.text
  assert "step_005" not in checked.text


def test_curves_without_values_are_none():
  rows = [{"step": 1, "split": "train", "loss": math.inf}, {"loss": 1.0}]
  assert figures.curves(rows, figures=("loss",)) is None


def test_confusion_figure_survives_an_absent_class():
  png = figures.confusion(np.array([[3, 1], [0, 0]]), ["a", "b"])
  with PIL.Image.open(io.BytesIO(png)) as image:
    assert image.format == "PNG"
