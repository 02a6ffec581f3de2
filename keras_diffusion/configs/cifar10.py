"""CIFAR-10, 32x32.

    python train.py --dataset cifar10 --minutes 60
    python train.py --dataset cifar10 --latent --minutes 60

`python -m studies.latents` measures both.
"""

import dataclasses

from keras_diffusion.config import Config

CONFIG = Config(
    dataset="cifar10",
    horizontal_flip=True,
    widths=(32, 64, 128, 256),  # half of the channels at full resolution: twice the images
    attention=(False, False, True, True),  # of 64 and 16 pixels
    epochs=50,
    batch_size=64,
    learning_rate=1.5e-3,
)

# Latents of 8x8x8: a sixth of the numbers. After 20,000 images the autoencoder is at 29 dB.
LATENT = dataclasses.replace(
    CONFIG,
    latent=True,
    codec_widths=(64, 128),
    latent_channels=8,
    codec_epochs=6,
    codec_share=0.1,
    widths=(128, 256),
    attention=(True, True),  # of 64 and 16 pixels
    epochs=100,
    batch_size=128,
)
