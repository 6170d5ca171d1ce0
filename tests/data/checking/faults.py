"""Faults to plant in the folder of drawn.py.

Each function of `PLANTS` has the name of what is to be found, or of both where
"_and_" stands between; it changes the folder, and returns words of the config
that go with it. "also" are others that are found.
"""

import io
import struct
import zlib

import numpy as np
import PIL.Image

from fcnjax.data import images
from tests.data.checking import drawn


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _jpeg(pixels):
  packed = io.BytesIO()
  PIL.Image.fromarray(pixels).save(packed, "JPEG", quality=80)
  return np.asarray(PIL.Image.open(packed))


def _smooth(pixels):
  shape = PIL.Image.fromarray(pixels)
  half = shape.resize((shape.width * 2 // 3, shape.height * 2 // 3))
  return np.asarray(half.resize(shape.size, PIL.Image.Resampling.BILINEAR))


def truncated_image(root):
  _cut(drawn.image_file(root, 3))


def truncated_mask(root):
  _cut(drawn.mask_file(root, 3))


def empty_image(root):
  drawn.image_file(root, 3).write_bytes(b"")


def empty_mask(root):
  drawn.mask_file(root, 3).write_bytes(b"")


def broken_image(root):
  drawn.image_file(root, 3).write_text("this is no picture")


def unpaired_files(root):
  drawn.save(root / "images" / "alone.png", drawn.draw(77)[0])
  return {"lists": False}


def same_stem(root):
  drawn.save(root / "images" / "3.bmp", drawn.draw(77)[0])


def list_names_no_pair(root):
  (root / "train.txt").write_text("0\n1\n2\nnobody\n3\n4\n5\n6\n7")


def shared_by_lists_and_leaked_images(root):
  (root / "val.txt").write_text("8\n9\n3")


def unequal_sizes(root):
  drawn.save(
    drawn.mask_file(root, 3), drawn.pixels(drawn.mask_file(root, 3))[:-1]
  )


def turned_by_exif(root):
  picture = PIL.Image.fromarray(drawn.pixels(drawn.image_file(root, 3)))
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  picture.save(drawn.image_file(root, 3), exif=exif)


def mixed_channels(root):
  drawn.save(
    drawn.image_file(root, 3), drawn.pixels(drawn.image_file(root, 3))[..., 0]
  )


def mixed_bits_and_mixed_channels(root):
  deep = drawn.pixels(drawn.image_file(root, 3))[..., 0].astype(np.uint16) * 257
  drawn.save(drawn.image_file(root, 3), deep)


def only_upper_bits(root):
  """A colour PNG of 16 bits, which Pillow cannot write."""
  wide = drawn.pixels(drawn.image_file(root, 3)).astype(">u2") * 257
  height, width, _ = wide.shape
  rows = b"".join(b"\0" + row.tobytes() for row in wide)
  head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
  parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
  with drawn.image_file(root, 3).open("wb") as file:
    file.write(b"\x89PNG\r\n\x1a\n")
    for kind, content in parts:
      file.write(struct.pack(">I", len(content)) + kind + content)
      file.write(struct.pack(">I", zlib.crc32(kind + content)))


def misnamed_image(root):
  with PIL.Image.open(drawn.image_file(root, 3)) as file:
    file.load()
    file.save(drawn.image_file(root, 3), format="BMP")


def misnamed_mask_and_jpeg_masks(root):
  flat = np.full(drawn.SIZE, 1, np.uint8)
  drawn.save(drawn.mask_file(root, 3), flat, format="JPEG")


def values_out_of_range(root):
  pixels = drawn.pixels(drawn.mask_file(root, 3)).copy()
  pixels[:9, :9] = 33
  drawn.save(drawn.mask_file(root, 3), pixels)


def black_and_white_masks(root):
  drawn.all_masks(root, lambda mask: (mask > 0).astype(np.uint8) * 255)
  return {"num_classes": 2}


def cityscapes_label_ids(root):
  drawn.all_masks(root, lambda mask: np.asarray([7, 11, 33], np.uint8)[mask])
  return {"num_classes": 19}


def ade_zero_is_other(root):
  drawn.all_masks(root, lambda mask: np.asarray([0, 1, 150], np.uint8)[mask])
  return {"num_classes": 150}


def shifted_by_one(root):
  drawn.all_masks(root, lambda mask: mask + 1)


def one_value_too_many(root):
  drawn.all_masks(root, lambda mask: mask)
  return {"num_classes": 2}


def other_values(root):
  drawn.all_masks(root, lambda mask: mask * 100)


def voc_palette_as_rgb(root):
  table = np.asarray(images.palette(3), np.uint8)
  drawn.all_masks(root, lambda mask: table[mask])


def colour_masks(root):
  table = np.asarray([(9, 9, 9), (0, 200, 0), (90, 0, 1)], np.uint8)
  drawn.all_masks(root, lambda mask: table[mask])


def unknown_colours(root):
  table = np.asarray([(0, 0, 0), (0, 200, 0), (90, 0, 1)], np.uint8)
  drawn.all_masks(root, lambda mask: table[mask])
  pixels = drawn.pixels(drawn.mask_file(root, 3)).copy()
  pixels[4, 4] = (1, 2, 3)
  drawn.save(drawn.mask_file(root, 3), pixels)
  return {"colors": table.tolist()}


def blended_colours(root):
  table = np.asarray([(0, 0, 0), (0, 200, 0), (90, 0, 1)], np.uint8)
  drawn.all_masks(root, lambda mask: _jpeg(table[mask]))
  return {"colors": table.tolist()}


def smoothed_masks(root):
  drawn.all_masks(root, lambda mask: _smooth((mask > 0).astype(np.uint8) * 255))
  return {"num_classes": 2, "mask_values": (0, 255)}


def jpeg_compressed_masks(root):
  drawn.all_masks(root, lambda mask: _jpeg((mask > 0).astype(np.uint8) * 255))
  return {"num_classes": 2, "mask_values": (0, 255)}


def label_map_applied_twice(root):
  drawn.all_masks(root, lambda mask: np.asarray([255, 0, 1], np.uint8)[mask])
  return {"num_classes": 2, "label_map": "zero_is_ignored"}


def duplicate_images(root):
  drawn.copy(drawn.image_file(root, 3), drawn.image_file(root, 4))
  drawn.copy(drawn.mask_file(root, 3), drawn.mask_file(root, 4))


def conflicting_masks(root):
  drawn.copy(drawn.image_file(root, 3), drawn.image_file(root, 4))


def leaked_images(root):
  drawn.copy(drawn.image_file(root, 3), drawn.image_file(root, 9))


def exchanged_folders(root):
  (root / "images").rename(root / "aside")
  (root / "masks").rename(root / "images")
  (root / "aside").rename(root / "masks")


def photographs_as_masks(root):
  for number in range(drawn.COUNT):
    drawn.save(drawn.mask_file(root, number), drawn.draw(number + 50)[0])


def identical_masks(root):
  for number in range(1, drawn.COUNT):
    drawn.copy(drawn.mask_file(root, 0), drawn.mask_file(root, number))


def all_ignored(root):
  drawn.all_masks(root, lambda mask: np.full_like(mask, 255))


def ignored_masks(root):
  drawn.save(drawn.mask_file(root, 3), np.full(drawn.SIZE, 255, np.uint8))


def one_class_only(root):
  drawn.all_masks(root, lambda mask: np.ones_like(mask))


def masks_of_one_value_and_classes_only_in_validation(root):
  for number in range(drawn.COUNT):
    label = 2 if number == drawn.COUNT - 1 else number % 2
    drawn.save(
      drawn.mask_file(root, number), np.full(drawn.SIZE, label, np.uint8)
    )
  return {"also": {"classes_never_seen"}}


def mostly_ignored(root):
  drawn.all_masks(root, lambda mask: np.where(mask, mask, 255).astype(np.uint8))
  return {"also": {"classes_never_seen"}}


PLANTS = [
  truncated_image,
  truncated_mask,
  empty_image,
  empty_mask,
  broken_image,
  unpaired_files,
  same_stem,
  list_names_no_pair,
  shared_by_lists_and_leaked_images,
  unequal_sizes,
  turned_by_exif,
  mixed_channels,
  mixed_bits_and_mixed_channels,
  only_upper_bits,
  misnamed_image,
  misnamed_mask_and_jpeg_masks,
  values_out_of_range,
  black_and_white_masks,
  cityscapes_label_ids,
  ade_zero_is_other,
  shifted_by_one,
  one_value_too_many,
  other_values,
  voc_palette_as_rgb,
  colour_masks,
  unknown_colours,
  blended_colours,
  smoothed_masks,
  jpeg_compressed_masks,
  label_map_applied_twice,
  duplicate_images,
  conflicting_masks,
  leaked_images,
  exchanged_folders,
  photographs_as_masks,
  identical_masks,
  all_ignored,
  ignored_masks,
  one_class_only,
  masks_of_one_value_and_classes_only_in_validation,
  mostly_ignored,
]
