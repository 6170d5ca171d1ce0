"""Says so when a run hangs, and where."""

from collections.abc import Callable
import faulthandler
import pathlib
import threading
import time


class Watchdog:
  """A thread that expects a sign of life every so often.

  It tells what hangs and writes what every thread of the host is at to a file;
  it ends nothing. A file system, a collective or a program being compiled may
  yet go on.
  """

  def __init__(
    self, seconds: float, tell: Callable[[str], None], file: pathlib.Path
  ):
    """Waits for the first sign of life.

    Args:
      seconds: after which silence is told, once each time; 0 = never.
      tell: is given one line, in the watchdog's thread.
      file: of the threads' stacks; the last ones.
    """
    self._seconds, self._tell, self._file = seconds, tell, file
    self._sign: tuple[float, str] | None = None
    self._told: tuple[float, str] | None = None
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def at(self, what: str) -> None:
    """Gives a sign of life, and says what the run waits for from now on."""
    # Of a clock that nobody sets.
    self._sign = (time.monotonic(), what)

  def _watch(self):
    while not self._end.wait(self._seconds / 4):
      sign = self._sign
      if sign is None or sign is self._told:
        continue
      silent = time.monotonic() - sign[0]
      if silent < self._seconds:
        continue
      self._told = sign
      try:
        with self._file.open("w") as file:
          faulthandler.dump_traceback(file)
        where = f"what each thread is at stands in {self._file}"
      except OSError as error:
        where = f"{self._file} cannot be written ({error.strerror})"
      self._tell(
        f"nothing has happened for {silent:.0f} s; waiting for {sign[1]}; "
        f"{where}"
      )

  def __enter__(self):
    if self._seconds:
      self._thread.start()
    return self

  def __exit__(self, *exc):
    self._end.set()
    if self._seconds:
      self._thread.join()
