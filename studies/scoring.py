"""Scores of the images of a study: all that studies use of `keras_diffusion.evaluation`."""

import numpy as np

from keras_diffusion.data import sources
from keras_diffusion.evaluation import classifier, scores
from keras_diffusion.evaluation import real_images as real

BOOTSTRAP = 20  # samples, for the standard error of a distance


def real_images(dataset, data_dir=None):
    """Loads all real images of a data set at their own size.

    Args:
        dataset: "digits", or the name of a tfds data set.
        data_dir: folder of tfds.

    Returns:
        dict of train_images, test_images (uint8 NHWC), train_labels, test_labels (int64).
    """
    source = sources.digits() if dataset == "digits" else sources.tfds(dataset, data_dir)
    return real.from_source(source, source.image_shape, flip=False).arrays


class Scorer:
    """A classifier of the real images, and distances in its features.

    Args:
        images: as from `real_images`.
        cache: folder of trained classifiers.
        tiny: bool, whether the classifier is a toy.
        log: function that takes lines of progress.
        name: of the data set, for the cache.
        flip: bool, whether mirrored images are of the same class.

    Attributes:
        facts: dict, see `classifier.TrainedClassifier`.
        shares: float (K,), share of each class in the real images, by the classifier.
    """

    def __init__(self, images, cache, tiny=False, log=print, name="mnist", flip=False):
        train = images["train_images"]
        settings = classifier.settings_for(train.shape[1:], len(train), flip)
        settings = classifier.TINY if tiny else settings
        self._classifier = classifier.load_or_train(name, images, cache, settings, log)
        self.facts, self.shares = self._classifier.facts, self._classifier.shares

    def score(self, images):
        """Compares images with the real ones.

        Args:
            images: uint8 (N, H, W, C), N at least 2.

        Returns:
            dict of `distance` (Frechet distance of the features), `error` (its standard error, by
            the bootstrap over these images), `sure` (share of images to which the classifier gives
            a class above 90%), `images` (N).
        """
        features, probabilities = classifier.predict(self._classifier.model, images)
        reference, rng = self._classifier.gaussian, np.random.default_rng(0)
        samples = [rng.integers(0, len(images), len(images)) for _ in range(BOOTSTRAP)]
        distances = [scores.frechet_distance(reference, features[rows]) for rows in samples]
        return {
            "distance": scores.frechet_distance(reference, features),
            "error": float(np.std(distances, ddof=1)),
            "sure": scores.confidence(probabilities)["sure"],
            "images": len(images),
        }

    def classes(self, images):
        """Returns the classes that the classifier predicts, int (N,)."""
        return self.probabilities(images).argmax(axis=-1)

    def probabilities(self, images):
        """Returns the probabilities of the classes by the classifier, (N, K)."""
        return classifier.predict(self._classifier.model, images)[1]

    def baseline(self, size):
        """Returns the distance of `size` held-out real images, see `scores.distance_baseline`."""
        return scores.distance_baseline(self._classifier.held_out, self._classifier.gaussian, size)


def border_rms(images, width=2):
    """Returns the root mean square of the grey levels (0 .. 255) in the border of images.

    Digits of MNIST leave a border of 2 pixels black, so this measures background noise.

    Args:
        images: uint8 (N, H, W, C).
        width: of the border, in pixels.
    """
    inside = np.zeros(images.shape[1:3], bool)
    inside[width:-width, width:-width] = True
    return float(np.sqrt(np.square(images[:, ~inside].astype("float64")).mean()))
