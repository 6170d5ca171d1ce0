"""HDNet (Li, Kang, Zhu, Ye, Feng, Ming: Neurocomputing 2021).

  python train.py --config=configs/hdnet.py --workdir=runs/hdnet

trains HDNet on ResNet-50, a quarter as wide, on the embedded scenes, from
noise.

Variants:
  pascal_context  ResNet-101, 59 classes, background ignored: crop 608, SGD .9,
                  poly .9, head at ten times the backbone's rate (the authors'
                  train.py). Rate .001, batch 16 and 80 epochs are those of the
                  code's parent, DANet's: HDNet's own are not published.
  ade20k          150 classes, rate .004 and 180 epochs (DANet's, too).
  coco_stuff      171 classes of COCO-Stuff 10K, rate .004 and 30 epochs.
  folder          your own images and masks:
                  --config.data.images=DIR --config.data.masks=DIR
                  --config.data.num_classes=K
"""

from fcnjax.cli import config as configs, defaults


def get_config(variant: str = ""):
  """Returns the config of a variant."""
  config = defaults.get_config()
  config.model.name = "hdnet_resnet50"
  config.optimizer.name = "sgd"
  config.optimizer.schedule = "poly"
  config.optimizer.momentum = 0.9
  config.optimizer.weight_decay = 1e-4
  configs.variant(
    variant,
    {
      "": _scenes,
      "pascal_context": _pascal_context,
      "ade20k": _ade20k,
      "coco_stuff": _coco_stuff,
      "folder": _folder,
    },
  )(config)
  return config


def _scenes(config):
  # One rate: the backbone starts from noise, too.
  config.model.options = {"widths": (16, 32, 64, 128), "channels": 128}
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.schedule = "cosine"
  config.steps = 600
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 600
  config.statistics_batches = 32
  config.data.transforms = (("flip", {"vertical": True}),)
  config.evaluation.batch_size = 16


def _paper(config, learning_rate, steps):
  config.model.name = "hdnet_resnet101"
  config.optimizer.learning_rate = learning_rate
  config.optimizer.groups = (("^head/", 10.0, 1.0),)
  config.steps = steps
  config.batch_size = 16
  config.eval_every = config.checkpoint_every = 1000
  data = config.data
  data.mean = (123.7, 116.3, 103.5)  # ImageNet's, RGB in [0, 255]
  data.std = (58.4, 57.1, 57.4)
  data.transforms = (
    ("random_scale", {"minimum": 0.75, "maximum": 2.0, "short_side": 576}),
    ("random_crop", {"size": (608, 608)}),
    ("flip", {}),
  )
  config.evaluation.strategy = "sliding_window"
  config.evaluation.window = (608, 608)
  config.evaluation.overlap = 1 / 3
  config.evaluation.scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2)
  config.evaluation.flip = True
  config.evaluation.batch_size = 1


def _pascal_context(config):
  _paper(config, 0.001, steps=24_990)  # 80 epochs of 4998 images
  defaults.pascal_context(config, background=False)


def _ade20k(config):
  _paper(config, 0.004, steps=227_362)  # 180 epochs of 20,210 images
  defaults.ade20k(config)


def _coco_stuff(config):
  _paper(config, 0.004, steps=16_875)  # 30 epochs of 9000 images
  defaults.coco_stuff10k(config)


def _folder(config):
  defaults.folder(config)
  config.optimizer.learning_rate = 0.01
  config.steps = 5000
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 500
