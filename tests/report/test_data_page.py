"""The page of a data set: complete in itself, and its pictures are right."""

import base64
import html.parser
import io
import re

import numpy as np
import PIL.Image
import pytest

from fcnjax.data import findings, sources
from fcnjax.data.checking import diagnosis
from fcnjax.report import data_page


def _source(count=3, wrong=None):
  random = np.random.default_rng(0)
  pictures = [
    random.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(count)
  ]
  labels = []
  for _ in range(count):
    label = np.zeros((40, 60), np.uint8)
    label[10:30, 20:40] = 1
    labels.append(label)
  if wrong is not None:
    labels[1][:, :10] = wrong
  return sources.Arrays(
    pictures,
    labels,
    classes=("ground", "<b>thing</b>"),
    colors=((0, 0, 0), (0, 255, 0)),
    names=[f"<i>{n}</i>" for n in range(count)],
  )


class _Tags(html.parser.HTMLParser):
  """Collects tags, and checks that they are closed in turn."""

  def __init__(self):
    super().__init__()
    self.open, self.seen = [], []

  def handle_starttag(self, tag, attrs):
    self.seen.append((tag, dict(attrs)))
    if tag not in ("meta", "img", "br"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def _parsed(page):
  tags = _Tags()
  tags.feed(page)
  assert not tags.open
  return tags.seen


def _pictures(page):
  found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
  return [
    np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))))
    for data in found
  ]


def test_a_page_is_whole_and_escapes_what_others_wrote():
  found = diagnosis.examine({"train": _source(), "val": _source(2)})
  page = data_page.document(found)
  tags = _parsed(page)
  names = {tag for tag, _ in tags}
  assert "<b>thing</b>" not in page
  assert "&lt;b&gt;thing&lt;/b&gt;" in page
  assert not {"script", "link"} & names
  for _, attributes in tags:
    for word in ("src", "href"):
      assert attributes.get(word, "data:").startswith("data:")
  assert "leaked_images" in page


def test_overlays_show_classes_and_wrong_values():
  found = diagnosis.examine({"train": _source(wrong=9)})
  (finding,) = findings.of(found.findings, "error")
  assert finding.examples == (1,)
  picture = _pictures(data_page.document(found))[0]
  assert picture.shape[:2] == (40, 120)  # the image and, beside it, its mask
  overlay = picture[:, 60:].astype(float)
  # Magenta where the value is wrong, green where the thing is: in the mean,
  # since the picture below is noise.
  wrong, thing = overlay[:, :8].mean((0, 1)), overlay[14:26, 24:36].mean((0, 1))
  assert wrong[0] > 180
  assert wrong[2] > 180
  assert wrong[1] < 80
  assert thing[1] > 180
  assert thing[0] < 80
  assert thing[2] < 80


def test_shares_and_histogram():
  source = _source()
  page = data_page.document(diagnosis.examine({"train": source}))
  share = 100 * 400 / 2400
  assert f"{share:.3f} %" in page
  points = re.search(r'polygon points="([^"]+)"', page).group(1).split()
  assert points[0] == "0,100"
  assert points[-1] == "255,100"
  heights = 100 - np.asarray([float(p.split(",")[1]) for p in points[1:-1]])
  pixels = np.concatenate([source.image(n).ravel() for n in range(3)])
  counts = np.bincount(pixels, minlength=256)
  assert np.corrcoef(heights, counts)[0, 1] > 0.99


def test_what_cannot_be_read_has_no_picture(tmp_path):
  file = tmp_path / "a.png"
  image = np.zeros((8, 8, 3), np.uint8)
  PIL.Image.fromarray(image).save(file)
  PIL.Image.fromarray(image[..., 0]).save(tmp_path / "m.png")
  source = sources.Files([(file, tmp_path / "m.png")], classes=("a", "b"))
  file.write_bytes(b"")
  page = data_page.document(diagnosis.examine({"train": source}))
  _parsed(page)
  assert "empty_image" in page
  assert not _pictures(page)


@pytest.mark.parametrize("count", [1, 250])
def test_many_files_are_cut(count):
  found = diagnosis.examine({"train": _source(2)})
  finding = findings.Finding(
    code="x",
    severity="note",
    message="m",
    files=tuple(f"file{n}" for n in range(count)),
  )
  page = data_page.document(
    diagnosis.Diagnosis(splits=found.splits, findings=(finding,))
  )
  assert ("and 50 more" in page) == (count == 250)
  assert ("file199" in page) == (count == 250)
  assert "file200" not in page
