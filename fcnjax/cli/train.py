"""fcnjax train: one run from its config to its report, top to bottom."""

from collections.abc import Callable
import contextlib
import functools
import itertools
import pathlib
import sys
from typing import Any

import jax
import ml_collections
import numpy as np

from fcnjax import checkpoints, errors, hosts
from fcnjax.cli import (
  batches as batches_lib,
  build,
  device_memory,
  evaluate as evaluate_command,
  init_from,
  non_finite,
  open_data,
  preflight,
  rows,
  signals,
  validation,
  workdir,
)
from fcnjax.metrics import confusion
from fcnjax.report import overlays
from fcnjax.training import (
  debug as debugging,
  loop,
  optimizers,
  sharding,
  state as states,
  statistics,
  step as steps,
  trace as traces,
  watchdog,
  writers,
)

FIGURES = (
  "mean_iou",
  "pixel_accuracy",
  "mean_accuracy",
  "frequency_weighted_iou",
)


def run(
  config: ml_collections.ConfigDict,
  path: pathlib.Path,
  *,
  profile: bool = False,
  debug: bool = False,
) -> None:
  """Trains, or goes on where the run in the workdir stopped.

  Args:
    config: complete and locked.
    path: the workdir.
    profile: whether to write a trace of a few steps to profile/.
    debug: whether to look at every intermediate result of a step, slowly.

  Raises:
    InputError: if config, data or workdir are wrong: before config.json is
      written or a step is made, as far as can be known then.
    Stopped: the run ended before its last step; see `errors` and `loop`.
  """
  with signals.terminable(), contextlib.ExitStack() as resources:
    done = _run(config, path, resources, profile=profile, debug=debug)
    if done is not None:
      evaluate_command.report(path, **done)


