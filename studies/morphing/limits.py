"""How many different digits a set of garments gives, and which: the limits of morphing."""

import functools

import numpy as np
from sklearn.cluster import DBSCAN

from keras_diffusion.evaluation import scores
from studies.morphing import starts
from studies.morphing.data import GARMENTS

SIZES = (10, 30, 100, 300, 1000)  # of a set of garments
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5)  # of noise; a garment is in [-1, 1]
COPIES = 10  # of a garment, with different noise
AVERAGED = (5, 10, 20)
ALIKE = 8.0  # grey levels, RMS: images that differ by less count as one
SHOWN = 12
GREY = 127.5  # grey levels per unit of x


def different(images):
    """Returns the number of different images; a chain of images that are alike counts as one."""
    flat = images.reshape(len(images), -1).astype("float32")
    reach = ALIKE * flat.shape[1] ** 0.5
    return len(set(DBSCAN(reach, min_samples=1, algorithm="brute").fit(flat).labels_))


class Limits:
    """Digits generated from starting points of several kinds.

    Args:
        training: the `Training` whose model is used.
        method: `Method` of sampling.
        garments: as from `data.load`; sampling starts from held-out ones.
    """

    def __init__(self, training, method, garments):
        self.training, self.method, self.garments = training, method, garments
        self.scorer, self.settings = training.scorer, training.settings

    def results(self):
        """Returns dict of `sets`, `noise`, `averages` (lists over STRENGTHS and AVERAGED) and
        `mixture`, each as returned by the method below."""
        run = self.training.stages.run
        noise, averages = self.of_noise, self.of_averages
        return {
            "sets": run("limits-sets", self.of_sets),
            "noise": [
                run(f"limits-noise{strength:g}", functools.partial(noise, strength))
                for strength in STRENGTHS
            ],
            "averages": [
                run(f"limits-averages{of}", functools.partial(averages, of)) for of in AVERAGED
            ],
            "mixture": run("limits-mixture", self.of_mixture),
        }

    @functools.cached_property
    def morpher(self):
        """The trained model, loaded when the first stage is missing."""
        return self.training.morpher()

    @functools.cached_property
    def held_out(self):
        """x of all held-out garments."""
        return self.morpher.encode(self.garments["test_images"])

    def of_sets(self, folder):
        """Chooses garments at random from sets of each of SIZES; a garment always gives one digit.

        Returns:
            dict of `sizes`, a list of `garments` (size of the set), `drawn` (how many of them
            were chosen, in as many choices as images are scored) and `different` digits; `table`,
            counts of digits (columns) for each kind of garment; and the result of `_scored`.
        """
        count = min(self.settings.pictures, len(self.held_out))
        x, labels = self.held_out[:count], self.garments["test_labels"][:count]
        images = self._generate(x, folder)
        sizes, rng = [], self._rng("sets")
        for size in dict.fromkeys(min(size, count) for size in SIZES):
            rows = np.unique(rng.integers(0, size, count))
            row = {"garments": size, "drawn": len(rows), "different": different(images[rows])}
            sizes.append(row)
        table = np.zeros((len(GARMENTS), len(self.scorer.shares)), int)
        np.add.at(table, (labels, self.scorer.classes(images)), 1)
        return {"sizes": sizes, "table": table.tolist(), **self._scored(images)}

    def of_noise(self, strength, folder):
        """Starts from a few garments with noise; returns `strength`, `of` (garments), `same_digit`
        (share with the digit of the garment without noise) and the result of `_scored`."""
        few = self.held_out[: self.settings.noisy // COPIES]
        x = starts.noisy(few, strength, COPIES, self._rng("noise"))
        images = self._generate(x, folder)
        clean = self.scorer.classes(self.morpher.generate(few, self.method))
        same = self.scorer.classes(images) == np.repeat(clean, COPIES)
        facts = {"strength": strength, "of": len(few), "same_digit": float(same.mean())}
        return {**facts, **self._scored(images)}

    def of_averages(self, of, folder):
        """Starts from averages of so many garments."""
        rng = self._rng("averages")
        x = starts.averages(self.held_out, of, self.settings.pictures, rng)
        return {"averaged": of, **self._scored(self._generate(x, folder))}

    def of_mixture(self, folder):
        """Starts from samples of a mixture of Gaussians.

        Returns:
            dict of `mixture` and, to separate the effect of the principal components, `projected`
            (held-out garments projected on them), each as `_scored`; `kept`, share of the
            variance; `nearest`, mean distances to the garments of the fit, in grey levels, of
            the samples and of held-out garments.
        """
        settings, count = self.settings, min(self.settings.pictures, len(self.held_out))
        fitted = self.morpher.encode(self.garments["train_images"][: settings.fitted])
        mixture = starts.Mixture(fitted, settings.components, settings.dimensions, settings.seed)
        samples, projected = mixture.sample(count), mixture.project(self.held_out[:count])
        return {
            "mixture": self._scored(self._generate(samples, folder)),
            "projected": self._scored(self.morpher.generate(projected, self.method)),
            "kept": mixture.kept,
            "nearest": {
                "made up": GREY * starts.nearest(samples, fitted),
                "held out": GREY * starts.nearest(projected, fitted),
            },
        }

    def _rng(self, name):
        return np.random.default_rng((self.settings.seed, *name.encode()))

    def _generate(self, x, folder):
        images = self.morpher.generate(x, self.method)
        np.save(folder / "starts.npy", self.morpher.decode(x[:SHOWN]))
        np.save(folder / "pictures.npy", images[:SHOWN])
        return images

    def _scored(self, images):
        """Score, number of `different` images, `shares` of the digits, and `off`, how far these
        are from those of real digits: the share of images that would have to be another digit."""
        classes = self.scorer.classes(images)
        shares = np.bincount(classes, minlength=len(self.scorer.shares)) / len(images)
        return {
            **self.scorer.score(images),
            "different": different(images),
            "shares": shares.tolist(),
            "off": scores.share_distance(shares, self.scorer.shares),
        }
