"""Your own images, and data sets without a preset.

    python train.py --folder my_images --image-size 64 --horizontal-flip --minutes 60

Not measured. Up to 32x32, and without --image-size, the network is that of MNIST; for larger images
that of Oxford Flowers, 0.81 GFLOP for an image of 64x64 (widths of 64, 128 and 256: 4.9 GFLOP;
--dry-run prints it).
"""

import dataclasses
import math

from keras_diffusion.config.options import Config

CONFIG = Config(dataset="images", widths=(32, 64, 128), guidance_scale=1.5)
LARGE = dataclasses.replace(CONFIG, widths=(16, 48, 96, 192), batch_size=32)
SIZES = {32: CONFIG, math.inf: LARGE}

# Latents are few, so channels may be many.
LATENT = dataclasses.replace(CONFIG, latent=True, widths=(128, 256))
