"""Which example stands at which position of the stream of training examples.

An order is a function of a position p = 0, 1, 2, ... to an index in the source,
and of nothing else: nothing is replayed to know what stands at p = 10**9, and
every process, and every path that makes batches, knows the same.

What is drawn for an epoch or a block is kept while it is in use: for each of
`streams` places in which an order is read (see FAR), the one that ends and the
one that begins.
"""

from collections.abc import Callable, Iterator, Sequence
import functools

from jaxtyping import Integer
import numpy as np

from fcnjax import errors

Order = Callable[[int], int]

# Streams that have nothing to do with each other are parts of one order that no
# run reaches from another: the examples that are mixed into the one at p stand
# at p + FAR, p + 2 FAR, ...
FAR = 2**48

# How many positions a mixture's weights are rounded to.
_BLOCK = 1000

# Of what is kept of epochs and blocks beyond those in use: small ones are over
# before a batch is.
_SPARE = 8

# Last words of the seeds, so that no two kinds of numbers are the same. Zero,
# which NumPy does not tell from nothing, is that of a uniform order.
_CLASSES, _IMAGES, _PARTS, _STAND_INS = 1, 2, 3, 4


def uniform(count: int, seed: int, *, streams: int = 1) -> Order:
  """Returns the order in which every epoch holds every example once.

  Position p is place p % count of epoch p // count, whose permutation is drawn
  from (seed, epoch).

  Args:
    count: of the examples.
    seed: of the order.
    streams: places in which it is read; see the module.
  """

  @functools.lru_cache(maxsize=2 * streams + _SPARE)
  def permutation(epoch: int) -> np.ndarray:
    return _generator(seed, epoch).permutation(count)

  def index(position: int) -> int:
    epoch, place = divmod(position, count)
    return int(permutation(epoch)[place])

  return index


def class_balanced(
  pixel_counts: Integer[np.ndarray, "n k"],
  seed: int,
  *,
  least: int = 1,
  streams: int = 1,
) -> Order:
  """Returns the order that shows every class equally often.

  Of k classes, each stands once in positions [i k, (i + 1) k), in an order
  drawn for this block, and is shown by one of the images that hold it; each of
  those once before any comes again.

  Args:
    pixel_counts: of each class in each image.
    seed: of the order.
    least: pixels of a class that an image must have to show it. Classes that no
      image shows are left out.
    streams: places in which it is read; see the module.

  Raises:
    InputError: if no class is shown.

  Source: class-aware sampling, Shen, Lin and Huang, ECCV 2016 ("Relay
  backpropagation"), section 4: a shuffled list of classes, and for each class
  one of images.
  """
  shown = np.asarray(pixel_counts) >= least
  holders = [np.flatnonzero(column) for column in shown.T if column.any()]
  if not holders:
    raise errors.InputError(
      f"data.sampling: no image has {least} pixels of a class; lower "
      "data.sampling_pixels."
    )
  turn = _blocks([1] * len(holders), seed, _CLASSES, streams)

  # Every class has epochs of its own.
  @functools.lru_cache(maxsize=2 * streams * len(holders) + _SPARE)
  def permutation(number: int, epoch: int) -> np.ndarray:
    return _generator(seed, number, epoch, _IMAGES).permutation(holders[number])

  def index(position: int) -> int:
    number, before = turn(position)
    epoch, place = divmod(before, len(holders[number]))
    return int(permutation(number, epoch)[place])

  return index


def mixed(
  orders: Sequence[Order],
  counts: Sequence[int],
  weights: Sequence[float | int],
  seed: int,
  *,
  streams: int = 1,
) -> Order:
  """Returns the order of several sets, one behind the other, by weight.

  Each set goes on in its own order whenever its turn comes. Whole weights hold
  exactly in every block of as many positions as they sum to; others, and such
  as sum to more than 1000, are rounded to thousandths.

  Args:
    orders: of each set alone.
    counts: how many examples each set has.
    weights: how often each set's turn comes, relative to the others.
    seed: of the turns.
    streams: places in which it is read; see the module.
  """
  shares = np.asarray(weights, np.float64)
  if (shares % 1 != 0).any() or shares.sum() > _BLOCK:
    shares = shares / shares.sum() * _BLOCK
  quotas = np.floor(shares).astype(int)
  missing = int(round(shares.sum())) - int(quotas.sum())
  quotas[np.argsort(quotas - shares, kind="stable")[:missing]] += 1
  if not quotas.all():
    raise errors.InputError(
      f"data.mix: a weight of {min(weights)} is less than a thousandth of all; "
      "raise it, or leave its data set out."
    )
  turn = _blocks(quotas.tolist(), seed, _PARTS, streams)
  first = np.cumsum([0, *counts])

  def index(position: int) -> int:
    part, before = turn(position)
    return int(first[part]) + orders[part](before)

  return index


def stand_ins(seed: int, position: int, count: int) -> Iterator[int]:
  """Yields indices to try where the example at a position cannot be read."""
  generator = _generator(seed, position, _STAND_INS)
  while True:
    yield int(generator.integers(count))


def part_seed(seed: int, part: int) -> int:
  """Returns the seed of a part of a mixture."""
  words = (seed % 2**64, part, _PARTS)
  return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def _blocks(
  quotas: Sequence[int], seed: int, word: int, streams: int
) -> Callable[[int], tuple[int, int]]:
  """Returns position -> (kind, how often that kind stood before).

  Every block of sum(quotas) positions holds kind i quotas[i] times.
  """
  kinds = np.repeat(np.arange(len(quotas)), quotas)
  # In a stable sort of a block, the nth of a kind is n behind its first.
  begins = np.cumsum(quotas) - quotas

  @functools.lru_cache(maxsize=2 * streams + _SPARE)
  def block(number: int) -> tuple[np.ndarray, np.ndarray]:
    shuffled = _generator(seed, number, word).permutation(kinds)
    before = np.empty_like(shuffled)
    before[np.argsort(shuffled, kind="stable")] = np.arange(len(kinds))
    return shuffled, before - begins[shuffled]

  def at(position: int) -> tuple[int, int]:
    number, place = divmod(position, len(kinds))
    shuffled, before = block(number)
    kind = int(shuffled[place])
    return kind, number * quotas[kind] + int(before[place])

  return at


def _generator(seed: int, *words: int) -> np.random.Generator:
  return np.random.default_rng((seed % 2**64, *words))
