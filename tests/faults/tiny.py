"""A run of seconds, and what it ended with."""

import json
import pathlib

import jax
import numpy as np
import PIL.Image

from fcnjax import checkpoints
from fcnjax.data import scenes

STEPS = 12
SIZE = 32  # pixels of a side of an image


def write_images(root: pathlib.Path, count: int = 12) -> pathlib.Path:
  """Writes scenes and their masks; returns the folder."""
  source = scenes.Scenes("train", size=(SIZE, SIZE), count=count)
  for kind, key in (("images", "image"), ("masks", "label")):
    (root / kind).mkdir(parents=True)
    for index in range(count):
      picture = PIL.Image.fromarray(source[index][key])
      picture.save(root / kind / f"{index:02}.png")
  return root


def words(data: pathlib.Path, workdir: pathlib.Path, *more: str) -> list[str]:
  """Returns the command's words after "fcnjax"; later ones win."""
  return [
    "train",
    "--config=configs/unet.py:folder",
    f"--workdir={workdir}",
    f"--config.data.images={data}/images",
    f"--config.data.masks={data}/masks",
    f"--config.data.num_classes={len(scenes.CLASSES)}",
    "--config.data.transforms=(('random_crop',{'size':(16,16)}),('flip',{}))",
    "--config.data.resident=on",
    "--config.model.options.width=2",
    "--config.model.options.depth=1",
    "--config.model.options.dropout=0.5",
    "--config.ema_decay=0.9",
    "--config.loss.class_weights=median_frequency",
    "--config.evaluation.overlays=1",
    "--config.evaluation.multiple=32",
    f"--config.steps={STEPS}",
    "--config.batch_size=2",
    "--config.mesh.data=1",
    "--config.log_every=1",
    "--config.eval_every=6",
    "--config.checkpoint_every=3",
    *more,
  ]


def figures(workdir: pathlib.Path) -> list[dict]:
  """Returns what stands in metrics.jsonl, without the times."""
  records = []
  for line in (workdir / "metrics.jsonl").read_text().splitlines():
    record = json.loads(line)
    for name in ("images_per_second", "data_wait"):
      record.pop(name, None)
    records.append(record)
  return records


def state(workdir: pathlib.Path, step: int = STEPS) -> dict:
  """Returns the arrays of a checkpoint, by their paths."""
  saved = checkpoints.Checkpoints(workdir / "checkpoints", writing=False)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
    saved.tree(step),
  )
  found = saved.restore(step, abstract)
  saved.close()
  leaves, _ = jax.tree_util.tree_flatten_with_path(found)
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def assert_same(workdir: pathlib.Path, reference: pathlib.Path) -> None:
  """Compares two finished runs bit for bit; each line of metrics.jsonl once."""
  ours, theirs = figures(workdir), figures(reference)
  assert ours == theirs
  steps = [(r["step"], r["split"]) for r in ours]
  assert len(set(steps)) == len(steps)
  one, other = state(workdir), state(reference)
  assert one.keys() == other.keys()
  for name, array in one.items():
    np.testing.assert_array_equal(array, other[name], err_msg=name)
  for name in ("evaluation.json", "report/index.html"):
    assert (workdir / name).is_file()
  assert json.loads((workdir / "evaluation.json").read_text()) == json.loads(
    (reference / "evaluation.json").read_text()
  )
