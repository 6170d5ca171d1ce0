"""The embedded data set: scenes of overlapping shapes, drawn from a seed.

It needs no files, so that every config runs anywhere. A scene has a blotchy
background and a few objects of eight classes, under uneven light and noise,
with a thin ignored band along every contour, as PASCAL VOC has. The class is
in the form alone (`shapes.KINDS`): five classes are shapes, and three are
textures that come on discs and on squares. All colours, the background's
too, come from one distribution, so that a table of colours learns next to
nothing: 0.11 mean IoU at most (`benchmarks/colour_floor.py`).
"""

from jaxtyping import UInt8
import numpy as np

from fcnjax import errors, typing
from fcnjax.data import labels as labels_lib, shapes

CLASSES = ("background", *(kind.name for kind in shapes.KINDS))
COLORS = ((0, 0, 0), *(kind.color for kind in shapes.KINDS))
SPLITS = {"train": 1024, "val": 128}
# Mean and standard deviation of the training images, units of [0, 255].
MEAN = (125.0, 125.0, 125.0)
STD = (52.0, 52.0, 52.0)

_STREAMS = {"train": 0, "val": 1}  # first word of an image's seed after `seed`
_OBJECTS_PER_96 = (3, 6)  # objects on 96 x 96 pixels, from 3 to 5
_RADIUS = (14.0, 24.0)  # pixels, from an object's centre to its outline
_TILT = 0.4  # objects and textures are turned by up to this, radians
_NOISE = 7.0  # standard deviation of the camera's noise, units of [0, 255]
_LIGHT = 0.3  # the light falls off or rises by up to this share
_RELIEF = 55.0  # textures brighten and darken by this, units of [0, 255]
_SHADES = (45.0, 210.0)  # every colour's red, green and blue
_CONTRAST = 80.0  # least distance of object and background in RGB


class Scenes:
  """A source of drawn scenes; example i is a function of (seed, split, i).

  The number of objects grows with the area, so that objects and textures keep
  their size in pixels whatever the size of the scene.

  Attributes:
    classes: names, position = label.
    colors: RGB triples in [0, 255], position = label.
    channels: 3.
    table: labels are what they are; see `labels.LabelTable`.
  """

  classes = CLASSES
  colors = COLORS
  channels = 3
  table = labels_lib.LabelTable.build(len(CLASSES))

  def __init__(
    self,
    split: str,
    *,
    size: tuple[int, int] = (96, 96),
    count: int | None = None,
    seed: int = 0,
  ):
    """Describes the scenes; nothing is drawn yet.

    Args:
      split: "train" or "val"; they share no scene.
      size: height and width in pixels; at least 32 each.
      count: number of scenes; by default 1024 in "train" and 128 in "val".
      seed: in [0, 2^32); another seed is another data set.

    Raises:
      InputError: if an argument is outside its range.
    """
    if split not in SPLITS:
      raise errors.InputError(
        f"the embedded scenes have no split {split!r}; take one of"
        f" {', '.join(SPLITS)}."
      )
    if min(size) < 32:
      raise errors.InputError(
        f"embedded scenes need at least 32 x 32 pixels, got size {size}."
      )
    if not 0 <= seed < 2**32:
      raise errors.InputError(f"seed must be in [0, 2^32), got {seed}.")
    self.split = split
    self.size = (int(size[0]), int(size[1]))
    self.seed = seed
    self.count = SPLITS[split] if count is None else count
    if self.count < 1:
      raise errors.InputError(f"count must be positive, got {count}.")

  def __len__(self) -> int:
    return self.count

  @property
  def names(self) -> list[str]:
    """The name of every scene, such as "val-0007"."""
    return [self.name(index) for index in range(self.count)]

  def name(self, index: int) -> str:
    """Returns the name of one scene."""
    return f"{self.split}-{index:04d}"

  def __getitem__(self, index: int) -> typing.Example:
    """Draws one scene.

    Args:
      index: in [0, len(self)).

    Returns:
      "image" uint8 [h, w, 3]; "label" uint8 [h, w] in [0, 9) or 255; "name".

    Raises:
      IndexError: if `index` is out of range.
    """
    if not 0 <= index < self.count:
      raise IndexError(f"scene {index} of {self.count}.")
    # SeedSequence mixes the words, so neighbouring scenes are independent.
    random = np.random.default_rng([self.seed, _STREAMS[self.split], index])
    image, label = draw(random, size=self.size)
    return {"image": image, "label": label, "name": self.name(index)}

  def raw_label(self, index: int) -> UInt8[np.ndarray, "h w"]:
    """Returns the label as it is drawn; there is no mapping to undo."""
    return self[index]["label"]

  def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the image of one scene."""
    return self[index]["image"]

  def label_file(self, index: int) -> str:
    """Returns the name of a scene, for messages."""
    return self.name(index)


def draw(
  random: np.random.Generator, *, size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
  """Draws a scene.

  Args:
    random: where every choice comes from.
    size: height and width in pixels.

  Returns:
    Image in [0, 255], and label in [0, 9) or 255 along the contours.
  """
  height, width = size
  rows = np.arange(height, dtype=np.float32)[:, None]
  columns = np.arange(width, dtype=np.float32)[None, :]
  ground = _colors(random, away_from=())
  image = _blend(_blotches(random, rows, columns), *ground)
  label = np.zeros(size, np.uint8)

  least, most = _OBJECTS_PER_96
  area = height * width / 96**2
  objects = max(1, round(random.integers(least, most) * area))
  placed: list[tuple[float, float, float]] = []
  for _ in range(objects):
    number = int(random.integers(len(shapes.KINDS)))
    kind = shapes.KINDS[number]
    radius = float(random.uniform(*_RADIUS))
    centre = _place(random, size, radius, placed)
    placed.append((*centre, radius))
    box = _box(centre, 1.25 * radius + 1, size)
    frame = _frame(random, rows[box[0]], columns[:, box[1]], centre, radius)
    distance = kind.outlines[random.integers(len(kind.outlines))](frame)
    share = np.clip(0.5 + 0.5 * frame.x / radius, 0.0, 1.0)
    pixels = _blend(share, *_colors(random, away_from=ground))
    pixels += _RELIEF * kind.relief(frame)[..., None]
    inside = np.clip(0.5 - distance, 0.0, 1.0)[..., None]  # a soft edge
    image[box] += inside * (pixels - image[box])
    label[box][distance < 0] = number + 1

  image *= _light(random, rows / height, columns / width)[..., None]
  image += _NOISE * random.standard_normal(image.shape, dtype=np.float32)
  label[_contours(label)] = typing.IGNORE
  return np.clip(image, 0, 255).astype(np.uint8), label


def _blotches(random, rows, columns):
  """Two long waves across each other: [h, w] in [0, 1]."""
  waves = np.float32(0.5)
  for _ in range(2):
    angle, phase = random.uniform(0.0, 2 * np.pi, 2).tolist()
    step = 2 * np.pi / float(random.uniform(40.0, 80.0))  # radians a pixel
    along = np.cos(angle).item() * columns + np.sin(angle).item() * rows
    waves = waves + 0.25 * np.sin(step * along + phase)
  return waves


def _blend(share, first, second):
  """Returns [h, w, 3] between two colours; `share` is the second's."""
  return first + share[..., None] * (second - first)


