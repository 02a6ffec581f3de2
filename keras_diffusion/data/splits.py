"""Training and validation splits, and the table of images per split and class (numpy only)."""

import dataclasses

import numpy as np

from keras_diffusion.runtime import console

# Its official splits keep 6149 of 8189 images for testing and only 10 per class for training.
RESPLIT = ("oxford_flowers102",)


def rebalanced(names, train_percent=80):
    """Re-splits a data set over all of its official splits.

    Every official split is cut at the same percentage: the two results are disjoint and
    complete.

    Args:
        names: names of the official splits, such as `("train", "validation", "test")`.
        train_percent: int, 1 to 99, percent of each official split that goes into training.

    Returns:
        Two tfds slicing strings, `(train, validation)`.

    Raises:
        ValueError: if there are no names, or the percentage is not within 1 to 99.

    Example:
        >>> rebalanced(("train", "test"))
        ('train[:80%]+test[:80%]', 'train[80%:]+test[80%:]')
    """
    if not names:
        raise ValueError("rebalanced needs the name of at least one split")
    if not 1 <= train_percent <= 99:
        raise ValueError(f"train_percent must be within 1 to 99, not {train_percent}")
    train = "+".join(f"{name}[:{train_percent}%]" for name in names)
    validation = "+".join(f"{name}[{train_percent}%:]" for name in names)
    return train, validation


def default_splits(name, names):
    """Default splits of a tfds data set.

    Args:
        name: name of the data set.
        names: names of its official splits.

    Returns:
        `(train, validation)`, two tfds slicing strings; see `sources.tfds` for the rule.
    """
    usual = [split for split in ("train", "validation", "test") if split in names]
    names = (*usual, *(other for other in names if other not in usual))
    if name in RESPLIT:
        return rebalanced(names)
    for other in ("validation", "test"):
        if "train" in names and other in names:
            return "train", other
    return rebalanced(("train",) if "train" in names else names)


def stratified(labels, val_percent=20, seed=0, groups=None):
    """Splits images at random, class by class.

    A class of two or more images has at least one image in both splits; a single image goes
    into training. Both splits are in random order, so that their first N are a fair sample.

    Args:
        labels: int array (N,); all zeros for unlabelled images.
        val_percent: percent of every class for validation, above 0 and below 100.
        seed: int.
        groups: None, or int array (N,): images of one group are alike, as clips of one video are,
            and stay in one split. The percentage is that of the groups; of a class with a single
            group, it is that of the images, and the last ones are for validation.

    Returns:
        `(train, validation)`, two int arrays of indices into `labels`.

    Raises:
        ValueError: if val_percent is out of range.
    """
    if not 0 < val_percent < 100:
        raise ValueError(f"val_percent must be above 0 and below 100, not {val_percent}")
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    in_validation = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if groups is None:
            units = rng.permutation(members)[:, None]
        else:
            units = [
                members[groups[members] == g] for g in rng.permutation(np.unique(groups[members]))
            ]
            if len(units) == 1:
                units = members[::-1, None]
        wanted = max(1, round(len(units) * val_percent / 100))
        for unit in units[: min(wanted, len(units) - 1)]:
            in_validation[unit] = True
    order = rng.permutation(len(labels))
    return order[~in_validation[order]], order[in_validation[order]]


@dataclasses.dataclass(frozen=True)
class SplitTable:
    """Images per split and class; `str()` gives the table that is printed before training.

    Attributes:
        num_train: int, training images.
        num_val: int, validation images.
        class_names: tuple of K names, empty without labels.
        train_counts: int array (K,), training images of each class.
        val_counts: int array (K,), validation images of each class.
    """

    num_train: int
    num_val: int
    class_names: tuple = ()
    train_counts: np.ndarray = ()
    val_counts: np.ndarray = ()

    @classmethod
    def count(cls, train_labels, val_labels, class_names):
        """Counts the images of every class in both splits.

        Args:
            train_labels: int array (N,) with values in [0, K).
            val_labels: int array (M,) likewise.
            class_names: K names.
        """
        counts = [np.bincount(x, minlength=len(class_names)) for x in (train_labels, val_labels)]
        return cls(len(train_labels), len(val_labels), tuple(class_names), *counts)

    @property
    def val_shares(self):
        """Float array (K,): the share of each class in validation, NaN for an empty class."""
        total = np.asarray(self.train_counts) + self.val_counts
        return np.divide(self.val_counts, total, np.full(len(total), np.nan), where=total > 0)

    def missing(self, split):
        """Names of the classes without an image in `split` ("train" or "validation")."""
        counts = {"train": self.train_counts, "validation": self.val_counts}[split]
        return tuple(self.class_names[i] for i in np.flatnonzero(np.asarray(counts) == 0))

    def __str__(self):
        header = ["", "images"]
        rows = [["train", self.num_train], ["validation", self.num_val]]
        if not self.class_names:
            return console.table(header, rows, "lr")
        for row, counts in zip(rows, (self.train_counts, self.val_counts), strict=True):
            extremes = (np.argmin(counts), np.argmax(counts))
            row += [f"{self.class_names[i]} ({counts[i]})" for i in extremes]
        header += ["smallest class", "largest class"]
        lines = [
            console.table(header, rows, "lrl"),
            f"share of each class in validation: {self._format_shares()}",
        ]
        for split in ("train", "validation"):
            if missing := self.missing(split):
                lines.append(
                    f"no {split} images of {len(missing)} classes: {console.names(missing)}"
                )
        return "\n".join(lines)

    def _format_shares(self, limit=12):
        shares = self.val_shares
        known = np.flatnonzero(~np.isnan(shares))
        if not len(known):
            return "none"
        if len(shares) <= limit:
            return ", ".join(f"{self.class_names[i]} {shares[i]:.0%}" for i in known)
        low, high = known[np.argmin(shares[known])], known[np.argmax(shares[known])]
        return (
            f"smallest {shares[low]:.0%} ({self.class_names[low]}), "
            f"median {np.median(shares[known]):.0%}, "
            f"largest {shares[high]:.0%} ({self.class_names[high]})"
        )
