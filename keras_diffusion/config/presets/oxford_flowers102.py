"""Oxford Flowers 102, 64x64, split 80/20 over the images of all official splits.

    python train.py --dataset oxford_flowers102 --minutes 60
    python train.py --dataset oxford_flowers102 --minutes 60 --image-size 32
    python train.py --dataset oxford_flowers102 --minutes 45 --latent --text

60 minutes on two cores of an Intel Xeon (AMX): 268,000 images of 64x64, up to 110 per second,
validation loss 0.111; flowers of the right colours, with petals. On an AMD EPYC (Zen 4, bfloat16 in
AVX-512): up to 95 per second, 0.111.

With Muon, `--text --minutes 98 --set export_precision=float32 --set guidance_scale=2` on two cores
of an AMD EPYC (Zen 4), for an hour of it without other load, at 135 images per second: 509,000
images, validation loss 0.107. In the features of a classifier, 500 images each: FID 5.9 at guidance
scale 1.5, 6.3 at 2, 9.7 at 3 (held-out photos: 3.2); the classifier assigns 49%, 59% and 68% of the
samples to the flower of their prompt, of 102 (held-out photos: 81%). This is the model in
saved_models/oxford_flowers102.

45 minutes of latents with prompts on two cores of an Intel Xeon (AMX): an autoencoder of 29.0 dB
(SSIM 0.918) in 6.8 minutes, then 209,000 images, validation loss 0.629. A classifier assigns 50% of
the samples at guidance scale 1.5, and 70% at 3, to the flower of their prompt, of 102 (held-out
photos: 79%). FID by its features: 10.9 and 11.0 (held-out photos: 1.7).
"""

import dataclasses

from keras_diffusion.config.options import Config

CONFIG = Config(
    dataset="oxford_flowers102",
    image_size=(64, 64),
    widths=(16, 48, 96, 192),  # full resolution costs the most and matters the least
    epochs=80,
    batch_size=32,
    guidance_scale=1.5,  # scores best of 1, 1.5, 2, 2.5 and 3.5 after an hour
)

# Latents of 16x16x8: a sixth of the numbers.
LATENT = dataclasses.replace(
    CONFIG,
    latent=True,
    codec_widths=(64, 128),
    latent_channels=8,
    codec_share=0.15,
    widths=(96, 192, 256),
    attention=(False, True, True),  # of 64 and 16 pixels
    batch_size=64,
)

# At 32x32 full resolution costs a quarter: more channels there, and larger batches.
SIZES = {32: dataclasses.replace(CONFIG, widths=(32, 64, 128, 256), batch_size=64)}
