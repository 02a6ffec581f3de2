"""Your own pictures, and data sets of tfds that have no preset.

    python train.py --folder pictures --image-size 64 --horizontal-flip --minutes 60

Few channels where pixels are many, as in the presets that were measured: the network of MNIST up to
an `--image-size` of 32, and where none is given; beyond that the one of Oxford Flowers. That
takes 0.81 GFLOP for an image of 64x64, where widths of 64, 128 and 256 take 4.9
(`--dry-run` tells).
"""

import dataclasses
import math

from keras_diffusion.config.options import Config

CONFIG = Config(  # pictures of any size that four divides
    dataset="pictures",
    widths=(32, 64, 128),
    learning_rate=1.5e-3,
    guidance_scale=1.5,
)
LARGE = dataclasses.replace(CONFIG, widths=(16, 48, 96, 192), batch_size=32)
SIZES = {32: CONFIG, math.inf: LARGE}

# Latents are few, so channels may be many.
LATENT = dataclasses.replace(CONFIG, latent=True, widths=(128, 256))
