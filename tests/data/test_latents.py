"""Latents: the codec, a model that is trained on them, and batches of them held in memory."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_latents import shades, tiny_autoencoder

from keras_diffusion import DiffusionModel, LatentCodec, data
from keras_diffusion.data import latents, pipeline
from keras_diffusion.networks import unet
from keras_diffusion.sampling import editing

SHAPE, X_SHAPE = (16, 16, 3), (8, 8, 4)


@pytest.fixture(scope="module")
def codec():
    autoencoder = tiny_autoencoder()
    autoencoder.fit(shades(), epochs=10, batch_size=16, verbose=0)
    return LatentCodec.measured(autoencoder, shades())


def network(x_shape=X_SHAPE, num_classes=2):
    keras.utils.set_random_seed(0)
    return unet(x_shape, num_classes=num_classes, widths=(8,), attention=(False,))


def model_of(codec, **options):
    built = DiffusionModel(network(), codec=codec, **options)
    built.compile(keras.optimizers.Adam(1e-2))
    return built


# The codec ------------------------------------------------------------------------------


def test_latents_are_standardised_and_bounded(codec):
    x = codec.encode(tf.constant(shades())).numpy()
    assert x.shape == (64, *X_SHAPE) and x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), 1, rtol=1e-4)
    assert np.abs(x).max() == pytest.approx(codec.clip, rel=1e-5)


def test_pictures_come_back(codec):
    images = shades(8, seed=1)
    x = codec.encode(tf.constant(images))
    decoded = codec.decode(x).numpy()
    assert decoded.dtype == np.uint8 and decoded.shape == images.shape
    assert np.abs(decoded.astype(int) - images).mean() < 20
    floats = codec.encode(tf.constant(images / np.float32(255)))
    np.testing.assert_allclose(floats, x, atol=1e-4)
    frames = codec.decode(tf.stack([tf.zeros_like(x), x]))
    assert np.abs(frames[1].numpy().astype(int) - decoded).max() <= 1


def test_what_it_can_be_measured_on():
    autoencoder = tiny_autoencoder()
    images = shades(32)
    labels = np.zeros(32)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    dicts = batches.map(lambda image, label: {"image": image, "label": label})
    numbers = [
        [*found.latent_mean, *found.latent_scale, found.clip]
        for found in (LatentCodec.measured(autoencoder, d) for d in (images, batches, dicts))
    ]
    np.testing.assert_allclose(numbers[1:], [numbers[0]] * 2, rtol=1e-4)


def test_a_codec_that_does_not_fit(codec):
    with pytest.raises(ValueError, match=r"3 and 4 numbers for 4 channels"):
        LatentCodec(codec.encoder, codec.decoder, latent_mean=[0, 0, 0])
    with pytest.raises(ValueError, match=r"gives \(8, 8, 4\); the network takes \(8, 8, 3\)"):
        DiffusionModel(network((8, 8, 3)), codec=codec)
    other = tiny_autoencoder((8, 8, 3))
    with pytest.raises(ValueError, match=r"draws \(8, 8, 3\), but .* takes \(16, 16, 3\)"):
        LatentCodec(codec.encoder, other.decoder)


# A model of latents -----------------------------------------------------------------------


def test_a_model_takes_images_and_draws_images(codec, tmp_path):
    model = model_of(codec)
    assert (model.image_shape, model.x_shape) == (SHAPE, X_SHAPE)
    images, labels = shades(), np.arange(64) % 2
    before = [w.copy() for w in codec.get_weights()]
    model.fit(images, labels, batch_size=16, epochs=2, verbose=0)
    for one, other in zip(before, model.codec.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    drawn = model.generate(3, num_steps=2)
    assert drawn.shape == (3, *SHAPE) and drawn.dtype == np.uint8
    with pytest.raises(ValueError, match=r"images: shape \(8, 8, 4\); the network takes \(16, 16"):
        model.evaluate(np.zeros((4, *X_SHAPE), np.uint8), labels[:4], verbose=0)

    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.codec.describe() == codec.describe()
    batch = {"image": images[:2], "label": labels[:2]}
    np.testing.assert_array_equal(loaded(batch), model(batch))
    x = tf.ones((1, *X_SHAPE))
    np.testing.assert_array_equal(loaded.codec.decode(x), codec.decode(x))


def test_pictures_are_drawn_again_from_a_little_noise(codec):
    images = shades(3, seed=2)
    returned = codec.decode(codec.encode(tf.constant(images))).numpy().astype(int)
    drawn = editing.img2img(model_of(codec), images, strength=0.02, num_steps=2)
    assert drawn.shape == images.shape and np.abs(drawn - returned).mean() < 5
    noised = editing.noised(model_of(codec), images, (0.0, 1.0))
    assert np.abs(noised[0] - returned).max() <= 1 and np.abs(noised[1] - returned).mean() > 20


def test_latents_in_a_batch_stand_for_their_images(codec):
    images, labels = tf.constant(shades(4)), tf.constant([0, 1, 0, 1])
    model = model_of(codec)
    x0 = model({"image": images, "label": labels})
    latents_alone = {"latent": tf.cast(codec.encode(images), "float16"), "label": labels}
    np.testing.assert_allclose(model(latents_alone), x0, atol=2e-3)
    model.train_on_batch(latents_alone)
    with pytest.raises(ValueError, match=r"latents: shape \(16, 16, 3\); the network takes \(8, 8"):
        model({"latent": tf.zeros((4, *SHAPE)), "label": labels})


# Held in memory ---------------------------------------------------------------------------


def halved(images):
    """Stands for an encoder: (B, 8, 8, 1) -> float32 (B, 4, 4, 2), not the same mirrored."""
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
    encoded = latents.encoded(images, halved, (4, 4, 2), batch_size=16, seed=3, balance=balance)
    pairs = [(images.training_batches(1, 2), encoded.training_batches(1, 2), 6)]
    pairs += [(images.validation, encoded.validation, 23)]
    for ours, theirs, steps in pairs:
        for one, other in zip(ours.take(steps), theirs.take(steps), strict=True):
            assert other["latent"].dtype == tf.float16
            np.testing.assert_array_equal(halved(one.pop("image")), other.pop("latent"))
            assert one.keys() == other.keys()
            for name, value in one.items():
                np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_latents_without_labels():
    encoded = latents.encoded(digits(labels=False), halved, (4, 4, 2), batch_size=16)
    assert set(encoded.training_batches().element_spec) == {"latent"}


def test_a_data_set_that_ends_early_is_said_to():
    images = digits()
    source = dataclasses.replace(images.source, train=images.source.train.take(40))
    images = dataclasses.replace(images, source=source)
    with pytest.raises(ValueError, match="the data set ended after 40 of 70 images"):
        latents.encoded(images, halved, (4, 4, 2), batch_size=16)


def test_too_many_for_memory(monkeypatch):
    monkeypatch.setattr(pipeline, "MEMORY_LIMIT", 2 * 70 * 32)
    assert latents.encoded(digits(), halved, (4, 4, 2), batch_size=16) is None
