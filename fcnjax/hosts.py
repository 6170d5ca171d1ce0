"""The processes of a run, on one host or many; the only file that knows them.

Each process holds its own devices, makes its own part of every batch and
evaluates its own share of the images. The first one writes: what a run leaves
behind is written once, and what one process finds out about files is told to
the others, whose view of a shared file system may be older.

Whatever is gathered here is so by a collective: all processes call the same
functions in the same order. One process is a run of its own, for which all of
this does nothing.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import ctypes
import functools
import itertools
import json
import os
import pathlib
import re
import signal
import sys
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from fcnjax import errors

# Seconds without a sign of life after which a process counts as dead.
HEARTBEAT = 30
# Seconds in which all processes of a run must have been started.
START = 300
# Seconds that a process which ends by an error waits for the others to do so.
LEAVE = 5
# What JAX's errors begin with where a collective fails; or, if they speak of
# what connects the processes, may begin with.
_LOST = ("ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE")
_PERHAPS_LOST = ("INTERNAL", "UNKNOWN:")
_CONNECTION = re.compile("gloo|nccl|connection|coordination|heartbeat", re.I)


class LostError(errors.Stopped):
  """Another process of the run has ended, or cannot be reached."""


def initialize(
  *,
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
) -> None:
  """Makes this process one of several; before any other call of JAX.

  SIGTERM is left to the caller, as in a run of one process: JAX's own notifier
  would take it, also where nobody asks whether it came.

  Args:
    coordinator: "HOST:PORT" of the first process, where it is free; None = as
      the cluster's environment tells (Slurm, Open MPI, Kubernetes, TPU).
    processes: how many there are; None = likewise.
    process: which one this is, counted from 0; None = likewise.

  Raises:
    InputError: if the environment tells nothing, or the others do not come
      within `START` seconds.
  """
  told = None not in (coordinator, processes, process)
  jax.config.update("jax_enable_preemption_service", False)
  ctypes.CDLL(None).signal(signal.SIGABRT, _aborted)
  try:
    jax.distributed.initialize(
      coordinator,
      processes,
      process,
      # Whoever tells all has told which devices the process sees.
      cluster_detection_method="deactivate" if told else None,
      initialization_timeout=START,
      heartbeat_timeout_seconds=HEARTBEAT,
    )
    # The connections between the devices are made now, while all are there: one
    # that ends later is missed at once.
    wait("start")
  except (ValueError, TypeError, RuntimeError, OSError) as error:
    words = " ".join(str(error).split())
    raise errors.InputError(
      f"the processes of the run do not find each other ({words[:300]}); give "
      "each --coordinator HOST:PORT --processes N --process I, all at once."
    ) from error


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(number: int) -> None:
  """Ends the process with a code that is ours, where JAX aborts it.

  JAX does so, in a thread of its own, as soon as it misses the first process,
  when it has missed another one for `HEARTBEAT` seconds, and where it does not
  find all of them within `START`. A handler of Python's would come too late:
  the process is gone when it would be called.
  """
  del number
  line = (
    "fcnjax: JAX has ended this process (see above), as it does when another "
    "one of the run has ended, was never started or cannot be reached; start "
    "all again: a training resumes from its last checkpoint.\n"
  )
  os.write(2, line.encode())
  os._exit(errors.Stopped.code)


@contextlib.contextmanager
def missed() -> Iterator[None]:
  """Says in one line what JAX finds where another process has ended.

  Raises:
    LostError: in the place of an error of JAX's runtime.
  """
  try:
    yield
  except Exception as error:
    if found := lost(error):
      raise found from error
    raise


def lost(error: BaseException) -> LostError | None:
  """Returns what to say if the error, or its cause, is of a lost process."""
  if count() == 1:
    return None
  cause: BaseException | None = error
  while cause is not None:
    words = " ".join(str(cause).split())
    runtime = isinstance(cause, jax.errors.JaxRuntimeError | ValueError)
    if runtime and (
      words.startswith(_LOST)
      or (words.startswith(_PERHAPS_LOST) and _CONNECTION.search(words))
    ):
      return LostError(
        "another process of the run has ended, or cannot be reached "
        f"({words[:200]}); see what it said, and start all again: a training "
        "resumes from its last checkpoint."
      )
    cause = cause.__cause__ or cause.__context__
  return None


def count() -> int:
  """Returns how many processes the run has."""
  return jax.process_count()


def is_first() -> bool:
  """Whether this is the process that writes."""
  return jax.process_index() == 0


def named(name: str) -> str:
  """Returns a file's name of this process alone; the first one's is `name`."""
  if is_first():
    return name
  path = pathlib.Path(name)
  return f"{path.stem}_process_{jax.process_index()}{path.suffix}"


def devices(number: int) -> list[jax.Device]:
  """Returns `number` devices, as many of each process as of any other.

  Those of a process stand together, in the order of the processes.

  Args:
    number: a multiple of the processes.
  """
  each = number // count()
  return [
    device
    for process in range(count())
    for device in jax.local_devices(process_index=process)[:each]
  ]


def share(items: Sequence[Any]) -> list[Any]:
  """Returns what of the items is this process's: no item is two processes'."""
  return list(items[jax.process_index() :: count()])


def merged(shares: Sequence[Sequence[Any]]) -> list[Any]:
  """Returns the items in their order, from all processes' shares of them."""
  nothing = object()
  rounds = itertools.zip_longest(*shares, fillvalue=nothing)
  return [item for one in rounds for item in one if item is not nothing]


