"""What is wrong with the files themselves: damage, sizes, kinds of pixels."""

from collections import Counter
from collections.abc import Iterator, Sequence

from fcnjax.data import findings, labels as labels_lib
from fcnjax.data.checking import census

# What is said of files that cannot be used, by `census.Fault.code`.
_DAMAGE = {
  "missing": ("do not exist", "Put them back."),
  "empty": ("are empty files", ""),
  "broken": ("are no images, or their heads are broken", ""),
  "truncated": ("cannot be decoded to the end", ""),
  "unreadable": ("cannot be used", ""),
}
_TIMES = 4  # that one image may be larger than another, each side


def damaged(looks: Sequence[census.Look]) -> Iterator[findings.Finding]:
  """Yields files that cannot be decoded, an error for each kind of damage."""
  for part in ("image", "mask"):
    faulty: dict[str, list[census.Look]] = {}
    for look in looks:
      fault = look.image_fault if part == "image" else look.mask_fault
      if fault and fault.code in _DAMAGE:
        faulty.setdefault(fault.code, []).append(look)
    for code, found in faulty.items():
      words, remedy = _DAMAGE[code]
      first = found[0]
      message = (
        first.image_fault if part == "image" else first.mask_fault
      ).message
      if len(found) > 1:
        message = f"{len(found)} {part}s {words}; the first: {message}"
      yield census.finding(
        f"{code}_{part}", "error", message, remedy, found, part=part
      )


def compared(
  looks: Sequence[census.Look], *, as_bytes: bool = False
) -> Iterator[findings.Finding]:
  """Yields pairs that do not fit together, and files unlike the others.

  Args:
    looks: at one split.
    as_bytes: whether it is trained on, and its images as bytes; see
      `trained_as_bytes`.
  """
  yield from _sizes(looks)
  yield from _misnamed(looks)
  yield from _kinds(looks, as_bytes)
  yield from _halved(looks)
  yield from _turned(looks)


def trained_as_bytes(parts: Sequence[Sequence[census.Look]]) -> bool:
  """Returns whether training takes images for bytes, and refuses finer ones.

  It does where the first image of each part that is trained on is of bytes; see
  `reading.Reader`.
  """
  firsts = [
    next((look.picture for look in looks if look.picture), None)
    for looks in parts
  ]
  return not any(picture.deep for picture in firsts if picture)


def _sizes(looks) -> Iterator[findings.Finding]:
  """Finds masks of another size than their image."""
  unequal = [
    look
    for look in looks
    if look.picture and look.mask_size and look.picture.size != look.mask_size
  ]
  turned = [
    look
    for look in unequal
    if look.picture.size == look.mask_size[::-1]
    and (_is_turned(look.image_saved) or _is_turned(look.mask_saved))
  ]
  others = [look for look in unequal if look not in turned]
  if turned:
    yield census.finding(
      "turned_by_exif",
      "error",
      f"image and mask are turned differently in"
      f" {labels_lib.counted(len(turned), 'pair')} ({_sides(turned[0])}): the"
      " EXIF data of one of the two files say that it is to be turned.",
      "Export the masks anew, as viewers show the images; or take the"
      " orientation out of the EXIF data.",
      turned,
      part="mask",
    )
  if others:
    yield census.finding(
      "unequal_sizes",
      "error",
      f"image and mask differ in size in"
      f" {labels_lib.counted(len(others), 'pair')} ({_sides(others[0])}).",
      "Export the masks at the size of the images.",
      others,
      part="mask",
    )


def _sides(look) -> str:
  image, mask = look.picture.size, look.mask_size
  return (
    f"{look.image_file}: {image[0]} x {image[1]} pixels, height x width;"
    f" {look.mask_file}: {mask[0]} x {mask[1]}"
  )


def _misnamed(looks) -> Iterator[findings.Finding]:
  for part in ("image", "mask"):
    found = [look for look in looks if _saved(look, part, "misnamed")]
    if found:
      kinds = sorted({_saved(look, part, "format") for look in found})
      file = census.file(found[0], part)
      yield census.finding(
        f"misnamed_{part}",
        "warning",
        f"{labels_lib.counted(len(found), part)} of another kind"
        f" ({', '.join(kinds)}) than the name says (first: {file}); other"
        " programs may refuse that.",
        "Rename them after what they are.",
        found,
        part=part,
      )


