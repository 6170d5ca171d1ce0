"""Images and masks that are destroyed while a run goes on."""

import shutil

import pytest

from fcnjax.cli import main
from fcnjax.training import writers
from tests.faults import tiny

# Files are read for every batch, and not held on the device.
STREAMED = "--config.data.resident=off"


@pytest.fixture
def own(data, tmp_path):
  """A copy of the images that may be destroyed."""
  shutil.copytree(data, tmp_path / "own")
  return tmp_path / "own"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, compiled, data):
  workdir = tmp_path_factory.mktemp("undisturbed") / "run"
  assert main.main(tiny.words(data, workdir, STREAMED)) == 0
  return workdir


def _then(monkeypatch, split, step, act):
  """Calls `act` when the line of a step is written."""
  write = writers.Writer.write

  def writing(self, at, kind, figures):
    write(self, at, kind, figures)
    if (at, kind) == (step, split):
      act()

  monkeypatch.setattr(writers.Writer, "write", writing)


def _last_line(capsys):
  lines = capsys.readouterr().err.splitlines()
  (line,) = [line for line in lines if line.startswith("fcnjax: ")]
  assert "Traceback" not in "".join(lines)
  return line


@pytest.mark.parametrize(
  ("kind", "act"), [("images", "garbage"), ("masks", "gone")]
)
def test_raise_names_the_file_and_the_mended_run_ends_the_same(
  kind, act, own, data, undisturbed, tmp_path, monkeypatch, capsys
):
  """All files at once, so that whichever is read next is bad."""

  def destroy():
    for path in (own / kind).iterdir():
      if act == "gone":
        path.unlink()
      else:
        path.write_bytes(b"garbage" * 50)

  workdir = tmp_path / "run"
  with monkeypatch.context() as patch:
    _then(patch, "train", 4, destroy)
    code = main.main(tiny.words(own, workdir, STREAMED))
  assert code == 2
  assert f"{own / kind}/" in _last_line(capsys)
  before = tiny.figures(workdir)
  assert 4 <= before[-1]["step"] < tiny.STEPS
  # The steps that were made are saved, and not made again.
  assert (workdir / "checkpoints" / str(before[-1]["step"])).is_dir()
  shutil.rmtree(own)
  shutil.copytree(data, own)
  assert main.main(tiny.words(own, workdir, STREAMED)) == 0
  tiny.assert_same(workdir, undisturbed)


def test_a_validation_image_that_is_gone_costs_no_step(
  data, own, undisturbed, tmp_path, monkeypatch, capsys
):
  """Training images are held on the device here, so that only it is read."""
  workdir = tmp_path / "run"

  def destroy():
    for path in (own / "images").iterdir():
      path.unlink()

  held = "--config.data.resident=on"
  reference = tmp_path / "reference"
  assert main.main(tiny.words(data, reference, held)) == 0
  with monkeypatch.context() as patch:
    _then(patch, "train", 10, destroy)
    assert main.main(tiny.words(own, workdir, held)) == 2
  assert "does not exist" in _last_line(capsys)
  assert tiny.figures(workdir)[-1]["step"] == tiny.STEPS
  assert (workdir / "checkpoints" / str(tiny.STEPS)).is_dir()
  shutil.rmtree(own)
  shutil.copytree(data, own)
  assert main.main(tiny.words(own, workdir, held)) == 0
  tiny.assert_same(workdir, reference)


def test_skip_counts_and_goes_on(tmp_path, compiled, monkeypatch, capsys):
  """One is overwritten and one is gone, of 24."""
  own = tiny.write_images(tmp_path / "own", 24)
  workdir = tmp_path / "run"
  validated = [f"{number:02}" for number in (0, 1, 2, 3)]
  (tmp_path / "val.txt").write_text("\n".join(validated))

  def destroy():
    (own / "images" / "10.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (own / "masks" / "17.png").unlink()

  _then(monkeypatch, "train", 3, destroy)
  code = main.main(
    tiny.words(
      own,
      workdir,
      STREAMED,
      "--config.data.on_bad_example=skip",
      f"--config.data.val_list={tmp_path}/val.txt",
      "--config.steps=24",
      "--config.eval_every=24",
      "--config.checkpoint_every=24",
    )
  )
  said = capsys.readouterr().err
  assert code == 0, said
  for name in ("10", "17"):
    assert said.count(f"data.on_bad_example: {name} is skipped") == 1
  counts = [r["bad_examples"] for r in tiny.figures(workdir) if "loss" in r]
  assert len(counts) == 24
  assert counts == sorted(counts)
  assert (counts[0], counts[-1]) == (0, 2)
