"""Classes painted over their image."""

from collections.abc import Mapping, Sequence
import os
import pathlib

from jaxtyping import Integer, Real, UInt8
import numpy as np
import PIL.Image

from fcnjax.report import colours

_GAP = 4  # White pixels between the pictures of a panel.


def rgb(image: Real[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
  """Shows an image of any number of channels.

  Args:
    image: uint8, or any numbers in [0, 255]; one or two channels are shown as
      grey (the first one), more as the first three in RGB order.

  Returns:
    RGB in [0, 255]; values outside are clipped, NaN is black.
  """
  if image.dtype != np.uint8:
    image = np.nan_to_num(np.asarray(image, np.float32), nan=0.0)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
  if image.shape[-1] < 3:
    return np.repeat(image[..., :1], 3, axis=-1)
  return image[..., :3]


def overlay(
  image: Real[np.ndarray, "h w c"],
  label: Integer[np.ndarray, "h w"],
  colors: Sequence[Sequence[int]],
  alpha: int | float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
  """Tints every pixel with the colour of its class.

  Args:
    image: [h, w, c], uint8 or numbers in [0, 255]; any number of channels.
    label: classes in [0, k); pixels of no class (255) keep the image.
    colors: one (r, g, b) in [0, 255] per class.
    alpha: strength of the tint in [0, 1].

  Returns:
    RGB in [0, 255].

  Raises:
    ValueError: if alpha is out of range.
  """
  if not 0 <= alpha <= 1:
    raise ValueError(f"alpha must be in [0, 1], got {alpha}.")
  base = rgb(image)
  tint = colours.paint(label, colors)
  mixed = base * np.float32(1 - alpha) + tint * np.float32(alpha)
  known = ((label >= 0) & (label < len(colors)))[..., None]
  return np.where(known, np.rint(mixed), base).astype(np.uint8)


def panel(
  image: Real[np.ndarray, "h w c"],
  truth: Integer[np.ndarray, "h w"] | None,
  prediction: Integer[np.ndarray, "h w"],
  colors: Sequence[Sequence[int]],
  alpha: int | float = 0.5,
) -> UInt8[np.ndarray, "h w2 3"]:
  """Image, truth and prediction side by side.

  Args:
    image: [h, w, c], uint8 or numbers in [0, 255]; any number of channels.
    truth: classes in [0, k) or 255; left out where None.
    prediction: classes in [0, k).
    colors: one (r, g, b) in [0, 255] per class.
    alpha: strength of the tint in [0, 1].

  Returns:
    RGB in [0, 255]: 3 w + 8 pixels wide (2 w + 4 without truth).
  """
  pictures = [rgb(image)]
  if truth is not None:
    pictures.append(overlay(image, truth, colors, alpha))
  pictures.append(overlay(image, prediction, colors, alpha))
  gap = np.full((image.shape[0], _GAP, 3), 255, np.uint8)
  row = [pictures[0]]
  for picture in pictures[1:]:
    row += [gap, picture]
  return np.concatenate(row, axis=1)


def nearest(
  label: Integer[np.ndarray, "h w"], size: tuple[int, int]
) -> Integer[np.ndarray, "h2 w2"]:
  """Resizes labels for showing them beside an image of another size.

  Args:
    label: any integers.
    size: rows and columns of the result.

  Returns:
    For each pixel the label at its centre; no new values appear.
  """
  rows, columns = (
    ((np.arange(new) + 0.5) * old / new).astype(np.int64)
    for old, new in zip(label.shape, size, strict=True)
  )
  return label[rows[:, None], columns]


def save(
  folder: str | os.PathLike,
  pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]],
) -> None:
  """Writes pictures as folder/NAME.png, over earlier ones of the same name.

  Args:
    folder: made if it does not exist.
    pictures: RGB by name.
  """
  root = pathlib.Path(folder)
  root.mkdir(parents=True, exist_ok=True)
  for name, picture in pictures.items():
    PIL.Image.fromarray(picture).save(root / f"{name}.png")
