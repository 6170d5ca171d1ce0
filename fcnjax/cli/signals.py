"""What Ctrl-C and SIGTERM do where no training steps are made.

While they are, the run saves first: see fcnjax/training/loop.py.
"""

from collections.abc import Iterator
import contextlib
import os
import signal
import sys
import threading

from fcnjax import errors


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Lets Ctrl-C end the process at once (130 in a shell).

  Threads of the libraries may not survive an exception.
  """
  handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
  if not handled or not _is_main():
    yield
    return
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
  """Lets SIGTERM end a run at once, with its code: there is nothing to save.

  As SIGKILL does, which may come at any time; an exception would be lost where
  a library calls Python and goes on after whatever it raises, as JAX does when
  garbage is collected.
  """

  def end(number, frame):
    del number, frame
    with contextlib.suppress(Exception):  # Perhaps it is just being written to.
      sys.stdout.flush()
    line = (
      "fcnjax: SIGTERM while no step was being made: what is saved stays; the "
      "same command resumes.\n"
    )
    os.write(2, line.encode())
    os._exit(errors.Terminated.code)

  if not _is_main():
    yield
    return
  before = signal.signal(signal.SIGTERM, end)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


def ignore_more() -> None:
  """Ignores SIGTERM from now on, until `terminable` is left.

  A run that was told once waits for what is being saved.
  """
  if _is_main():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _is_main() -> bool:
  return threading.current_thread() is threading.main_thread()
