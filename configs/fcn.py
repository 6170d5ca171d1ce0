"""FCN (Long, Shelhamer, Darrell: CVPR 2015; with PAMI 2017).

  python train.py --config=configs/fcn.py --workdir=runs/fcn

trains FCN-8s in one stage on the embedded scenes: VGG16 an eighth as wide, with
batch norm and padding 1, since it starts from noise. Its pools are not scaled
as in the at-once network, whose factors are for pretrained weights: with them
it learns next to nothing here.

Variants:
  voc2011         FCN-32s as released ("heavy" learning: one whole image a
                  step, momentum .99, summed loss, rate 1e-10, 100,000 steps)
                  on VOC 2011. The release starts from VGG16's ImageNet
                  weights and reaches mean IoU .636 on seg11valid.
  voc2011_16s     FCN-16s from FCN-32s, rate 1e-12 (.650):
                  --config.init_from=RUN_32S
  voc2011_8s      FCN-8s from FCN-16s, rate 1e-14 (.655):
                  --config.init_from=RUN_16S
  voc2011_atonce  FCN-8s in one stage, rate 1e-10, 300,000 steps (.654).
  voc2011_fixed   FCN-32s of which only the scores are trained (CVPR: .454).
  voc2011_cvpr, voc2011_alexnet, voc2011_googlenet
                  FCN-32s on VGG16, AlexNet and GoogLeNet as in the CVPR paper:
                  batches of 20, momentum .9, mean loss, rate 1e-4, 1e-3 and
                  5e-5, 175 epochs (Table 1: .560, .398, .425, from ImageNet
                  weights and with SBD's images).
  camvid, camvid_small, isbi2012, isbi2012_small
                  FCN-8s from noise, with batch norm; _small for a CPU.
  folder          your own images and masks:
                  --config.data.images=DIR --config.data.masks=DIR
                  --config.data.num_classes=K
"""

from fcnjax.cli import config as configs, defaults

# VGG16 an eighth as wide.
_NARROW = {
  "widths": (8, 16, 32, 64, 64),
  "fc_channels": 128,
  "first_padding": 1,
  "norm": "batch",
}


def get_config(variant: str = ""):
  """Returns the config of a variant."""
  config = defaults.get_config()
  config.model.name = "fcn8s_vgg16"
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.schedule = "cosine"
  config.optimizer.weight_decay = 1e-4
  configs.variant(
    variant,
    {
      "": _scenes,
      "voc2011": _voc(stride="32s", learning_rate=1e-10),
      "voc2011_16s": _voc(stride="16s", learning_rate=1e-12, new="score_pool4"),
      "voc2011_8s": _voc(stride="8s", learning_rate=1e-14, new="score_pool3"),
      "voc2011_atonce": _voc(
        stride="8s_atonce", learning_rate=1e-10, steps=300_000
      ),
      "voc2011_fixed": _voc_fixed,
      "voc2011_cvpr": _voc_cvpr("vgg16", 1e-4),
      "voc2011_alexnet": _voc_cvpr("alexnet", 1e-3),
      "voc2011_googlenet": _voc_cvpr("googlenet", 5e-5),
      "camvid": _camvid,
      "camvid_small": _camvid_small,
      "isbi2012": _isbi2012,
      "isbi2012_small": _isbi2012_small,
      "folder": _folder,
    },
  )(config)
  return config


def _scenes(config):
  config.model.options = _NARROW
  config.steps = 800
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 400
  config.data.transforms = (("flip", {"vertical": True}),)
  config.evaluation.batch_size = 16


def _voc(*, stride, learning_rate, new="", steps=100_000):
  """The released recipe (voc-fcn*/solver.prototxt)."""

  def recipe(config):
    config.model.name = f"fcn{stride}_vgg16"
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = learning_rate
    config.optimizer.schedule = "constant"
    config.optimizer.momentum = 0.99
    config.optimizer.weight_decay = 5e-4
    config.optimizer.groups = (("bias$", 2.0, 0.0),)  # lr_mult 2, decay_mult 0
    config.loss.normalization = "sum"
    config.steps = steps
    config.batch_size = 1
    config.mesh.data = 1
    config.eval_every = config.checkpoint_every = 4000
    config.init_drop = (new,) if new else ()
    config.evaluation.batch_size = 1
    defaults.voc(config, 2011)
    # RGB; the release subtracts it in BGR and does not divide.
    config.data.mean = (122.67892, 116.66877, 104.00699)
    config.data.std = (1.0,)

  return recipe


def _voc_fixed(config):
  _voc(stride="32s", learning_rate=1e-10)(config)
  config.optimizer.groups = (
    ("^(?!head/score_fr)", 0.0, 0.0),
    *config.optimizer.groups,
  )


def _voc_cvpr(net, learning_rate):
  """The paper's recipe (section 4.3)."""

  def recipe(config):
    _voc(stride="32s", learning_rate=learning_rate, steps=9730)(config)
    config.model.name = f"fcn32s_{net}"
    config.optimizer.momentum = 0.9
    config.loss.normalization = "pixels"
    config.batch_size = 20
    config.mesh.data = -1
    config.data.transforms = (("pad_to", {"size": (500, 500)}),)
    config.eval_every = config.checkpoint_every = 973  # 175 epochs in all

  return recipe


def _camvid(config):
  defaults.camvid(config)
  config.model.options = {"norm": "batch"}
  config.optimizer.learning_rate = 3e-4
  config.steps = 40_000
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 1000


def _camvid_small(config):
  _camvid(config)
  defaults.camvid(config, small=True)
  config.model.options = _NARROW
  config.optimizer.learning_rate = 1e-3
  config.steps = 2000
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 1000


def _isbi2012(config):
  defaults.isbi2012(config)
  config.model.options = {"norm": "batch"}
  config.optimizer.learning_rate = 3e-4
  config.steps = 10_000
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 500


def _isbi2012_small(config):
  _isbi2012(config)
  config.model.options = _NARROW
  config.optimizer.learning_rate = 2e-3
  config.steps = 300
  config.eval_every = config.checkpoint_every = 100


def _folder(config):
  defaults.folder(config)
  config.model.options = {"norm": "batch"}
  config.optimizer.learning_rate = 3e-4
  config.steps = 5000
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 500
