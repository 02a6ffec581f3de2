"""CIFAR-10, 32x32.

    python train.py --dataset cifar10 --minutes 60
    python train.py --dataset cifar10 --latent --minutes 60

45 minutes on two cores of an AMD EPYC (Zen 4, bfloat16 in AVX-512), by `python -m studies.latents
--minutes 45`, with AdamW (Muon learns faster: docs/performance.md):

    pixels: 450,000 images, validation loss 0.1056, accuracy 77%, FID 1.8
    latents: 834,000 images after 5 minutes for an autoencoder of 31.8 dB, accuracy 84%, FID 1.4

Accuracy is the share of samples at guidance scale 2 that a classifier assigns to the requested
class (real images: 81%); FID is by its features. Ships, cars, trucks and horses are recognisable,
cats and birds not always.
"""

import dataclasses

from keras_diffusion.config.options import Config

CONFIG = Config(
    dataset="cifar10",
    horizontal_flip=True,
    widths=(32, 64, 128, 256),  # half of the channels at full resolution: twice as fast
    attention=(False, False, True, True),  # of 64 and 16 pixels
    epochs=50,
    batch_size=64,
)

# Latents of 8x8x8: a sixth of the numbers.
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
    learning_rate=0.005,
)
