"""From config words to objects: the plain tables of the training command."""

from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from fcnjax import errors, losses, models
from fcnjax.inference import tiles, whole
from fcnjax.training import optimizers, schedules, sharding
from fcnjax.typing import PredictFn

PRECISIONS = ("float32", "bfloat16")

SCHEDULES = {
  "constant": lambda o, steps: schedules.constant(o.learning_rate),
  "step": lambda o, steps: schedules.steps(
    o.learning_rate, every=o.step_every, factor=o.step_factor
  ),
  "poly": lambda o, steps: schedules.poly(
    o.learning_rate, total=steps, power=o.power
  ),
  "cosine": lambda o, steps: schedules.cosine(o.learning_rate, total=steps),
}

OPTIMIZERS = {
  "sgd": lambda o, rate, params: optimizers.sgd(
    rate,
    params,
    momentum=o.momentum,
    nesterov=o.nesterov,
    weight_decay=o.weight_decay,
    groups=o.groups,
    clip_norm=o.clip_norm,
  ),
  "adamw": lambda o, rate, params: optimizers.adamw(
    rate,
    params,
    weight_decay=o.weight_decay,
    groups=o.groups,
    clip_norm=o.clip_norm,
  ),
}

NORMALIZATIONS = {word: word for word in losses.NORMALIZATIONS}

STRATEGIES = {
  "whole": lambda e, predict, image: whole.whole_image(
    predict, image, multiple=e.multiple
  ),
  "overlap_tile": lambda e, predict, image: tiles.overlap_tile(
    predict,
    image,
    tile=e.tile,
    margin=e.margin,
    stride=e.stride,
    batch=e.batch_size,
  ),
  "sliding_window": lambda e, predict, image: tiles.sliding_window(
    predict,
    image,
    window=e.window,
    overlap=e.overlap,
    margin=e.margin,
    batch=e.batch_size,
  ),
}


def chosen(table: dict[str, Any], word: str, key: str) -> Any:
  """Returns table[word].

  Raises:
    InputError: names the config's key and the known words.
  """
  if word not in table:
    raise errors.InputError(
      f"{key}: {word!r} is unknown; choose one of {', '.join(table)}."
    )
  return table[word]


def model(
  config: ml_collections.ConfigDict, *, num_classes: int, **options: Any
) -> Any:
  """Returns the Linen module; `options` override those of the config.

  Raises:
    InputError: if the name, an option or the precision is unknown.
  """
  if config.precision not in PRECISIONS:
    raise errors.InputError(
      f"precision: {config.precision!r} is unknown; choose one of "
      f"{', '.join(PRECISIONS)}."
    )
  try:
    return models.create_model(
      config.model.name,
      num_classes=num_classes,
      in_channels=config.data.channels,
      dtype=config.precision,
      **{**config.model.options.to_dict(), **options},
    )
  except (TypeError, ValueError) as error:
    raise errors.InputError(f"model: {error}") from error


def optimizer(
  config: ml_collections.ConfigDict, params: Any
) -> optax.GradientTransformation:
  """Returns the optimizer; `params` are needed for their paths alone.

  Raises:
    InputError: if a word is unknown or a group's pattern matches nothing.
  """
  words = config.optimizer
  schedule = chosen(SCHEDULES, words.schedule, "optimizer.schedule")
  build = chosen(OPTIMIZERS, words.name, "optimizer.name")
  rate = schedules.with_warmup(
    schedule(words, config.steps), warmup=words.warmup
  )
  return build(words, rate, params)


def predictor(
  config: ml_collections.ConfigDict,
  apply: Callable[..., Any],
  *,
  mesh: jax.sharding.Mesh | None = None,
) -> Callable[[Any], PredictFn]:
  """Returns variables -> (image -> logits), by the config's strategy.

  Images of one size after another compile once for each size.

  Args:
    config: with the words of `evaluation`.
    apply: the model's.
    mesh: of several devices, over which batches that divide are spread.

  Raises:
    InputError: if the strategy is unknown.
  """
  words = config.evaluation
  strategy = chosen(STRATEGIES, words.strategy, "evaluation.strategy")

  @jax.jit
  def network(variables, image):
    return apply(variables, image, train=False)["logits"]

  def placed(image):
    if mesh is None or len(image) % mesh.size or jax.process_count() > 1:
      return image
    return jax.device_put(image, sharding.by_example(mesh))

  def bound(variables: Any) -> PredictFn:
    return lambda image: strategy(
      words, lambda x: network(variables, placed(x)), np.asarray(image)
    )

  return bound
