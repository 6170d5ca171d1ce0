"""Which mask belongs to which image: by equal stems or by a list."""

from collections.abc import Mapping, Sequence
from concurrent import futures
import os
import pathlib

from fcnjax import errors
from fcnjax.data import findings, images as images_lib, labels

Path = str | pathlib.Path
Pair = tuple[pathlib.Path, pathlib.Path]
Match = tuple[pathlib.Path | None, pathlib.Path | None]  # None: there is none


def find(
  images: Path,
  masks: Path,
  *,
  image_suffix: str = "",
  mask_suffix: str = "",
  tell: findings.Tell = findings.refuse,
) -> dict[str, Pair]:
  """Pairs the images of a folder with the masks of another, by exact stem.

  The stem is the path below the folder without ending and suffix, so folders
  within the folders must agree as well. Hidden files and files that are no
  images are passed over. Both folders may be the same if a suffix tells the
  masks apart.

  Args:
    images: folder of the images.
    masks: folder of the masks.
    image_suffix: what an image's name has after the stem; other files of the
      folder are passed over. Cityscapes: "_leftImg8bit".
    mask_suffix: the same for masks.
    tell: what is told of files without a partner, or with another's stem; if
      it returns, they are left out.

  Returns:
    {stem: (image file, mask file)} in order of the stems.

  Raises:
    InputError: if a folder is missing or empty, and by default if two files
      share a stem or a file has no partner.
  """
  found = match(
    images,
    masks,
    image_suffix=image_suffix,
    mask_suffix=mask_suffix,
    tell=tell,
  )
  lonely_images = [stem for stem, (_, mask) in found.items() if mask is None]
  lonely_masks = [stem for stem, (image, _) in found.items() if image is None]
  if lonely_images or lonely_masks:
    parts = []
    if lonely_images:
      named = labels.listed(lonely_images, "stem", most=10)
      parts.append(
        f"{len(lonely_images)} of {len(found) - len(lonely_masks)} images in"
        f" {images} {labels.verb(len(lonely_images), 'has', 'have')}"
        f" no mask in {masks} ({named})"
      )
    if lonely_masks:
      named = labels.listed(lonely_masks, "stem", most=10)
      parts.append(
        f"{len(lonely_masks)} of {len(found) - len(lonely_images)} masks in"
        f" {masks} {labels.verb(len(lonely_masks), 'has', 'have')}"
        f" no image in {images} ({named})"
      )
    lonely = lonely_images + lonely_masks
    tell(
      findings.Finding(
        code="unpaired_files",
        severity="error",
        message=f"{'; '.join(parts)}.",
        remedy=_remedy(lonely_images, lonely_masks),
        files=tuple(
          str(file) for stem in lonely for file in found[stem] if file
        ),
      )
    )
    for stem in lonely:
      del found[stem]
  return found


def match(
  images: Path,
  masks: Path,
  *,
  image_suffix: str = "",
  mask_suffix: str = "",
  tell: findings.Tell = findings.refuse,
) -> dict[str, Match]:
  """Returns what `find` returns, with None where a file has no partner.

  For lists that choose from larger folders, such as PASCAL VOC's, where most
  images have no mask.

  Raises:
    InputError: if a folder is missing or empty, or two files share a stem.
  """
  other = mask_suffix if pathlib.Path(images) == pathlib.Path(masks) else ""
  image_files = _stems(images, "data.images", image_suffix, tell, without=other)
  mask_files = _stems(masks, "data.masks", mask_suffix, tell)
  return {
    stem: (image_files.get(stem), mask_files.get(stem))
    for stem in sorted(image_files.keys() | mask_files.keys())
  }


def read_list(
  path: Path,
  *,
  known: Mapping[str, Match],
  word: str = "the list",
  tell: findings.Tell = findings.refuse,
) -> dict[str, Pair]:
  """Reads a list file of a split.

  A line is a stem, an image's file name, or "image mask", two paths relative
  to the list's folder. Empty lines and lines that begin with # are skipped.

  Args:
    path: a text file.
    known: what stems refer to; those not listed may lack a partner.
    word: the config's for the file, for messages.
    tell: what is told of a line that names no pair; if it returns, the line
      is passed over.

  Returns:
    {stem: pair}, in the order of the lines.

  Raises:
    InputError: if the file is missing or empty, and by default if a line names
      no pair.
  """
  path = pathlib.Path(path)
  by_name: dict[str, list[str]] = {}
  for stem, (image, _) in known.items():
    # Its name, or the end of its path: folders within the folder may be given.
    below = len(pathlib.PurePath(stem).parts)
    for count in {1, below} if image else ():
      name = "/".join(image.parts[-count:])
      by_name.setdefault(name, []).append(stem)
  pairs = {}
  for number, line in _numbered_lines(path):
    where = f"{word} {path}, line {number},"
    place = f"{path}:{number}: {line}"
    words = line.split("\t") if "\t" in line else line.split()
    stems = [line] if line in known else by_name.get(line, [])
    if len(stems) > 1:
      tell(
        _wrong_line(
          f"{where} is {line!r}, which is"
          f" {labels.listed(stems, 'stem', most=3)}.",
          "Give one of these.",
          place,
        )
      )
    elif stems:
      pairs[stems[0]] = known[stems[0]]
    elif len(words) == 2:
      image, mask = (path.parent / word for word in words)
      gone = [file for file in (image, mask) if not file.is_file()]
      for file in gone:
        tell(
          _wrong_line(
            f"{where} names {file}, which does not exist.",
            "Paths in a list are relative to the folder of the list.",
            place,
          )
        )
      if not gone:
        pairs[str(pathlib.PurePath(words[0]).with_suffix(""))] = (image, mask)
    else:
      tell(
        _wrong_line(
          f"{where} is {line!r}, which is no stem in data.images.",
          "Expected one stem, or 'image mask', a line.",
          place,
        )
      )
  for position, what in enumerate(("image", "mask")):
    lonely = [stem for stem, pair in pairs.items() if pair[position] is None]
    if lonely:
      tell(
        findings.Finding(
          code="unpaired_files",
          severity="error",
          message=(
            f"{word} {path} lists"
            f" {labels.listed(lonely, 'stem', most=3)}"
            f" without {what} in data.{what}s."
          ),
          remedy=(
            "Add what is missing, take the line out, or set"
            f" --config.data.{what}_suffix."
          ),
          files=tuple(
            str(file) for stem in lonely for file in pairs[stem] if file
          ),
        )
      )
    for stem in lonely:
      del pairs[stem]
  return pairs


