"""The codec of latents, and a model that is trained on them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_latents import edge_images, tiny_autoencoder
from fixtures_models import tiny_network

from keras_diffusion import DiffusionModel, LatentCodec

SHAPE, X_SHAPE = (16, 16, 3), (8, 8, 4)


@pytest.fixture(scope="module")
def codec():
    autoencoder = tiny_autoencoder()
    autoencoder.fit(edge_images(), epochs=10, batch_size=16, verbose=0)
    return LatentCodec.measured(autoencoder, edge_images())


@pytest.fixture(scope="module")
def model(codec):
    model = DiffusionModel(tiny_network(X_SHAPE, num_classes=2), codec=codec)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def test_latents_are_standardised_and_bounded(codec):
    x = codec.encode(tf.constant(edge_images())).numpy()
    assert x.shape == (64, *X_SHAPE) and x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), 1, rtol=1e-4)
    assert np.abs(x).max() == pytest.approx(codec.clip, rel=1e-5)


def test_images_are_decoded_from_their_latents(codec):
    images = edge_images(8, seed=1)
    x = codec.encode(tf.constant(images))
    decoded = codec.decode(x).numpy()
    assert decoded.dtype == np.uint8 and decoded.shape == images.shape
    assert np.abs(decoded.astype(int) - images).mean() < 20
    floats = codec.encode(tf.constant(images / np.float32(255)))
    np.testing.assert_allclose(floats, x, atol=1e-4)
    frames = codec.decode(tf.stack([tf.zeros_like(x), x]))
    assert np.abs(frames[1].numpy().astype(int) - decoded).max() <= 1


def test_the_scale_is_measured_on_arrays_or_batches():
    autoencoder = tiny_autoencoder()
    images = edge_images(32)
    batches = tf.data.Dataset.from_tensor_slices((images, np.zeros(32))).batch(8)
    dicts = batches.map(lambda image, label: {"image": image, "label": label})
    numbers = [
        [*result.latent_mean, *result.latent_scale, result.clip]
        for result in (LatentCodec.measured(autoencoder, data) for data in (images, batches, dicts))
    ]
    np.testing.assert_allclose(numbers[1:], [numbers[0]] * 2, rtol=1e-4)


def test_a_codec_that_does_not_fit(codec):
    with pytest.raises(ValueError, match="must have 4 numbers"):
        LatentCodec(codec.encoder, codec.decoder, latent_mean=[0, 0, 0])
    with pytest.raises(ValueError, match=r"\(8, 8, 4\).*\(8, 8, 3\)"):
        DiffusionModel(tiny_network((8, 8, 3)), codec=codec)
    with pytest.raises(ValueError, match=r"\(8, 8, 3\).*\(16, 16, 3\)"):
        LatentCodec(codec.encoder, tiny_autoencoder((8, 8, 3)).decoder)


def test_a_model_of_latents_takes_and_generates_images(codec, model, tmp_path):
    assert (model.image_shape, model.x_shape) == (SHAPE, X_SHAPE)
    images, labels = edge_images(), np.arange(64) % 2
    before = [w.copy() for w in codec.get_weights()]
    model.fit(images, labels, batch_size=16, epochs=2, verbose=0)
    for one, other in zip(before, model.codec.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    samples = model.generate(3, num_steps=2)
    assert samples.shape == (3, *SHAPE) and samples.dtype == np.uint8
    with pytest.raises(ValueError, match=r"images: shape \(8, 8, 4\); the network takes \(16, 16"):
        model.evaluate(np.zeros((4, *X_SHAPE), np.uint8), labels[:4], verbose=0)

    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.codec.describe() == codec.describe()
    batch = {"image": images[:2], "label": labels[:2]}
    np.testing.assert_array_equal(loaded(batch), model(batch))
    x = tf.ones((1, *X_SHAPE))
    np.testing.assert_array_equal(loaded.codec.decode(x), codec.decode(x))


def test_latents_in_a_batch_replace_their_images(codec, model):
    images, labels = tf.constant(edge_images(4)), tf.constant([0, 1, 0, 1])
    x0 = model({"image": images, "label": labels})
    latents = {"latent": tf.cast(codec.encode(images), "float16"), "label": labels}
    np.testing.assert_allclose(model(latents), x0, atol=2e-3)
    model.train_on_batch(latents)
    with pytest.raises(ValueError, match=r"latents: shape \(16, 16, 3\); the network takes \(8, 8"):
        model({"latent": tf.zeros((4, *SHAPE)), "label": labels})
