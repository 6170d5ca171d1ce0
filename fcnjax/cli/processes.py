"""The words by which a command becomes one of several processes of a run."""

import argparse
from collections.abc import Callable, Iterator
import contextlib
import os
import traceback
from typing import Any

from fcnjax import errors

# What says the same as the words: ours, and those that launchers set.
_ASKED, _ADDRESS, _COUNT, _INDEX = (
  "FCNJAX_DISTRIBUTED",
  "JAX_COORDINATOR_ADDRESS",
  "JAX_NUM_PROCESSES",
  "JAX_PROCESS_ID",
)


def add_words(parser: argparse.ArgumentParser) -> None:
  """Adds the words to a command's parser."""
  words = parser.add_argument_group(
    "several processes",
    "Start the same command once for each (docs/scaling.md).",
  )
  words.add_argument(
    "--distributed",
    action="store_true",
    help="be one of those that Slurm, Open MPI, Kubernetes or a TPU pod "
    f"started (also {_ASKED}=1)",
  )
  words.add_argument(
    "--coordinator",
    metavar="HOST:PORT",
    help=f"else: of the first process (also {_ADDRESS})",
  )
  words.add_argument(
    "--processes",
    type=int,
    metavar="N",
    help=f"with --coordinator: how many there are (also {_COUNT})",
  )
  words.add_argument(
    "--process",
    type=int,
    metavar="I",
    help=f"with --coordinator: which one this is, from 0 (also {_INDEX})",
  )


def words(arguments: argparse.Namespace) -> dict[str, Any] | None:
  """Returns what `hosts.initialize` takes, or None for one process alone.

  Raises:
    InputError: if the words contradict each other, or one is missing.
  """
  given = {
    "coordinator": arguments.coordinator,
    "processes": arguments.processes,
    "process": arguments.process,
  }
  names = [f"--{name}" for name, value in given.items() if value is not None]
  if arguments.distributed:
    if names:
      raise errors.InputError(
        f"--distributed finds out by itself what {names[0]} says; give one of "
        "them."
      )
    return {}
  if names:
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if missing:
      raise errors.InputError(
        f"{names[0]} without {missing[0]}; give --coordinator HOST:PORT "
        "--processes N --process I."
      )
    return _checked(**given)
  if _ADDRESS in os.environ:
    return _checked(os.environ[_ADDRESS], _number(_COUNT), _number(_INDEX))
  asked = os.environ.get(_ASKED, "")
  if asked not in ("", "0", "1"):
    raise errors.InputError(f"{_ASKED}={asked}: give 1, or 0.")
  return {} if asked == "1" else None


def _checked(
  coordinator: str | None, processes: int | None, process: int | None
) -> dict[str, Any]:
  """Returns the words by name; raises an InputError if one is wrong."""
  if coordinator is not None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
      raise errors.InputError(
        f"--coordinator: {coordinator!r} is no address; give HOST:PORT of the "
        "first process, as in node7:1234."
      )
  if processes is not None and processes < 1:
    raise errors.InputError(
      f"--processes: {processes}; give how many there are, at least 1."
    )
  if None not in (processes, process) and not 0 <= process < processes:
    raise errors.InputError(
      f"--process: {process} of {processes}; give 0 to {processes - 1}, "
      "another for each."
    )
  return {
    "coordinator": coordinator,
    "processes": processes,
    "process": process,
  }


def _number(name: str) -> int | None:
  value = os.environ.get(name)
  if value is not None and not value.isdecimal():
    raise errors.InputError(f"{name}={value}: expected a number.")
  return None if value is None else int(value)


@contextlib.contextmanager
def joined(
  arguments: argparse.Namespace,
  tell: Callable[[Exception], int | None],
) -> Iterator[None]:
  """Makes this process one of several, if the words say so, to the end.

  The first one alone prints to stdout. One that fails ends here, whatever the
  others may be waiting for, and its end ends them; an error that all of them
  have is told by the first. Where all is done they wait for each other.

  Args:
    arguments: of a command, with these words.
    tell: prints an error that is to be told in one line, and returns the exit
      code; None for another one.

  Raises:
    InputError: if the words are wrong.
  """
  if "distributed" not in arguments or (found := words(arguments)) is None:
    yield
    return
  from fcnjax import hosts

  # Gloo, which connects CPUs, prints to stdout past Python.
  stdout, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 1)
  try:
    hosts.initialize(**found)
  except errors.InputError as error:
    hosts.leave(tell(error), seconds=0)
  if hosts.is_first():
    os.dup2(stdout, 1)
  try:
    with hosts.missed():
      yield
      hosts.wait("end")
  except Exception as error:
    if hosts.is_first() or not getattr(error, "everywhere", False):
      code = tell(error)
    else:
      code = error.code
    if code is None:
      traceback.print_exception(error)
      code = 1
    lost = isinstance(error, hosts.LostError)
    hosts.leave(code, seconds=0 if lost else hosts.LEAVE)
