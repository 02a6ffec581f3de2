"""Moving MNIST: clips of digits that move and bounce.

    python train.py --dataset moving_mnist --image-size 32 --minutes 10
    python train.py --dataset moving_mnist --minutes 60

Up to 32x32, one digit in clips of 8 frames; larger, two digits in clips of 10 frames of 64x64.
Not measured.
"""

import dataclasses
import math

from keras_diffusion.config.options import Config

SMALL = Config(
    dataset="moving_mnist",
    frames=8,
    widths=(32, 64, 128),
    epochs=10,
    batch_size=64,
    ema_decay=0.998,
)
CONFIG = dataclasses.replace(SMALL, frames=10, widths=(32, 64, 96, 192), batch_size=32)
SIZES = {32: SMALL, math.inf: CONFIG}
