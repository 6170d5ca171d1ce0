"""fcnjax evaluate: the scores of a trained run, as a table and as JSON."""

import json
import os
import pathlib
from typing import Any

import ml_collections
import numpy as np

from fcnjax.cli import open_data, workdir
from fcnjax.data import checks, examples
from fcnjax.metrics import boundary, confusion
from fcnjax.training import evaluation


def run(
  config: ml_collections.ConfigDict,
  path: pathlib.Path,
  classes: tuple[str, ...],
  *,
  checkpoint: str,
  split: str,
) -> None:
  """Evaluates a checkpoint, prints the table and writes evaluation.json.

  Args:
    config: the run's, data words possibly changed.
    path: the workdir.
    classes: the run's class names.
    checkpoint: "best", "latest" or a step.
    split: "eval" or "test", the word data.eval_split or data.test_split.

  Raises:
    InputError: if the run, the checkpoint or the data are not there.
  """
  source = open_data.source(config, split)
  checks.require(checks.check(source, num_classes=len(classes), images=False))
  variables, step = workdir.restore(path, config, checkpoint)
  outlines = []

  def visit(label: np.ndarray, prediction: np.ndarray) -> None:
    outlines.append(
      boundary.bf_score(label, prediction, num_classes=len(classes))
    )

  matrix = evaluation.evaluate(
    workdir.network(config, classes, variables),
    examples.evaluation_examples(
      source,
      mean=config.data.mean,
      std=config.data.std,
      workers=config.data.workers,
    ),
    num_classes=len(classes),
    batch_size=config.evaluation.batch_size,
    visit=visit,
  )
  scores = confusion.scores(matrix)
  scores["boundary_f1"] = boundary.mean_bf_score(np.stack(outlines))
  scores["confusion_matrix"] = matrix.tolist()
  scores["images"] = len(source)
  write(
    path, scores, split=split, step=step, classes=classes, colors=source.colors
  )
  print(confusion.table(scores, classes))
  print(f"boundary F1 (BF) {scores['boundary_f1']:.4f}")
  print(f"{len(source)} images, checkpoint of step {step}")


def write(
  path: pathlib.Path,
  scores: dict[str, Any],
  *,
  split: str,
  step: int,
  classes: tuple[str, ...],
  colors: tuple[tuple[int, int, int], ...],
) -> None:
  """Writes evaluation.json in one move."""
  record = {
    "split": split,
    "step": step,
    "classes": list(classes),
    "colors": [list(color) for color in colors],
    **confusion.record(scores),
  }
  temporary = path / f".evaluation-{os.getpid()}"
  temporary.write_text(json.dumps(record, indent=2) + "\n")
  temporary.replace(path / "evaluation.json")
