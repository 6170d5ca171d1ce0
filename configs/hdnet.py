"""HDNet (Li, Kang, Zhu, Ye, Feng, Ming: Neurocomputing 2021).

  python train.py --config=configs/hdnet.py --workdir=runs/hdnet

trains HDNet on ResNet-50 on the embedded scenes, from noise, at output stride
16, half of the paper's resolution.

Variants:
  pascal_context  ResNet-101, 59 classes, background ignored: crop 608, SGD .9,
                  poly .9, head at ten times the backbone's rate (the authors'
                  train.py). Rate .001, batch 16 and 80 epochs are those of the
                  code's parent, DANet's: HDNet's own are not published.
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
    {"": _scenes, "pascal_context": _pascal_context, "folder": _folder},
  )(config)
  return config


def _scenes(config):
  # One rate: the backbone starts from noise, too.
  config.model.options = {"output_stride": 16}
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.schedule = "cosine"
  config.steps = 380
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 190
  config.data.transforms = (("flip", {"vertical": True}),)
  config.evaluation.batch_size = 16


def _pascal_context(config):
  config.model.name = "hdnet_resnet101"
  config.optimizer.learning_rate = 0.001
  config.optimizer.groups = (("^head/", 10.0, 1.0),)
  config.steps = 24_990  # 80 epochs of 4998 images
  config.batch_size = 16
  config.eval_every = config.checkpoint_every = 1000
  defaults.pascal_context(config)
  data = config.data
  data.num_classes = 59
  data.label_map = "zero_is_ignored"
  data.mean = (123.7, 116.3, 103.5)  # ImageNet's, RGB in [0, 255]
  data.std = (58.4, 57.1, 57.4)
  data.transforms = (
    ("random_scale", {"minimum": 0.75, "maximum": 2.0}),
    ("random_crop", {"size": (608, 608)}),
    ("flip", {}),
  )
  config.evaluation.scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2)
  config.evaluation.flip = True
  config.evaluation.batch_size = 1


def _folder(config):
  defaults.folder(config)
  config.optimizer.learning_rate = 0.01
  config.steps = 5000
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 500
