"""Which images `predict` reads, and under which names it writes."""

from collections.abc import Sequence
import glob
import os
import pathlib

from fcnjax import errors
from fcnjax.data import images


def find(inputs: Sequence[str | os.PathLike]) -> list[pathlib.Path]:
  """Expands files, folders and globs into image files.

  A folder stands for the images directly in it; a glob with ** reaches deeper.
  Of folders and globs, only files with the extension of an image count; a file
  that is named outright is taken as it is. A file that is named twice is read
  once.

  Args:
    inputs: files, folders and globs.

  Returns:
    Existing files; in the given order, those of a folder or glob sorted.

  Raises:
    InputError: if an input is missing, or holds no image.
  """
  found: dict[pathlib.Path, pathlib.Path] = {}
  for word in inputs:
    for path in _expanded(os.fspath(word)):
      found.setdefault(path.resolve(), path)
  if not found:
    raise errors.InputError(
      "no input; give images as files, folders or globs such as 'in/*.png'."
    )
  return list(found.values())


def names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns a distinct name for each file: its stem, where that is enough.

  Files of one stem get the path below their common folder instead: a/1.png and
  b/1.jpg become "a_1_png" and "b_1_jpg".

  Args:
    paths: distinct files.

  Returns:
    Names without a folder and without an extension, in the given order.

  Raises:
    InputError: if two names are the same even so.
  """
  # Case does not tell files apart on every file system.
  same: dict[str, list[pathlib.Path]] = {}
  for path in paths:
    same.setdefault(path.stem.lower(), []).append(path.resolve())
  result = []
  taken: dict[str, pathlib.Path] = {}
  for path in paths:
    name, group = path.stem, same[path.stem.lower()]
    if len(group) > 1:
      common = os.path.commonpath([p.parent for p in group])
      below = path.resolve().relative_to(common)
      name = "_".join(below.parts).replace(".", "_")
    other = taken.setdefault(name.lower(), path)
    if other is not path:
      raise errors.InputError(
        f"{other} and {path} would both be written as {name}.png;"
        " predict them in two calls with different --output."
      )
    result.append(name)
  return result


def _expanded(word: str) -> list[pathlib.Path]:
  path = pathlib.Path(word).expanduser()
  if path.is_file():
    return [path]
  if path.is_dir():
    matches = list(path.iterdir())
  elif glob.has_magic(word):
    pattern = os.path.expanduser(word)
    matches = [pathlib.Path(m) for m in glob.glob(pattern, recursive=True)]
  else:
    raise errors.InputError(
      f"no file or folder {word}; give images as files, folders or globs."
    )
  known = [
    match
    for match in matches
    if match.suffix.lower() in images.EXTENSIONS and match.is_file()
  ]
  if not known:
    what = "folder" if path.is_dir() else "glob"
    hint = " (a folder's own folders are not read)" if path.is_dir() else ""
    raise errors.InputError(
      f"no images in the {what} {word}{hint}; expected files such as"
      f" {', '.join(sorted(images.EXTENSIONS))}."
    )
  return sorted(known)
