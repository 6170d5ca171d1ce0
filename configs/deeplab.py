"""DeepLab v1, v2 and v3 (Chen, Papandreou, Kokkinos, Murphy, Yuille; v3: Chen,
Papandreou, Schroff, Adam: 2015 to 2017).

  python train.py --config=configs/deeplab.py --workdir=runs/deeplab

trains DeepLab v3 on ResNet-50 on the embedded scenes, from noise.

Variants:
  scenes_os8      then at output stride 8 with frozen batch norm:
                  --config.init_from=runs/deeplab
  voc2012         v3, ResNet-101, output stride 16 (section 4): crop 513, batch
                  16, SGD .9, poly .9 from .007, 30,000 steps on trainaug,
                  SBD's images included (Table 6, from ImageNet weights: mean
                  IoU .7721, .7851 at stride 8). Evaluated
                  with --config.evaluation.scales="(0.5,0.75,1,1.25,1.5,1.75)"
                  --config.evaluation.flip=True, .7977.
  voc2012_os8     then at stride 8 with frozen batch norm, rate 1e-3:
                  --config.init_from=RUN
  largefov        v1 on VGG16: crop 321, batch 30, rate 1e-3 (scores 1e-2),
                  a tenth every 2000 of 6000 steps (.6225).
  v2_vgg16        v2's ASPP-L on VGG16: batch 10, poly .9, 20,000 steps
                  (Table 3: .6896).
  v2_resnet101    v2 on ResNet-101: batch 10, poly .9 from 2.5e-4, 20,000
                  steps, scales .5–1.5 (Table 4: .7635, with COCO and
                  MSC).
  folder          your own images and masks:
                  --config.data.images=DIR --config.data.masks=DIR
                  --config.data.num_classes=K
"""

from fcnjax.cli import config as configs, defaults


def get_config(variant: str = ""):
  """Returns the config of a variant."""
  config = defaults.get_config()
  config.optimizer.name = "sgd"
  config.optimizer.momentum = 0.9
  config.optimizer.schedule = "poly"
  configs.variant(
    variant,
    {
      "": _scenes,
      "scenes_os8": _scenes_os8,
      "voc2012": _v3,
      "voc2012_os8": _v3_os8,
      "largefov": _largefov,
      "v2_vgg16": _v2_vgg16,
      "v2_resnet101": _v2_resnet101,
      "folder": _folder,
    },
  )(config)
  return config


def _scenes(config):
  config.model.name = "deeplabv3_resnet50"
  config.model.options = {"bn_momentum": 0.9}  # .9997 is for 30,000 steps
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 1e-2
  config.optimizer.schedule = "cosine"
  config.optimizer.weight_decay = 1e-4
  config.steps = 460
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 460
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


def _voc(config, crop):
  defaults.voc(config, 2012, train="trainaug")
  config.eval_every = config.checkpoint_every = 1000
  config.data.mean = (122.675, 116.669, 104.008)  # RGB
  config.data.std = (1.0,)
  config.data.transforms = (
    ("random_crop", {"size": (crop, crop)}),
    ("flip", {}),
  )
  config.evaluation.batch_size = 1


def _v3(config):
  _voc(config, 513)
  config.model.name = "deeplabv3_resnet101"
  config.optimizer.learning_rate = 0.007
  config.optimizer.weight_decay = 1e-4
  # Biases learn twice as fast; batch norm does not decay.
  config.optimizer.groups = (("(bn|norm)/", 1.0, 0.0), ("bias$", 2.0, 0.0))
  config.data.mean = (123.15, 115.90, 103.06)
  config.steps = 30_000
  config.batch_size = 16
  config.data.transforms = (
    ("random_scale", {"minimum": 0.5, "maximum": 2.0, "step": 0.25}),
    *config.data.transforms,
  )


def _v3_os8(config):
  _v3(config)
  config.init_from = "RUN"
  config.model.options = {"output_stride": 8, "norm": "frozen"}
  config.optimizer.learning_rate = 0.001


def _largefov(config):
  _voc(config, 321)
  config.model.name = "deeplab_largefov"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.schedule = "step"
  config.optimizer.step_every = 2000
  config.optimizer.weight_decay = 5e-4
  config.optimizer.groups = (
    ("fc8.*/kernel$", 10.0, 1.0),
    ("fc8.*/bias$", 20.0, 0.0),
    ("bias$", 2.0, 0.0),
  )
  config.loss.normalization = "pixels"
  config.steps = 6000
  config.batch_size = 30


def _v2_vgg16(config):
  _largefov(config)
  config.model.name = "deeplabv2_vgg16"
  config.optimizer.schedule = "poly"
  config.steps = 20_000
  config.batch_size = 10


def _v2_resnet101(config):
  _voc(config, 321)
  config.model.name = "deeplabv2_resnet101"
  config.model.options = {"norm": "frozen"}
  config.optimizer.learning_rate = 2.5e-4
  config.optimizer.weight_decay = 5e-4
  config.optimizer.groups = (
    ("score.*/kernel$", 10.0, 1.0),
    ("score.*/bias$", 20.0, 0.0),
  )
  config.steps = 20_000
  config.batch_size = 10
  config.data.transforms = (
    ("random_scale", {"minimum": 0.5, "maximum": 1.5}),
    *config.data.transforms,
  )


def _folder(config):
  defaults.folder(config)
  config.model.name = "deeplabv3_resnet50"
  config.model.options = {"bn_momentum": 0.99}
  config.optimizer.learning_rate = 0.01
  config.optimizer.weight_decay = 1e-4
  config.steps = 5000
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 500
