"""Dilated convolutions (Yu and Koltun: ICLR 2016).

  python train.py --config=configs/dilation.py --workdir=runs/dilation

trains the front-end on the embedded scenes: VGG16 an eighth as wide, with batch
norm, since it starts from noise. The scenes are drawn large, since whatever
their size 186 mirrored pixels are computed at each side.

Variants (the release's train.py and the paper's appendix):
  scenes_context  then the Basic context module of 8 layers, on the front-end
                  as it is: --config.init_from=runs/dilation
  scenes_joint    then both together: --config.init_from=RUN_CONTEXT
  voc2012         the front-end: crop 500, batch 14, rate 1e-3, momentum .9,
                  60,000 steps on trainaug, SBD's images included. The
                  release counts the margin of 186 pixels into its crop and
                  scores the 128 in the middle; here the margin is mirrored and
                  all are scored. The release starts from VGG16's ImageNet
                  weights and reaches mean IoU .676 on the test split.
  voc2012_context the Large context module on a front-end that is kept as it
                  is, batch 60, rate 1e-3: --config.init_from=RUN
  voc2012_joint   both together, crop 628, batch 8, rate 1e-5 as in the release
                  (paper: 1e-4 and momentum .99; .735 on the test split, with
                  COCO): --config.init_from=RUN_CONTEXT
  camvid          Dilation8 at once, batch 1, 20,000 steps, rate 1e-5 (.653 from
                  ImageNet weights, on images of 640×480 mirrored to 852).
  kitti           Dilation7, joint: batch 1, 20,000 steps, rate 1e-5, momentum
                  .99 (.592).
  cityscapes      Dilation10, joint: batch 1, 60,000 steps, rate 1e-5 (.687 on
                  val); the release trains the front-end first, 40,000 steps
                  (--config.model.name=dilation_frontend), then the context
                  module, 24,000 steps of batch 100 and rate 1e-4.
  folder          your own images and masks, the front-end:
                  --config.data.images=DIR --config.data.masks=DIR
                  --config.data.num_classes=K
"""

from fcnjax.cli import config as configs, defaults

_NARROW = {"widths": (8, 16, 32, 64, 64), "fc_channels": 128, "norm": "batch"}


def get_config(variant: str = ""):
  """Returns the config of a variant."""
  config = defaults.get_config()
  config.model.name = "dilation8"
  config.optimizer.name = "sgd"
  config.optimizer.momentum = 0.9
  config.optimizer.weight_decay = 5e-4
  config.optimizer.groups = (("bias$", 2.0, 0.0),)
  config.loss.normalization = "pixels"
  configs.variant(
    variant,
    {
      "": _scenes,
      "scenes_context": _scenes_context,
      "scenes_joint": _scenes_joint,
      "voc2012": _voc,
      "voc2012_context": _voc_context,
      "voc2012_joint": _voc_joint,
      "camvid": _camvid,
      "kitti": _kitti,
      "cityscapes": _cityscapes,
      "folder": _folder,
    },
  )(config)
  return config


def _from_noise(config):
  config.model.options = _NARROW
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.schedule = "cosine"
  config.optimizer.weight_decay = 1e-4
  config.optimizer.groups = ()


def _scenes(config):
  _from_noise(config)
  config.model.name = "dilation_frontend"
  config.model.options = {**_NARROW, "dropout": 0.0}
  config.steps = 340
  config.batch_size = 2
  config.mesh.data = 1
  config.eval_every = config.checkpoint_every = 340
  config.data.image_size = (288, 288)
  config.data.transforms = (("flip", {"vertical": True}),)


def _scenes_context(config):
  _scenes(config)
  config.model.name = "dilation8"
  config.init_from = "RUN"
  config.model.options = {**_NARROW, "dropout": 0.0, "norm": "frozen"}
  config.init_drop = ("^params/context/",)
  config.optimizer.groups = (("^(?!context/)", 0.0, 0.0),)
  config.steps = config.eval_every = config.checkpoint_every = 150


def _scenes_joint(config):
  _scenes_context(config)
  config.model.options = {**_NARROW, "dropout": 0.0}
  config.init_drop = ()
  config.optimizer.groups = ()
  config.optimizer.learning_rate = 2e-4


def _voc(config):
  defaults.voc(config, 2012, train="trainaug")
  config.model.name = "dilation_frontend"
  config.optimizer.learning_rate = 1e-3
  config.steps = 60_000
  config.batch_size = 14
  config.eval_every = config.checkpoint_every = 2000
  config.data.mean = (116.52, 111.36, 102.93)  # RGB
  config.data.std = (1.0,)
  config.data.transforms = (
    ("random_crop", {"size": (500, 500), "boundary": "reflect"}),
    ("flip", {}),
  )
  config.evaluation.batch_size = 1


def _voc_context(config):
  _voc(config)
  config.model.name = "dilation8"
  config.init_from = "RUN"
  # Nothing is dropped from what the context module sees.
  config.model.options = {"context": "large", "dropout": 0.0}
  config.init_drop = ("^params/context/",)
  config.batch_size = 60
  config.accumulate = 6
  config.optimizer.groups = (
    ("^(?!context/)", 0.0, 0.0),
    ("bias$", 2.0, 0.0),
  )


def _voc_joint(config):
  _voc(config)
  config.model.name = "dilation8"
  config.model.options = {"context": "large"}
  config.optimizer.learning_rate = 1e-5
  config.batch_size = 8
  config.data.transforms = (
    ("random_crop", {"size": (628, 628), "boundary": "reflect"}),
    ("flip", {}),
  )


def _camvid(config):
  defaults.camvid(config)
  config.optimizer.learning_rate = 1e-5
  config.steps = 20_000
  config.batch_size = 1
  config.mesh.data = 1
  config.eval_every = config.checkpoint_every = 1000
  config.data.mean, config.data.std = (105.41, 108.78, 110.70), (1.0,)  # RGB
  config.data.transforms = (("flip", {}),)


def _joint(config, name, learning_rate, steps, momentum=0.9):
  config.model.name = name
  config.optimizer.learning_rate = learning_rate
  config.optimizer.momentum = momentum
  config.steps = steps
  config.batch_size = 1
  config.mesh.data = 1
  config.eval_every = config.checkpoint_every = 1000
  config.data.std = (1.0,)
  config.data.transforms = (("flip", {}),)
  config.evaluation.batch_size = 1


def _kitti(config):
  _joint(config, "dilation7", 1e-5, 20_000, momentum=0.99)
  data = config.data
  data.source = "folder"
  data.obtain = (
    "the KITTI images and labels of Ros et al. (100 for training, 46 for test, "
    "11 classes); give them as --config.data.images, data.masks, "
    "data.val_images and data.val_masks."
  )
  data.images, data.masks = "kitti/train/images", "kitti/train/masks"
  data.val_images, data.val_masks = "kitti/test/images", "kitti/test/masks"
  data.num_classes = 11
  data.mean = (91.35, 95.55, 96.19)  # RGB


def _cityscapes(config):
  _joint(config, "dilation10", 1e-5, 60_000)
  defaults.cityscapes(config)
  config.data.mean = (73.16, 82.91, 72.39)  # RGB


def _folder(config):
  defaults.folder(config)
  _from_noise(config)
  config.model.name = "dilation_frontend"
  config.steps = 5000
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 500
