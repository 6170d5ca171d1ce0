"""The papers' numbers beside ours: writes docs/models.md.

  python benchmarks/published.py

Nothing is trained; everything follows from shapes, in a minute or two.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from fcnjax import models, profile

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "models.md"


class Row(NamedTuple):
  """A published number.

  Attributes:
    name: of the network.
    what: "parameters", "multiply-adds" or "receptive field".
    published: as the source has it, in units.
    source: where it stands.
    options: of the network.
    size: height and width of the image, for multiply-adds.
    classes: number of classes.
    scales: of 512 pixels, over whose images multiply-adds are summed.
    part: of the network whose parameters are meant; "" is all of it.
  """

  name: str
  what: str
  published: float
  source: str
  options: dict[str, Any] = {}
  size: tuple[int, int] = (513, 513)
  classes: int = 21
  scales: tuple[float, ...] = ()
  part: str = ""


_V3P = "v3+, Tables 3 and 5"
_PLAIN = {"separable": False, "decoder": False}
_FULL = {"separable": False}
_EVEN = {"multi_grid": (1, 1, 1)}
_X65, _R101 = "deeplabv3p_xception65", "deeplabv3p_resnet101"


def _adds(name, billions, source=_V3P, **options):
  return Row(name, "multiply-adds", billions * 1e9, source, options)


def _multi_scale(name, billions, **options):
  """The papers' "MS": six scales, of images of 512 s + 1 pixels."""
  return Row(
    name,
    "multiply-adds",
    billions * 1e9,
    f"{_V3P}, MS",
    options,
    scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
  )


ROWS = (
  Row("fcn32s_alexnet", "parameters", 57e6, "CVPR 2015, Table 1"),
  Row("fcn32s_vgg16", "parameters", 134e6, "CVPR 2015, Table 1"),
  Row("fcn32s_googlenet", "parameters", 6e6, "CVPR 2015, Table 1"),
  Row("fcn32s_alexnet", "receptive field", 355, "CVPR 2015, Table 1"),
  Row("fcn32s_vgg16", "receptive field", 404, "CVPR 2015, Table 1"),
  Row("fcn32s_googlenet", "receptive field", 907, "CVPR 2015, Table 1"),
  Row("segnet_vgg16", "parameters", 117e6 / 4, "Table 6: 117 MB", classes=11),
  Row("segnet_basic", "receptive field", 106, "Section 3.1"),
  *(
    Row(
      name, "parameters", millions * 1e6, "Table 1", {"bias": False}, classes=11
    )
    for name, millions in (
      ("segnet_basic_bilinear", 0.625),
      ("segnet_basic", 1.425),
      ("segnet_basic_encoder_addition", 1.425),
      ("segnet_basic_single_channel_decoder", 0.625),
      ("fcn_basic", 0.65),
      ("fcn_basic_no_addition", 0.65),
      ("fcn_basic_no_dim_reduction", 1.625),
      ("fcn_basic_no_addition_no_dim_reduction", 1.625),
    )
  ),
  Row(
    "deeplabv3_resnet101",
    "parameters",
    58.1e6,
    "42.6 M + 15.5 M, EMANet's README",
  ),
  # With biases, which the paper's 64 C² leaves out.
  Row(
    "dilation8",
    "parameters",
    64 * 21**2,
    "Section 3: 64 C²",
    part="context",
  ),
  Row("deeplab_largefov", "parameters", 20.5e6, "v1, Table 2"),
  Row(
    "deeplab_largefov",
    "parameters",
    134.3e6,
    "v1, Table 2",
    {"kernel": 7, "rates": (4,), "fc_channels": 4096},
  ),
  Row(
    "deeplab_largefov",
    "parameters",
    65.1e6,
    "v1, Table 2",
    {"kernel": 4, "rates": (8,), "fc_channels": 4096},
  ),
  _adds(_X65, 68.00, output_stride=16, **_PLAIN),
  _adds(_X65, 240.85, output_stride=8, **_PLAIN),
  _adds(_X65, 89.76, output_stride=16, **_FULL),
  _adds(_X65, 262.59, output_stride=8, **_FULL),
  _adds(_X65, 54.17, output_stride=16),
  _adds(_X65, 177.10, output_stride=8),
  _adds(_R101, 52.43, output_stride=32, **_PLAIN),
  _adds(_R101, 74.20, output_stride=32),
  _adds(_R101, 81.02, output_stride=16, **_PLAIN),
  _adds(_R101, 101.28, output_stride=16),
  _adds(_R101, 101.28, output_stride=16, **_EVEN),
  _adds(_R101, 276.18, output_stride=8, **_PLAIN),
  _adds(_R101, 297.92, output_stride=8),
  _multi_scale(_X65, 601.74, output_stride=16, **_PLAIN),
  _multi_scale(_X65, 2149.91, output_stride=8, **_PLAIN),
  _multi_scale(_X65, 790.12, output_stride=16, **_FULL),
  _multi_scale(_X65, 2338.15, output_stride=8, **_FULL),
  _multi_scale(_X65, 928.81 / 2, output_stride=16),  # mirrored, too
  _multi_scale(_X65, 3055.35 / 2, output_stride=8),
  _multi_scale(_R101, 2435.37, output_stride=8, **_PLAIN),
  _multi_scale(_R101, 898.69, output_stride=16),
  _multi_scale(_R101, 898.69, output_stride=16, **_EVEN),
  _multi_scale(_R101, 2623.61, output_stride=8),
  Row(
    _X65,
    "multiply-adds",
    418.64e9,
    "model zoo, Cityscapes",
    size=(1025, 2049),
    classes=19,
  ),
)


