"""Digits and garments: as arrays, and as batches of a digit and what it is mixed with."""

import numpy as np
import tensorflow as tf

from keras_diffusion.data import pipeline
from studies import scoring

GARMENTS = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
            "boot")  # fmt: skip
TOY_COUNT, TOY_SIDE = 200, 8


def load(settings, data_dir):
    """Returns (digits, garments), each as `scoring.real_images`; toys are boxes of 8x8 pixels."""
    digits = scoring.real_images(settings.dataset, data_dir)
    toy = settings.dataset == "digits"
    return digits, boxes() if toy else scoring.real_images("fashion_mnist", data_dir)


def boxes():
    """Returns bright boxes on black, in the form of `scoring.real_images`: toy garments."""
    found = {}
    for seed, part in enumerate(("train", "test")):
        rng = np.random.default_rng(seed)
        images = np.zeros((TOY_COUNT, TOY_SIDE, TOY_SIDE, 1), "uint8")
        labels = rng.integers(0, len(GARMENTS), TOY_COUNT)
        for image, label in zip(images, labels, strict=True):
            left, right = np.sort(rng.choice(TOY_SIDE + 1, 2, replace=False))
            image[: 1 + label % TOY_SIDE, left:right] = rng.integers(100, 256)
        found[f"{part}_images"], found[f"{part}_labels"] = images, labels
    return found


class Batches:
    """Digits in batches, alone or each with a garment as its endpoint.

    Digits and garments are shuffled apart from each other, anew in every pass: a digit meets
    other garments each time.

    Args:
        digits, garments: as from `load`.
        settings: `Settings`.
    """

    def __init__(self, digits, garments, settings):
        self.shape = digits["train_images"].shape[1:]
        self.batch_size, self._count = settings.batch_size, settings.pictures
        self._digits, self._garments, self._seed = digits, garments, settings.seed

    def training(self, morphing, first_step):
        """Batches from a step on, without an end."""
        digits = self._endless(self._digits["train_images"], 2 * self._seed, first_step)
        if not morphing:
            return digits
        garments = self._endless(self._garments["train_images"], 2 * self._seed + 1, first_step)
        return tf.data.Dataset.zip(digits, garments).map(
            lambda digit, garment: {**digit, "endpoint": garment["image"]}
        )

    def validation(self, morphing):
        """Batches of the first held-out digits, each with the garment of the same number."""
        held_out = {"image": self._digits["test_images"][: self._count]}
        if morphing:
            held_out["endpoint"] = self._garments["test_images"][: len(held_out["image"])]
        return pipeline.validation_batches(held_out, self.batch_size)

    def _endless(self, images, seed, first_step):
        epochs = pipeline.batches_in_memory({"image": images}, self.batch_size, seed=seed)
        steps = pipeline.steps_per_epoch(len(images), self.batch_size)
        return pipeline.endless(epochs, *divmod(first_step, steps))