def _wrong_line(message: str, remedy: str, place: str) -> findings.Finding:
  return findings.Finding(
    code="list_names_no_pair",
    severity="error",
    message=message,
    remedy=remedy,
    files=(place,),
  )


def read_lines(path: Path) -> list[str]:
  """Returns the lines of a list file, without empty ones and comments.

  Raises:
    InputError: if the file is missing, no text, or has no lines.
  """
  return [line for _, line in _numbered_lines(path)]


def _numbered_lines(path: Path) -> list[tuple[int, str]]:
  """Returns what `read_lines` does, each with its number in the file."""
  try:
    text = pathlib.Path(path).read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
    raise errors.InputError(
      f"cannot read the list {path}: {reason}; expected a text file with one"
      " stem, or 'image mask', a line."
    ) from error
  stripped = enumerate((line.strip() for line in text.splitlines()), start=1)
  lines = [(n, line) for n, line in stripped if line and line[0] != "#"]
  if not lines:
    raise errors.InputError(
      f"the list {path} is empty; expected one stem, or 'image mask', a line."
    )
  return lines


def compare_sizes(pairs: Sequence[Pair]) -> None:
  """Compares heights and widths by the files' heads, decoding nothing.

  Raises:
    InputError: if an image and its mask differ, or one is no image.
  """

  def problem(pair: Pair) -> str | None:
    try:
      image, mask = (images_lib.size(file) for file in pair)
    except errors.InputError as error:
      return str(error)
    return None if image == mask else unequal(pair, image, mask)

  with futures.ThreadPoolExecutor(8) as pool:
    problems = [text for text in pool.map(problem, pairs) if text]
  if problems:
    others = len(problems) - 1
    more = f" ({others} other pair{'s' * (others > 1)} wrong, too.)"
    raise errors.InputError(problems[0] + more * (others > 0))


def unequal(pair: Pair, image: Sequence[int], mask: Sequence[int]) -> str:
  """Says that an image and a mask have different (height, width) in pixels."""
  turned = tuple(image) == tuple(mask)[::-1]
  hint = " (turned; is there an orientation in the EXIF data?)" * turned
  return (
    f"image {pair[0]} has {image[0]} x {image[1]} pixels (height x width) and"
    f" its mask {pair[1]} {mask[0]} x {mask[1]}{hint}; export the mask at the"
    " image's size."
  )


def _stems(
  folder: Path, key: str, suffix: str, tell: findings.Tell, *, without: str = ""
) -> dict[str, pathlib.Path]:
  """Returns {stem: file} of the image files below a folder."""
  if not os.path.isdir(folder):
    raise errors.InputError(
      f"{key} is {str(folder)!r}, which is no folder; give an existing one"
      f" (--config.{key}=DIR)."
    )
  found: dict[str, pathlib.Path] = {}
  for file in _files(pathlib.Path(folder)):
    stem = os.path.splitext(file.relative_to(folder).as_posix())[0]
    if not stem.endswith(suffix) or (without and stem.endswith(without)):
      continue
    stem = stem[: len(stem) - len(suffix)]
    if stem in found:
      tell(
        findings.Finding(
          code="same_stem",
          severity="error",
          message=f"{found[stem]} and {file} have the same stem.",
          remedy="Keep one of them.",
          files=(str(found[stem]), str(file)),
        )
      )
    else:
      found[stem] = file
  if not found:
    named = f" whose stem ends with {suffix!r}" if suffix else ""
    raise errors.InputError(
      f"{key} {str(folder)!r} holds no images{named}; expected files such as"
      f" NAME{suffix}.png."
    )
  return found


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the visible image files below a folder, sorted."""
  files = []
  for root, folders, names in os.walk(folder):
    folders[:] = [name for name in folders if not name.startswith(".")]
    files += [
      pathlib.Path(root, name)
      for name in names
      if os.path.splitext(name)[1].lower() in images_lib.EXTENSIONS
      and not name.startswith(".")
    ]
  return sorted(files)


def _remedy(images: Sequence[str], masks: Sequence[str]) -> str:
  """Says how lonely files may find each other."""
  available = set(masks)
  for mask in masks if images else ():
    suffix = mask.removeprefix(images[0])
    if mask != suffix and all(stem + suffix in available for stem in images):
      return f"Use --config.data.mask_suffix={suffix}"
  return (
    "Give an image and its mask the same name, or set"
    " --config.data.mask_suffix, or take the others away."
  )
