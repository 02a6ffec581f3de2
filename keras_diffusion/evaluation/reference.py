"""Real pictures as an extractor sees them: what every score is held against, and the floor."""

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np

from keras_diffusion.evaluation import classifier, extractors, scores
from keras_diffusion.evaluation.distances import Gaussian
from keras_diffusion.evaluation.extractors import Extractor
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.runtime.locks import exclusive

FLOOR_SUBSETS = 5
FEWEST = 20  # real pictures of each split; fewer tell nothing


@dataclasses.dataclass(frozen=True)
class Reference:
    """An extractor, and the features of the real pictures.

    Attributes:
        extractor: `Extractor` of the features.
        train: float32 (N, F), of the training split; scores are distances from these.
        held_out: float32 (M, F), of the validation split; the floor is theirs.
        classifier: None, or the `Extractor` that says what class a picture is of.
        held_out_accuracy: None, or its share of right answers on the held-out pictures.
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

    def look(self, images, progress=None):
        """Returns (features, class probabilities or None) of uint8 pictures."""
        features, probabilities = look(self.extractor, images, progress)
        if probabilities is None and self.classifier:
            _, probabilities = look(self.classifier, images)
        return features, probabilities

    def score(self, features, probabilities=None, labels=None):
        """Returns `scores.compare` of pictures, and what else can be said of them.

        Args:
            features: (N, F), N from 5.
            probabilities: None, or (N, K), what a classifier takes them for.
            labels: None, or (N,), what was asked for.

        Returns:
            dict; with probabilities and labels also `accuracy`, with features of the keras.io
            example also `kid_keras_io`.
        """
        found = self._compare(features)
        if self.extractor.is_keras_io:
            found["kid_keras_io"] = scores.keras_io_kid(features, self.held_out)
        if probabilities is not None and labels is not None:
            found["accuracy"] = scores.accuracy(probabilities, labels)
        return found

    def floor(self, size, subsets=FLOOR_SUBSETS):
        """Returns the scores of real, held-out pictures: what is left to reach.

        Args:
            size: int, pictures in a subset; at most all held-out ones are taken.
            subsets: int, see `scores.draws`.

        Returns:
            dict of the means over the subsets, as from `score`; and `fid_std`, how much a subset
            of this size varies, where there is more than one.
        """
        size = min(size, len(self.held_out))
        subsets = subsets if size < len(self.held_out) else 1
        found = scores.floor(self.held_out, size, subsets, self._compare)
        means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
        if self.held_out_accuracy is not None:
            means["accuracy"] = self.held_out_accuracy
        if self.extractor.is_keras_io:  # held-out pictures are the real ones there
            as_many = scores.draws(len(self.train), min(size, len(self.train)), 1)[0]
            means["kid_keras_io"] = scores.keras_io_kid(self.train[as_many], self.held_out)
        if subsets > 1:
            means["fid_std"] = float(np.std([each["fid"] for each in found], ddof=1))
        return {**means, "num_images": size}

    def _compare(self, features):
        return scores.compare(features, self.train, self.gaussian)


def prepare(
    name, real, cache, *, data_name, flip=False, size=75, accuracy=True, tell=print, bar=None
):
    """Returns the `Reference` of real pictures by an extractor; what it makes is kept.

    Args:
        name: "classifier", "inception", or the path of a Keras model.
        real: dict of `train_images`, `test_images`, uint8 (N, H, W, C), and, where they have
            labels, `train_labels` and `test_labels`, ints (N,).
        cache: folder.
        data_name: name of the data set.
        flip: bool, whether mirrored pictures are of the same class.
        size: pixels of each side, for inception.
        accuracy: bool, whether a classifier is wanted besides another extractor, where the
            pictures have labels.
        tell: takes lines of progress.
        bar: None, or function, number of pictures -> function of how many are done.

    Raises:
        ValueError: an extractor that cannot be had for these pictures; too few pictures.
        OSError: weights that cannot be downloaded.
    """
    shape = real["train_images"].shape[1:]
    fewest = min(len(real["train_images"]), len(real["test_images"]))
    if fewest < FEWEST:
        raise ValueError(f"{data_name} has a split of {fewest} pictures; {FEWEST} are needed.")
    labelled = len(set(real.get("train_labels", ()))) > 1
    if name == "classifier" and not labelled:
        raise ValueError(
            f"classifier: it learns from labels, and {data_name} has none; choose inception, or "
            "the path of a Keras model."
        )
    if name == "inception":  # a download that fails is to do so before anything is trained
        extractor = extractors.inception(shape, size)
    elif name != "classifier":
        extractor = extractors.from_file(name, shape)
    known, right = None, None
    if labelled and (accuracy or name == "classifier"):
        settings = classifier.settings_for(shape, len(real["train_images"]), flip)
        trained = classifier.prepared(data_name, real, cache, tell=tell, settings=settings)
        known, right = extractors.of_classifier(trained), trained.facts["test_accuracy"]
    if name == "classifier":
        extractor = known
    seen = []
    for part in ("train", "test"):
        images = real[f"{part}_images"]
        which = "training" if part == "train" else "held-out"
        tell(f"{extractor.name} looks at the {len(images):,} {which} pictures")
        progress = bar and bar(len(images))
        seen.append(features(extractor, images, cache, progress))
    return Reference(extractor, *seen, known, right)


def features(extractor, images, cache=None, progress=None):
    """Returns the features of pictures, float32 (N, F), from the cache if they are there.

    The cache is a file for each pair of an extractor and a set of pictures, by the hashes of
    both: of weights, and of every pixel. It takes 4 N F bytes: 0.5 GB for 60,000 pictures and
    InceptionV3.

    Args:
        extractor: `extractors.Extractor`.
        images: uint8 (N, H, W, C).
        cache: None, or a folder.
        progress: None, or a function, called with the number of pictures that are done.
    """
    if not cache:
        return look(extractor, images, progress)[0]
    path = Path(cache) / f"features-{extractor.digest}-{fingerprint(images)}.npy"
    if not path.exists():
        with exclusive(path):
            if not path.exists():
                found, _ = look(extractor, images, progress)
                with whole_file(path) as part, open(part, "wb") as file:
                    np.save(file, found)
    return np.load(path)


def look(extractor, images, progress=None):
    """Returns (features, class probabilities or None) of pictures, batch by batch."""
    parts = []
    for first in range(0, len(images), extractor.batch):
        parts.append(extractor.look(images[first : first + extractor.batch]))
        if progress:
            progress(min(first + extractor.batch, len(images)))
    seen, probabilities = zip(*parts, strict=True)
    known = probabilities[0] is not None
    return np.concatenate(seen), np.concatenate(probabilities) if known else None


def fingerprint(images):
    """Returns 12 hexadecimal digits for a set of pictures: their shape and every pixel."""
    digest = hashlib.sha256(str(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()[:12]
