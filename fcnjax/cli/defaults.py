"""Every word that a config has, with its default and its meaning.

A config file starts from these and sets what its paper needs. Plain data: no
JAX is imported here.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Returns the words that every config has; there can be no others."""
  config = ml_collections.ConfigDict(
    {
      "steps": 1000,  # updates of the parameters
      "batch_size": 8,  # images an update, over all devices and processes
      "accumulate": 1,  # parts that a batch goes through the network in
      "remat": "none",  # or "stage": see fcnjax/training/step.py
      "seed": 0,  # of parameters, order, augmentation and dropout
      "log_every": 20,  # steps
      "eval_every": 200,  # steps; an evaluated step is also saved
      "checkpoint_every": 200,  # steps
      "keep_checkpoints": 2,  # the latest n; the best is kept besides
      "keep_every": 0,  # those of multiples of so many steps are kept, too
      # What a loss or gradient that is not finite does: "stop" ends the run;
      # "skip" leaves the step out; "restore" goes back to the last checkpoint,
      # and on at half the learning rate. The batch is kept in nonfinite/.
      "nan_policy": "stop",
      "watchdog_seconds": 600.0,  # of silence, which is then told; 0 = never
      "precision": "float32",  # or "bfloat16": what the network computes in
      "ema_decay": 0.0,  # of averaged parameters, which are then evaluated
      # Batches, from the first on, over which batch norm's statistics are
      # averaged before each evaluation; 0 = the running averages of training.
      "statistics_batches": 0,
      # A workdir whose parameters the run starts from; for a network of several
      # ones "color=DIR,hha=DIR". Variants that go on from another run have RUN
      # here, which is none: they ask for it.
      "init_from": "",
      # Regular expressions of parameters that init_from may leave fresh (or
      # leave behind); each is printed.
      "init_drop": (),
      # Of kernels that see more channels here than in init_from; the additional
      # ones start from the mean of the others.
      "init_widen": (),
      "model": {
        "name": "unet_same",
        # Further options of the model, as create_model takes them.
        "options": {},
      },
      "optimizer": {
        "name": "sgd",  # or "adamw"
        "learning_rate": 0.01,
        "schedule": "constant",  # "step", "poly", "cosine"
        "warmup": 0,  # steps
        "step_every": 1000,  # steps, of the schedule "step"
        "step_factor": 0.1,  # of the schedule "step"
        "power": 0.9,  # of the schedule "poly"
        "momentum": 0.9,  # of SGD
        "nesterov": False,  # of SGD
        "weight_decay": 0.0,
        "clip_norm": 0.0,  # largest gradient norm; 0 = no clipping
        # (pattern, learning-rate factor, weight-decay factor), first match.
        "groups": (),
      },
      "loss": {
        "normalization": "weights",  # "pixels", "sum": see fcnjax/losses.py
        # "none", "median_frequency", "card" (the data set's published ones),
        # or k numbers: "0.5,2,1".
        "class_weights": "none",
        "class_weight_power": 1.0,  # 0.5 = their square roots
        # What they are: "weight" = factors; "sample" = probabilities (of the
        # largest) with which a pixel's loss counts.
        "balance": "weight",
        "sampling": 1.0,  # share of the pixels whose loss counts, drawn anew
        "separation": 0.0,  # w0 of U-Net's eq. 2; 0 = no pixel weights
        "separation_sigma": 5.0,  # pixels
        "separation_class": 1,  # whose connected components are kept apart
        "aux_weight": 0.4,  # of auxiliary logits, where a model has them
      },
      "data": {
        # "folder"; "prepared" (by fcnjax prepare-folder); or a data set of the
        # papers: "camvid", "voc2012", ... (fcnjax prepare --list).
        "source": "scenes",
        # Where a data set lies in its official layout, or prepared: the folder
        # given to prepare as --data-dir, to prepare-folder as --output.
        "root": "",
        "train_split": "train",
        "eval_split": "val",  # evaluated during training
        "test_split": "",  # evaluated once, at the end; "" = none
        "channels": 3,  # 1 = grey, 3 = RGB, 4 = RGBA
        # What the network sees, (height, width); (0, 0) = as they are. Labels
        # are evaluated at their own size. Scenes are drawn in this size, with
        # more objects in larger ones.
        "image_size": (0, 0),
        # (image - mean) / std, in [0, 255], RGB; one number or one a channel.
        # These are the embedded scenes'.
        "mean": (125.0,),
        "std": (52.0,),
        # (name, {parameters}), in this order; docs/data.md lists them, and
        # show-data shows what they make of the images.
        "transforms": (),
        # (name, {parameters}) of fcnjax/data/mixing.py: "cut_mix", "mosaic".
        "mixing": (),
        # Which images are seen: "uniform" = each once an epoch;
        # "class_balanced" = by one that holds it, every class equally often.
        "sampling": "uniform",
        "sampling_pixels": 1,  # of a class, that an image must have to hold it
        # ((weight, {words of data}), ...): the training sets that are mixed, as
        # often as their weights say; each is this one but for its own words.
        "mix": (),
        # What an image or mask that cannot be read does: "raise" ends the run;
        # "skip" puts another in its place, up to a tenth of the set.
        "on_bad_example": "raise",
        # Images travel to the device as "uint8", rounded after the transforms,
        # or unrounded as "float32".
        "transfer": "uint8",
        # Pixels that a network of valid convolutions loses on each side; the
        # labels of the training batches are cut by as much.
        "label_margin": 0,
        "workers": 2,  # threads that decode
        # Whether the training set is held on the device, and its batches are
        # made there: "on"; "off" = tf.data makes them; "auto" = on accelerators
        # if it takes at most so many gigabytes (1e9 bytes) and the transforms
        # end in one size, and wherever TensorFlow is missing.
        "resident": "auto",
        "resident_gigabytes": 4.0,
        "obtain": "",  # said where the data are missing
        # The rest is for "folder", but for the three words that say so.
        # A folder; of a data set with further channels, what is seen in place
        # of its images: "hha", "depth".
        "images": "",
        "masks": "",
        "image_suffix": "",  # cat_rgb.jpg and cat.png: "_rgb"
        "mask_suffix": "",  # cat.jpg and cat_mask.png: "_mask"
        "num_classes": 0,  # Other data know it; another number is an error.
        "class_names": (),
        "colors": (),  # (r, g, b) a class; needed for RGB masks
        "mask_values": (),  # (0, 255): the value of each class, in order
        "ignore": 255,  # the value in the masks that is not counted
        # {value in the masks: class}, "cityscapes_train_ids" or
        # "zero_is_ignored"; None = the values are the classes.
        "label_map": ml_collections.config_dict.placeholder(object),
        "val_fraction": 0.2,
        "val_images": "",
        "val_masks": "",
        # A second image of each scene, of the same stem, whose channels the
        # network sees behind the first's: a folder, or "hha" or "depth" of a
        # data set that has them.
        "second_images": "",
        "second_suffix": "",  # of their stems, as image_suffix
        "second_channels": 3,  # or 1
        "second_log": False,  # depths in 16 bits, of which the log is taken
        # Masks of a second task, which model.options.second_classes scores: a
        # folder, whose label_map, ignore and mask_suffix are the first's; or a
        # data set of the same images ("sift_flow_geometric"). Of prepared
        # data it is any word: their records hold the second labels.
        "second_masks": "",
        "second_classes": 0,
        "train_list": "",  # a text file: one stem, or "image mask", a line
        "val_list": "",
      },
      "evaluation": {
        "batch_size": 4,
        "strategy": "whole",  # "overlap_tile", "sliding_window"
        "multiple": 1,  # "whole": sizes are padded to a multiple of this
        "tile": (388, 388),  # "overlap_tile": the output, pixels
        # Pixels on each side: "overlap_tile": that the network loses;
        # "sliding_window": that are cut from a window's logits.
        "margin": 0,
        "stride": 16,  # "overlap_tile": tiles start at multiples of this
        "window": (513, 513),  # "sliding_window": pixels
        "overlap": 0.5,  # "sliding_window": share of the window
        # Averages over views of the image: resized, and each also mirrored.
        "scales": (1.0,),
        "flip": False,
        "turns": False,  # by 90, 180 and 270 degrees, too
        # Averages over as many samples of a network with dropout; 0 = none.
        "samples": 0,
        # Names of classes that the means leave out (absent from a test set).
        "exclude": (),
        "task": "first",  # "second": of data.second_masks
        "overlays": 4,  # examples drawn at each evaluation
      },
      # Devices: docs/scaling.md.
      "mesh": {
        "data": -1,  # that the batch is spread over; -1 = as many as divide it
        "space": 1,  # that the rows of an image are spread over
        # Whether parameters, optimizer and averages are cut over "data", each
        # put together where it is used.
        "shard_parameters": False,
      },
    }
  )
  config.lock()
  config.model.options.unlock()
  return config


