"""Moving MNIST: clips of digits that move and bounce.

    python train.py --dataset moving_mnist --image-size 32 --minutes 20
    python train.py --dataset moving_mnist --minutes 60

Up to 32x32, one digit in clips of 8 frames; larger, two digits in clips of 10 frames of 64x64.

One thread of an AMD EPYC (Zen 4, bfloat16 in AVX-512), `--image-size 32 --epochs 4 --optimizer
adamw --learning-rate 0.002`: 80,000 clips in 10 minutes, up to 142 per second, validation loss
0.060. Strokes of the size of a digit move on straight lines, and are not legible yet. Muon, the
default, and 64x64 are not measured.
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