def _run(
  config: ml_collections.ConfigDict,
  path: pathlib.Path,
  resources: contextlib.ExitStack,
  *,
  profile: bool,
  debug: bool,
) -> dict[str, Any] | None:
  """Returns what is to be reported, unless the run was finished before.

  What it opens is closed by `resources`, the last first.
  """
  # 1. The data: files are opened, none of their pixels are read.
  preflight.check_tasks(config)
  train = open_data.source(config, "train")
  val = open_data.source(config, "val")
  test = open_data.source(config, "test") if config.data.test_split else None
  classes = train.classes
  class_weights = open_data.class_weights(config, train)
  batches_lib.check(config)
  parts = getattr(train, "parts", [train])
  for words in dict.fromkeys(part.table.describe() for part in parts):
    print(words)
  if unused := open_data.unused(config, train):
    print(unused)

  # 2. The network, the optimizer, a step: shapes only, so that what does not
  #    fit is known before anything is computed.
  model = build.model(config, num_classes=len(classes))
  mesh = sharding.create_mesh(
    data=config.mesh.data,
    space=config.mesh.space,
    batch_size=config.batch_size,
  )
  if config.batch_size % config.accumulate:
    raise errors.InputError(
      f"accumulate: {config.batch_size} images do not divide into "
      f"{config.accumulate} parts; change batch_size or accumulate."
    )
  if mesh.size < jax.device_count():
    print(f"using {mesh.size} of {jax.device_count()} devices (mesh.data)")
  size = preflight.image_size(config, train)
  channels = open_data.channels(config)
  shapes = preflight.shapes(model, (1, *size, channels))
  rows.check(mesh, model, shapes, size)
  optimizer = build.optimizer(config, shapes["params"])
  normalization = build.chosen(
    build.NORMALIZATIONS, config.loss.normalization, "loss.normalization"
  )
  remat = build.chosen(build.REMATS, config.remat, "remat")
  policy = build.chosen(non_finite.POLICIES, config.nan_policy, "nan_policy")
  excluded = evaluate_command.excluded(config, classes)
  balance = build.chosen(build.BALANCES, config.loss.balance, "loss.balance")
  if config.statistics_batches and "batch_stats" not in shapes:
    raise errors.InputError(
      f"statistics_batches: {config.model.name} has no batch norm as it is "
      "configured; set --config.statistics_batches=0."
    )
  build.check_shapes(
    config,
    model.apply,
    shapes,
    train=(1, *size, channels),
    evaluate=(1, *preflight.first_size(val), channels),
  )
  # Each process evaluates its share of the images, on its own devices.
  predictor = build.predictor(
    config, model.apply, mesh=mesh.local_mesh, coarse=True
  )

  def create():
    image = np.zeros((1, *size, channels), np.float32)
    variables = model.init(jax.random.key(config.seed), image)
    return states.create(variables, optimizer, ema=config.ema_decay > 0)

  shapes_of_state = jax.eval_shape(create)
  placement = sharding.of_state(
    shapes_of_state, mesh, shard_parameters=config.mesh.shard_parameters
  )
  create = jax.jit(create, out_shardings=placement)
  abstract = jax.tree.map(
    lambda x, own: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own),
    shapes_of_state,
    placement,
  )

  def check_workdir():
    return workdir.check(path, config, classes=classes, colors=train.colors)

  # 3. The workdir; and, since it takes longest of what may end in an error,
  #    then only whether the masks can be trained on.
  hosts.of_first(check_workdir)

  hosts.of_first(
    lambda: preflight.check_masks(config, train=train, val=val, test=test)
  )

  # 4. Where the run starts: 1. its own latest checkpoint, 2. the parameters
  #    of another run (init_from), 3. fresh ones.
  hosts.of_first(lambda: resources.enter_context(workdir.locked(path)))
  saved = resources.enter_context(
    checkpoints.Checkpoints(
      path / "checkpoints",
      keep=config.keep_checkpoints,
      every=config.keep_every,
    )
  )
  # Another run may have begun here while the masks were read.
  record, changes = hosts.of_first(check_workdir)
  latest = saved.latest
  workdir.tell_of_damage(saved)
  finished = latest is not None and latest >= config.steps
  split = config.data.eval_split if test is None else config.data.test_split
  if finished and hosts.of_first(
    functools.partial(
      evaluate_command.holds, path, split=split, step=saved.best
    )
  ):
    print(
      f"{path} is finished: step {latest} of {config.steps}. Raise "
      "--config.steps to train on; nothing was changed."
    )
    return None

  needed = functools.partial(
    device_memory.estimate,
    *(config, model, size, shapes["params"], abstract),
    mesh=mesh,
  )
  if warning := device_memory.warning(needed):
    print(warning)
  resources.enter_context(device_memory.of_training(needed))

  def begin(step: int | None) -> states.TrainState:
    if step is not None:
      return saved.restore(step, abstract)
    if config.init_from:
      return init_from.start_from(config, create())
    return create()

  state = begin(latest)
  first = int(state.step)
  if latest is not None:
    print(f"resuming {path} at step {latest} of {config.steps}")
  elif saved.incomplete:
    print(f"{path} has no whole checkpoint: it begins anew")

  # 5. The batches from there on.
  train = open_data.with_pixel_weights(config, train, path / "cache")
  begun = record["resolved"]["batches"]
  makers = hosts.of_first(lambda: batches_lib.path(config, train, begun))
  record["resolved"]["batches"] = makers
  if begun not in (None, makers):
    changes.append(f"random numbers changed: batches by {makers}, not {begun}")
  training_batches = batches_lib.create(
    config, train, mesh, path=makers, cache=path / "cache"
  )
  batches = resources.enter_context(
    contextlib.closing(training_batches.start(first))
  )

  # 6. Functions of the state: a step, an evaluation, a checkpoint.
  weights = hosts.of_first(lambda: class_weights(path / "cache"))
  one_step = functools.partial(
    steps.train_step,
    apply=model.apply,
    optimizer=optimizer,
    seed=config.seed,
    normalization=normalization,
    class_weights=weights and tuple(weights),
    aux_weight=config.loss.aux_weight,
    sampling=config.loss.sampling,
    balance=balance,
    accumulate=config.accumulate,
    ema_decay=config.ema_decay,
    takes_label=getattr(model, "takes_label", False),
    trained=optimizers.trained(shapes["params"], config.optimizer.groups),
    remat=remat,
    skip=policy == "skip",
  )
  if debug:
    # checkify cannot look into what each device computes by itself.
    train_step = debugging.checked(
      functools.partial(one_step, gathered=sharding.gatherer(placement.params)),
      out_shardings=(placement, sharding.replicated(mesh)),
    )
  else:
    train_step = sharding.jitted(one_step, mesh, placement)

  def evaluate(
    state: states.TrainState, step: int, check: Callable[[], None]
  ) -> dict[str, Any]:
    predict = predictor(sharding.local(state.variables(averaged=True), mesh))
    matrix = validation.matrix(config, predict, val, check=check)
    scores = confusion.scores(matrix, exclude=excluded)
    figures = {name: scores[name] for name in FIGURES}
    if main:
      panels = validation.panels(config, predict, val)
      writer.images(step, "val", panels)
      overlays.save(path / "overlays", panels)
    writer.write(step, "val", figures | {"iou": scores["iou"]})
    line = "  ".join(f"{n} {figures[n]:.4f}" for n in FIGURES[:2])
    progress.say(f"step {step}/{config.steps}  val {line}")
    return figures

  def save(
    step: int, state: states.TrainState, figures: dict[str, Any] | None
  ) -> None:
    score = None if figures is None else figures["mean_iou"]
    if score is not None and not np.isfinite(score):
      score = None  # Nothing but ignored pixels: no candidate for the best.
    writer.sync()  # A checkpoint must not outlast its lines.
    saved.save(step, state, mean_iou=score, evaluated=figures is not None)

  recording = sharding.spread(model.clone(bn_momentum=0.0).apply, mesh)

  def with_statistics(state: states.TrainState) -> states.TrainState:
    """Averages batch norm's statistics, of the parameters to be evaluated."""
    with contextlib.closing(training_batches.start(0)) as first_epoch:
      stats = statistics.batch_norm_statistics(
        recording,
        sharding.whole(state.variables(averaged=True), mesh),
        (
          sharding.to_devices(batch, mesh)
          for batch in itertools.islice(first_epoch, config.statistics_batches)
        ),
        seed=config.seed,
      )
    return state.replace(
      collections={**state.collections, "batch_stats": stats}
    )

  # 7. The run.
  for line in changes:
    print(line)
  main = hosts.is_first()
  if main:
    workdir.write(path, record)
  progress = writers.Progress(start=first, total=config.steps, active=main)
  resources.callback(progress.close)
  if main and first < config.steps:
    on_cpu = jax.default_backend() == "cpu"
    slow = "; on a CPU that may take minutes" if on_cpu else ""
    print(f"compiling the first step{slow}", flush=True)
  dog = resources.enter_context(
    watchdog.Watchdog(
      config.watchdog_seconds,
      progress.say if main else functools.partial(print, file=sys.stderr),
      path / hosts.named("hang.txt"),
    )
  )
  restored, times = None, 0
  while True:
    start = int(state.step)
    due = start % config.eval_every == 0 or start == config.steps
    evaluated = not due or start == 0 or saved.evaluated(start)
    writer = writers.Writer(
      path, resume=start, evaluated=evaluated, active=main
    )
    folder = path / "profile" if profile and main else None
    trace = traces.Trace(folder, first=start)
    with (
      contextlib.closing(batches),
      contextlib.closing(writer),
      contextlib.closing(trace),
    ):
      try:
        loop.fit(
          state,
          train_step,
          batches,
          mesh=mesh,
          steps=config.steps,
          batch_size=config.batch_size,
          log_every=config.log_every,
          eval_every=config.eval_every,
          checkpoint_every=config.checkpoint_every,
          writer=writer,
          progress=progress,
          evaluate=evaluate,
          save=save,
          non_finite=non_finite.handler(
            policy, path / "nonfinite", training_batches, progress
          ),
          evaluate_first=not evaluated,
          at=dog.at,
          trace=trace,
          more=training_batches.figures,
          prepare=with_statistics if config.statistics_batches else None,
        )
        break
      except errors.Terminated:
        signals.ignore_more()
        raise
      except loop.NonFiniteError as error:
        if policy != "restore":
          raise
        saved.wait()
        latest = saved.latest
        times = times + 1 if latest == restored else 1
        restored, state = latest, begin(latest)
        state = non_finite.lower_rate(state, error, times)
        batches = training_batches.start(int(state.step))
        progress.back_to(int(state.step), f"{error} (nan_policy=restore)")
  saved.wait()

  # 8. The best checkpoint, on the test split or else on the validation one.
  watched = functools.partial(dog.at, "the scores of the best checkpoint")
  watched()
  best = saved.best
  state = saved.restore(best, abstract)
  scores = evaluate_command.score(
    config,
    predictor(sharding.local(state.variables(averaged=True), mesh)),
    val if test is None else test,
    after=watched,
  )
  return {"scores": scores, "split": split, "step": best}
