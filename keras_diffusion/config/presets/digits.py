"""The 1797 handwritten digits of scikit-learn, 8x8: the demo, without a download.

    python train.py --dataset digits --minutes 1

A network made for 8x8 images: 0.47 M parameters.
"""

from keras_diffusion.config.options import Config

CONFIG = Config(
    dataset="digits",
    widths=(32, 64),
    epochs=60,
    batch_size=128,
    ema_decay=0.995,
    guidance_scale=1.5,  # at 1 one sample in twenty is not legible
)
