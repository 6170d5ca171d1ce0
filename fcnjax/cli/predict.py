"""Predicts images of any size and mode, one after the other."""

from collections.abc import Iterator, Sequence
import json
import os
import pathlib
import sys
import time
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np
import PIL.Image
import tqdm

from fcnjax import errors, hosts
from fcnjax.cli import inputs as input_files, outputs
from fcnjax.data import images, sources as sources_lib
from fcnjax.inference import monte_carlo
from fcnjax.ops import resizing
from fcnjax.report import overlays as overlay_pictures
from fcnjax.typing import PredictFn

RECORD = "predictions.json"
_LINE_EVERY = 10.0  # Seconds between lines where there is no terminal.


def run(
  predict: PredictFn,
  inputs: Sequence[str | os.PathLike],
  output: str | os.PathLike,
  *,
  channels: int,
  classes: Sequence[str],
  colors: Sequence[Sequence[int]],
  image_size: tuple[int, int] | None = None,
  overlays: bool = True,
  probabilities: bool = False,
  samples: int = 0,
  progress: bool = True,
) -> list[pathlib.Path]:
  """Writes the classes of every pixel of every input.

  For an input NAME.jpg it writes `NAME.png`, an indexed PNG with the classes'
  palette at the image's own size, `overlays/NAME.png`, and, if asked for,
  `probabilities/NAME.npz` with `probabilities` float16 [h, w, k] and `classes`.
  Where samples are drawn, `uncertainty/NAME.png` shows their deviation: a grey
  picture, 0 where all samples agree, 255 where this image's differ most; the
  variance there is in the record, and `uncertainty` float32 [h, w] in the NPZ.
  `predictions.json`, the record, says which class is which number and colour,
  and which file was predicted from which; files that it does not name are
  never overwritten. One image is in memory at a time. Of several processes each
  predicts its share of the inputs; the first one writes the record.

  Args:
    predict: image [1, h, w, c] in [0, 255] -> logits [1, h, w, k], such as
      `functools.partial(tiles.overlap_tile, network, tile=(388, 388))`. With
      `samples` it is called with a random key besides.
    inputs: files, folders (the images directly in them) and globs.
    output: a folder; made if it does not exist.
    channels: of the network's images: 1, 3 or 4.
    classes: k names.
    colors: k triples (r, g, b) in [0, 255].
    image_size: rows and columns that images are resized to for the network;
      logits are resized back. None for the image's own size.
    overlays: whether to write the overlays.
    probabilities: whether to write the probabilities.
    samples: of a network with dropout, whose probabilities are averaged; 0 =
      none.
    progress: whether to show a bar, or lines where there is no terminal.

  Returns:
    The indexed PNGs of this process, in the order of the inputs.

  Raises:
    InputError: before anything is written if an input is missing or an output
      would overwrite what is no prediction; after all others were predicted if
      some inputs could not be read.
  """
  if channels not in (1, 3, 4):
    raise errors.InputError(
      f"the network takes {channels} channels, but image files are read with"
      " 1, 3 or 4; predict from Python with fcnjax.inference instead."
    )
  found = hosts.of_first(lambda: [str(p) for p in input_files.find(inputs)])
  sources = [pathlib.Path(source) for source in found]
  folder = pathlib.Path(output)
  kinds = {"": ".png"}
  kinds |= {"overlays": ".png"} if overlays else {}
  kinds |= {"probabilities": ".npz"} if probabilities else {}
  kinds |= {"uncertainty": ".png"} if samples else {}
  plan = {
    source: {kind: folder / kind / (name + end) for kind, end in kinds.items()}
    for source, name in zip(sources, input_files.names(sources), strict=True)
  }
  record = hosts.of_first(lambda: _prepare(folder, plan, classes, colors))
  written, bad, largest = [], [], {}
  own = hosts.share(list(plan.items()))
  for source, targets in _shown(own, progress and hosts.is_first()):
    try:
      image = images.read_image(source, channels=channels)
    except errors.InputError as error:
      bad.append(str(error))
      continue
    logits, uncertainty = _seen(predict, image, image_size, samples)
    if logits.shape[-1] != len(classes) or len(classes) > 256:
      raise ValueError(
        f"predict returned {logits.shape[-1]} logits for {len(classes)}"
        " classes; expected one for each, and at most 256 for an indexed PNG."
      )
    try:
      _write(targets, image, logits, uncertainty, classes, colors)
    except OSError as error:
      raise errors.InputError(
        f"cannot write the predictions of {source} to {folder}:"
        f" {error.strerror}; make room or choose another --output, then run"
        " the command again."
      ) from error
    if uncertainty is not None:
      largest[targets[""].name] = float(uncertainty.max())
    written.append(targets[""])
  made = [target.name for target in written]
  shares = hosts.gathered({"made": made, "bad": bad, "largest": largest})
  hosts.of_first(lambda: _finish(folder, record, shares))
  return written


def _finish(
  folder: pathlib.Path, record: dict[str, Any], shares: list[dict[str, Any]]
) -> None:
  """Completes the record by what all processes made.

  Raises:
    InputError: if some inputs could not be read.
  """
  made = {name for share in shares for name in share["made"]}
  bad = [line for share in shares for line in share["bad"]]
  largest = {k: v for share in shares for k, v in share["largest"].items()}
  if largest:
    record.setdefault("largest_uncertainty", {}).update(largest)
    _save(folder, record)
  if not bad:
    print(f"the masks of {len(made)} images are in {folder}", file=sys.stderr)
    return
  record["files"] = {
    name: file
    for name, file in record["files"].items()
    if name in made or (folder / name).exists()
  }
  _save(folder, record)
  others = "all others were predicted" if made else "none was predicted"
  raise errors.InputError(
    f"{len(bad)} of {len(made) + len(bad)} images could not be read, {others}:"
    f" {' | '.join(bad)}"
  )