# What the data sets need, for config files to call: their words, their
# normalisation, and an augmentation that a config may replace.


def camvid(config: ml_collections.ConfigDict, *, small: bool = False) -> None:
  """CamVid in SegNet's split: 11 classes, 480×360, or 240×180 for a CPU."""
  config.data.source = "camvid"
  config.data.root = "data/camvid"
  config.data.test_split = "test"
  config.data.image_size = (180, 240) if small else (360, 480)
  # Of the training images, RGB in [0, 255].
  config.data.mean = (104.949, 108.353, 110.196)
  config.data.std = (78.223, 79.341, 78.229)
  config.data.transforms = (
    ("random_scale", {"minimum": 0.8, "maximum": 1.25}),
    ("random_crop", {"size": (360, 480)}),
    ("flip", {}),
    ("photometric", {}),
  )
  if not small:
    return
  # For minutes of training: shrunk images, of which more are seen in the same
  # time and more at once, and predicted at the same scales; and weights,
  # without which pedestrians and bicyclists are never seen; with all of them
  # they are seen everywhere. Part of the test images were taken at dusk.
  config.data.transforms = (
    ("random_scale", {"minimum": 0.45, "maximum": 0.9}),
    ("random_crop", {"size": (104, 144)}),
    ("flip", {}),
    (
      "photometric",
      {"brightness": 0.15, "contrast": 0.3, "saturation": 0.3, "gamma": 0.3},
    ),
  )
  config.loss.class_weights = "median_frequency"
  config.loss.class_weight_power = 0.4
  config.loss.normalization = "weights"
  config.evaluation.scales = (0.55, 0.7, 0.9)
  config.evaluation.flip = True


