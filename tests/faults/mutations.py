"""Bytes as a failing disk or a broken copy leaves them, by a seed."""

from collections.abc import Callable

import numpy as np


def _flip(data: bytearray, at: int, random: np.random.Generator) -> None:
  data[at] ^= 1 << int(random.integers(8))


def _replace(data: bytearray, at: int, random: np.random.Generator) -> None:
  count = int(random.integers(1, 9))
  data[at : at + count] = random.bytes(min(count, len(data) - at))


def _cut(data: bytearray, at: int, random: np.random.Generator) -> None:
  del data[at:]


def _zero(data: bytearray, at: int, random: np.random.Generator) -> None:
  count = min(int(random.integers(1, 600)), len(data) - at)
  data[at : at + count] = bytes(count)


def _insert(data: bytearray, at: int, random: np.random.Generator) -> None:
  data[at:at] = random.bytes(int(random.integers(1, 9)))


def _remove(data: bytearray, at: int, random: np.random.Generator) -> None:
  del data[at : at + int(random.integers(1, 9))]


def _digit(data: bytearray, at: int, random: np.random.Generator) -> None:
  """Changes the next digit, so that numbers in a text become others."""
  for place in (*range(at, len(data)), *range(at)):
    if chr(data[place]).isdigit():
      data[place] = ord("0") + int(random.integers(10))
      return


_KINDS: tuple[Callable, ...] = (
  _flip, _flip, _replace, _cut, _zero, _insert, _remove, _digit
)  # fmt: skip


def mutated(data: bytes, random: np.random.Generator) -> bytes:
  """Returns other bytes: one or two changes, half of them near the head.

  Args:
    data: not empty.
    random: of kinds, places and values.
  """
  while True:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 3))):
      if not changed:
        break
      near = min(100, len(changed)) if random.random() < 0.5 else len(changed)
      kind = _KINDS[int(random.integers(len(_KINDS)))]
      kind(changed, int(random.integers(near)), random)
    if bytes(changed) != data:
      return bytes(changed)
