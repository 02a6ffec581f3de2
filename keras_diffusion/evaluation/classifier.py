"""A classifier as feature extractor: trained once on the real images, kept in a cache.

Images go in as uint8 at their own size and are scaled to [-1, 1]. The features are the inputs of
the last layer: one value for each channel, averaged over the image.
"""

import contextlib
import dataclasses
import json
import math
import time
from pathlib import Path

import keras
import numpy as np

from keras_diffusion.evaluation.distances import Gaussian
from keras_diffusion.evaluation.scores import accuracy, class_shares
from keras_diffusion.networks.layers import conv2d
from keras_diffusion.runtime import precision
from keras_diffusion.runtime.files import content_hash, whole_folder
from keras_diffusion.runtime.locks import exclusive

BATCH = 500  # images at once, in prediction


@dataclasses.dataclass(frozen=True)
class Settings:
    """Architecture and training of a classifier.

    Attributes:
        widths: channels of each level, two convolutions on all but the last level, which has one;
            the last width is that of the features.
        epochs: of training.
        stem: stride of the first convolution.
        flip: bool, augmentation by mirroring.
        shift: augmentation by shifts of up to so many pixels.
        light: augmentation of brightness and contrast by up to this share.
        dropout, batch_size, learning_rate, weight_decay, seed: of training.
        version: of this module; raise it with a change that changes the weights.
    """

    widths: tuple
    epochs: int
    stem: int = 1
    flip: bool = False
    shift: int = 2
    light: float = 0.0
    dropout: float = 0.0
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 0
    version: int = 1


TINY = Settings(widths=(8, 16), epochs=1, stem=2)  # for tests
IMAGES_TO_TRAIN = 260_000  # a minute or two on two CPU cores at 28x28
MAX_EPOCHS = 40
FEW_IMAGES = 20_000


def settings_for(image_shape, num_images, flip=False):
    """Returns the `Settings` for a data set.

    Args:
        image_shape: (H, W, C).
        num_images: int, of the training split.
        flip: bool, whether mirrored images are of the same class.
    """
    side, channels = min(image_shape[:2]), image_shape[-1]
    stem = min(4, 2 ** max(0, int(math.log2(side / 32))))
    levels = max(2, int(math.log2(max(1, side / stem / 4))) + 1)  # down to 4 to 8 pixels
    few = num_images < FEW_IMAGES
    return Settings(
        widths=tuple(16 * 2**i if channels == 1 else 32 * (i + 1) for i in range(levels)),
        epochs=max(1, min(MAX_EPOCHS, round(IMAGES_TO_TRAIN / num_images))),
        stem=stem,
        flip=flip,
        shift=side * 3 // 32,
        light=0.2 if channels == 3 else 0.0,
        dropout=0.2 if few else 0.0,
        batch_size=64 if few else 128,
    )


