"""How many different digits come out of a set of garments, and which: the limits of morphing."""

import functools

import numpy as np
from sklearn.cluster import DBSCAN

from keras_diffusion.evaluation import scores
from studies.morphing import starts
from studies.morphing.pictures import GARMENTS

SIZES = (10, 30, 100, 300, 1000)  # of a set of garments
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5)  # of noise; a garment is in [-1, 1]
COPIES = 10  # of a garment, with other noise
AVERAGED = (5, 10, 20)
ALIKE = 8.0  # grey levels, root mean square: pictures that differ by less count as one
SHOWN = 12


def different(images):
    """Returns how many pictures there are, if those that are alike, or a chain of such, are one."""
    flat = images.reshape(len(images), -1).astype("float32")
    reach = ALIKE * flat.shape[1] ** 0.5
    return len(set(DBSCAN(reach, min_samples=1, algorithm="brute").fit(flat).labels_))


def measure(training, way, garments):
    """Returns what is found out, stage by stage.

    Args:
        training: `Training` of the morphing that is looked at.
        way: `Way` that it is sampled in.
        garments: as from `pictures.load`; held-out ones are where sampling begins.

    Returns:
        dict of `sets`, `noise` and `averages` (lists over STRENGTHS and AVERAGED) and `mixture`,
        each as the method of `Limits` tells.
    """
    limits, stage = Limits(training, way, garments), training.kept.stage
    return {
        "sets": stage("limits-sets", limits.of_sets),
        "noise": [
            stage(f"limits-noise{strength:g}", functools.partial(limits.of_noise, strength))
            for strength in STRENGTHS
        ],
        "averages": [
            stage(f"limits-averages{of}", functools.partial(limits.of_averages, of))
            for of in AVERAGED
        ],
        "mixture": stage("limits-mixture", limits.of_mixture),
    }


class Limits:
    """Digits from starting points of several kinds; see `measure` for the arguments."""

    def __init__(self, training, way, garments):
        self.training, self.way, self.garments = training, way, garments
        self.judge, self.settings = training.judge, training.settings

    @functools.cached_property
    def morpher(self):
        """The trained model, loaded when the first stage is missing."""
        return self.training.morpher()

    @functools.cached_property
    def held_out(self):
        """x of all held-out garments."""
        return self.morpher.encode(self.garments["test_images"])

    def of_sets(self, folder):
        """Draws from a set of garments, of each of SIZES: a garment always gives the same digit.

        Returns:
            dict of `sizes`, a list of `garments` (the size of the set), `drawn` (how many of them
            were drawn, in as many draws as pictures are scored) and `different` digits; `table`,
            counts of digits (columns) for each kind of garment; and what `_judged` returns.
        """
        count = min(self.settings.pictures, len(self.held_out))
        x, labels = self.held_out[:count], self.garments["test_labels"][:count]
        images = self._pictures(x, folder)
        sizes, rng = [], self._rng("sets")
        for size in dict.fromkeys(min(size, count) for size in SIZES):
            drawn = np.unique(rng.integers(0, size, count))
            same = {"garments": size, "drawn": len(drawn), "different": different(images[drawn])}
            sizes.append(same)
        digits = self.judge.classes(images)
        table = np.zeros((len(GARMENTS), len(self.judge.shares)), int)
        np.add.at(table, (labels, digits), 1)
        return {"sizes": sizes, "table": table.tolist(), **self._judged(images)}

    def of_noise(self, strength, folder):
        """Draws from a few garments with noise; returns `different`, `same_digit` and a score."""
        few = self.held_out[: self.settings.noisy // COPIES]
        x = starts.noisy(few, strength, COPIES, self._rng("noise"))
        images = self._pictures(x, folder)
        plain = self.judge.classes(self.morpher.pictures(few, self.way))
        same = self.judge.classes(images) == np.repeat(plain, COPIES)
        found = self._judged(images)
        return {"strength": strength, "of": len(few), "same_digit": float(same.mean()), **found}

    def of_averages(self, of, folder):
        """Draws from averages of so many garments."""
        rng = self._rng("averages")
        x = starts.averages(self.held_out, of, self.settings.pictures, rng)
        return {"averaged": of, **self._judged(self._pictures(x, folder))}

    def of_mixture(self, folder):
        """Draws from garments that a mixture of Gaussians makes up.

        Returns:
            dict of `mixture` and, to tell what the principal components take away, `projected`
            (held-out garments as they have them), each as `_judged`; `kept`, share of the
            variance; `nearest`, mean distances to the garments fitted to, in grey levels, of
            what is made up and of held-out garments.
        """
        settings, count = self.settings, min(self.settings.pictures, len(self.held_out))
        fitted = self.morpher.encode(self.garments["train_images"][: settings.fitted])
        mixture = starts.Mixture(fitted, settings.components, settings.dimensions, settings.seed)
        made_up, real = mixture.draw(count), self.held_out[:count]
        found = {"mixture": self._judged(self._pictures(made_up, folder))}
        images = self.morpher.pictures(mixture.projected(real), self.way)
        grey = 127.5  # levels, for 1 in x
        return {
            **found,
            "projected": self._judged(images),
            "kept": mixture.kept,
            "nearest": {
                "made up": grey * starts.nearest(made_up, fitted),
                "held out": grey * starts.nearest(mixture.projected(real), fitted),
            },
        }

    def _rng(self, what):
        return np.random.default_rng((self.settings.seed, *what.encode()))

    def _pictures(self, x, folder):
        images = self.morpher.pictures(x, self.way)
        np.save(folder / "starts.npy", self.morpher.decode(x[:SHOWN]))
        np.save(folder / "pictures.npy", images[:SHOWN])
        return images

    def _judged(self, images):
        """Score, number of `different` pictures, `shares` of the digits, and how far these are
        `off` those of real digits: the share of pictures that would have to be another digit."""
        classes = self.judge.classes(images)
        shares = np.bincount(classes, minlength=len(self.judge.shares)) / len(images)
        return {
            **self.judge.score(images),
            "different": different(images),
            "shares": [float(share) for share in shares],
            "off": scores.share_distance(shares, self.judge.shares),
        }
