"""From files to batches: images a second for each core, against torch's loader.

  python benchmarks/input_pipeline.py [--seconds 120] [--only crop]

Compares, for two augmentations of generated photographs (JPEG, and PNG masks),
our tf.data pipeline with torchvision's v2 transforms in
`torch.utils.data.DataLoader`. Each runs in a process of its own on one core,
the same for all, and they take turns; what is compared is the processor's time,
which tells the same of a core that others use, too. Both end in bytes, which a
device would normalise. "elastic" has two opponents: v2's ElasticTransform, and
U-Net's field (bicubic, of 3x3 nodes) written with torch's own operators.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import photographs
import PIL.Image

BATCH = 8
CASES = {
  "crop": {
    "size": (700, 1000),
    "transforms": (
      ("random_scale", {"minimum": 0.5, "maximum": 2.0}),
      ("random_crop", {"size": (512, 512)}),
      ("flip", {}),
      ("photometric", {}),
    ),
    "ways": ("ours", "torch"),
  },
  "elastic": {
    "size": (512, 512),
    "transforms": (("elastic", {}),),
    "ways": ("ours", "torch", "torch, frugal"),
  },
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seconds", type=float, default=120)
  parser.add_argument("--only", choices=CASES)
  parser.add_argument("--batches", type=int, default=5, help="a turn")
  parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.child:
    child(*arguments.child)
    return
  import measure

  results = measure.Results(
    "input_pipeline",
    keep=lambda row: arguments.only not in (None, row["case"]),
    batch_size=BATCH,
  )
  chosen = [arguments.only] if arguments.only else list(CASES)
  for name in chosen:
    for row in compare(name, arguments.seconds / len(chosen), arguments):
      results.add(row)
      print("  ".join(f"{key} {value}" for key, value in row.items()))


def compare(name, seconds, arguments):
  """Yields the rows of an augmentation: each way's turns on the same core."""
  case = CASES[name]
  core = max(os.sched_getaffinity(0))
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    photographs.write(pathlib.Path(folder), 48, case["size"])
    children = {}
    for way in case["ways"]:
      command = [sys.executable, __file__, "--child", way, name, folder]
      children[way] = stack.enter_context(
        subprocess.Popen(
          ["taskset", "-c", str(core), *command],
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          text=True,
        )
      )
      stack.callback(children[way].stdin.close)
    times = {way: [] for way in children}
    for child in children.values():
      turn(child, 2)  # Warm.
    began = time.perf_counter()
    ways = list(children)
    while time.perf_counter() - began < seconds or len(times[ways[0]]) < 3:
      for way in ways:
        times[way].append(turn(children[way], arguments.batches))
      ways.reverse()
  busy = {
    way: statistics.median(taken) / (arguments.batches * BATCH)
    for way, taken in times.items()
  }
  for way, taken in times.items():
    row = {
      "case": name,
      "way": way,
      "images_per_core_second": round(1 / busy[way], 1),
      "core_ms": round(1e3 * busy[way], 2),
      "rounds": len(taken),
    }
    if way != "ours":
      row["ratio"] = round(busy[way] / busy["ours"], 3)
    yield row


def turn(child, batches: int) -> float:
  """Returns the seconds of the processor that a child took for some batches."""
  child.stdin.write(f"{batches}\n")
  child.stdin.flush()
  return float(child.stdout.readline())


def child(way: str, name: str, folder: str) -> None:
  """Makes as many batches as each line of the input says; prints seconds."""
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # Libraries may print.
  made = (ours if way == "ours" else theirs)(way, name, pathlib.Path(folder))
  busy = time.process_time()
  for line in sys.stdin:
    for _ in range(int(line)):
      batch = next(made)
    assert batch["image"].dtype.itemsize == 1
    # Since the turn before: batches that were made ahead while others had their
    # turn count, too.
    before, busy = busy, time.process_time()
    print(busy - before, file=out, flush=True)


