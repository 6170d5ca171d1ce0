"""From config words to objects: the plain tables of the training command."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from fcnjax import errors, losses, models
from fcnjax.cli import open_data
from fcnjax.data import normalization, recipes
from fcnjax.inference import monte_carlo, tiles, views, whole
from fcnjax.training import optimizers, schedules, sharding, step as steps
from fcnjax.typing import Coarse, PredictFn

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
REMATS = {word: word for word in steps.REMATS}
TASKS = {"first": "logits", "second": "second_logits"}
BALANCES = {word: word for word in losses.BALANCES}

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


def model(config: ml_collections.ConfigDict, *, num_classes: int) -> Any:
  """Returns the Linen module.

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
      in_channels=open_data.channels(config),
      dtype=config.precision,
      **config.model.options.to_dict(),
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


def check_shapes(
  config: ml_collections.ConfigDict,
  apply: Callable[..., Any],
  variables: Any,
  *,
  train: tuple[int, ...],
  evaluate: tuple[int, ...],
) -> None:
  """Runs the network on shapes alone: do images, labels and tiles fit?

  Args:
    config: the whole config.
    apply: the model's.
    variables: its variables' shapes.
    train: shape of a training batch's image.
    evaluate: shape [1, h, w, c] of an image to be evaluated.

  Raises:
    InputError: if data.label_margin is not what the network loses, or the
      strategy does not fit the network.
  """

  @functools.cache
  def size(*shape):
    image = jax.ShapeDtypeStruct(shape, np.float32)
    return jax.eval_shape(apply, variables, image)["logits"].shape

  if config.evaluation.samples:
    _check_draws(config.model.name, apply, variables, train)

  lost = (train[1] - size(*train)[1]) // 2
  if lost != config.data.label_margin:
    raise errors.InputError(
      f"data.label_margin: {config.data.label_margin}, but {config.model.name} "
      f"loses {lost} pixels on each side; set it to {lost}."
    )
  strategy = chosen(
    STRATEGIES, config.evaluation.strategy, "evaluation.strategy"
  )
  image = np.zeros(evaluate, np.float32)
  try:
    logits = _by_views(
      config.evaluation,
      strategy,
      lambda x: np.zeros(size(*x.shape), np.float32),
      image,
    )
  except ValueError as error:
    raise errors.InputError(
      f"evaluation.strategy={config.evaluation.strategy}: {error}"
    ) from error
  if logits.shape[1:3] != evaluate[1:3]:
    raise errors.InputError(
      f"evaluation.strategy={config.evaluation.strategy}: {config.model.name} "
      f"predicts {logits.shape[1:3]} pixels of {evaluate[1:3]}; use "
      "--config.evaluation.strategy=overlap_tile."
    )


def _check_draws(
  name: str, apply: Callable[..., Any], variables: Any, shape: tuple[int, ...]
) -> None:
  """Raises an InputError if the network does nothing with a dropout key."""
  program = jax.make_jaxpr(
    lambda v, x, key: apply(v, x, train=False, rngs={"dropout": key})
  )(variables, np.zeros(shape, np.float32), jax.random.key(0)).jaxpr
  key = program.invars[-1]
  if not any(atom is key for eqn in program.eqns for atom in eqn.invars):
    raise errors.InputError(
      f"evaluation.samples: {name} has no dropout as it is configured; set its "
      "option dropout, as in --config.model.options.dropout=0.5."
    )


def _one_view(words):
  return not (words.flip or words.turns) and tuple(words.scales) == (1.0,)


def bucket(config: ml_collections.ConfigDict) -> int:
  """Returns the multiple that evaluated sizes are rounded up to, or 1.

  It is that of the strategy "whole", which pads in the same way. Windows would
  start elsewhere, and mirrored views at another side.
  """
  words = config.evaluation
  exact = words.strategy == "whole" and _one_view(words)
  return words.multiple if exact else 1


def _by_views(words, strategy, network, image):
  """Applies the strategy to every view that `words` ask for."""
  if _one_view(words):
    return strategy(words, network, image)
  return views.average(
    lambda x: strategy(words, network, x),
    image,
    scales=words.scales,
    flip=words.flip,
    turns=words.turns,
  )


def _is_one_call(words, image):
  """Whether the image goes through the network once, as it is."""
  return (
    words.strategy == "whole"
    and not (words.flip or words.turns or words.samples)
    and tuple(words.scales) == (1.0,)
    and not any(side % words.multiple for side in image.shape[1:3])
  )


def predictor(
  config: ml_collections.ConfigDict,
  apply: Callable[..., Any],
  *,
  mesh: jax.sharding.Mesh | None = None,
  coarse: bool = False,
) -> Callable[[Any], PredictFn]:
  """Returns variables -> (image -> logits), by the config's strategy.

  Images are those of the files, in [0, 255]; they travel to the device as they
  are, and are normalised there.

  Images of one size after another compile once for each size. Called with a
  key besides, what it returns is a sample of a network with dropout; without,
  the mean of `evaluation.samples` of them, if that is not 0.

  Args:
    config: with the words of `evaluation`, data.mean and data.std.
    apply: the model's.
    mesh: of several devices of this process, over which batches, and the rows
      of images, are spread where they divide.
    coarse: whether, where the logits are what one call of the network says,
      `typing.Coarse` scores may be returned in their place, if it has them:
      for `evaluation.evaluate`.

  Raises:
    InputError: if the strategy is unknown, or data.mean or data.std has values
      for another number of channels.
  """
  words = config.evaluation
  for key in ("mean", "std"):
    recipes.check_length(key, config.data[key], open_data.channels(config))
  strategy = chosen(STRATEGIES, words.strategy, "evaluation.strategy")
  output = chosen(TASKS, words.task, "evaluation.task")

  apply = sharding.spread(apply, mesh)
  normal = functools.partial(
    normalization.normalized_image, mean=config.data.mean, std=config.data.std
  )

  @jax.jit
  def network(variables, image, keys):
    image = normal(image)
    return apply(variables, image, train=False, rngs=keys)[output]

  @jax.jit
  def coarse_network(variables, image):
    outputs = apply(variables, normal(image), train=False)
    return outputs.get(f"coarse_{output}", outputs[output])

  def placed(image):
    if mesh is None:
      return image
    return sharding.placed(image, mesh)

  def bound(variables: Any) -> PredictFn:
    def seen(image, keys):
      image = np.asarray(image)
      try:
        if coarse and not keys and _is_one_call(words, image):
          found = coarse_network(variables, placed(image))
          is_coarse = isinstance(found, Coarse)
          size = found.size if is_coarse else found.shape[1:3]
          if tuple(size) == image.shape[1:3]:
            return found
          # The strategy says what is wrong.
        return _by_views(
          words,
          strategy,
          lambda x: network(variables, placed(x), keys),
          image,
        )
      except ValueError as error:
        raise errors.InputError(
          f"evaluation.strategy={words.strategy}: {error}"
        ) from error

    def predict(image, key=None):
      if key is not None:
        return seen(image, {"dropout": key})
      if not words.samples:
        return seen(image, {})
      try:
        return monte_carlo.average(predict, image, samples=words.samples)[0]
      except ValueError as error:
        raise errors.InputError(f"evaluation.samples: {error}") from error

    return predict

  return bound