def _kinds(looks, as_bytes) -> Iterator[findings.Finding]:
  """Finds images whose channels or bits are not those of most."""
  for what, code, words in (
    ("channels", "mixed_channels", {1: "grey", 2: "grey and transparent",
                                    3: "RGB", 4: "RGBA"}),
    ("bits", "mixed_bits", {8: "of 8 bits", 16: "of 16 bits",
                            32: "of 32 bits"}),
  ):  # fmt: skip
    saved = [look for look in looks if look.image_saved]
    kinds = Counter(getattr(look.image_saved, what) for look in saved)
    if len(kinds) < 2:
      continue
    ((usual, _),) = kinds.most_common(1)
    found = [look for look in saved if getattr(look.image_saved, what) != usual]
    deep = [look for look in saved if look.picture and look.picture.deep]
    refused = what == "bits" and as_bytes and bool(deep)
    if refused:
      found = deep
    counts = ", ".join(
      f"{count} {words.get(kind, f'of {kind} {what}')}"
      for kind, count in kinds.most_common()
    )
    if what == "channels":
      remedy = "All are read as --config.data.channels says; is that meant?"
    elif refused:
      remedy = (
        "Training takes all for what its first image is, of 8 bits: save all"
        " with 8 bits, or all with 16."
      )
    else:
      remedy = (
        "Those of 16 bits are divided by 257; if their values do not fill"
        " 0 to 65535 they become dark: save all with 8 bits."
      )
    yield census.finding(
      code,
      "error" if refused else "warning",
      f"the images are of different kinds: {counts} (first:"
      f" {found[0].image_file}).",
      remedy,
      found,
      part="image",
    )


def _halved(looks) -> Iterator[findings.Finding]:
  """Finds images of which only the upper half of the bits is read."""
  found = [
    look for look in looks if look.image_saved and look.image_saved.halved
  ]
  if found:
    yield census.finding(
      "only_upper_bits",
      "warning",
      f"{labels_lib.counted(len(found), 'image')} in colour of 16 bits, of"
      f" which the upper 8 are read (first: {found[0].image_file}).",
      "If their values do not fill 0 to 65535 they become dark: save them with"
      " 8 bits, stretched to 0 to 255.",
      found,
      part="image",
    )


def _turned(looks) -> Iterator[findings.Finding]:
  """Notes images that EXIF data turn, where the mask has the same size."""
  found = [
    look
    for look in looks
    if _is_turned(look.image_saved)
    and not _is_turned(look.mask_saved)
    and look.picture
    and look.picture.size == look.mask_size
  ]
  if found:
    yield census.finding(
      "exif_orientation",
      "note",
      f"{labels_lib.counted(len(found), 'image')} to be turned, as the EXIF"
      f" data say (first: {found[0].image_file}).",
      "Their masks must be drawn on what viewers show.",
      found,
      part="image",
    )


def sizes(looks: Sequence[census.Look]) -> Iterator[findings.Finding]:
  """Notes images that differ much in size."""
  pictures = [look for look in looks if look.picture]
  if not pictures:
    return
  areas = [look.picture.size[0] * look.picture.size[1] for look in pictures]
  if max(areas) > _TIMES**2 * min(areas):
    least = pictures[areas.index(min(areas))]
    most = pictures[areas.index(max(areas))]
    yield census.finding(
      "very_different_sizes",
      "note",
      "the images are from"
      f" {least.picture.size[0]} x {least.picture.size[1]} to"
      f" {most.picture.size[0]} x {most.picture.size[1]} pixels (height x"
      f" width; {least.image_file}, {most.image_file}).",
      "Objects of one class may differ as much; --config.data.image_size"
      " resizes all.",
      [least, most],
      part="image",
    )


def _is_turned(saved: census.Saved | None) -> bool:
  return saved is not None and saved.turned


def _saved(look, part, what):
  saved = look.image_saved if part == "image" else look.mask_saved
  return getattr(saved, what) if saved else None
