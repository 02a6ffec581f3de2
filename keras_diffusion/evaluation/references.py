"""The reference set: features of real images, and their own scores as the baseline."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from keras_diffusion.evaluation import classifier, extractors, scores
from keras_diffusion.evaluation.distances import Gaussian
from keras_diffusion.evaluation.extractors import Extractor
from keras_diffusion.runtime.files import content_hash, whole_file
from keras_diffusion.runtime.locks import exclusive

BASELINE_SUBSETS = 5
MIN_IMAGES = 20  # of each split


@dataclasses.dataclass(frozen=True)
class Reference:
    """A feature extractor, and the features of the real images.

    Attributes:
        extractor: `Extractor` of the features.
        train: float32 (N, F), of the training split; scores are distances to these.
        held_out: float32 (M, F), of the validation split, for the baseline.
        classifier: None, or the `Extractor` that predicts the class of an image.
        held_out_accuracy: None, or its accuracy on the held-out images.
    """

    extractor: Extractor
    train: np.ndarray
    held_out: np.ndarray
    classifier: Extractor | None = None
    held_out_accuracy: float | None = None

    @functools.cached_property
    def gaussian(self):
        """`Gaussian` of the training split."""
        return Gaussian.of(self.train)

    def extract(self, images, progress=None):
        """Returns (features, class probabilities or None) of uint8 images."""
        features, probabilities = extract(self.extractor, images, progress)
        if probabilities is None and self.classifier:
            _, probabilities = extract(self.classifier, images)
        return features, probabilities

    def score(self, features, probabilities=None, labels=None):
        """Returns the scores of generated images.

        Args:
            features: (N, F), N from 5.
            probabilities: None, or (N, K), class probabilities by a classifier.
            labels: None, or (N,), the classes the images were generated for.

        Returns:
            dict as from `scores.compare`; with probabilities and labels also `accuracy`, with
            features of the keras.io example also `kid_keras_io`.
        """
        values = self._compare(features)
        if self.extractor.is_keras_io:
            values["kid_keras_io"] = scores.keras_io_kid(features, self.held_out)
        if probabilities is not None and labels is not None:
            values["accuracy"] = scores.accuracy(probabilities, labels)
        return values

    def baseline(self, size, subsets=BASELINE_SUBSETS):
        """Returns the scores of real, held-out images: the best that generated ones can expect.

        Args:
            size: int, images in a subset; at most all held-out ones are used.
            subsets: int, see `scores.random_subsets`.

        Returns:
            dict of the means over the subsets, as from `score`; and, with several subsets,
            `fid_std`, their standard deviation.
        """
        size = min(size, len(self.held_out))
        subsets = subsets if size < len(self.held_out) else 1
        values = scores.baseline(self.held_out, size, subsets, self._compare)
        means = {name: float(np.mean([each[name] for each in values])) for name in values[0]}
        if self.held_out_accuracy is not None:
            means["accuracy"] = self.held_out_accuracy
        if self.extractor.is_keras_io:  # compares with held-out images, so training ones stand in
            as_many = scores.random_subsets(len(self.train), min(size, len(self.train)), 1)[0]
            means["kid_keras_io"] = scores.keras_io_kid(self.train[as_many], self.held_out)
        if subsets > 1:
            means["fid_std"] = float(np.std([each["fid"] for each in values], ddof=1))
        return {**means, "num_images": size}

    def _compare(self, features):
        return scores.compare(features, self.train, self.gaussian)


def prepare(name, real, cache, *, size=75, accuracy=True, log=print, progress_bar=None):
    """Returns the `Reference` of real images; classifiers and features are cached.

    Args:
        name: "classifier", "inception", or the path of a Keras model.
        real: `RealImages`.
        cache: folder.
        size: pixels of each side, for inception.
        accuracy: bool, whether a classifier is wanted besides another extractor, if the images
            have labels.
        log: function of a line of progress.
        progress_bar: None, or a function from a number of images to a function of how many are
            done.

    Raises:
        ValueError: an extractor that cannot be used with these images; too few images.
        OSError: weights that cannot be downloaded.
    """
    arrays, data_name = real.arrays, real.source.name
    shape = arrays["train_images"].shape[1:]
    fewest = min(len(arrays["train_images"]), len(arrays["test_images"]))
    if fewest < MIN_IMAGES:
        raise ValueError(f"{data_name} has a split of {fewest} images; {MIN_IMAGES} are needed.")
    classes = len(set(arrays.get("train_labels", ())))
    number = "one class" if classes else "none"
    if name == "classifier" and classes < 2:
        raise ValueError(
            f"classifier: it learns from labels, and {data_name} has {number}; choose inception, "
            "or the path of a Keras model."
        )
    if name == "inception":  # before the classifier: a failed download costs no training
        extractor = extractors.inception(shape, size)
    elif name != "classifier":
        extractor = extractors.from_file(name, shape)
    of_classes, held_out_accuracy = None, None
    if classes > 1 and (accuracy or name == "classifier"):
        settings = classifier.settings_for(shape, len(arrays["train_images"]), real.flip)
        trained = classifier.load_or_train(data_name, arrays, cache, settings, log)
        of_classes = extractors.of_classifier(trained)
        held_out_accuracy = trained.facts["test_accuracy"]
    if name == "classifier":
        extractor = of_classes
    splits = []
    for key, words in (("train_images", "training"), ("test_images", "held-out")):
        images = arrays[key]
        log(f"{extractor.name}: features of the {len(images):,} {words} images")
        progress = progress_bar and progress_bar(len(images))
        splits.append(cached_features(extractor, images, cache, progress))
    return Reference(extractor, *splits, of_classes, held_out_accuracy)


def cached_features(extractor, images, cache=None, progress=None):
    """Returns the features of images, float32 (N, F), from the cache if they are there.

    The cache has one file for each extractor and set of images, named by the hashes of weights
    and of pixels. It takes 4 N F bytes: 0.5 GB for 60,000 images and InceptionV3.

    Args:
        extractor: `extractors.Extractor`.
        images: uint8 (N, H, W, C).
        cache: None, or a folder.
        progress: None, or a function of the number of images that are done.
    """
    if not cache:
        return extract(extractor, images, progress)[0]
    key = content_hash(str(images.shape), images)
    path = Path(cache) / f"features-{extractor.digest}-{key}.npy"
    if not path.exists():
        with exclusive(path):
            if not path.exists():
                features, _ = extract(extractor, images, progress)
                with whole_file(path) as part, open(part, "wb") as file:
                    np.save(file, features)
    return np.load(path)


def extract(extractor, images, progress=None):
    """Returns (features, class probabilities or None) of images, batch by batch."""
    parts = []
    for first in range(0, len(images), extractor.batch):
        parts.append(extractor.extract(images[first : first + extractor.batch]))
        if progress:
            progress(min(first + extractor.batch, len(images)))
    features, probabilities = zip(*parts, strict=True)
    has_classes = probabilities[0] is not None
    return np.concatenate(features), np.concatenate(probabilities) if has_classes else None
