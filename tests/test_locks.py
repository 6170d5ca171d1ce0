"""One holder at a time, also where a folder can only be read."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from fcnjax import errors, locks

HOLD = """
import pathlib, sys
from fcnjax import locks
with locks.locked(pathlib.Path(sys.argv[1]), ""):
  print("locked", flush=True)
  sys.stdin.read()
"""


def test_another_process_and_this_one_are_refused(tmp_path):
  with subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == "locked\n"
    with (
      pytest.raises(errors.InputError, match="taken"),
      locks.locked(tmp_path, "taken"),
    ):
      pass
    process.kill()
  with (
    locks.locked(tmp_path, "taken"),
    pytest.raises(errors.InputError, match="taken"),
    locks.locked(tmp_path, "taken"),
  ):
    pass
  with locks.locked(tmp_path, "taken"):
    pass
  assert [path.name for path in tmp_path.iterdir()] == [locks.NAME]


def test_the_lock_is_on_what_is_open_for_writing(tmp_path, monkeypatch):
  """NFS gives none on other files."""
  modes = []
  monkeypatch.setattr(
    fcntl,
    "flock",
    lambda file, how: modes.append(fcntl.fcntl(file, fcntl.F_GETFL)),
  )
  with locks.locked(tmp_path, ""):
    pass
  assert [mode & os.O_ACCMODE for mode in modes] == [os.O_RDWR]


def test_a_folder_that_can_only_be_read_is_locked_itself(tmp_path, monkeypatch):
  opened = os.open

  def refuse(path, flags, *mode):
    if flags & os.O_CREAT:
      raise OSError(errno.EROFS, "Read-only file system")
    return opened(path, flags, *mode)

  monkeypatch.setattr(os, "open", refuse)
  with (
    locks.locked(tmp_path, "taken"),
    pytest.raises(errors.InputError, match="taken"),
    locks.locked(tmp_path, "taken"),
  ):
    pass
  assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
  def refuse(file, how):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(fcntl, "flock", refuse)
  with locks.locked(tmp_path, ""):
    pass
  line = capsys.readouterr().err
  assert line.startswith("fcnjax: ")
  assert "cannot be locked (No locks available)" in line
