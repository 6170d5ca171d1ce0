"""fcnjax evaluate: the scores of a trained run, as a table and as JSON."""

from collections.abc import Callable
import json
import os
import pathlib
from typing import Any

import ml_collections
import numpy as np

from fcnjax import errors, hosts
from fcnjax.cli import build, open_data, outputs, workdir
from fcnjax.data import examples
from fcnjax.data.checking import checks
from fcnjax.metrics import boundary, confusion
from fcnjax.report import page
from fcnjax.training import evaluation
from fcnjax.typing import PredictFn


def run(
  config: ml_collections.ConfigDict,
  path: pathlib.Path,
  classes: tuple[str, ...],
  *,
  checkpoint: str,
  which: str,
) -> None:
  """Evaluates a checkpoint, prints the table and writes evaluation.json.

  Of several processes each evaluates its share of the images.

  Args:
    config: the run's, data words possibly changed.
    path: the workdir.
    classes: the run's class names.
    checkpoint: "best", "latest" or a step.
    which: "val" or "test", the word data.eval_split or data.test_split.

  Raises:
    InputError: if the run, the checkpoint or the data are not there.
  """
  hosts.of_first(lambda: outputs.make_folder(path, "workdir"))
  source = open_data.source(config, which)
  second = config.evaluation.task == "second"
  if unused := open_data.unused(config, source):
    print(unused)
  count = len(source.classes if second else classes)
  hosts.of_first(
    lambda: checks.require(
      checks.check(source, num_classes=count, images=False)
    )
  )
  variables, step = workdir.restore(path, config, checkpoint)
  predict = workdir.network(config, classes, variables, coarse=True)
  scores = score(config, predict, source)
  report(
    path,
    scores,
    split=config.data[open_data.SPLITS[which]],
    step=step,
    task=config.evaluation.task,
  )


def score(
  config: ml_collections.ConfigDict,
  predict: PredictFn,
  source: Any,
  *,
  after: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
  """Returns the scores of a source, BF included, ready for JSON.

  Of several processes each counts its share of the images, by its own devices,
  and all return the scores of all.

  Args:
    config: with the words of data and evaluation.
    predict: image -> logits, or coarse scores of them.
    source: with labels at their own resolution.
    after: called after each image.
  """
  count = len(source.classes)
  outlines: list[list[float]] = []

  def visit(label: np.ndarray, prediction: np.ndarray) -> None:
    scored = boundary.bf_score(label, prediction, num_classes=count)
    outlines.append(scored.tolist())
    after()

  matrix = evaluation.evaluate(
    predict,
    examples.evaluation_examples(
      source,
      workers=config.data.workers,
      indices=hosts.share(range(len(source))),
    ),
    num_classes=count,
    batch_size=config.evaluation.batch_size,
    multiple=build.bucket(config),
    visit=visit,
  )
  matrices, shares = zip(*hosts.gathered([matrix.tolist(), outlines]))
  matrix = np.sum(matrices, axis=0)
  return confusion.scores(matrix, exclude=excluded(config, source.classes)) | {
    "boundary_f1": boundary.mean_bf_score(np.array(hosts.merged(shares))),
    "confusion_matrix": matrix.tolist(),
    "classes": list(source.classes),
    "colors": [list(color) for color in source.colors],
    "images": len(source),
  }


def excluded(
  config: ml_collections.ConfigDict, classes: tuple[str, ...]
) -> list[int]:
  """Returns the ids of the classes of `evaluation.exclude`, of the first task.

  Raises:
    InputError: if a name is none of the classes.
  """
  names = config.evaluation.exclude if config.evaluation.task == "first" else ()
  for name in names:
    if name not in classes:
      raise errors.InputError(
        f"evaluation.exclude: {name!r} is none of the classes "
        f"({', '.join(classes)})."
      )
  return [classes.index(name) for name in names]


def holds(path: pathlib.Path, *, split: str, step: int | None) -> bool:
  """Whether evaluation.json is of this split and checkpoint, and has a page."""
  if not (path / page.FILE).is_file():
    return False
  try:
    record = json.loads((path / "evaluation.json").read_text())
  except (OSError, ValueError, RecursionError):
    return False
  if not isinstance(record, dict):
    return False
  return (record.get("split"), record.get("step")) == (split, step)


def report(
  path: pathlib.Path,
  scores: dict[str, Any],
  *,
  split: str,
  step: int,
  task: str = "first",
) -> None:
  """Writes evaluation.json, in one move, and the page; prints the table.

  The first process does so, while the others go on.

  Of the second task it is evaluation_second.json; the page tells the first.
  """
  if not hosts.is_first():
    return
  record = {"split": split, "step": step, **confusion.record(scores)}
  temporary = path / f".evaluation-{os.getpid()}"
  temporary.write_text(json.dumps(record, indent=2) + "\n")
  name = "evaluation.json" if task == "first" else f"evaluation_{task}.json"
  temporary.replace(path / name)
  print(confusion.table(scores, scores["classes"]))
  outlines = scores["boundary_f1"]
  print(
    f"{split}, {scores['images']} images, step {step}: mean IoU "
    f"{100 * scores['mean_iou']:.2f} %, BF "
    + (
      f"{100 * outlines:.2f} %"
      if np.isfinite(outlines)
      else "– (outlines ignored)"
    )
  )
  print(page.write(path))
