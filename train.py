"""Train a diffusion model:  python train.py --dataset oxford_flowers102"""

import sys

from keras_diffusion.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
