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
    return real.of(source, source.image_shape, flip=False).arrays


class Judge:
    """A classifier of the real pictures, and distances to what it saw in them.

    Args:
        pictures: as from `real_images`.
        cache: folder of trained classifiers.
        tiny: bool, a toy classifier.
        task: whose settings the classifier is made with, see `classifier.SETTINGS`.
        tell: takes lines of progress.

    Attributes:
        facts: dict, see `classifier.TrainedClassifier`.
        shares: (K,), what the classifier takes the real pictures for.
    """

    def __init__(self, pictures, cache, tiny=False, task="mnist", tell=print):
        self._eyes = classifier.prepared(task, pictures, cache, tiny, tell)
        self.facts, self.shares = self._eyes.facts, self._eyes.shares

    def score(self, images):
        """Returns how far pictures are from the real ones.

        Args:
            images: uint8 (N, H, W, C), N at least 2.

        Returns:
            dict of `distance` (Frechet's, of the classifier's features), `error` (its standard
            deviation, if other pictures had been drawn: by the bootstrap), `sure` (share of
            pictures with a class above 90%), `images` (N).
        """
        features, probabilities = classifier.look(self._eyes.model, images)
        rng = np.random.default_rng(0)
        again = [rng.integers(0, len(images), len(images)) for _ in range(RESAMPLED)]
        distances = [scores.frechet_distance(self._eyes.reference, features[i]) for i in again]
        return {
            "distance": scores.frechet_distance(self._eyes.reference, features),
            "error": float(np.std(distances, ddof=1)),
            "sure": scores.confidence(probabilities)["sure"],
            "images": len(images),
        }

    def classes(self, images):
        """Returns what the classifier takes pictures for, int (N,)."""
        return classifier.look(self._eyes.model, images)[1].argmax(axis=-1)

    def floor(self, size):
        """Returns the distance of as many held-out real pictures, see `scores.distance_floor`."""
        return scores.distance_floor(self._eyes.held_out, self._eyes.reference, size)


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
