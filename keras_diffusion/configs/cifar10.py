"""CIFAR-10, 32x32.

    python train.py --dataset cifar10 --minutes 60

Not measured yet.
"""

from keras_diffusion.config import Config

CONFIG = Config(
    dataset="cifar10",
    horizontal_flip=True,
    widths=(64, 128, 192),
    epochs=50,
    batch_size=64,
)
