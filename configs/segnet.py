"""SegNet and SegNet-Basic (Badrinarayanan, Kendall, Cipolla: PAMI 2017).

  python train.py --config=configs/segnet.py --workdir=runs/segnet

trains SegNet-Basic, half as wide as the paper's, on the embedded scenes.

Variants:
  camvid          SegNet on VGG16 as released (segnet_solver.prototxt): SGD,
                  rate 1e-3, momentum .9, decay 5e-4, batch 4, 40,000 steps,
                  the released class weights, loss over the number of valid
                  pixels. The release starts from VGG16's ImageNet weights
                  (paper, 3433 training images: mean IoU .601 after 140,000
                  steps).
  camvid_basic    SegNet-Basic as in Table 1: no biases, rate .1, momentum .9,
                  batch 12, raw images through local response normalisation as
                  in the release (367 images: mean IoU .477, BF .358).
  camvid_bilinear, camvid_encoder_addition, camvid_single_channel_decoder,
  camvid_fcn_basic, camvid_fcn_basic_no_addition,
  camvid_fcn_basic_no_dim_reduction, camvid_fcn_basic_no_both
                  the other decoders of Table 1, trained alike (.433, .485,
                  .461, .473, .441, .501, .459).
  camvid_bayesian Bayesian SegNet: dropout, 60,000 steps, tested on the mean of
                  40 Monte-Carlo samples (their number is not in the release).
  camvid_small    SegNet-Basic a quarter as wide, 240×180, for a CPU.
  sunrgbd         SegNet on VGG16 on SUN RGB-D's colour images, 37 classes, with
                  the released class weights (.321 after 180,000 steps).
  isbi2012, isbi2012_small
                  SegNet-Basic on the EM slices, and half as wide for a CPU.
  folder          your own images and masks:
                  --config.data.images=DIR --config.data.masks=DIR
                  --config.data.num_classes=K
"""

from fcnjax.cli import config as configs, defaults


def get_config(variant: str = ""):
  """Returns the config of a variant."""
  config = defaults.get_config()
  config.model.name = "segnet_basic"
  config.optimizer.name = "sgd"
  config.optimizer.learning_rate = 0.1
  config.optimizer.momentum = 0.9
  config.optimizer.weight_decay = 5e-4
  config.loss.normalization = "pixels"
  # Batch norm's statistics come from a pass over the training set, as in the
  # release; 31 batches of 12 hold each of CamVid's 367 images.
  config.statistics_batches = 31
  configs.variant(
    variant,
    {
      "": _scenes,
      "camvid": _camvid,
      "camvid_basic": _camvid_basic,
      "camvid_bilinear": _table1("segnet_basic_bilinear"),
      "camvid_encoder_addition": _table1("segnet_basic_encoder_addition"),
      "camvid_single_channel_decoder": _table1(
        "segnet_basic_single_channel_decoder"
      ),
      "camvid_fcn_basic": _table1("fcn_basic"),
      "camvid_fcn_basic_no_addition": _table1("fcn_basic_no_addition"),
      "camvid_fcn_basic_no_dim_reduction": _table1(
        "fcn_basic_no_dim_reduction"
      ),
      "camvid_fcn_basic_no_both": _table1(
        "fcn_basic_no_addition_no_dim_reduction"
      ),
      "camvid_bayesian": _camvid_bayesian,
      "camvid_small": _camvid_small,
      "sunrgbd": _sunrgbd,
      "isbi2012": _isbi2012,
      "isbi2012_small": _isbi2012_small,
      "folder": _folder,
    },
  )(config)
  return config


def _small(config):
  """Half the width, Adam: what converges in minutes from scratch."""
  config.model.options = {"width": 32, "input_norm": "none"}
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 3e-3
  config.optimizer.schedule = "cosine"
  config.optimizer.weight_decay = 1e-4


def _scenes(config):
  _small(config)
  config.steps = 300
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 150
  config.data.transforms = (("flip", {"vertical": True}),)
  config.evaluation.batch_size = 16


def _released(config):
  """What both released networks see and how their parameters learn."""
  defaults.camvid(config)
  config.data.mean, config.data.std = (0.0,), (1.0,)  # raw [0, 255]
  config.data.transforms = ()
  # Biases learn twice as fast; neither they nor batch norm's shifts decay.
  config.optimizer.groups = (
    ("bn/bias$", 1.0, 0.0),
    ("bias$", 2.0, 0.0),
  )
  config.loss.class_weights = "card"


def _camvid(config):
  _released(config)
  config.model.name = "segnet_vgg16"
  config.optimizer.learning_rate = 1e-3
  config.steps = 40_000
  config.batch_size = 4
  config.statistics_batches = 92
  config.eval_every = config.checkpoint_every = 1000


def _camvid_basic(config):
  _released(config)
  config.model.options = {"bias": False}  # Table 1; the release has biases
  config.optimizer.groups = (("bn/bias$", 1.0, 0.0),)
  config.steps = 10_000  # release; the paper: until convergence
  config.batch_size = 12
  config.eval_every = config.checkpoint_every = 1000


def _table1(name):
  def recipe(config):
    _camvid_basic(config)
    config.model.name = name

  return recipe


def _camvid_bayesian(config):
  _camvid(config)
  config.model.name = "bayesian_segnet"
  config.steps = 60_000
  config.evaluation.samples = 40


def _camvid_small(config):
  _small(config)
  defaults.camvid(config, small=True)
  config.model.options.width = 16
  config.optimizer.learning_rate = 1e-3
  config.steps = 4000
  config.batch_size = 2
  config.eval_every = config.checkpoint_every = 2000
  config.statistics_batches = 92


# Example_Models/train_segnet_sun.prototxt, without that of label 0, which is
# ignored.
_SUNRGBD_WEIGHTS = """
0.382592, 0.447844, 0.634237, 0.375678, 0.582794, 0.476692,
0.776787, 0.980661, 1.020118, 0.623396, 2.596563, 0.974491, 0.920240, 0.663878,
1.173357, 0.861062, 0.919955, 2.147320, 1.190958, 1.164314, 1.854754, 1.446550,
2.853078, 0.768276, 1.651721, 4.456313, 2.205633, 1.116695, 2.781543, 0.705917,
4.005834, 2.208329, 0.967071, 1.475710, 5.347752, 0.745528, 4.017548"""


def _sunrgbd(config):
  _camvid(config)
  config.steps = 180_000
  config.statistics_batches = 500
  config.loss.class_weights = " ".join(_SUNRGBD_WEIGHTS.split())
  defaults.sun_rgbd(config)
  config.data.image_size = (360, 480)


def _isbi2012(config):
  defaults.isbi2012(config)
  config.model.options = {"input_norm": "none"}
  config.steps = 10_000
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 500


def _isbi2012_small(config):
  _isbi2012(config)
  _small(config)
  config.steps = 200
  config.eval_every = config.checkpoint_every = 100


def _folder(config):
  defaults.folder(config)
  config.model.options = {"input_norm": "none"}
  config.optimizer.learning_rate = 0.01
  config.optimizer.schedule = "poly"
  config.steps = 5000
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 500