def classifier(image_shape, num_classes, settings):
    """Returns a Keras model: uint8 images -> (class probabilities, features)."""
    images = keras.Input(image_shape, dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    last = len(settings.widths) - 1
    for level, width in enumerate(settings.widths):
        for depth in range(1 if level == last else 2):
            begins = level == depth == 0
            x = conv2d(
                width,
                5 if begins and settings.stem > 1 else 3,
                strides=settings.stem if begins else 1,
                padding="same",
                use_bias=False,
            )(x)
            x = keras.layers.BatchNormalization(momentum=0.95)(x)
            x = keras.layers.ReLU()(x)
        if level != last:
            x = keras.layers.MaxPooling2D(padding="same", data_format="channels_last")(x)
    features = keras.layers.GlobalAveragePooling2D(
        "channels_last", dtype="float32", name="features"
    )(x)
    x = keras.layers.Dropout(settings.dropout, dtype="float32")(features)
    classes = keras.layers.Dense(
        num_classes, activation="softmax", dtype="float32", name="classes"
    )(x)
    return keras.Model(images, [classes, features])


def augmented(images, rng, settings):
    """Returns a batch shifted, mirrored and with other brightness and contrast, all random."""
    if settings.shift:
        images = _shifted(images, rng, settings.shift)
    if settings.flip:
        mirrored = rng.random(len(images)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    if settings.light:
        ends = -settings.light, settings.light
        contrast, brightness = 1 + rng.uniform(*ends, (2, len(images), 1, 1, 1)).astype("float32")
        middle = images.mean(axis=(1, 2, 3), keepdims=True)
        images = ((images - middle) * contrast + middle) * brightness
        images = np.clip(np.rint(images), 0, 255).astype("uint8")
    return images


def _shifted(images, rng, most):
    """Shifts each image by up to `most` pixels; the edge is repeated."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    tops, lefts = rng.integers(0, 2 * most + 1, (2, len(images)))
    rows = tops[:, None, None] + np.arange(height)[:, None]
    columns = lefts[:, None, None] + np.arange(width)
    return padded[np.arange(len(images))[:, None, None], rows, columns]


def train(data, settings, log=print):
    """Trains a classifier on the training split, in bfloat16 where that is fast.

    Args:
        data: dict of `train_images`, `train_labels` (uint8 NHWC, ints).
        settings: `Settings`.
        log: function of a line about each epoch.

    Returns:
        The model, in float32.
    """
    images, labels = data["train_images"], data["train_labels"]
    keras.utils.set_random_seed(settings.seed)
    steps = max(1, len(images) // settings.batch_size)
    shape, num_classes = images.shape[1:], int(labels.max()) + 1
    with dtype_policy(precision.policy("auto")[0]):
        learner = classifier(shape, num_classes, settings)
    with dtype_policy("float32"):
        model = classifier(shape, num_classes, settings)
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 10,
        steps * settings.epochs - steps // 2,
        warmup_target=settings.learning_rate,
        warmup_steps=steps // 2,
    )
    probabilities, _ = learner.outputs
    fitted = keras.Model(learner.inputs, probabilities)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    fitted.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

    def log_epoch(epoch, logs):
        log(f"classifier, epoch {epoch + 1} of {settings.epochs}: {logs['accuracy']:.1%} right")

    fitted.fit(
        _batches(images, labels, settings),
        steps_per_epoch=steps,
        epochs=settings.epochs,
        shuffle=False,  # the generator shuffles
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=log_epoch)],
    )
    model.set_weights(learner.get_weights())
    return model


@contextlib.contextmanager
def dtype_policy(name):
    """Sets the dtype policy of layers that are created inside of the context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _batches(images, labels, settings):
    """Endless shuffled batches; a function of the seed."""
    rng = np.random.default_rng(settings.seed)
    size = min(settings.batch_size, len(images))
    while True:
        order = rng.permutation(len(images))
        for first in range(0, len(images) - size + 1, size):
            chosen = order[first : first + size]
            yield augmented(images[chosen], rng, settings), labels[chosen]


def predict(model, images):
    """Returns (features, class probabilities) of uint8 images, as numpy arrays."""
    parts = [
        model.predict_on_batch(images[first : first + BATCH])
        for first in range(0, len(images), BATCH)
    ]
    probabilities, features = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, probabilities


@dataclasses.dataclass(frozen=True)
class TrainedClassifier:
    """A classifier and its features of the real images.

    Attributes:
        model: as from `classifier`.
        gaussian: `Gaussian` of the features of all training images.
        shares: (K,), shares of the predicted classes of the training images.
        facts: dict: accuracies, feature width, parameters, seconds of training, settings.
        held_out: features of all test images.
    """

    model: keras.Model
    gaussian: Gaussian
    shares: np.ndarray
    facts: dict
    held_out: np.ndarray


def load_or_train(name, data, cache, settings, log=print):
    """Returns the `TrainedClassifier` of a data set, from the cache if it was trained before.

    The cache identifies it by its settings and by every pixel and label of `data`. Training sets
    the seeds of Keras, numpy and Python.

    Args:
        name: of the data set, for the folder in the cache.
        data: dict of `train_images`, `train_labels`, `test_images`, `test_labels`: uint8
            (N, H, W, C) and ints (N,).
        cache: folder.
        settings: `Settings`, as from `settings_for`.
        log: function of a line of progress.
    """
    folder = Path(cache) / f"extractor-{name}-{_key(settings, data)}"
    facts_file = folder / "facts.json"
    if not facts_file.exists():
        with exclusive(folder, log):
            if not facts_file.exists():
                _train_and_save(folder, data, settings, log)
    shape, num_classes = data["train_images"].shape[1:], int(data["train_labels"].max()) + 1
    with dtype_policy("float32"):
        model = classifier(shape, num_classes, settings)
    model.load_weights(folder / "model.weights.h5")
    arrays = np.load(folder / "seen.npz")
    facts = json.loads(facts_file.read_text())
    gaussian = Gaussian(arrays["mean"], arrays["covariance"], int(arrays["num_images"]))
    return TrainedClassifier(model, gaussian, arrays["shares"], facts, arrays["held_out"])


def _train_and_save(folder, data, settings, log):
    """Trains, computes the features of all real images, and writes the folder."""
    began = time.monotonic()
    model = train(data, settings, log)
    seconds = time.monotonic() - began
    outputs = {split: predict(model, data[f"{split}_images"]) for split in ("train", "test")}
    accuracies = {
        split: accuracy(probabilities, data[f"{split}_labels"])
        for split, (_, probabilities) in outputs.items()
    }
    gaussian = Gaussian.of(outputs["train"][0])
    facts = {
        "test_accuracy": accuracies["test"],
        "train_accuracy": accuracies["train"],
        "train_images": len(data["train_images"]),
        "test_images": len(data["test_images"]),
        "feature_width": gaussian.mean.size,
        "feature_variance": float(np.trace(gaussian.covariance)),
        "parameters": model.count_params(),
        "seconds": round(seconds, 1),
        "settings": dataclasses.asdict(settings),
    }
    with whole_folder(folder) as part:
        part.mkdir()
        model.save_weights(part / "model.weights.h5")
        np.savez(
            part / "seen.npz",
            mean=gaussian.mean,
            covariance=gaussian.covariance,
            num_images=gaussian.num_images,
            shares=class_shares(outputs["train"][1]),
            held_out=outputs["test"][0],
        )
        (part / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")


def _key(settings, data):
    """Returns a hash of the settings, and of every pixel and label."""
    settings = json.dumps(dataclasses.asdict(settings), sort_keys=True)
    return content_hash(settings, *(data[name] for name in sorted(data)))
