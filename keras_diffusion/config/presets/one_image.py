"""A single image, by random crops and a network of convolutions alone.

    python train.py --image photo.jpg
    python train.py --image            # the flower photo of scikit-learn

Ten minutes on a CPU. Crops have three quarters of the sides: with crops of 64x64 and as many pixels
seen, the flower (128x192) was restored from t = 0.5 with 2.4 dB less.
"""

from keras_diffusion.config.options import Config

CONFIG = Config(
    dataset="one_image",
    image="flower",
    image_size=(192, 192),  # the image is scaled down to fit into this box
    widths=(16, 48, 96, 192),
    attention=(False, False, False, False),
    minutes=10.0,
    batch_size=4,
    ema_decay=0.995,
)
