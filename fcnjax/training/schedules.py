"""Learning rates over the steps of a run."""

import optax


def constant(learning_rate: float) -> optax.Schedule:
  """Returns a fixed rate, as FCN and SegNet use."""
  return optax.constant_schedule(learning_rate)


def steps(learning_rate: float, *, every: int, factor: float) -> optax.Schedule:
  """Returns rate · factor^⌊t / every⌋ (Caffe's "step" policy)."""
  return optax.exponential_decay(
    learning_rate, transition_steps=every, decay_rate=factor, staircase=True
  )


def poly(
  learning_rate: float, *, total: int, power: float = 0.9, end: float = 0.0
) -> optax.Schedule:
  """Returns (rate − end)·(1 − t/total)^power + end (DeepLab v2, §4.3)."""
  return optax.polynomial_schedule(learning_rate, end, power, total)


def cosine(learning_rate: float, *, total: int) -> optax.Schedule:
  """Returns half a cosine from the rate down to 0."""
  return optax.cosine_decay_schedule(learning_rate, total)


def with_warmup(schedule: optax.Schedule, *, warmup: int) -> optax.Schedule:
  """Returns the schedule multiplied by (t + 1) / warmup before step `warmup`.

  The schedule underneath is not shifted: with warm-up or without, step t
  later on has the same rate.
  """
  if warmup <= 0:
    return schedule

  def rate(count):
    return schedule(count) * optax.linear_schedule(1 / warmup, 1.0, warmup - 1)(
      count
    )

  return rate if warmup > 1 else schedule
