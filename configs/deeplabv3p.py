"""DeepLabv3+ (Chen, Zhu, Papandreou, Schroff, Adam: ECCV 2018).

  python train.py --config=configs/deeplabv3p.py --workdir=runs/deeplabv3p

trains the whole Xception-65 on the embedded scenes, from noise.

Variants (numbers of the release: train.py, common.py, g3doc/pascal.md):
  scenes_os8      then at output stride 8 with frozen batch norm:
                  --config.init_from=runs/deeplabv3p
  voc2012         Xception-65, output stride 16, crop 513, batch 16, SGD .9,
                  poly .9 from .007, 30,000 steps on trainaug, SBD's images
                  included, scales .5–2 (Table 5, from ImageNet weights: mean
                  IoU .7979, .8002 at stride 8). Evaluated
                  with --config.evaluation.scales="(0.5,0.75,1,1.25,1.5,1.75)"
                  --config.evaluation.flip=True, .8121 and .8139.
  voc2012_os8     then at stride 8 with frozen batch norm, rate 1e-4:
                  --config.init_from=RUN
  cityscapes      crop 769, 90,000 steps, no image-level feature
                  (Table 7: .7914).
  resnet101       voc2012 with ResNet-101, decay 1e-4 (Table 3: .7885).
  folder          your own images and masks:
                  --config.data.images=DIR --config.data.masks=DIR
                  --config.data.num_classes=K
"""

from fcnjax.cli import config as configs, defaults


def get_config(variant: str = ""):
  """Returns the config of a variant."""
  config = defaults.get_config()
  config.model.name = "deeplabv3p_xception65"
  config.optimizer.name = "sgd"
  config.optimizer.learning_rate = 0.007
  config.optimizer.schedule = "poly"
  config.optimizer.momentum = 0.9
  config.optimizer.weight_decay = 4e-5
  # Biases learn twice as fast; depthwise kernels and batch norm do not decay.
  config.optimizer.groups = (
    ("depthwise/kernel$", 1.0, 0.0),
    ("(bn|norm)/", 1.0, 0.0),
    ("bias$", 2.0, 0.0),
  )
  configs.variant(
    variant,
    {
      "": _scenes,
      "scenes_os8": _scenes_os8,
      "voc2012": _voc,
      "voc2012_os8": _voc_os8,
      "cityscapes": _cityscapes,
      "resnet101": _resnet101,
      "folder": _folder,
    },
  )(config)
  return config


def _scenes(config):
  config.model.options = {"bn_momentum": 0.9}  # .9997 is for 30,000 steps
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 1e-2
  config.optimizer.schedule = "cosine"
  config.steps = 400
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 400
  config.statistics_batches = 32
  config.data.transforms = (("flip", {"vertical": True}),)
  config.evaluation.batch_size = 16


def _scenes_os8(config):
  _scenes(config)
  config.init_from = "RUN"
  config.model.options = {"output_stride": 8, "norm": "frozen"}
  config.statistics_batches = 0
  config.optimizer.learning_rate = 1e-4
  config.steps = config.eval_every = config.checkpoint_every = 60


def _released(config, crop):
  config.batch_size = 16
  config.eval_every = config.checkpoint_every = 1000
  config.data.mean = config.data.std = (127.5,)  # to [-1, 1]
  config.data.transforms = (
    ("random_scale", {"minimum": 0.5, "maximum": 2.0, "step": 0.25}),
    ("random_crop", {"size": (crop, crop)}),
    ("flip", {}),
  )
  config.evaluation.batch_size = 1


def _voc(config):
  _released(config, 513)
  defaults.voc(config, 2012, train="trainaug")
  config.steps = 30_000


def _voc_os8(config):
  _voc(config)
  config.init_from = "RUN"
  config.model.options = {"output_stride": 8, "norm": "frozen"}
  config.optimizer.learning_rate = 1e-4


def _cityscapes(config):
  _released(config, 769)
  config.model.options = {"image_pooling": False}
  config.steps = 90_000
  defaults.cityscapes(config)


def _resnet101(config):
  _voc(config)
  config.model.name = "deeplabv3p_resnet101"
  config.optimizer.weight_decay = 1e-4
  config.optimizer.groups = config.optimizer.groups[1:]
  config.data.mean = (123.15, 115.90, 103.06)
  config.data.std = (1.0,)


def _folder(config):
  defaults.folder(config)
  config.model.options = {"bn_momentum": 0.99}
  config.steps = 5000
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 500