def _seen(
  predict: PredictFn,
  image: np.ndarray,
  image_size: tuple[int, int] | None,
  samples: int,
) -> tuple[
  Float[Array | np.ndarray, "h w k"], Float[Array | np.ndarray, "h w 1"] | None
]:
  """The logits and, of samples, the uncertainty, at the image's own size."""
  size = image.shape[:2]
  if image_size is not None:
    image = sources_lib.resize_image(image, image_size)

  def own_size(x):
    if x.shape[1:3] != size:
      x = resizing.resize_bilinear(jnp.asarray(x), size)
    return x[0]

  if not samples:
    return own_size(predict(image[None])), None
  try:
    logits, uncertainty = monte_carlo.average(
      predict, image[None], samples=samples
    )
  except ValueError as error:
    raise errors.InputError(f"evaluation.samples: {error}") from error
  return own_size(logits), own_size(uncertainty[..., None])


def _write(
  targets: dict[str, pathlib.Path],
  image: np.ndarray,
  logits: Float[Array | np.ndarray, "h w k"],
  uncertainty: Float[Array | np.ndarray, "h w 1"] | None,
  classes: Sequence[str],
  colors: Sequence[Sequence[int]],
) -> None:
  """Writes what one image's logits say, of each kind that has a target."""
  labels = np.asarray(logits.argmax(-1)).astype(np.uint8)
  images.write_index_png(targets[""], labels, colors)
  if "overlays" in targets:
    picture = overlay_pictures.overlay(image, labels, colors)
    PIL.Image.fromarray(picture).save(targets["overlays"])
  numbers = {}
  if uncertainty is not None:
    variance = np.asarray(uncertainty[..., 0])
    numbers["uncertainty"] = variance
    # Of the largest, since most networks stay far below what is possible; the
    # root, a deviation, since variances would look dark nearly everywhere.
    shade = 255 * np.sqrt(variance / max(variance.max(), 1e-12))
    PIL.Image.fromarray(np.round(shade).astype(np.uint8)).save(
      targets["uncertainty"]
    )
  if "probabilities" in targets:
    shares = jax.nn.softmax(logits, axis=-1).astype(np.float16)
    np.savez_compressed(
      targets["probabilities"],
      probabilities=np.asarray(shares),
      classes=np.array(classes),
      **numbers,
    )


def _prepare(
  folder: pathlib.Path,
  plan: dict[pathlib.Path, dict[str, pathlib.Path]],
  classes: Sequence[str],
  colors: Sequence[Sequence[int]],
) -> dict[str, Any]:
  """Checks that nothing foreign is overwritten; makes folders and record."""
  sources = {source.resolve() for source in plan}
  targets = [t for kinds in plan.values() for t in kinds.values()]
  for source in sources:
    if any(source.parent == target.parent.resolve() for target in targets):
      raise errors.InputError(
        f"the input {source} lies in the output folder {folder}; choose"
        " another --output, so that images and predictions do not mix."
      )
  earlier = _earlier(folder / RECORD)
  files = earlier["files"]
  for target in targets:
    if target.exists() and target.stem + ".png" not in files:
      raise errors.InputError(
        f"{target} exists and is no earlier prediction; choose another"
        " --output, nothing was overwritten."
      )
  files |= {kinds[""].name: str(source) for source, kinds in plan.items()}
  record = earlier | {
    "classes": [
      {"id": i, "name": name, "color": [int(c) for c in color]}
      for i, (name, color) in enumerate(zip(classes, colors, strict=True))
    ],
    "files": dict(sorted(files.items())),
  }
  # Of what is predicted anew, an earlier call's uncertainty is no longer true.
  largest = record.pop("largest_uncertainty", {})
  predicted = {kinds[""].name for kinds in plan.values()}
  if kept := {k: v for k, v in largest.items() if k not in predicted}:
    record["largest_uncertainty"] = kept
  for parent in sorted({folder, *(target.parent for target in targets)}):
    outputs.make_folder(parent, "output")
  _save(folder, record)
  return record


def _save(folder: pathlib.Path, record: dict[str, Any]) -> None:
  """Writes the record."""
  try:
    text = json.dumps(record, indent=1) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")
  except OSError as error:
    raise errors.InputError(
      f"cannot write to {folder}: {error.strerror}; choose another --output."
    ) from error


def _earlier(record: pathlib.Path) -> dict[str, Any]:
  """Returns an earlier call's record, with {mask: image} in "files"."""
  if not record.exists():
    return {"files": {}}
  try:
    found = json.loads(record.read_text(encoding="utf-8"))
    return {**found, "files": dict(found["files"])}
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise errors.InputError(
      f"{record} exists and is no record of earlier predictions; choose another"
      " --output, nothing was overwritten."
    ) from error


def _shown(items: Sequence[Any], progress: bool) -> Iterator[Any]:
  """Yields the items; a bar on a terminal, elsewhere a line now and then."""
  if not progress:
    yield from items
  elif sys.stderr.isatty():
    yield from tqdm.tqdm(items, desc="predict", unit="image")
  else:
    last = time.monotonic()
    for i, item in enumerate(items, start=1):
      yield item
      if i == len(items) or time.monotonic() - last > _LINE_EVERY:
        last = time.monotonic()
        print(f"{i} of {len(items)} images", file=sys.stderr)