def wait(name: str) -> None:
  """Waits until all processes are here.

  Args:
    name: of the place, the same on all.
  """
  if count() > 1:
    multihost_utils.sync_global_devices(name)


def gathered(value: Any) -> list[Any]:
  """Returns all processes' values, in the order of the processes.

  Args:
    value: of JSON; floats come exactly, NaN too.
  """
  if count() == 1:
    return [value]
  data = _bytes(value)
  lengths = multihost_utils.process_allgather(np.int32(len(data)))
  rows = multihost_utils.process_allgather(_padded(data, max(lengths)))
  return [
    json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths)
  ]


def of_first(function: Callable[[], Any]) -> Any:
  """Returns what the first process's call of a function returns.

  Args:
    function: is called there alone; of several processes, what it returns must
      be JSON's, and its tuples are lists.

  Raises:
    InputError, Stopped: on all processes what the function raises.
  """
  if count() == 1:
    return function()
  failure, answer = None, None
  if is_first():
    try:
      answer = {"value": function()}
    except (errors.InputError, errors.Stopped) as error:
      failure = error
      answer = {"error": str(error), "code": error.code}
  answer = _from_first(answer)
  if "error" not in answer:
    return answer["value"]
  if failure is None:
    wrong = answer["code"] == errors.InputError.code
    kind = errors.InputError if wrong else errors.Stopped
    failure = kind(answer["error"])
  failure.everywhere = True
  raise failure


def _from_first(value: Any) -> Any:
  data = _bytes(value)
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  row = multihost_utils.broadcast_one_to_all(_padded(data[:length], length))
  return json.loads(row[:length].tobytes())


def _bytes(value: Any) -> bytes:
  return json.dumps(value).encode()


def _padded(data: bytes, length: int) -> np.ndarray:
  """Returns uint8 of a power of two, so that a few programs are compiled."""
  row = np.zeros(max(64, 1 << (int(length) - 1).bit_length()), np.uint8)
  row[: len(data)] = np.frombuffer(data, np.uint8)
  return row


def spread(own: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
  """Returns the global array of which every process holds its own part.

  Args:
    own: the part, in the host's memory.
    sharding: of the global array.
  """
  # Of several processes JAX takes it for a transfer that nobody asked for.
  with jax.transfer_guard_host_to_device("allow"):
    return jax.make_array_from_process_local_data(sharding, own)


def largest(value: int) -> Any:
  """Returns the largest of all processes' numbers; waits for nothing.

  Args:
    value: fits into 31 bits.

  Returns:
    Something that `int` makes the number of, once it is known.
  """
  if count() == 1:
    return value
  by_device, everywhere = _shardings()
  own = np.full(jax.local_device_count(), value, np.int32)
  return _maximum(everywhere)(spread(own, by_device))


@functools.cache
def _shardings() -> tuple[NamedSharding, NamedSharding]:
  mesh = Mesh(np.array(devices(jax.device_count())), ("devices",))
  return (
    NamedSharding(mesh, PartitionSpec("devices")),
    NamedSharding(mesh, PartitionSpec()),
  )


@functools.cache
def _maximum(everywhere):
  return jax.jit(jax.numpy.max, out_shardings=everywhere)


def leave(code: int, *, seconds: float = LEAVE) -> None:
  """Ends this process of several; the others end, too, if they do not yet.

  Nothing is waited for that another process may never do: neither threads nor
  what JAX does at the exit.

  Args:
    code: of the exit.
    seconds: in which others that end as well may do so in good order.
  """

  def together():
    with contextlib.suppress(Exception):
      jax.distributed.shutdown()  # ends when all have called it

  if seconds:
    end = threading.Thread(target=together, daemon=True)
    end.start()
    end.join(seconds)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
