"""fcnjax predict: which files it takes, what it writes and never overwrites."""

import functools
import json
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from fcnjax import errors
from fcnjax.cli import inputs as input_files, predict
from fcnjax.inference import tiles

COLORS = ((0, 0, 0), (0, 200, 0))


def network(image):
  """Two logits a pixel: bright (class 1) or dark."""
  grey = np.asarray(image, np.float32).mean(axis=-1, keepdims=True)
  mean = (grey - 127.5) / 60
  return np.concatenate([-4 * mean, 4 * mean], axis=-1).astype(np.float32)


def run(inputs, output, net=network, **words):
  defaults = {
    "channels": 3,
    "classes": ("dark", "bright"),
    "colors": COLORS,
    "progress": False,
  }
  return predict.run(net, inputs, output, **(defaults | words))


def halves(height=6, width=9):
  """Dark on the left, bright on the right."""
  image = np.zeros((height, width), np.uint8)
  image[:, width // 2 :] = 255
  return image


def save(path, pixels=None, mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = PIL.Image.fromarray(halves() if pixels is None else pixels)
  (image if mode is None else image.convert(mode)).save(path)
  return path


def read(path):
  with PIL.Image.open(path) as image:
    assert image.mode == "P"
    return np.asarray(image), image.getpalette()[:6]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_gives_an_indexed_png_of_its_own_size(
  tmp_path, mode, channels
):
  path = tmp_path / "in" / "x.png"
  if mode == "I;16":
    save(path, halves().astype(np.uint16) * 257)
  else:
    save(path, mode=mode)
  (written,) = run([path], tmp_path / "out", channels=channels)
  labels, colors = read(written)
  assert written == tmp_path / "out" / "x.png"
  np.testing.assert_array_equal(labels, halves() > 100)
  assert colors == [0, 0, 0, 0, 200, 0]


def test_overlays_probabilities_and_the_record(tmp_path):
  path = save(tmp_path / "x.jpg", mode="RGB")
  run([path], tmp_path / "out", probabilities=True)
  with PIL.Image.open(tmp_path / "out/overlays/x.png") as overlay:
    assert overlay.mode == "RGB"
    assert overlay.size == (9, 6)
  with np.load(tmp_path / "out/probabilities/x.npz") as saved:
    shares = saved["probabilities"]
    assert saved["classes"].tolist() == ["dark", "bright"]
  assert shares.shape == (6, 9, 2)
  assert shares.dtype == np.float16
  np.testing.assert_allclose(shares.sum(-1), 1, atol=2e-3)
  np.testing.assert_array_equal(shares.argmax(-1), halves() > 100)
  record = json.loads((tmp_path / "out/predictions.json").read_text())
  assert record["files"] == {"x.png": str(path)}
  assert record["classes"][1] == {
    "id": 1,
    "name": "bright",
    "color": [0, 200, 0],
  }


def test_samples_write_where_they_disagree(tmp_path):
  def net(image, key):
    del key
    turn = next(turns)
    logits = np.array(network(image))
    logits[:, 0] = (40, -40) if turn else (-40, 40)  # The first row changes.
    logits[:, 1] = (1, 0) if turn else (0, 1)
    return logits

  turns = iter([False, True, False, True])
  path = save(tmp_path / "x.png")
  run([path], tmp_path / "out", net, samples=4, probabilities=True)
  with PIL.Image.open(tmp_path / "out/uncertainty/x.png") as picture:
    assert picture.mode == "L"
    shades = np.asarray(picture)
  np.testing.assert_array_equal(shades[0], 255)
  assert shades.shape == (6, 9)
  # Shares of 0.73 and 0.27 deviate 0.23 from their mean, those above 0.5.
  np.testing.assert_array_equal(shades[1], round(255 * 0.23106 / 0.5))
  assert shades[2:].max() < 5
  record = json.loads((tmp_path / "out/predictions.json").read_text())
  assert record["largest_uncertainty"]["x.png"] == pytest.approx(0.25, rel=1e-4)
  with np.load(tmp_path / "out/probabilities/x.npz") as saved:
    np.testing.assert_allclose(saved["uncertainty"][0], 0.25, rtol=1e-4)
    np.testing.assert_allclose(saved["probabilities"][0], 0.5, rtol=1e-3)


def test_what_is_predicted_anew_without_samples_has_no_uncertainty(tmp_path):
  def net(image, key):
    sign = next(signs)
    return sign * network(image)

  signs = iter([1, -1] * 2)
  paths = [save(tmp_path / "x.png"), save(tmp_path / "y.png")]
  run(paths, tmp_path / "out", net, samples=2)
  record = tmp_path / "out" / "predictions.json"
  largest = json.loads(record.read_text())["largest_uncertainty"]
  assert sorted(largest) == ["x.png", "y.png"]
  run(paths[:1], tmp_path / "out")
  found = json.loads(record.read_text())
  assert found["largest_uncertainty"] == {"y.png": largest["y.png"]}
  assert sorted(found["files"]) == ["x.png", "y.png"]
  run(paths[1:], tmp_path / "out")
  assert "largest_uncertainty" not in json.loads(record.read_text())


def test_samples_of_a_network_without_dropout_are_refused(tmp_path):
  with pytest.raises(errors.InputError, match="evaluation.samples.*dropout"):
    run(
      [save(tmp_path / "x.png")],
      tmp_path / "out",
      lambda image, key: network(image),
      samples=3,
    )


def test_overlays_and_probabilities_are_optional(tmp_path):
  run([save(tmp_path / "x.png")], tmp_path / "out", overlays=False)
  names = sorted(p.name for p in (tmp_path / "out").iterdir())
  assert names == ["predictions.json", "x.png"]


def test_folders_globs_and_files_of_any_size(tmp_path):
  save(tmp_path / "in" / "b.png", halves(5, 7))
  save(tmp_path / "in" / "a.PNG", halves(11, 4))
  save(tmp_path / "in" / "deep" / "c.tif", halves(3, 3))
  save(tmp_path / "other.bmp", halves(2, 8))
  (tmp_path / "in" / "notes.txt").write_text("no image")
  folder = run([tmp_path / "in"], tmp_path / "1")
  assert [p.name for p in folder] == ["a.png", "b.png"]
  deep = run([f"{tmp_path}/in/**/*"], tmp_path / "2")
  assert sorted(p.name for p in deep) == ["a.png", "b.png", "c.png"]
  all_of_them = run(
    [tmp_path / "other.bmp", tmp_path / "in" / "b.png", f"{tmp_path}/in/*.png"],
    tmp_path / "3",
  )
  assert [p.name for p in all_of_them] == ["other.png", "b.png"]
  assert read(all_of_them[0])[0].shape == (2, 8)


def test_a_name_with_brackets_is_a_name(tmp_path):
  path = save(tmp_path / "scan [1].png")
  (written,) = run([path], tmp_path / "out")
  assert written.name == "scan [1].png"


def test_equal_stems_get_distinct_names(tmp_path):
  paths = [
    save(tmp_path / "in" / "a" / "1.png"),
    save(tmp_path / "in" / "b" / "1.jpg", mode="L"),
    save(tmp_path / "in" / "b" / "2.jpg", mode="L"),
  ]
  written = run(paths, tmp_path / "out")
  assert [p.name for p in written] == ["a_1_png.png", "b_1_jpg.png", "2.png"]


def test_names_that_are_equal_even_so_are_refused(tmp_path):
  paths = [
    save(tmp_path / "a" / "1.png"),
    save(tmp_path / "b" / "1.png"),
    save(tmp_path / "a_1_png.png"),
  ]
  with pytest.raises(errors.InputError, match="both be written as a_1_png"):
    run(paths, tmp_path / "out")
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("word", "message"),
  [
    ("nothing", "no file or folder .*nothing"),
    ("*.gif", "no images in the glob"),
    ("empty", "no images in the folder .*empty"),
  ],
)
def test_no_input_is_one_line_and_nothing_is_written(tmp_path, word, message):
  (tmp_path / "empty").mkdir()
  with pytest.raises(errors.InputError, match=message) as caught:
    run([f"{tmp_path}/{word}"], tmp_path / "out")
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "out").exists()