def ours(way, name, folder):
  """Yields our batches."""
  del way
  from fcnjax.data import folders, pipeline, reading

  source = folders.folder(
    folder / "images",
    folder / "masks",
    split="train",
    val_fraction=0.01,
    num_classes=21,
  )
  yield from pipeline.training_batches(
    reading.Reader(source, seed=0),
    batch_size=BATCH,
    transforms=CASES[name]["transforms"],
    mean=photographs.MEAN,
    workers=1,
    prefetch=1,
  )


def theirs(way, name, folder):
  """Yields torch's batches, of the same files."""
  import torch

  torch.set_num_threads(1)
  v2, tv_tensors = torchvision_v2()

  class Frugal:
    """U-Net's deformation by the operators that torch has."""

    def __call__(self, image, mask):
      nodes = torch.randn(1, 2, 3, 3) * (10 * 2 / 512)
      field = torch.nn.functional.interpolate(
        nodes, (512, 512), mode="bicubic", align_corners=True
      )
      grid = field.permute(0, 2, 3, 1) + identity
      words = {"padding_mode": "reflection", "align_corners": False}
      moved = torch.nn.functional.grid_sample(
        image[None].float(), grid, mode="bilinear", **words
      )
      label = torch.nn.functional.grid_sample(
        mask[None, None].float(), grid, mode="nearest", **words
      )
      return moved[0].round().to(torch.uint8), label[0, 0].to(torch.uint8)

  identity = torch.nn.functional.affine_grid(
    torch.eye(2, 3)[None], [1, 1, 512, 512], align_corners=False
  )
  fill = {tv_tensors.Image: list(photographs.MEAN), tv_tensors.Mask: 255}
  if way == "torch, frugal":
    transform = Frugal()
  elif name == "elastic":
    transform = v2.ElasticTransform(alpha=50.0, sigma=5.0)  # Its defaults.
  else:
    transform = v2.Compose(
      [
        v2.RandomResize(350, 1401, antialias=False),
        v2.RandomCrop((512, 512), pad_if_needed=True, fill=fill),
        v2.RandomHorizontalFlip(),
        # What its colours are fastest with.
        v2.Lambda(lambda x: tv_tensors.wrap(x.contiguous(), like=x)),
        v2.ColorJitter(0.125, 0.25, 0.25),
      ]
    )

  class Files(torch.utils.data.Dataset):
    def __init__(self):
      self.images = sorted((folder / "images").iterdir())
      self.masks = sorted((folder / "masks").iterdir())

    def __len__(self):
      return len(self.images)

    def __getitem__(self, index):
      image = np.array(PIL.Image.open(self.images[index]).convert("RGB"))
      mask = np.array(PIL.Image.open(self.masks[index]))
      # Channels last in memory, which its resizing is fastest with.
      image = torch.from_numpy(image).permute(2, 0, 1)
      image, mask = transform(
        tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(mask))
      )
      return {"image": torch.Tensor(image), "label": torch.Tensor(mask)}

  # No worker: on one core another process only adds the way between them.
  loader = torch.utils.data.DataLoader(
    Files(), batch_size=BATCH, shuffle=True, drop_last=True
  )
  while True:
    yield from loader


def torchvision_v2():
  """Returns torchvision's v2 and tv_tensors.

  They need nothing of its compiled extension. Where that does not fit the torch
  that is installed, its import fails by two operators that are not there.
  """
  from torch import library

  try:
    import torchvision
  except RuntimeError:
    operators = library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
      operators.define(f"{name}(Tensor d, Tensor s, float t) -> Tensor")
    torchvision_v2.held = operators  # They live as long as someone holds them.
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
      del sys.modules[name]
    import torchvision
  from torchvision import tv_tensors
  from torchvision.transforms import v2

  del torchvision
  return v2, tv_tensors


if __name__ == "__main__":
  main()
