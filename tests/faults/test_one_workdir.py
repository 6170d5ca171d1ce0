"""One workdir, one run: a second process, another network or optimizer."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from fcnjax import checkpoints
from fcnjax.cli import main
from fcnjax.training import evaluation
from tests.faults import tiny

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import pathlib, sys, time
from fcnjax.cli import workdir
with workdir.locked(pathlib.Path(sys.argv[1])):
  print("locked", flush=True)
  time.sleep(600)
"""


def _contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file()
  }


def _refused(capsys):
  lines = capsys.readouterr().err.splitlines()
  (line,) = [x for x in lines if not x.startswith("step ")]
  assert line.startswith("fcnjax: ")
  return line


def test_a_second_run_is_refused_and_the_first_ends_well(
  undisturbed, data, tmp_path, monkeypatch, capsys
):
  """The second one is started while the first one evaluates."""
  workdir = tmp_path / "run"
  words, evaluate, codes = tiny.words(data, workdir), evaluation.evaluate, []
  files = ("config.json", "metrics.jsonl")

  def meanwhile(*arguments, **more):
    if not codes:
      before = [(workdir / name).read_bytes() for name in files]
      codes.append(main.main(words))
      assert [(workdir / name).read_bytes() for name in files] == before
    return evaluate(*arguments, **more)

  monkeypatch.setattr(evaluation, "evaluate", meanwhile)
  assert main.main(words) == 0
  assert codes == [2]
  assert "another process is training" in _refused(capsys)
  tiny.assert_same(workdir, undisturbed)


def test_a_lock_ends_with_its_process(undisturbed, data, tmp_path, capsys):
  workdir = tmp_path / "run"
  shutil.copytree(undisturbed, workdir)
  words = tiny.words(data, workdir)
  with subprocess.Popen(
    [sys.executable, "-c", HOLD, str(workdir)],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == "locked\n"
    before = _contents(workdir)
    assert main.main(words) == 2
    assert "another process is training" in _refused(capsys)
    assert _contents(workdir) == before
    process.send_signal(signal.SIGKILL)
  assert main.main(words) == 0
  assert "is finished" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("word", "told"),
  [
    ("--config.model.options.width=3", "holds a run of another network"),
    ("--config.model.options.depth=2", "holds a run of another network"),
    ("--config.optimizer.name=sgd", "of another network or optimizer"),
    ("--config.ema_decay=0.0", "of another network or optimizer"),
  ],
)
def test_another_network_or_optimizer_is_told_and_changes_nothing(
  word, told, undisturbed, data, tmp_path, capsys
):
  workdir = tmp_path / "run"
  shutil.copytree(undisturbed, workdir)
  before = _contents(workdir)
  more = [word, f"--config.steps={tiny.STEPS + 1}"]
  assert main.main(tiny.words(data, workdir, *more)) == 2
  line = _refused(capsys)
  assert told in line
  assert _contents(workdir) == before


def test_checkpoints_of_another_network_under_this_ones_config(
  undisturbed, data, tmp_path, capsys
):
  """Folders were mixed up: only the arrays can tell."""
  other = tmp_path / "other"
  words = ("--config.model.options.width=3", "--config.steps=3",
           "--config.eval_every=3")  # fmt: skip
  assert main.main(tiny.words(data, other, *words)) == 0
  capsys.readouterr()
  record = json.loads((undisturbed / "config.json").read_text())
  (other / "config.json").write_text(json.dumps(record, indent=2) + "\n")
  before = _contents(other)
  assert main.main(tiny.words(data, other)) == 2
  line = _refused(capsys)
  assert "is of another network or optimizer" in line
  assert " for " in line  # a shape for another
  assert _contents(other) == before


def test_a_checkpoint_that_is_deleted_while_it_is_read(
  undisturbed, tmp_path, monkeypatch, capsys
):
  """By the run, which goes on meanwhile."""
  own = tmp_path / "run"
  shutil.copytree(undisturbed, own)
  tree = checkpoints.Checkpoints.tree

  def deleted(self, step):
    found = tree(self, step)
    shutil.rmtree(self.directory / str(step))
    return found

  monkeypatch.setattr(checkpoints.Checkpoints, "tree", deleted)
  assert main.main(["evaluate", f"--workdir={own}"]) == 2
  assert "was just deleted by the run" in _refused(capsys)
