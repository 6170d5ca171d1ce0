"""What a checkpoint needs is on the disk before the checkpoint has its name."""

import os
import pathlib

from fcnjax import checkpoints, seals
from fcnjax.cli import main
from tests.faults import tiny


def test_lines_and_arrays_are_on_the_disk_before_a_name(
  undisturbed, data, tmp_path, monkeypatch
):
  """A power failure takes what was not synced; a kill does not."""
  workdir = tmp_path / "run"
  synced, named = {}, []
  fsync, write = os.fsync, seals.write
  save = checkpoints.Checkpoints.save

  def syncing(descriptor):
    fsync(descriptor)
    path = pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    synced[path] = path.stat().st_size

  def saving(self, step, state, **words):
    file = workdir / "metrics.jsonl"
    assert synced[file] == file.stat().st_size
    save(self, step, state, **words)

  def sealing(folder, facts):
    write(folder, facts)
    for path in (folder, *folder.rglob("*")):
      assert synced[path] == path.stat().st_size, path
    named.append(facts["step"])

  monkeypatch.setattr(os, "fsync", syncing)
  monkeypatch.setattr(checkpoints.Checkpoints, "save", saving)
  monkeypatch.setattr(seals, "write", sealing)
  assert main.main(tiny.words(data, workdir)) == 0
  assert named == [3, 6, 9, 12]
  tiny.assert_same(workdir, undisturbed)
