"""The classifier whose eyes the scores use: trained once on real pictures, kept in a cache.

Pictures go in as uint8, all of them the same way: nothing is resized, and nothing but
`value / 127.5 - 1` is done to them. Its features are what comes before the last layer: one
number for each channel, averaged over the picture.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path

import keras
import numpy as np

from keras_diffusion.evaluation.distances import Gaussian
from keras_diffusion.evaluation.scores import class_shares
from keras_diffusion.runtime import precision
from keras_diffusion.runtime.files import whole_folder
from keras_diffusion.runtime.locks import exclusive

BATCH = 500  # pictures at once, when nothing is learned


@dataclasses.dataclass(frozen=True)
class Settings:
    """How an extractor is made; another setting makes another one.

    `stem` is the stride of the first convolution, `widths` the channels of each level, two
    convolutions on all but the last, which has one; the last of them is the feature width.
    `version` stands for the code below: raise it with a change that changes the weights.
    """

    widths: tuple
    epochs: int
    stem: int = 1
    flip: bool = False
    shift: int = 2  # pixels, up to, either way
    light: float = 0.0  # of brightness and contrast, up to, either way
    dropout: float = 0.0
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 0
    version: int = 1


SETTINGS = {
    "mnist": Settings(widths=(16, 32, 64), epochs=4),
    "flowers": Settings(
        widths=(32, 64, 96, 128),
        epochs=40,
        stem=2,
        flip=True,
        shift=6,
        light=0.2,
        dropout=0.2,
        batch_size=64,
    ),
}
TINY = {"widths": (8, 16), "epochs": 1, "stem": 2}  # to see that all of it runs
IMAGES_TO_SEE = 260_000  # in training: a minute or two of two CPU cores at 28x28
MOST_EPOCHS = 40
FEW_IMAGES = 20_000


def settings_for(image_shape, num_images, flip=False):
    """Returns the `Settings` that suit a data set; for MNIST and Flowers those of `SETTINGS`.

    Args:
        image_shape: (H, W, C).
        num_images: int, of the training split.
        flip: bool, whether mirrored pictures are of the same class.
    """
    side, channels = min(image_shape[:2]), image_shape[-1]
    stem = min(4, 2 ** max(0, int(math.log2(side / 32))))
    levels = max(2, int(math.log2(max(1, side / stem / 4))) + 1)  # down to 4 to 8 pixels
    few = num_images < FEW_IMAGES
    return Settings(
        widths=tuple(16 * 2**i if channels == 1 else 32 * (i + 1) for i in range(levels)),
        epochs=max(1, min(MOST_EPOCHS, round(IMAGES_TO_SEE / num_images))),
        stem=stem,
        flip=flip,
        shift=side * 3 // 32,
        light=0.2 if channels == 3 else 0.0,
        dropout=0.2 if few else 0.0,
        batch_size=64 if few else 128,
    )


def classifier(image_shape, num_classes, settings):
    """Returns a Keras model: uint8 pictures -> (class probabilities, features)."""
    images = keras.Input(image_shape, dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    last = len(settings.widths) - 1
    for level, width in enumerate(settings.widths):
        for depth in range(1 if level == last else 2):
            begins = level == depth == 0
            x = keras.layers.Conv2D(
                width,
                5 if begins and settings.stem > 1 else 3,
                strides=settings.stem if begins else 1,
                padding="same",
                use_bias=False,
            )(x)
            x = keras.layers.BatchNormalization(momentum=0.95)(x)
            x = keras.layers.ReLU()(x)
        if level != last:
            x = keras.layers.MaxPooling2D(padding="same")(x)
    features = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    x = keras.layers.Dropout(settings.dropout, dtype="float32")(features)
    classes = keras.layers.Dense(
        num_classes, activation="softmax", dtype="float32", name="classes"
    )(x)
    return keras.Model(images, [classes, features])


def augmented(images, rng, settings):
    """Returns a batch moved, mirrored and made lighter or darker at random; uint8 as before."""
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
    """Moves each picture by up to `most` pixels; what comes in repeats the edge."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    tops, lefts = rng.integers(0, 2 * most + 1, (2, len(images)))
    rows = tops[:, None, None] + np.arange(height)[:, None]
    columns = lefts[:, None, None] + np.arange(width)
    return padded[np.arange(len(images))[:, None, None], rows, columns]


