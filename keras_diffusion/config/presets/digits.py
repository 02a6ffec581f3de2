"""Scikit-learn's 1797 handwritten digits of 8x8 pixels: the demo, no download.

    python train.py --dataset digits --minutes 1

A minute on two cores of an Intel Xeon (AMX) sees 28,000 images and ends at a validation loss of
0.289: about half of the digits can be read.
"""

from keras_diffusion.config.options import Config

CONFIG = Config(
    dataset="digits",
    widths=(64, 128),
    epochs=60,
    batch_size=128,
    learning_rate=2e-3,
    ema_decay=0.995,
)
