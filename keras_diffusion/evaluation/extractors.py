"""Extractors: what turns pictures into features, each with a name, its resizing and a hash.

All take uint8 pictures (N, H, W, C) as the diffusion model draws them. A score is worth
something only beside its extractor: features of two networks cannot be compared.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_diffusion.evaluation import classifier

NAMES = ("classifier", "inception")
INCEPTION_SIZES = (75, 299)  # pixels: the least that Keras' InceptionV3 takes, and its own
BATCH = 64  # pictures at once, of networks that may be large


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network that looks at pictures.

    Attributes:
        name: "classifier", "inception" or the name of a file.
        look: uint8 (N, H, W, C) -> (features float32 (N, F), class probabilities float32 (N, K)
            or None).
        resize: in words, what is done to the pictures' size.
        digest: 12 hexadecimal digits that stand for its weights and sizes.
        batch: int, how many pictures to give to `look` at once.
    """

    name: str
    look: Callable
    resize: str
    digest: str
    batch: int = BATCH

    @property
    def facts(self):
        """dict of what is to stand beside its scores."""
        return {"name": self.name, "resize": self.resize, "hash": self.digest}

    @property
    def is_keras_io(self):
        """bool: its features are those of the KID in the keras.io DDIM example."""
        return self.name == "inception" and self.resize == _resize_in_words(75, 75)


def of_classifier(trained):
    """Returns the `Extractor` of a `classifier.TrainedClassifier`; it looks at pictures as is."""
    settings = trained.facts["settings"]
    return Extractor(
        "classifier",
        lambda images: classifier.look(trained.model, images),
        "none",
        digest(trained.model, settings),
        classifier.BATCH,
    )


def inception(image_shape, size=75, weights="imagenet"):
    """Returns Keras' InceptionV3: 2048 features, averages over the last layer's pixels.

    Its weights are those of Keras, trained on ImageNet, not those of the network behind
    published FIDs.

    Args:
        image_shape: (H, W, C) of the pictures.
        size: pixels of each side that they are resized to, 75 to 299.
        weights: "imagenet", downloaded by Keras once; a file; None: untrained, for tests.

    Raises:
        ValueError: a size that it does not take.
        OSError: the weights cannot be downloaded.

    Reference: Szegedy et al. 2015, arXiv:1512.00567.
    """
    low, high = INCEPTION_SIZES
    if not low <= size <= high:
        raise ValueError(f"{size} pixels are not in {low} .. {high}.")
    with classifier.dtype_policy("float32"):
        try:
            network = keras.applications.InceptionV3(
                include_top=False, weights=weights, input_shape=(size, size, 3), pooling="avg"
            )
        except Exception as error:  # Keras raises a plain one
            raise OSError(
                "the weights of InceptionV3 could not be downloaded "
                f"({' '.join(str(error).split())[:120]}); --extractor classifier needs no download."
            ) from error
        preprocess = keras.applications.inception_v3.preprocess_input
        model = looking(network, image_shape, preprocess)
    return _extractor("inception", model, digest(network, [size]), (size, size), image_shape)


def from_file(path, image_shape):
    """Returns the extractor in a file: any Keras model of pictures with one output.

    It gets pixel values 0 .. 255 as float32, resized to what it takes, and has to scale them
    itself. Its output is (N, F), or (N, h, w, F), which is averaged.

    Args:
        path: of a .keras or .h5 file; loading it runs no code from it.
        image_shape: (H, W, C) of the pictures.

    Raises:
        ValueError: it cannot be read, or is not a model of pictures.
    """
    path = Path(path)
    try:
        network = keras.models.load_model(path, compile=False)
        with classifier.dtype_policy("float32"):
            model = looking(network, image_shape)
    except Exception as error:  # whatever Keras makes of the file
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} cannot be used as an extractor ({reason}).") from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return _extractor(path.name, model, found, network.input_shape[1:3], image_shape)


def looking(network, image_shape, preprocess=None):
    """Returns a Keras model uint8 (B, *image_shape) -> features (B, F) around a network.

    Args:
        network: Keras model of pictures (B, h, w, c), c = 1, 3 or 4.
        image_shape: (H, W, C).
        preprocess: None, or function of float32 pixels 0 .. 255.

    Raises:
        ValueError: the network's shapes are not those of an extractor.
    """
    if len(network.inputs) != 1 or len(network.outputs) != 1 or len(network.input_shape) != 4:
        raise ValueError("a model from one batch of pictures to one output is needed")
    height, width, channels = network.input_shape[1:]
    images = keras.Input(image_shape, dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)  # to float32
    x = _of_channels(x, channels)
    if (height, width) not in ((None, None), tuple(image_shape[:2])):
        # Smooths only where pictures shrink; keras.io's example enlarges its own.
        x = keras.layers.Resizing(height, width, interpolation="bilinear", antialias=True)(x)
    features = network(x if preprocess is None else preprocess(x))
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D()(features)
    if len(features.shape) != 2:
        raise ValueError(f"its output {features.shape} is not (N, F) or (N, h, w, F)")
    return keras.Model(images, features)


def _of_channels(x, channels):
    have = x.shape[-1]
    if have == channels:
        return x
    if have == 4:  # as in training, alpha is left out
        x = x[..., :3]
    if channels == 1:
        return keras.ops.image.rgb_to_grayscale(x)
    if channels != 3:
        raise ValueError(f"pictures of {have} channels do not become {channels}")
    return keras.ops.repeat(x, 3, axis=-1) if have == 1 else x


def _extractor(name, model, found, size, image_shape):
    def look(images):
        return model.predict_on_batch(images), None

    same = tuple(size) in ((None, None), tuple(image_shape[:2]))
    return Extractor(name, look, "none" if same else _resize_in_words(*size), found)


def _resize_in_words(height, width):
    return f"{height}x{width}, bilinear, antialiased"


def digest(model, settings):
    """Returns 12 hexadecimal digits for the weights of a model and what else decides."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for weight in model.get_weights():
        found.update(str(weight.shape).encode())
        found.update(np.ascontiguousarray(weight).data)
    return found.hexdigest()[:12]