def train(data, settings, tell=print):
    """Trains a classifier on the training split, in bfloat16 where that is fast.

    Args:
        data: dict of `train_images`, `train_labels` (uint8 NHWC, ints).
        settings: `Settings`.
        tell: takes a line about each epoch.

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

    def told(epoch, logs):
        tell(f"classifier, epoch {epoch + 1} of {settings.epochs}: {logs['accuracy']:.1%} right")

    fitted.fit(
        _batches(images, labels, settings),
        steps_per_epoch=steps,
        epochs=settings.epochs,
        shuffle=False,  # they are; Keras would warn
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=told)],
    )
    model.set_weights(learner.get_weights())
    return model


@contextlib.contextmanager
def dtype_policy(name):
    """Has layers that are made within take a dtype policy, whatever the program's own is."""
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


def look(model, images):
    """Returns (features, class probabilities) of uint8 pictures, as numpy arrays."""
    parts = [
        model.predict_on_batch(images[first : first + BATCH])
        for first in range(0, len(images), BATCH)
    ]
    probabilities, features = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, probabilities


@dataclasses.dataclass(frozen=True)
class TrainedClassifier:
    """A classifier with what it saw in the real pictures.

    Attributes:
        model: as from `classifier`.
        reference: `Gaussian` of the features of all training pictures.
        shares: (K,), what the classifier takes the training pictures for.
        facts: dict: accuracies, feature width, parameters, seconds of training, settings.
        held_out: features of all test pictures.
    """

    model: keras.Model
    reference: Gaussian
    shares: np.ndarray
    facts: dict
    held_out: np.ndarray


def prepared(task, data, cache, tiny=False, tell=print, settings=None):
    """Returns the `TrainedClassifier` of a data set, from the cache if it was trained before.

    The cache knows it by its settings and by every pixel and label of `data`. Training seeds
    Keras, numpy and Python anew.

    Args:
        task: "mnist" or "flowers"; with `settings` any name for the folder in the cache.
        data: dict of `train_images`, `train_labels`, `test_images`, `test_labels`: uint8
            (N, H, W, C) and ints (N,).
        cache: folder.
        tiny: bool, a toy that learns next to nothing.
        tell: takes lines of progress.
        settings: None for those of the task, or `Settings`, as from `settings_for`.
    """
    settings = settings or SETTINGS[task]
    if tiny:
        settings = dataclasses.replace(settings, **TINY)
    folder = Path(cache) / f"extractor-{task}-{_key(settings, data)}"
    facts_file = folder / "facts.json"
    if not facts_file.exists():
        with exclusive(folder, tell):
            if not facts_file.exists():
                _make(folder, data, settings, tell)
    shape, num_classes = data["train_images"].shape[1:], int(data["train_labels"].max()) + 1
    with dtype_policy("float32"):
        model = classifier(shape, num_classes, settings)
    model.load_weights(folder / "model.weights.h5")
    kept = np.load(folder / "seen.npz")
    facts = json.loads(facts_file.read_text())
    reference = Gaussian(kept["mean"], kept["covariance"], int(kept["num_images"]))
    return TrainedClassifier(model, reference, kept["shares"], facts, kept["held_out"])


def _make(folder, data, settings, tell):
    """Trains, looks at all real pictures, and writes the folder."""
    began = time.monotonic()
    model = train(data, settings, tell)
    seconds = time.monotonic() - began
    seen = {name: look(model, data[f"{name}_images"]) for name in ("train", "test")}
    right = {
        name: float((probabilities.argmax(-1) == data[f"{name}_labels"]).mean())
        for name, (_, probabilities) in seen.items()
    }
    reference = Gaussian.of(seen["train"][0])
    facts = {
        "test_accuracy": right["test"],
        "train_accuracy": right["train"],
        "train_images": len(data["train_images"]),
        "test_images": len(data["test_images"]),
        "feature_width": reference.mean.size,
        "feature_variance": float(np.trace(reference.covariance)),
        "parameters": model.count_params(),
        "seconds": round(seconds, 1),
        "settings": dataclasses.asdict(settings),
    }
    with whole_folder(folder) as part:
        part.mkdir()
        model.save_weights(part / "model.weights.h5")
        np.savez(
            part / "seen.npz",
            mean=reference.mean,
            covariance=reference.covariance,
            num_images=reference.num_images,
            shares=class_shares(seen["train"][1]),
            held_out=seen["test"][0],
        )
        (part / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")


def _key(settings, data):
    """A name for what an extractor was made of: its settings and every pixel."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode())
    for name in sorted(data):
        digest.update(np.ascontiguousarray(data[name]).data)
    return digest.hexdigest()[:12]