def ours(row: Row) -> float:
  """Returns our number of a row."""
  if row.what == "receptive field":
    return profile.receptive_field(models.MODELS[row.name].layers)[0]
  model = models.create_model(row.name, num_classes=row.classes, **row.options)
  if row.part:
    image = np.zeros((1, 65, 65, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    part = variables["params"][row.part]
    return sum(x.size for x in jax.tree.leaves(part))
  if row.what == "parameters":
    return profile.parameters(model, (65, 65))
  sides = [int(512 * scale + 1) for scale in row.scales]
  sizes = [(side, side) for side in sides] or [row.size]
  return sum(
    profile.multiply_adds(model, size, space_to_batch=True) for size in sizes
  )


def _words(options: dict[str, Any]) -> str:
  return ", ".join(f"{name}={value}" for name, value in options.items())


def main() -> None:
  """Writes the page."""
  lines = [
    "# The papers' numbers and ours",
    "",
    "Written by `python benchmarks/published.py`. Multiply-adds are those of "
    "an image of 513×513 (Cityscapes: 1025×2049), dilated convolutions counted "
    "as TensorFlow's space-to-batch computes them, on sides rounded up to a "
    "multiple of the rate. FCN-GoogLeNet's field of 907 counts the average "
    "pool of 7×7 that the network leaves out. Table 1 of SegNet gives "
    "FCN-Basic without reduction 1.625 M, which no count of its layers is.",
    "",
    "DeepLabv3+'s two numbers of ResNet-101 at output stride 16 with the "
    "decoder do not belong to one network: 101.28 G, of one scale, is that of "
    "multi-grid (1, 1, 1), and 898.69 G, of six, that of (1, 2, 4), our "
    "default. Both stand below with both.",
    "",
    "| network | options | what | published | ours | difference | source |",
    "|---|---|---|---|---|---|---|",
  ]
  for row in ROWS:
    number = ours(row)
    difference = 100 * (number / row.published - 1)
    lines.append(
      f"| `{row.name}` | {_words(row.options)} "
      f"| {row.what}{row.part and f' of {row.part}'} "
      f"| {row.published:,.0f} | {number:,.0f} | {difference:+.2f} % "
      f"| {row.source} |"
    )
    print(lines[-1], flush=True)
  lines += [
    "",
    "## Every network",
    "",
    "As `fcnjax models` lists them: 21 classes, the paper's size of image, its "
    "own default options; multiply-adds without any padding. Field and stride "
    "are those of the deepest path (FCN-8s, too, has scores at stride 32) and "
    "follow from the layers; tests/models/test_receptive_fields.py confirms "
    "them on the networks.",
    "",
    "| network | parameters | multiply-adds | at | field | stride | paper |",
    "|---|---|---|---|---|---|---|",
  ]
  for name, entry in models.MODELS.items():
    words = profile.describe(
      models.create_model(name, num_classes=21),
      name=name,
      paper=entry.paper,
      layers=entry.layers,
      size=entry.size,
    )
    lines.append(
      f"| `{name}` | {words['parameters']:,} "
      f"| {words['multiply_adds'] / 1e9:.2f} G "
      f"| {entry.size[0]}×{entry.size[1]} | {words['receptive_field']} "
      f"| {words['output_stride']} | {entry.paper} |"
    )
  PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  main()
