"""What Ctrl-C and SIGTERM do where no training steps are made.

While they are, the run saves first: see fcnjax/training/loop.py.
"""

from collections.abc import Iterator
import contextlib
import signal
import threading

from fcnjax import errors


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Lets Ctrl-C end the process at once (130 in a shell).

  Threads of the libraries may not survive an exception.
  """
  handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
  if not handled or threading.current_thread() is not threading.main_thread():
    yield
    return
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
  """Ends a run by SIGTERM with its code: there is nothing to save.

  Raises:
    Signalled: where the signal came; later ones are ignored while it is left.
  """

  def end(number, frame):
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise errors.Signalled(
      "SIGTERM while no step was being made: what is saved stays; the same "
      "command resumes."
    )

  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = signal.signal(signal.SIGTERM, end)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
