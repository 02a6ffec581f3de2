"""How the pictures of a study are judged: all that studies know of `keras_diffusion.evaluation`."""

import numpy as np

from keras_diffusion.data import sources
from keras_diffusion.evaluation import classifier, scores
from keras_diffusion.evaluation import real_images as real

RESAMPLED = 20  # times, for the error of a distance


def real_images(dataset, data_dir=None):
    """Returns all real pictures of a data set at their own size, for `Judge`.

    Args:
        dataset: "digits", or a name in tfds.
        data_dir: where tfds keeps its data.

    Returns:
        dict of train_images, test_images (uint8 NHWC), train_labels, test_labels (int64).
    """
    source = sources.digits() if dataset == "digits" else sources.tfds(dataset, data_dir)
    return real.from_source(source, source.image_shape, flip=False).arrays


class Judge:
    """A classifier of the real pictures, and distances to what it saw in them.

    Args:
        pictures: as from `real_images`.
        cache: folder of trained classifiers.
        tiny: bool, a toy classifier.
        tell: takes lines of progress.

    Attributes:
        facts: dict, see `classifier.TrainedClassifier`.
        shares: (K,), what the classifier takes the real pictures for.
    """

    def __init__(self, pictures, cache, tiny=False, tell=print):
        train = pictures["train_images"]
        settings = classifier.settings_for(train.shape[1:], len(train))
        settings = classifier.TINY if tiny else settings
        self._classifier = classifier.load_or_train("mnist", pictures, cache, settings, tell)
        self.facts, self.shares = self._classifier.facts, self._classifier.shares

    def score(self, images):
        """Returns how far pictures are from the real ones.

        Args:
            images: uint8 (N, H, W, C), N at least 2.

        Returns:
            dict of `distance` (Frechet's, of the classifier's features), `error` (its standard
            deviation, if other pictures had been drawn: by the bootstrap), `sure` (share of
            pictures with a class above 90%), `images` (N).
        """
        features, probabilities = classifier.predict(self._classifier.model, images)
        rng = np.random.default_rng(0)
        again = [rng.integers(0, len(images), len(images)) for _ in range(RESAMPLED)]
        distances = [scores.frechet_distance(self._classifier.gaussian, features[i]) for i in again]
        return {
            "distance": scores.frechet_distance(self._classifier.gaussian, features),
            "error": float(np.std(distances, ddof=1)),
            "sure": scores.confidence(probabilities)["sure"],
            "images": len(images),
        }

    def classes(self, images):
        """Returns what the classifier takes pictures for, int (N,)."""
        return classifier.predict(self._classifier.model, images)[1].argmax(axis=-1)

    def floor(self, size):
        """Returns the distance of held-out real images, see `scores.distance_baseline`."""
        return scores.distance_baseline(self._classifier.held_out, self._classifier.gaussian, size)


def frame_noise(images, width=2):
    """Returns the root mean square of grey levels (0 .. 255) in the frame of pictures.

    Digits of MNIST leave a frame of 2 pixels black: what is there is noise of the background.

    Args:
        images: uint8 (N, H, W, C).
        width: of the frame, in pixels.
    """
    inside = np.zeros(images.shape[1:3], bool)
    inside[width:-width, width:-width] = True
    return float(np.sqrt(np.square(images[:, ~inside].astype("float64")).mean()))
