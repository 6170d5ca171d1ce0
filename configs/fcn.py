"""FCN (Long, Shelhamer, Darrell: CVPR 2015; with PAMI 2017).

  python train.py --config=configs/fcn.py --workdir=runs/fcn

trains FCN-8s in one stage on the embedded scenes: VGG16 an eighth as wide, with
batch norm and padding 1, since it starts from noise. Its pools are not scaled
as in the at-once network, whose factors are for pretrained weights: with them
it learns next to nothing here.

Variants:
  voc2011         FCN-32s as released ("heavy" learning: one whole image a
                  step, momentum .99, summed loss, rate 1e-10, 100,000 steps)
                  on SBD's 8498 training images. The release starts from
                  VGG16's ImageNet weights and reaches mean IoU .636 on
                  seg11valid, 736 images of VOC 2011.
  voc2011_16s     FCN-16s from FCN-32s, rate 1e-12 (.650):
                  --config.init_from=RUN_32S
  voc2011_8s      FCN-8s from FCN-16s, rate 1e-14 (.655):
                  --config.init_from=RUN_16S
  voc2011_atonce  FCN-8s in one stage, rate 1e-10, 300,000 steps (.654).
  voc2011_alexnet_released
                  FCN-32s on AlexNet as released: batches of 20 accumulated one
                  by one, mean loss, momentum .9, rate 1e-4 (.480).
  voc2011_fixed   FCN-32s of which only the scores are trained (CVPR: .454).
  voc2011_cvpr, voc2011_alexnet, voc2011_googlenet
                  FCN-32s on VGG16, AlexNet and GoogLeNet as in the CVPR paper:
                  batches of 20, momentum .9, mean loss, rate 1e-4, 1e-3 and
                  5e-5, 175 epochs of VOC 2011's 1112 images (Table 1: .560,
                  .398, .425, from ImageNet weights; SBD's images bring VGG16
                  to .594).
  nyudv2_rgb, nyudv2_hha, nyudv2_rgbd, nyudv2_rgb_hha
                  FCN-32s on 40 classes of NYUDv2 (.292, .242, .305, .328): of
                  colour, of HHA, of colour and log-depth as a fourth channel
                  (--config.init_from=RUN_RGB), and of two networks averaged
                  (--config.init_from=color=RUN_RGB,hha=RUN_HHA).
  siftflow, siftflow_16s, siftflow_8s
                  33 semantic and 3 geometric classes of SIFT Flow at once
                  (16s: .395, geometric accuracy .943).
  pascal_context, pascal_context_16s, pascal_context_8s
                  59 classes and background (.318, .348, .351).
  scenes_32s, scenes_16s, scenes_8s
                  the released chain, small, on scenes twice as large: each
                  from noise, or the finer from the coarser:
                  --config.init_from=RUN
  scenes_alexnet, scenes_googlenet
                  FCN-32s on AlexNet and GoogLeNet, small, likewise.
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
      "voc2011_alexnet_released": _voc_alexnet_released,
      "voc2011_googlenet": _voc_cvpr("googlenet", 5e-5),
      "nyudv2_rgb": _nyudv2_rgb,
      "nyudv2_hha": _nyudv2_hha,
      "nyudv2_rgbd": _nyudv2_rgbd,
      "nyudv2_rgb_hha": _nyudv2_rgb_hha,
      "siftflow": _siftflow("32s", 1e-10),
      "siftflow_16s": _siftflow("16s", 1e-12, new="score_pool4"),
      "siftflow_8s": _siftflow("8s", 1e-12, new="score_pool3"),
      "pascal_context": _pascal_context("32s", 1e-10),
      "pascal_context_16s": _pascal_context("16s", 1e-12, new="score_pool4"),
      "pascal_context_8s": _pascal_context("8s", 1e-14, new="score_pool3"),
      "scenes_32s": _scenes_chain("32s", 1000),
      "scenes_16s": _scenes_chain("16s", 500, new="score_pool4"),
      "scenes_8s": _scenes_chain("8s", 500, new="score_pool3"),
      "scenes_alexnet": _scenes_alexnet,
      "scenes_googlenet": _scenes_googlenet,
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


def _voc_alexnet_released(config):
  """voc-fcn-alexnet/solver.prototxt."""
  _voc_cvpr("alexnet", 1e-4)(config)
  config.data.train_split = "sbd_train"
  config.steps = 100_000
  config.accumulate = 20
  config.mesh.data = 1


def _scenes_coarse(config, steps):
  """Scenes twice as large: a stride of 32 loses objects of 20 pixels."""
  _scenes(config)
  config.data.transforms = (
    ("random_scale", {"minimum": 2.0, "maximum": 2.0}),
    ("random_crop", {"size": (192, 192)}),
    *config.data.transforms,
  )
  config.evaluation.scales = (2.0,)
  config.steps = config.eval_every = config.checkpoint_every = steps


def _scenes_chain(stride, steps, *, new=""):
  def recipe(config):
    _scenes_coarse(config, steps)
    config.model.name = f"fcn{stride}_vgg16"
    config.model.options = {**_NARROW, "dropout": 0.0}
    config.init_drop = (new,) if new else ()

  return recipe


def _scenes_alexnet(config):
  _scenes_coarse(config, 1000)
  config.model.name = "fcn32s_alexnet"
  config.model.options = {
    "widths": (24, 32, 48, 48, 32),
    "fc_channels": 128,
    "dropout": 0.0,
  }
  config.optimizer.learning_rate = 1e-3  # It has no batch norm.


def _scenes_googlenet(config):
  _scenes_coarse(config, 340)
  config.model.name = "fcn32s_googlenet"
  config.model.options = {"width": 0.25, "norm": "batch", "dropout": 0.0}
  config.optimizer.learning_rate = 1e-2


def _released(config, stride, learning_rate, new="", steps=100_000):
  """ "Heavy" learning (voc-fcn*/solver.prototxt): one whole image a step."""
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
  if new:
    config.init_from = "RUN"  # Asked for, by the error that it is none.
    config.init_drop = (new,)
  config.evaluation.batch_size = 1


def _voc(*, stride, learning_rate, new="", steps=100_000):
  def recipe(config):
    _released(config, stride, learning_rate, new, steps)
    defaults.voc(config, 2011, train="sbd_train", val="seg11valid")
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
    config.data.train_split = "train"
    config.model.name = f"fcn32s_{net}"
    config.optimizer.momentum = 0.9
    config.loss.normalization = "pixels"
    config.batch_size = 20
    config.mesh.data = -1
    config.data.transforms = (("pad_to", {"size": (500, 500)}),)
    config.eval_every = config.checkpoint_every = 973  # 175 epochs in all

  return recipe


_NYUDV2_RGB = (92.318, 97.203, 116.190)
_NYUDV2_HHA = (132.431, 94.076, 118.477)


def _nyudv2_rgb(config):
  """nyud-fcn32s-color; trained on trainval, 795 images."""
  _released(config, "32s", 1e-10)
  defaults.nyudv2(config)
  config.data.mean, config.data.std = _NYUDV2_RGB, (1.0,)


def _nyudv2_hha(config):
  """nyud-fcn32s-hha: disparity, height above ground, angle with gravity."""
  _nyudv2_rgb(config)
  config.data.images = "hha"
  config.data.mean = _NYUDV2_HHA


def _nyudv2_rgbd(config):
  """nyud-fcn32s-color-d: the depth filters start as the mean of the others."""
  _nyudv2_rgb(config)
  config.data.second_images = "depth"
  config.data.second_channels = 1
  config.data.second_log = True
  config.data.mean = (*_NYUDV2_RGB, 7.844)
  config.init_widen = ("conv1_1/kernel$",)


def _nyudv2_rgb_hha(config):
  """nyud-fcn32s-color-hha: late fusion."""
  _nyudv2_rgb(config)
  config.model.name = "fcn32s_late_fusion"
  config.optimizer.learning_rate = 1e-12
  config.init_from = "color=RUN_RGB,hha=RUN_HHA"
  config.data.second_images = "hha"
  config.data.mean = (*_NYUDV2_RGB, *_NYUDV2_HHA)


def _siftflow(stride, learning_rate, new=""):
  """siftflow-fcn*: both losses are summed, trained on 2486 images."""

  def recipe(config):
    _released(config, stride, learning_rate, new)
    config.model.options = {"second_classes": 3}
    defaults.sift_flow(config)
    config.data.mean, config.data.std = (108.353, 115.294, 114.578), (1.0,)

  return recipe


def _pascal_context(stride, learning_rate, new=""):
  """pascalcontext-fcn*: class 0 is everything else."""

  def recipe(config):
    _released(config, stride, learning_rate, new, steps=300_000)
    defaults.pascal_context(config, background=True)
    config.data.mean, config.data.std = (
      (122.67892, 116.66877, 104.00699),
      (1.0,),
    )

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
