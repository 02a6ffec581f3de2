"""MNIST, 28x28.

python train.py --dataset mnist --minutes 10
"""

from keras_diffusion.config import Config

CONFIG = Config(
    dataset="mnist",
    widths=(32, 64, 128),
    epochs=10,
    batch_size=128,
    learning_rate=2e-3,
    ema_decay=0.998,
)
