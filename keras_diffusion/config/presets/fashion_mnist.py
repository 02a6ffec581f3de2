"""Fashion-MNIST, 28x28: as MNIST, and mirrored garments are garments.

    python train.py --dataset fashion_mnist --minutes 10

Not measured. The network is that of MNIST.
"""

import dataclasses

from keras_diffusion.config.presets.mnist import CONFIG as MNIST

CONFIG = dataclasses.replace(MNIST, dataset="fashion_mnist", horizontal_flip=True)