def isbi2012(config: ml_collections.ConfigDict) -> None:
  """ISBI 2012: grey EM slices of 512×512, membrane and cell."""
  config.data.source = "isbi2012"
  config.data.root = "data/isbi2012"
  config.data.channels = 1
  config.data.mean = (125.151,)  # of the training slices
  config.data.std = (43.56,)
  config.data.transforms = (
    ("elastic", {}),
    ("flip", {"vertical": True}),
    ("random_crop", {"size": (256, 256)}),
  )
  config.evaluation.batch_size = 1


def voc(
  config: ml_collections.ConfigDict,
  year: int,
  *,
  train: str = "train",
  val: str = "val",
) -> None:
  """PASCAL VOC of a year, with SBD's splits: 21 classes, 255 ignored."""
  _data_set(config, f"voc{year}", train=train, val=val)
  config.evaluation.multiple = 64  # Images of many sizes share programs.


def cityscapes(config: ml_collections.ConfigDict) -> None:
  """Cityscapes' fine annotations, 19 classes."""
  _data_set(config, "cityscapes")


def pascal_context(
  config: ml_collections.ConfigDict, *, background: bool
) -> None:
  """PASCAL-Context: 59 classes, and a 60th for everything else."""
  _data_set(config, "pascal_context_60" if background else "pascal_context")
  config.evaluation.multiple = 64  # Images of many sizes share programs.


def nyudv2(config: ml_collections.ConfigDict) -> None:
  """NYUDv2: 40 classes; depth and HHA as second images."""
  _data_set(config, "nyudv2", train="trainval", val="test")


def sift_flow(config: ml_collections.ConfigDict) -> None:
  """SIFT Flow: 33 semantic and, as a second task, 3 geometric classes."""
  _data_set(config, "sift_flow", train="trainval", val="test")
  config.data.second_masks, config.data.second_classes = (
    "sift_flow_geometric",
    3,
  )
  # Absent from the test images.
  config.evaluation.exclude = ("cow", "desert", "moon")


def sun_rgbd(config: ml_collections.ConfigDict) -> None:
  """SUN RGB-D's colour images, 37 classes."""
  _data_set(config, "sun_rgbd", val="test")


def ade20k(config: ml_collections.ConfigDict) -> None:
  """ADE20K's scene parsing benchmark, 150 classes."""
  _data_set(config, "ade20k")


def coco_stuff10k(config: ml_collections.ConfigDict) -> None:
  """COCO-Stuff 10K, 171 classes."""
  _data_set(config, "coco_stuff10k", val="test")


def _data_set(config, name, *, train="train", val="val"):
  config.data.source = name
  config.data.root = f"data/{name}"
  config.data.train_split, config.data.eval_split = train, val
  config.data.test_split = ""


def folder(config: ml_collections.ConfigDict) -> None:
  """One's own images and masks, of any size; crops of 256×256."""
  config.data.source = "folder"
  config.data.mean = (123.7, 116.3, 103.5)  # ImageNet's, RGB in [0, 255]
  config.data.std = (58.4, 57.1, 57.4)
  config.data.transforms = (
    ("random_scale", {"minimum": 0.75, "maximum": 1.5}),
    ("random_crop", {"size": (256, 256)}),
    ("flip", {}),
    ("photometric", {}),
  )
  # Images of many sizes: each size rounded up to a multiple of this compiles
  # once.
  config.evaluation.multiple = 64
  config.evaluation.batch_size = 1
