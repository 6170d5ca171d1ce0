"""python train.py --config=configs/unet.py[:variant] --workdir=DIR."""

import sys

from fcnjax.cli import main

if __name__ == "__main__":
  sys.exit(main.main(["train", *sys.argv[1:]]))
