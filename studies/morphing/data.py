"""Digits and garments: as arrays, and in batches of a digit and its endpoint."""

import numpy as np
import tensorflow as tf

from keras_diffusion.data import pipeline
from studies import scoring
from studies.parts import endless_batches

GARMENTS = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
            "boot")  # fmt: skip
TOY_COUNT, TOY_SIDE = 200, 8


def load(settings, data_dir):
    """Returns (digits, garments), each as `scoring.real_images`; a toy run gets boxes of 8x8."""
    digits = scoring.real_images(settings.dataset, data_dir)
    toy = settings.dataset == "digits"
    return digits, boxes() if toy else scoring.real_images("fashion_mnist", data_dir)


def boxes():
    """Returns toy garments, bright boxes on black, in the form of `scoring.real_images`."""
    result = {}
    for seed, part in enumerate(("train", "test")):
        rng = np.random.default_rng(seed)
        images = np.zeros((TOY_COUNT, TOY_SIDE, TOY_SIDE, 1), "uint8")
        labels = rng.integers(0, len(GARMENTS), TOY_COUNT)
        for image, label in zip(images, labels, strict=True):
            left, right = np.sort(rng.choice(TOY_SIDE + 1, 2, replace=False))
            image[: 1 + label % TOY_SIDE, left:right] = rng.integers(100, 256)
        result[f"{part}_images"], result[f"{part}_labels"] = images, labels
    return result


class Batches:
    """Batches of digits, alone or each with a garment as its endpoint.

    Digits and garments are shuffled independently in every epoch, so a digit gets a new garment
    each time.

    Args:
        digits, garments: as from `load`.
        settings: `Settings`.
    """

    def __init__(self, digits, garments, settings):
        self.shape = digits["train_images"].shape[1:]
        self.batch_size, self._count = settings.batch_size, settings.pictures
        self._digits, self._garments = digits, garments
        self._seeds = 2 * settings.seed, 2 * settings.seed + 1

    def training(self, morphing, first_step):
        """Returns endless batches from a step on, with endpoints if `morphing`."""
        digits, garments = (
            endless_batches(images["train_images"], self.batch_size, seed, first_step)
            for images, seed in zip((self._digits, self._garments), self._seeds, strict=True)
        )
        if not morphing:
            return digits
        return tf.data.Dataset.zip(digits, garments).map(
            lambda digit, garment: {**digit, "endpoint": garment["image"]}
        )

    def validation(self, morphing):
        """Returns batches of the first held-out digits, each with the garment of its index."""
        held_out = {"image": self._digits["test_images"][: self._count]}
        if morphing:
            held_out["endpoint"] = self._garments["test_images"][: len(held_out["image"])]
        return pipeline.validation_batches(held_out, self.batch_size)
