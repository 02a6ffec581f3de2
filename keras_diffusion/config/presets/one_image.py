"""One picture, on a CPU: random crops of it, and a network of convolutions alone.

    python train.py --image photo.jpg
    python train.py --image            # the flower that scikit-learn brings

Crops are of three quarters of the sides: after as many pixels of crops of 64x64 the flower,
128x192, came back from t = 0.5 with 2.4 dB less.
"""

from keras_diffusion.config.options import Config

CONFIG = Config(
    dataset="one_image",
    image="flower",
    image_size=(192, 192),  # the picture is reduced to fit into this
    widths=(16, 48, 96, 192),
    attention=(False, False, False, False),
    minutes=10.0,
    batch_size=4,
    learning_rate=2e-3,
    ema_decay=0.995,
)
