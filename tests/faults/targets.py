"""Files of every kind that users have, and what reads each."""

from collections.abc import Callable, Iterator
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from fcnjax import checkpoints
from fcnjax.cli import build, config as configs, defaults, evaluate, workdir
from fcnjax.data import images, reading, sources, weight_maps
from fcnjax.data.preparation import manifest, metadata, prepared, preparing
from fcnjax.report import page
from fcnjax.training import writers
from tests.faults import saving

CLASSES = ("ground", "tree", "lake")
COLORS = ((0, 0, 0), (200, 10, 30), (10, 30, 200))


class Target(NamedTuple):
  """A file, and what reads it.

  Attributes:
    kind: of files, for the counts.
    file: is damaged, read, and put back.
    read: returns "same" or "other", or raises InputError.
    share: of all damaged files, in any unit.
  """

  kind: str
  file: pathlib.Path
  read: Callable[[], str]
  share: float


def create(root: pathlib.Path) -> list[Target]:
  """Writes files into a folder for each kind."""
  targets = []
  for make in (_images, _pairs, _checkpoints, _caches, _metrics, _configs,
               _pages, _shards):  # fmt: skip
    folder = root / make.__name__.strip("_")
    folder.mkdir()
    targets += make(folder)
  return targets


def _compared(read: Callable[[], Any]) -> Callable[[], str]:
  """Returns what reads again, and tells whether it is as it was now."""
  before = read()

  def again():
    return "same" if _equal(read(), before) else "other"

  return again


def never_other(read: Callable[[], Any]) -> Callable[[], str]:
  """As `_compared`, of what has a checksum."""
  compared = _compared(read)

  def again():
    outcome = compared()
    assert outcome == "same", "it differs, and nothing was said"
    return outcome

  return again


def _equal(one: Any, other: Any) -> bool:
  if isinstance(one, dict):
    return one.keys() == other.keys() and all(
      _equal(one[key], other[key]) for key in one
    )
  if isinstance(one, np.ndarray):
    return one.dtype == other.dtype and np.array_equal(one, other)
  return one == other


def picture(seed: int, size=(40, 30), bands: int = 3) -> PIL.Image.Image:
  """Smooth, with a little noise, as photographs are."""
  random = np.random.default_rng(seed)
  rows, columns = np.mgrid[: size[0], : size[1]]
  waves = [np.sin(rows / 5 + band) + np.cos(columns / 7) for band in range(4)]
  values = 120 + 50 * np.stack(waves[:bands], -1)
  values = values + random.normal(0, 4, values.shape)
  return PIL.Image.fromarray(values.clip(0, 255).astype(np.uint8).squeeze())


