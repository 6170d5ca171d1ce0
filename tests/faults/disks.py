"""Trains on a disk that is full, or can only be read.

  unshare -m python -m tests.faults.disks ROOT      (or unshare -rm)

mounts a small file system, trains on it with less and less of it full, and
prints an object: "full" (for each start the room it had, exit codes, what was
said, and what was found), "process" (the same of a process of its own) and
"read_only". Where nothing can be mounted, --limit takes the largest size that a
file may have for the room.
"""

import argparse
import contextlib
import errno
import io
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

from fcnjax import checkpoints
from fcnjax.cli import main as command
from tests.faults import tiny

SHARES = (0.0, 0.15, 0.4, 0.65, 0.85, 0.95)


class Mounted:
  """A file system in memory, and a file that takes the room in it."""

  def __init__(self, folder: pathlib.Path):
    folder.mkdir()
    self.folder = folder
    self._ballast = folder / "ballast"
    self._mount("-t", "tmpfs", "-o", "size=32m", "tmpfs")

  def _mount(self, *words: str) -> None:
    subprocess.run(["mount", *words, self.folder], check=True)

  def needs(self, workdir: pathlib.Path) -> int:
    """Returns how much room a run took."""
    return sum(path.stat().st_blocks * 512 for path in workdir.rglob("*"))

  def leave(self, size: int) -> None:
    """Leaves room for so many bytes."""
    left = os.statvfs(self.folder)
    free = left.f_bavail * left.f_frsize
    with self._ballast.open("wb") as file:
      file.write(bytes(max(free - size, 0)))

  def make_room(self) -> None:
    self._ballast.unlink(missing_ok=True)

  def only_read(self, on: bool) -> None:
    self._mount("-o", f"remount,{'ro' if on else 'rw'}")


class Limited:
  """No mount: files may not grow beyond a size, or not be opened to write."""

  def __init__(self, folder: pathlib.Path):
    folder.mkdir()
    self.folder = folder
    self._most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    self._only_read = False
    sys.addaudithook(self._hook)

  def _hook(self, event: str, arguments: tuple) -> None:
    if not self._only_read or event not in ("open", "os.mkdir", "os.rename"):
      return
    reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if not reads and str(self.folder) in str(arguments[0]):
      words = os.strerror(errno.EROFS)
      raise OSError(errno.EROFS, words, str(arguments[0]))

  def needs(self, workdir: pathlib.Path) -> int:
    """Returns the size of the largest file."""
    return max(path.stat().st_size for path in workdir.rglob("*"))

  def leave(self, size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._most))

  def make_room(self) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (self._most, self._most))

  def only_read(self, on: bool) -> None:
    self._only_read = on


def main() -> None:
  """Trains and prints."""
  parser = argparse.ArgumentParser()
  parser.add_argument("root", type=pathlib.Path)
  parser.add_argument("--limit", action="store_true")
  arguments = parser.parse_args()
  root = arguments.root
  data = tiny.write_images(root / "data")
  whole = root / "whole"
  code, said = _run(data, whole)
  assert code == 0, said
  disk = (Limited if arguments.limit else Mounted)(root / "disk")
  workdir = disk.folder / "run"
  needed = disk.needs(whole)

  def full(run, room):
    shutil.rmtree(workdir, ignore_errors=True)
    disk.leave(room)
    code, said = run(data, workdir)
    sound = _sound(workdir)
    disk.make_room()
    again, _ = run(data, workdir)
    same = ""
    try:
      tiny.assert_same(workdir, whole)
    except (AssertionError, OSError) as error:
      same = str(error)[:500]
    start = {"room": room, "code": code, "said": said, "sound": sound,
             "again": again, "difference": same}  # fmt: skip
    print(start, file=sys.stderr, flush=True)
    return start

  found = {"limited": arguments.limit, "needed": needed}
  found["full"] = [full(_run, int(share * needed)) for share in SHARES]
  found["process"] = full(_process, needed // 2)
  # The folder of a finished run, and of one that is not.
  found["read_only"] = {}
  shutil.copytree(whole, disk.folder / "half")
  half = disk.folder / "half" / "checkpoints"
  for path in half.iterdir():
    if path.name == str(tiny.STEPS):
      shutil.rmtree(path)
  before = _contents(disk.folder)
  disk.only_read(True)
  image = f"{data}/images/00.png"
  for name, words in {
    "new": tiny.words(data, disk.folder / "new"),
    "going on": tiny.words(data, disk.folder / "half"),
    "finished": tiny.words(data, workdir),
    "evaluate": ["evaluate", f"--workdir={workdir}"],
    "predict": ["predict", f"--workdir={workdir}", image,
                f"--output={root}/masks"],
    "predict there": ["predict", f"--workdir={whole}", image,
                      f"--output={disk.folder}/masks"],
  }.items():  # fmt: skip
    found["read_only"][name] = _command(words)
  disk.only_read(False)
  found["unchanged"] = _contents(disk.folder) == before
  found["masks"] = [path.name for path in (root / "masks").glob("*.png")]
  print(json.dumps(found))


def _run(data, workdir) -> tuple[int, list[str]]:
  return _command(tiny.words(data, workdir))


def _command(words) -> tuple[int, list[str]]:
  """Returns exit code and lines, but those of the progress."""
  out, said = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
    code = command.main(words)
  return code, _lines(said.getvalue())


def _process(data, workdir) -> tuple[int, list[str]]:
  done = subprocess.run(
    [sys.executable, "-m", "fcnjax", *tiny.words(data, workdir)],
    capture_output=True,
    text=True,
    timeout=120,
  )
  return done.returncode, _lines(done.stderr)


def _lines(said: str) -> list[str]:
  return [x for x in said.splitlines() if not x.startswith("step ")]


def _sound(workdir: pathlib.Path) -> list[int] | None:
  """Returns the steps that are saved; None if one of them is damaged."""
  if not (workdir / "checkpoints").is_dir():
    return []
  with contextlib.closing(
    checkpoints.Checkpoints(workdir / "checkpoints", writing=False)
  ) as saved:
    steps = saved.steps
    for step in steps:
      tiny.state(workdir, step)
    return None if saved.damaged else steps


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
  return {
    str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()
  }


if __name__ == "__main__":
  main()
