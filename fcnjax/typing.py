"""The words that everyone uses.

Shapes are written b h w c k: batch, rows, columns, channels, classes.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
from jax import Array
import numpy as np

# One example on the host: "image" uint8 or float32 [h, w, c] in [0, 255],
# "label" uint8 [h, w] in [0, k) or 255 = ignore, "name" str, and optionally
# "weight" float32 [h, w] and "second_label", the same as "label" of a second
# task on the same image (the geometric classes of SIFT Flow).
Example = dict[str, Any]

# A training batch: "image" f32 [b, h, w, c] (normalised), "label" i32
# [b, h, w] in [0, k) or 255 = ignore, optionally "weight" f32 [b, h, w] and
# "second_label" as "label".
# An example that only pads the batch is an all-ignored one.
Batch = dict[str, Array | np.ndarray]

# "stage1" ... "stage5": stage i is what has stride 2^i in the undilated net.
Features = dict[str, Array]


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["scores"],
  meta_fields=["size", "convention"],
)
@dataclasses.dataclass(frozen=True)
class Coarse:
  """Scores whose bilinear interpolation is logits.

  They tell the same in fewer numbers: a loss or a prediction computed of them
  (`losses.total_upsampled_cross_entropy`, `upsampled.upsampled_argmax`) needs
  no array of logits, and under `jit` what nobody uses is not computed.

  Attributes:
    scores: f32 [b, h', w', k].
    size: height and width of the logits in pixels.
    convention: of the interpolation, see `ops.resizing`.
  """

  # Not typed: trees of shapes and the like have this form, too.
  scores: Any
  size: tuple[int, int]
  convention: str = "half_pixel"


# "logits" f32 [b, h, w, k] at the input's size, and what training needs
# besides ("aux_logits", "features"); "second_logits" f32 [b, h, w, k2] of the
# network's second task. Where logits are interpolated, what they are
# interpolated from is there, too: "coarse_logits", "coarse_aux_logits",
# "coarse_second_logits".
Outputs = dict[str, Array | Coarse]

# image [b, h, w, c] -> logits f32 [b, h, w, k]. Every inference strategy,
# export and evaluation composes over it.
PredictFn = Callable[[Array], Array]

# What networks mark the output of a stage with, for rematerialisation.
STAGE = "stage"

IGNORE = 255  # The label that no loss and no metric counts.
