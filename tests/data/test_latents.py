"""Latents in memory: the same batches as those of the images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion import data
from keras_diffusion.data import latents, pipeline


def halve(images):
    """An encoder: (B, 8, 8, 1) -> float32 (B, 4, 4, 2), not symmetric."""
    x = tf.cast(images, tf.float32)
    return tf.concat([x[:, ::2, ::2], x[:, 1::2, 1::2]], axis=-1)


def digits(**options):
    return data.load_source("digits", limit=70, batch_size=16, seed=3, **options)


@pytest.mark.parametrize(
    "options", [{}, {"horizontal_flip": True}, {"horizontal_flip": True, "balance": "classes"}]
)
def test_batches_are_those_of_the_images(options):
    images = digits(**options)
    balance = options.get("balance")
    encoded = latents.encoded(images, halve, (4, 4, 2), batch_size=16, seed=3, balance=balance)
    pairs = [(images.training_batches(1, 2), encoded.training_batches(1, 2), 6)]
    pairs += [(images.validation, encoded.validation, 23)]
    for ours, theirs, steps in pairs:
        for one, other in zip(ours.take(steps), theirs.take(steps), strict=True):
            assert other["latent"].dtype == tf.float16
            np.testing.assert_array_equal(halve(one.pop("image")), other.pop("latent"))
            assert one.keys() == other.keys()
            for name, value in one.items():
                np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_latents_without_labels_and_of_a_data_set_that_ends_early():
    images = digits(labels=False)
    encoded = latents.encoded(images, halve, (4, 4, 2), batch_size=16)
    assert set(encoded.training_batches().element_spec) == {"latent"}
    source = dataclasses.replace(images.source, train=images.source.train.take(40))
    images = dataclasses.replace(images, source=source)
    with pytest.raises(ValueError, match="the data set ended after 40 of 70 images"):
        latents.encoded(images, halve, (4, 4, 2), batch_size=16)


def test_latents_that_do_not_fit_into_memory(monkeypatch):
    monkeypatch.setattr(pipeline, "MEMORY_LIMIT", 2 * 70 * 32)
    assert latents.encoded(digits(), halve, (4, 4, 2), batch_size=16) is None
