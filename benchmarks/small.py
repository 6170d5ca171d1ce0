"""Small networks, trained from noise on the embedded scenes, and scored."""

import functools
import itertools
from typing import Any

from flax import linen as nn
import jax
import numpy as np
from scipy import ndimage

from fcnjax.data import examples, normalization, pipeline, reading, scenes
from fcnjax.metrics import boundary, confusion
from fcnjax.training import optimizers, schedules, state, step
from fcnjax.typing import IGNORE

CLASSES = len(scenes.CLASSES)
SIZE = (96, 96)
BATCH = 8
_NORMALISATION = {"mean": scenes.MEAN, "std": scenes.STD}
_normalized = jax.jit(
  functools.partial(normalization.normalized, **_NORMALISATION)
)
RATE = 2e-3  # AdamW's, falling to 0 along half a cosine
TRIMAP = 3  # pixels


def train(
  model: nn.Module,
  seed: int,
  *,
  steps: int,
  batch_size: int = BATCH,
  sampling: float = 1.0,
) -> dict[str, Any]:
  """Returns the variables after `steps` steps on the scenes."""
  made = pipeline.training_batches(
    reading.Reader(scenes.Scenes("train"), seed=seed),
    batch_size=batch_size,
    transforms=(("flip", {"vertical": True}),),
  )
  batches = (_normalized(batch) for batch in made)
  image = np.zeros((1, *SIZE, 3), np.float32)
  variables = jax.jit(model.init)(jax.random.key(seed), image)
  return fit(
    model.apply,
    variables,
    batches,
    seed=seed,
    steps=steps,
    sampling=sampling,
    takes_label=getattr(model, "takes_label", False),
  )


def fit(apply, variables, batches, *, steps: int, **words) -> dict[str, Any]:
  """Returns the variables after `steps` batches; words are train_step's."""
  rate = schedules.cosine(RATE, total=steps)
  optimizer = optimizers.adamw(rate, variables["params"], weight_decay=1e-4)
  update = jax.jit(
    functools.partial(
      step.train_step, apply=apply, optimizer=optimizer, **words
    ),
    donate_argnums=0,
  )
  trained = state.create(variables, optimizer)
  for batch in itertools.islice(batches, steps):
    trained, _ = update(trained, batch)
  batches.close()
  return trained.variables()


def outputs(model, variables) -> tuple[np.ndarray, np.ndarray]:
  """Returns predictions [n, h, w] and outputs["features"], if any, of val."""
  apply = jax.jit(lambda image: model.apply(variables, image, train=False))
  images, _ = split("val")
  found = [apply(images[i : i + 16]) for i in range(0, len(images), 16)]
  predictions = [np.asarray(o["logits"]).argmax(-1) for o in found]
  features = [np.asarray(o["features"]) for o in found if "features" in o]
  return (
    np.concatenate(predictions),
    np.concatenate(features) if features else np.zeros(0),
  )


@functools.cache
def split(
  name: str, size: tuple[int, int] = SIZE, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns normalised images and labels of a split, the first `most`."""
  source = scenes.Scenes(name, size=size)
  indices = range(len(source))[:most]
  found = list(examples.evaluation_examples(source, indices=indices))
  images = np.stack([e["image"] for e in found])
  images = normalization.normalized_image(images, **_NORMALISATION)
  return np.asarray(images), np.stack([e["label"] for e in found])


def scores(
  predictions: np.ndarray, size: tuple[int, int] = SIZE
) -> dict[str, float]:
  """Returns mean IoU, in the trimap too, and BF of predictions of val.

  The scenes' contours are ignored, two pixels wide; for BF, which compares
  contours, each ignored pixel takes the class nearest to it.
  """
  _, labels = split("val", size)
  bands = [
    np.where(boundary.trimap(label, width=TRIMAP), label, IGNORE)
    for label in labels
  ]
  outlines = [
    boundary.bf_score(_filled(label), prediction, num_classes=CLASSES)
    for label, prediction in zip(labels, predictions)
  ]
  return {
    "mean IoU": _mean_iou(labels, predictions),
    "trimap IoU": _mean_iou(np.stack(bands), predictions),
    "BF": boundary.mean_bf_score(np.stack(outlines)),
  }


def _mean_iou(labels: np.ndarray, predictions: np.ndarray) -> float:
  matrix = confusion.confusion_matrix(
    labels.astype(np.int32), predictions, num_classes=CLASSES
  )
  return float(confusion.scores(np.asarray(matrix))["mean_iou"])


def _filled(label: np.ndarray) -> np.ndarray:
  nearest = ndimage.distance_transform_edt(
    label == IGNORE, return_distances=False, return_indices=True
  )
  return label[tuple(nearest)]
