"""What is said of a prepared data set: to TFDS, and in fcnjax.json."""

from collections.abc import Mapping, Sequence
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from fcnjax import _version, typing
from fcnjax.data.preparation import manifest, plan, records

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


class Description(NamedTuple):
  """What a data set is called and said to be.

  Attributes:
    name: of the data set in TFDS; letters, digits and "_".
    card: the name of its card, or "".
    text: a description with the licence.
    citation: whom to cite.
  """

  name: str
  card: str = ""
  text: str = ""
  citation: str = ""


def dataset_name(text: str) -> str:
  """Returns a name that TFDS takes: letters, digits, "_", a letter form."""
  name = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_")
  return name if name[:1].isalpha() else f"data_{name}".rstrip("_")


def write(
  directory: pathlib.Path,
  splits: Mapping[str, Any],
  parts: Sequence[plan.Part],
  found: Sequence[dict[str, Any]],
  features: tfds.features.FeaturesDict,
  about: Description,
) -> None:
  """Writes what `tfds.builder_from_directory` reads.

  Args:
    directory: the folder with the shards.
    splits: {name: source}.
    parts: the shards, as `plan.parts` returns them.
    found: what is known of each, as `shards.write_missing` returns it.
    features: how TFDS reads the records.
    about: names and texts.
  """
  template = tfds.core.ShardedFileTemplate(
    data_dir=directory,
    template=_TEMPLATE,
    dataset_name=about.name,
    filetype_suffix="array_record",
  )
  infos = [
    tfds.core.SplitInfo(
      name=split,
      shard_lengths=[p.stop - p.start for p in parts if p.split == split],
      num_bytes=sum(
        known["payload"]
        for part, known in zip(parts, found, strict=True)
        if part.split == split
      ),
      filename_template=template.replace(split=split),
    )
    for split in splits
  ]
  tfds.folder_dataset.write_metadata(
    data_dir=directory,
    features=features,
    split_infos=infos,
    version=manifest.VERSION,
    filename_template=template,
    check_data=False,  # it would read by tf.data, which cannot
    description=about.text,
    citation=about.citation,
  )


def known(
  splits: Mapping[str, Any],
  parts: Sequence[plan.Part],
  found: Sequence[dict[str, Any]],
  form: records.Form,
  about: Description,
  content: str,
) -> dict[str, Any]:
  """Returns what fcnjax.json says.

  Args:
    splits: {name: source}.
    parts: the shards, as `plan.parts` returns them.
    found: what is known of each, as `shards.write_missing` returns it.
    form: what all examples have in common.
    about: names and texts.
    content: a hash of all that the data set is made of.
  """
  together = list(zip(parts, found, strict=True))
  trained = "train" if "train" in splits else next(iter(splits))
  mean, std = _mean_std([k for p, k in together if p.split == trained])
  source = splits[trained]
  said = {}
  for split in splits:
    mine = [(part, known) for part, known in together if part.split == split]
    said[split] = {
      "images": len(splits[split]),
      "labels": plan.digest([known["labels"] for _, known in mine]),
      **{
        key: np.sum([known[key] for _, known in mine], axis=0).tolist()
        for key in ("pixel_counts", "image_pixel_counts")
      },
      "shards": [
        {
          "file": part.file,
          "images": part.stop - part.start,
          "bytes": known["bytes"],
        }
        for part, known in mine
      ],
      "names": list(splits[split].names),
    }
  return {
    "fcnjax": _version.__version__,
    "name": about.name,
    "card": about.card,
    "content": content,
    "classes": list(form.classes),
    "second_classes": form.second_classes and list(form.second_classes),
    "colors": [list(color) for color in source.colors],
    "ignore": typing.IGNORE,
    "channels": form.channels,
    "image": form.image,
    "mean": mean,
    "std": std,
    "splits": said,
  }


def _mean_std(known: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
  """Returns mean and standard deviation a channel over all pixels."""
  pixels = sum(k["pixels"] for k in known)
  mean, std = [], []
  for channel in range(len(known[0]["sums"][0])):
    total, squares = (sum(k["sums"][i][channel] for k in known) for i in (0, 1))
    mean.append(total / pixels)
    # Of whole numbers the difference is exact, and only then rounded.
    variance = (squares * pixels - total * total) / pixels / pixels
    std.append(max(variance, 0.0) ** 0.5)
  return [round(v, 4) for v in mean], [round(v, 4) for v in std]
