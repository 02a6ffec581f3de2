"""Feature extractors, each with a name, its resizing and a hash.

All take uint8 images (N, H, W, C), as the diffusion model generates them. Scores by different
extractors cannot be compared.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import keras

from keras_diffusion.evaluation import classifier
from keras_diffusion.runtime.console import one_line
from keras_diffusion.runtime.files import content_hash

INCEPTION_SIZES = (75, 299)  # pixels: the least that Keras' InceptionV3 takes, and its own
BATCH = 64  # images at once, for networks that may be large


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network with a name.

    Attributes:
        name: "classifier", "inception" or the name of a file.
        extract: uint8 (N, H, W, C) -> (features float32 (N, F), class probabilities float32 (N, K)
            or None).
        resize: how images are resized, in words.
        digest: 12 hexadecimal digits that stand for its weights and sizes.
        batch: int, how many images `extract` takes at once.
    """

    name: str
    extract: Callable
    resize: str
    digest: str
    batch: int = BATCH

    @property
    def facts(self):
        """dict of what is written beside its scores."""
        return {"name": self.name, "resize": self.resize, "hash": self.digest}

    @property
    def is_keras_io(self):
        """bool: its features are those of the KID in the keras.io DDIM example."""
        return self.name == "inception" and self.resize == _resize_in_words(75, 75)


def of_classifier(trained):
    """Returns the `Extractor` of a `classifier.TrainedClassifier`, without resizing."""
    settings = trained.facts["settings"]
    return Extractor(
        "classifier",
        lambda images: classifier.predict(trained.model, images),
        "none",
        weights_hash(trained.model, settings),
        classifier.BATCH,
    )


def inception(image_shape, size=75, weights="imagenet"):
    """Returns Keras' InceptionV3: 2048 features, the last layer averaged over pixels.

    Its weights are those of Keras, trained on ImageNet, not those behind published FIDs.

    Args:
        image_shape: (H, W, C) of the images.
        size: pixels of each side that they are resized to, 75 to 299.
        weights: "imagenet", downloaded by Keras once; a file; None: untrained, for tests.

    Raises:
        ValueError: a size out of bounds.
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
        model = feature_model(network, image_shape, preprocess)
    return _extractor("inception", model, weights_hash(network, [size]), (size, size), image_shape)


def from_file(path, image_shape):
    """Returns the extractor in a file: any Keras model from images to one output.

    It gets pixel values 0 .. 255 as float32, resized to its input, and has to scale them itself.
    Its output is (N, F), or (N, h, w, F), which is averaged.

    Args:
        path: of a .keras or .h5 file; loading it runs no code from it.
        image_shape: (H, W, C) of the images.

    Raises:
        ValueError: it cannot be read, or is not a model of images.
    """
    path = Path(path)
    try:
        network = keras.models.load_model(path, compile=False)
        with classifier.dtype_policy("float32"):
            model = feature_model(network, image_shape)
    except Exception as error:  # whatever Keras makes of the file
        reason = one_line(error, 160)
        raise ValueError(f"{path} cannot be used as an extractor ({reason}).") from error
    digest = content_hash(path.read_bytes())
    return _extractor(path.name, model, digest, network.input_shape[1:3], image_shape)


def feature_model(network, image_shape, preprocess=None):
    """Returns a Keras model uint8 (B, *image_shape) -> features (B, F) around a network.

    Args:
        network: Keras model of images (B, h, w, c), c = 1, 3 or 4.
        image_shape: (H, W, C).
        preprocess: None, or function of float32 pixels 0 .. 255.

    Raises:
        ValueError: the network's shapes are not those of an extractor.
    """
    if len(network.inputs) != 1 or len(network.outputs) != 1 or len(network.input_shape) != 4:
        raise ValueError("a model from one batch of images to one output is needed")
    height, width, channels = network.input_shape[1:]
    images = keras.Input(image_shape, dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)  # to float32
    x = _of_channels(x, channels)
    if (height, width) not in ((None, None), tuple(image_shape[:2])):
        # Antialiasing has no effect where images are enlarged, as in keras.io's example.
        x = keras.layers.Resizing(
            height, width, interpolation="bilinear", antialias=True, data_format="channels_last"
        )(x)
    features = network(x if preprocess is None else preprocess(x))
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D("channels_last")(features)
    if len(features.shape) != 2:
        raise ValueError(f"its output {features.shape} is not (N, F) or (N, h, w, F)")
    return keras.Model(images, features)


def _of_channels(x, channels):
    own = x.shape[-1]
    if own == channels:
        return x
    if own == 4:  # over white
        alpha = x[..., 3:] / 255
        x = x[..., :3] * alpha + 255 * (1 - alpha)
    if channels == 1:
        return keras.ops.image.rgb_to_grayscale(x, data_format="channels_last")
    if channels != 3:
        raise ValueError(f"images of {own} channels cannot be converted to {channels}")
    return keras.ops.repeat(x, 3, axis=-1) if own == 1 else x


def _extractor(name, model, digest, size, image_shape):
    def extract(images):
        return model.predict_on_batch(images), None

    if image_shape[-1] == 4:  # earlier versions left alpha out: their cached features differ
        digest = content_hash(digest, "over white")
    same = tuple(size) in ((None, None), tuple(image_shape[:2]))
    return Extractor(name, extract, "none" if same else _resize_in_words(*size), digest)


def _resize_in_words(height, width):
    return f"{height}x{width}, bilinear, antialiased"


def weights_hash(model, settings):
    """Returns 12 hexadecimal digits for the weights of a model and its settings."""
    weights = [part for weight in model.get_weights() for part in (str(weight.shape), weight)]
    return content_hash(json.dumps(settings, sort_keys=True), *weights)