def test_no_words_at_all():
  with pytest.raises(errors.InputError, match="no input"):
    input_files.find([])


def test_bad_files_are_named_after_the_others_were_done(tmp_path):
  good = [save(tmp_path / "in" / "a.png"), save(tmp_path / "in" / "z.png")]
  content = save(tmp_path / "whole.png", mode="RGB").read_bytes()
  (tmp_path / "in" / "m.png").write_bytes(content[: len(content) // 2])
  (tmp_path / "in" / "n.jpg").write_text("text")
  with pytest.raises(errors.InputError, match="2 of 4 images") as caught:
    run([tmp_path / "in"], tmp_path / "out")
  assert "m.png" in str(caught.value)
  assert "n.jpg" in str(caught.value)
  assert "\n" not in str(caught.value)
  written = sorted(p.name for p in (tmp_path / "out").glob("*.png"))
  assert written == [p.name for p in good]
  record = json.loads((tmp_path / "out/predictions.json").read_text())
  assert list(record["files"]) == written
  with pytest.raises(errors.InputError, match="none was predicted"):
    run([tmp_path / "in" / "n.jpg"], tmp_path / "none")


@pytest.mark.parametrize("output", [".", "../in", ""])
def test_the_folder_of_the_inputs_is_refused(tmp_path, output):
  path = save(tmp_path / "in" / "x.png")
  before = path.read_bytes()
  with pytest.raises(errors.InputError, match="lies in the output folder"):
    run([path], tmp_path / "in" / output)
  assert path.read_bytes() == before
  assert sorted(p.name for p in path.parent.iterdir()) == ["x.png"]


def test_an_input_in_the_folder_of_the_overlays_is_refused(tmp_path):
  path = save(tmp_path / "out" / "overlays" / "x.png")
  before = path.read_bytes()
  with pytest.raises(errors.InputError, match="lies in the output folder"):
    run([path], tmp_path / "out")
  assert path.read_bytes() == before


def test_masks_of_the_user_are_not_overwritten(tmp_path):
  path = save(tmp_path / "images" / "x.png")
  mask = save(tmp_path / "masks" / "x.png")
  before = mask.read_bytes()
  with pytest.raises(errors.InputError, match="no earlier prediction"):
    run([path], tmp_path / "masks")
  assert mask.read_bytes() == before
  assert sorted(p.name for p in mask.parent.iterdir()) == ["x.png"]


def test_earlier_predictions_are_overwritten(tmp_path):
  path = save(tmp_path / "in" / "x.png")
  other = save(tmp_path / "in" / "y.png")
  run([path], tmp_path / "out")
  run([other], tmp_path / "out")
  save(path, 255 - halves())
  (written,) = run([path], tmp_path / "out")
  np.testing.assert_array_equal(read(written)[0], halves() < 100)
  record = json.loads((tmp_path / "out/predictions.json").read_text())
  assert sorted(record["files"]) == ["x.png", "y.png"]


def test_an_output_that_is_a_file_is_one_line(tmp_path):
  path = save(tmp_path / "in" / "x.png")
  (tmp_path / "out").write_text("in the way")
  with pytest.raises(errors.InputError, match=r"^--output: \S+/out: expected"):
    run([path], tmp_path / "out")


def test_logits_of_a_resized_image_come_back_to_its_size(tmp_path):
  path = save(tmp_path / "x.png", halves(20, 40))
  sizes = []

  def net(image):
    sizes.append(image.shape)
    return network(image)

  (written,) = run([path], tmp_path / "out", net, image_size=(10, 20))
  assert sizes == [(1, 10, 20, 3)]
  np.testing.assert_array_equal(read(written)[0], halves(20, 40) > 100)


def test_any_strategy_composes(tmp_path):
  path = save(tmp_path / "x.png", halves(20, 31))
  net = functools.partial(tiles.sliding_window, network, window=(8, 8), batch=3)
  (written,) = run([path], tmp_path / "out", net)
  np.testing.assert_array_equal(read(written)[0], halves(20, 31) > 100)


def test_the_network_is_given_the_bytes_of_the_file(tmp_path):
  pixels = np.full((2, 2, 3), (10, 20, 30), np.uint8)
  seen = []

  def net(image):
    seen.append(image)
    return network(image)

  run([save(tmp_path / "x.png", pixels)], tmp_path / "out", net)
  assert seen[0].dtype == np.uint8
  np.testing.assert_array_equal(seen[0], pixels[None])


def test_a_foreign_record_is_not_overwritten(tmp_path):
  """COCO's results have this name, too."""
  path = save(tmp_path / "in" / "x.png")
  for text in ('[{"image_id": 1}]', '{"files": 3}', "notes"):
    record = tmp_path / "out" / "predictions.json"
    record.parent.mkdir(exist_ok=True)
    record.write_text(text)
    with pytest.raises(errors.InputError, match="no record of earlier"):
      run([path], record.parent)
    assert record.read_text() == text
    assert list(record.parent.iterdir()) == [record]


def test_a_full_disk_is_one_line_that_names_the_image(tmp_path, monkeypatch):
  path = save(tmp_path / "in" / "x.png")

  def full(*args, **kwargs):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(predict.np, "savez_compressed", full)
  with pytest.raises(errors.InputError, match=r"x\.png .*No space left"):
    run([path], tmp_path / "out", probabilities=True)


def test_channels_that_no_file_has_are_refused(tmp_path):
  with pytest.raises(errors.InputError, match="5 channels"):
    run([save(tmp_path / "x.png")], tmp_path / "out", channels=5)


def test_another_number_of_classes_is_refused(tmp_path):
  with pytest.raises(ValueError, match="2 logits for 3 classes"):
    run(
      [save(tmp_path / "x.png")],
      tmp_path / "out",
      classes=("a", "b", "c"),
      colors=((0, 0, 0),) * 3,
    )


def test_lines_where_there_is_no_terminal(tmp_path, capsys):
  run([save(tmp_path / "x.png")], tmp_path / "out", progress=True)
  first, last = capsys.readouterr().err.splitlines()
  assert first == "1 of 1 images"
  assert last.startswith("the masks of 1 images are in ")


def test_predicting_needs_no_tensorflow_and_no_matplotlib():
  code = (
    "import sys; import fcnjax.cli.predict;"
    " print([m for m in ('tensorflow', 'torch', 'matplotlib')"
    " if m in sys.modules])"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "[]"