def _colors(random, *, away_from):
  """Returns two related colours, the first apart from the given ones."""
  candidates = random.uniform(*_SHADES, (17, 3)).astype(np.float32)
  apart = np.full(16, True)
  for other in away_from:
    apart &= ((candidates[:-1] - other) ** 2).sum(-1) > _CONTRAST**2
  first = candidates[np.argmax(apart)]
  return first, first + 0.35 * (candidates[-1] - first)


def _place(random, size, radius, placed):
  """Returns a centre (row, column), if it can be, apart from the others."""
  inset = 0.6 * radius  # the border cuts off less than half of an object
  candidates = inset + random.uniform(0.0, 1.0, (12, 2)) * (
    np.asarray(size) - 2 * inset
  )
  for row, column in candidates:
    if all(
      np.hypot(row - r, column - c) > 0.7 * (radius + other)
      for r, c, other in placed
    ):
      break
  return float(row), float(column)


def _box(centre, reach, size):
  """Returns the slices of the scene within `reach` pixels of the centre."""
  return tuple(
    slice(max(0, int(c - reach)), min(extent, int(c + reach) + 2))
    for c, extent in zip(centre, size, strict=True)
  )


def _frame(random, rows, columns, centre, radius):
  """Turns the pixels of a box by a random angle about the centre."""
  angle = float(random.uniform(-_TILT, _TILT))
  cosine, sine = np.cos(angle).item(), np.sin(angle).item()
  down, right = rows - centre[0], columns - centre[1]
  return shapes.Frame(
    x=cosine * right + sine * down,
    y=cosine * down - sine * right,
    radius=radius,
  )


def _light(random, rows, columns):
  """A linear ramp across the scene; `rows` and `columns` in [0, 1]."""
  slope = random.uniform(-_LIGHT, _LIGHT, 2).astype(np.float32)
  return 1.0 + slope[0] * (rows - 0.5) * 2 + slope[1] * (columns - 0.5) * 2


def _contours(label):
  """Returns where a pixel differs from one of its four neighbours."""
  edge = np.zeros(label.shape, bool)
  down = label[1:] != label[:-1]
  right = label[:, 1:] != label[:, :-1]
  edge[1:] |= down
  edge[:-1] |= down
  edge[:, 1:] |= right
  edge[:, :-1] |= right
  return edge
