"""Fashion-MNIST, 28x28: the preset of MNIST, with mirrored images.

    python train.py --dataset fashion_mnist --minutes 10

Not measured.
"""

import dataclasses

from keras_diffusion.config.presets.mnist import CONFIG as MNIST

CONFIG = dataclasses.replace(MNIST, dataset="fashion_mnist", horizontal_flip=True)