def _mask(seed: int, size=(40, 30)) -> np.ndarray:
  random = np.random.default_rng(seed)
  blocks = random.integers(0, len(CLASSES), (size[0] // 10, size[1] // 10))
  return blocks.astype(np.uint8).repeat(10, 0).repeat(10, 1)


def _images(folder: pathlib.Path) -> Iterator[Target]:
  turned = PIL.Image.Exif()
  turned[0x0112], turned[0x010E] = 6, "a tree"  # orientation, description
  photo, grey = picture(0), picture(1, bands=1)
  palette = photo.quantize(16)
  deep = PIL.Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
  files = {
    "rgb.png": (photo, {}),
    "turned.png": (photo, {"exif": turned}),
    "palette.png": (palette, {"transparency": 3}),
    "alpha.png": (picture(2, bands=4), {}),
    "deep.png": (deep, {}),
    "one_bit.png": (grey.convert("1"), {}),
    "rgb.jpg": (photo, {}),
    "turned.jpg": (photo, {"exif": turned, "quality": 95}),
    "progressive.jpg": (photo, {"progressive": True, "optimize": True}),
    "grey.jpg": (grey, {}),
    "cmyk.jpg": (photo.convert("CMYK"), {}),
    "lzw.tif": (photo, {"compression": "tiff_lzw"}),
    "plain.bmp": (photo, {}),
    "palette.gif": (palette, {}),
    "photo.webp": (photo, {}),
    "grey.pgm": (grey, {}),
  }
  for name, (drawn, words) in files.items():
    drawn.save(folder / name, **words)

    def read(path=folder / name):
      images.damage(path)  # It never raises.
      return images.read_image(path)

    often = name.endswith((".png", ".jpg"))
    share = 3 if often else 1
    yield Target("images", folder / name, _compared(read), share)
  label = _mask(0)
  colour = PIL.Image.fromarray(np.asarray(COLORS, np.uint8)[label])
  masks = {
    "grey.png": PIL.Image.fromarray(label),
    "palette.png": PIL.Image.fromarray(label),
    "one_bit.png": PIL.Image.fromarray(label > 0),
    "colour.png": colour,
    "deep.png": PIL.Image.fromarray(label.astype(np.uint16)),
  }
  masks["palette.png"].putpalette(np.asarray(COLORS, np.uint8).tobytes())
  for name, drawn in masks.items():
    path = folder / f"mask_{name}"
    drawn.save(path)

    def read(path=path):
      return images.read_mask(path, colors=COLORS)

    yield Target("masks", path, _compared(read), 3)


def _pairs(folder: pathlib.Path) -> Iterator[Target]:
  """Image and mask as training reads them."""
  files = []
  for number in range(2):
    pair = folder / f"{number}.jpg", folder / f"{number}.png"
    picture(number).save(pair[0])
    PIL.Image.fromarray(_mask(number)).save(pair[1])
    files.append(pair)

  def read():
    source = sources.Files(files, classes=CLASSES)
    return reading.Reader(source, seed=0).maps(1)

  def skipped():
    source = sources.Files(files, classes=CLASSES, compare_sizes=False)
    reader = reading.Reader(
      source, seed=0, on_bad_example="skip", say=lambda line: None
    )
    return {str(p): reader.maps(p)["image"] for p in range(3)}

  for file in files[0]:
    yield Target("training", file, _compared(read), 3)
    yield Target("training, skipping", file, _compared(skipped), 2)


def _checkpoints(folder: pathlib.Path) -> Iterator[Target]:
  saved = checkpoints.Checkpoints(folder, keep=2)
  for step in (1, 2):
    saved.save(step, saving.state(step), mean_iou=step / 10)
  saved.close()

  def read():
    reader = checkpoints.Checkpoints(folder, writing=False)
    try:
      latest, best = reader.latest, reader.best
      assert latest == best
      if latest == 2:
        return "same"  # A blank in the seal, say.
      assert latest == 1
      assert 2 in reader.damaged
      reader.restore(2, None)  # This raises what is wrong.
    finally:
      reader.close()
    raise AssertionError("a damaged checkpoint was restored")

  files = [path for path in (folder / "2").rglob("*") if path.is_file()]
  for path in files:
    seal = path.name == "seal.json"
    if path.stat().st_size:
      yield Target("checkpoints", path, read, 15 if seal else 40 / len(files))


def _caches(folder: pathlib.Path) -> Iterator[Target]:
  """Kept weights: what is damaged is made anew, and never another."""
  pairs = [(folder / "0.png", folder / "1.png")]
  picture(0).save(pairs[0][0])
  PIL.Image.fromarray(_mask(0)).save(pairs[0][1])
  source = sources.Files(pairs, classes=CLASSES)
  cache = folder / "cache"
  weighted = weight_maps.cached(source, cache, w0=10.0)

  def counts():
    return weight_maps.image_class_counts(
      source, cache, num_classes=len(CLASSES), workers=1
    )

  for read, name in (
    (lambda: weighted[0]["weight"], "weight-*"),
    (counts, "classes-*"),
  ):
    compared = never_other(read)
    (file,) = cache.glob(name)
    yield Target("caches", file, compared, 10)


def _metrics(folder: pathlib.Path) -> Iterator[Target]:
  path = folder / "metrics.jsonl"
  records = [
    {"step": step, "split": split, "loss": 1 / step, "iou": [0.5, None]}
    for step in range(1, 9)
    for split in (("train", "val") if step % 4 == 0 else ("train",))
  ]
  path.write_text("".join(json.dumps(record) + "\n" for record in records))

  def read():
    writers.keep_until(path, 6)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(line["step"] <= 6 for line in lines)
    return lines

  yield Target("metrics.jsonl", path, _compared(read), 20)


def _configs(folder: pathlib.Path) -> Iterator[Target]:
  config = defaults.get_config()
  record, _ = workdir.check(folder, config, classes=CLASSES, colors=COLORS)
  workdir.write(folder, record)

  def read():
    workdir.check(folder, config, classes=CLASSES, colors=COLORS)
    found, classes, colors = workdir.read(folder)
    configs.check(found)
    build.model(found, num_classes=len(classes))
    return [found.to_json(), classes, colors]

  yield Target("config.json", folder / "config.json", _compared(read), 20)


def _pages(folder: pathlib.Path) -> Iterator[Target]:
  """What the page is made of: it leaves out what it cannot read."""
  (folder / "config.json").write_text(defaults.get_config().to_json())
  matrix = np.arange(9).reshape(3, 3).tolist()
  record = {
    "split": "val", "step": 4, "images": 2, "mean_iou": 0.5,
    "iou": [0.5, None, 0.25], "accuracy": [0.5, None, 1.0],
    "truth_share": [0.5, 0.0, 0.5], "prediction_share": [0.25, 0.25, 0.5],
    "absent": [1], "classes": CLASSES, "colors": COLORS,
    "confusion_matrix": matrix,
  }  # fmt: skip
  (folder / "evaluation.json").write_text(json.dumps(record, indent=2))
  (folder / "overlays").mkdir()
  picture(0).save(folder / "overlays" / "0.png")
  (folder / "metrics.jsonl").write_text(
    "".join(
      json.dumps({"step": step, "split": "train", "loss": 1 / step}) + "\n"
      for step in range(1, 4)
    )
  )

  def read():
    page.write(folder)
    return evaluate.holds(folder, split="val", step=4)

  for name in ("config.json", "evaluation.json", "overlays/0.png",
               "metrics.jsonl"):  # fmt: skip
    yield Target("the page", folder / name, _compared(read), 0.7)


def _shards(folder: pathlib.Path) -> Iterator[Target]:
  files = []
  for number in range(4):
    pair = folder / f"{number}.jpg", folder / f"{number}.png"
    picture(number).save(pair[0])
    PIL.Image.fromarray(_mask(number)).save(pair[1])
    files.append(pair)
  source = sources.Files(files, classes=CLASSES, colors=COLORS)
  out = folder / "out"
  about = metadata.Description("mine", text="Mine.", citation="Me.")
  preparing.write({"train": source}, out, about, progress=False)

  def read():
    found = prepared.Prepared(out, "train")
    examples = {str(i): dict(found[i]) for i in range(len(found))}
    return {**examples, "classes": list(found.classes), "names": found.names}

  (shard,) = out.glob("*.array_record*")
  yield Target("shards", shard, never_other(read), 15)
  yield Target("fcnjax.json", out / manifest.NAME, never_other(read), 10)
