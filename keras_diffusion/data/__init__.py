"""Images for training: `load` for plain `model.fit`, `load_source` for labels and class names too.

Example:
    >>> train, validation = load("mnist")
    >>> train, validation = load(folder="pictures", image_size=64)
    >>> train, validation = load(image="photo.jpg", image_size=192, crop_size=96)
"""

from keras_diffusion.data.sources import Source
from keras_diffusion.data.training_data import TrainingData, load, load_source

__all__ = ["Source", "TrainingData", "load", "load_source"]
