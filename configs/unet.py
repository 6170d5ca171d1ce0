"""U-Net (Ronneberger, Fischer, Brox: MICCAI 2015).

  python train.py --config=configs/unet.py --workdir=runs/unet

trains the same-padded U-Net with batch norm and a quarter of the paper's width
on the embedded scenes.

Variants:
  isbi2012        the paper's recipe on the EM slices: valid convolutions,
                  572 → 388, SGD with momentum .99, one tile a step, elastic
                  deformation, separation weights. The paper's learning rate
                  and number of steps are unknown.
  isbi2012_small  the same network a quarter as wide, for a CPU.
  camvid          same-padded, full width, 480×360.
  camvid_small    same-padded, a quarter as wide, 240×180, for a CPU.
  folder          your own images and masks:
                  --config.data.images=DIR --config.data.masks=DIR
                  --config.data.num_classes=K
  folder_small    the same, for a CPU: images resized to 240×180, half as wide.
"""

from fcnjax.cli import config as configs, defaults

# U-Net's augmentation (section 3.1): mirrored borders of 92 pixels, so that a
# tile of valid convolutions reaches the slice's edge; 3×3 grid, σ = 10 pixels.
_EM = (
  ("elastic", {"grid": 3, "sigma": 10.0, "degrees": 15.0}),
  ("flip", {"horizontal": True, "vertical": True}),
  ("photometric", {"brightness": 0.1, "contrast": 0.2}),
  ("pad_to", {"size": (696, 696), "boundary": "reflect"}),
)


def get_config(variant: str = ""):
  """Returns the config of a variant."""
  config = defaults.get_config()
  config.model.name = "unet_same"
  config.model.options = {"width": 16, "norm": "batch", "dropout": 0.0}
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 3e-3
  config.optimizer.schedule = "cosine"
  config.optimizer.warmup = 20
  config.optimizer.weight_decay = 1e-4
  config.optimizer.groups = (("(bias|scale)$", 1.0, 0.0),)
  configs.variant(
    variant,
    {
      "": _scenes,
      "isbi2012": _isbi2012,
      "isbi2012_small": _isbi2012_small,
      "camvid": _camvid,
      "camvid_small": _camvid_small,
      "folder": _folder,
      "folder_small": _folder_small,
    },
  )(config)
  return config


def _scenes(config):
  config.steps = 500
  config.batch_size = 8
  config.eval_every = 250
  config.checkpoint_every = 250
  config.data.transforms = (("flip", {"vertical": True}),)
  config.evaluation.batch_size = 16


def _isbi2012(config):
  defaults.isbi2012(config)
  config.model.name = "unet"
  config.model.options = {}
  config.optimizer.name = "sgd"
  config.optimizer.momentum = 0.99  # section 3
  config.optimizer.learning_rate = 1e-4  # ours, for a mean loss
  config.optimizer.schedule = "constant"
  config.optimizer.weight_decay = 0.0
  config.optimizer.groups = ()
  config.steps = 30_000  # ours
  config.batch_size = 1  # section 3: one large tile
  config.eval_every = config.checkpoint_every = 1000
  config.loss.separation = 10.0  # eq. 2
  config.data.transforms = (*_EM, ("random_crop", {"size": (572, 572)}))
  config.data.label_margin = 92
  config.evaluation.strategy = "overlap_tile"
  config.evaluation.tile = (388, 388)
  config.evaluation.margin = 92
  config.evaluation.flip = config.evaluation.turns = True  # section 4
  config.mesh.data = 1


def _isbi2012_small(config):
  _isbi2012(config)
  config.model.options = {"width": 16, "norm": "batch"}
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.schedule = "cosine"
  config.loss.separation = 0.0
  config.steps = 400
  config.batch_size = 2
  config.eval_every = config.checkpoint_every = 200
  config.data.transforms = (*_EM, ("random_crop", {"size": (444, 444)}))
  config.evaluation.tile = (260, 260)
  config.evaluation.flip = config.evaluation.turns = False


def _camvid(config):
  defaults.camvid(config)
  config.model.options = {"width": 64, "norm": "batch"}
  config.steps = 40_000
  config.batch_size = 4
  config.eval_every = config.checkpoint_every = 1000
  config.loss.class_weights = "card"
  config.loss.normalization = "pixels"


def _camvid_small(config):
  _camvid(config)
  defaults.camvid(config, small=True)
  # Group norm: batches are small, and the test images are of other light.
  config.model.options = {"width": 16, "norm": "group", "dropout": 0.0}
  config.optimizer.learning_rate = 1e-3
  config.steps = 5200
  config.batch_size = 2
  config.eval_every = config.checkpoint_every = 2600


def _folder(config):
  defaults.folder(config)
  config.steps = 5000
  config.batch_size = 8
  config.eval_every = config.checkpoint_every = 500


def _folder_small(config):
  _folder(config)
  config.model.options = {"width": 8, "norm": "batch", "dropout": 0.0}
  config.steps = 2000
  config.batch_size = 4
  config.data.image_size = (180, 240)
  config.data.transforms = (
    ("random_scale", {"minimum": 0.8, "maximum": 1.25}),
    ("random_crop", {"size": (144, 192)}),
    ("flip", {}),
    ("photometric", {}),
  )
