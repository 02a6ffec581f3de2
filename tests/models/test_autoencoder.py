import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_latents import edge_images, tiny_autoencoder
from keras import layers

from keras_diffusion import Autoencoder, LatentCodec
from keras_diffusion.networks import decoder, encoder
from keras_diffusion.networks.layers import DepthToSpace, SpaceToDepth

TINY = ((8, 8, 1), (4,))


@pytest.mark.parametrize(
    ("shape", "widths", "latent_shape"),
    [((8, 8, 1), (4,), (4, 4, 3)), ((8, 16, 3), (4, 6), (2, 4, 3))],
)
def test_shapes(shape, widths, latent_shape):
    options = {"widths": widths, "latent_channels": 3}
    x = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype("float32")
    mean, log_variance = encoder(shape, **options)(x)
    assert mean.shape == log_variance.shape == (2, *latent_shape)
    assert decoder(shape, **options)(mean).shape == x.shape
    assert np.ptp(log_variance) == 0, "the initial noise is the same everywhere"


def test_networks_that_do_not_fit():
    for half in (encoder, decoder):
        with pytest.raises(ValueError, match="6x8: .* multiples of 4. Nearest: 4x8 or"):
            half((6, 8, 3), widths=(8, 8))
    with pytest.raises(ValueError, match=r"decoder: .*\(4, 4, 5\).*\(4, 4, 3\)"):
        Autoencoder(encoder((8, 8, 1), latent_channels=3), decoder((8, 8, 1), latent_channels=5))


def shifting(offset, log_variance):
    """An autoencoder whose reconstruction is the image plus an offset (H, W, 1)."""
    x = keras.Input((4, 4, 1))
    mean = SpaceToDepth()(x)
    log_variance = layers.Rescaling(0.0, log_variance)(mean)
    latent = keras.Input((2, 2, 4))
    shift = layers.Rescaling(1.0, tf.constant(offset, tf.float32))
    return Autoencoder(
        keras.Model(x, [mean, log_variance]),
        keras.Model(latent, shift(DepthToSpace()(latent))),
        edge_weight=2.0,
        kl_weight=0.5,
    )


def test_metrics_are_those_of_the_formulas():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    x = images / 127.5 - 1
    one_row = np.zeros((4, 4, 1))
    one_row[1] = 0.2
    for offset, edges in ((np.full((4, 4, 1), 0.1), 0.0), (one_row, 0.2 * 2 / 3 / 2)):
        autoencoder = shifting(offset, log_variance=-2.0)
        autoencoder.compile(run_eagerly=True)
        results = autoencoder.evaluate(images, batch_size=6, return_dict=True, verbose=0)
        error = (np.clip(x + offset, -1, 1) - x) ** 2
        expected = {
            "reconstruction": np.sqrt(offset**2 + 0.01**2).mean(),
            "edges": edges,
            "kl": (x**2 + np.exp(-2.0) - 1 + 2.0).mean() / 2,
            "psnr": 10 * np.log10(4 / error.mean(axis=(1, 2, 3))).mean(),
        }
        expected["loss"] = expected["reconstruction"] + 2 * edges + 0.5 * expected["kl"]
        for name, value in expected.items():
            assert results[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
        assert 0 < results["ssim"] < 1


@pytest.fixture(scope="module")
def trained():
    """(autoencoder after 12 epochs, its first metrics, history)."""
    images, held_out = edge_images(64), edge_images(32, seed=1)
    autoencoder = tiny_autoencoder(widths=(8,))
    before = autoencoder.evaluate(held_out, return_dict=True, verbose=0)
    data = tf.data.Dataset.from_tensor_slices({"image": images, "label": np.zeros(64)}).batch(32)
    history = autoencoder.fit(data, epochs=25, validation_data=(held_out,), verbose=0).history
    return autoencoder, before, history


def test_it_trains_with_fit(trained):
    _, before, history = trained
    assert "ssim" not in history  # too slow for every batch
    assert history["val_psnr"][-1] > max(20, before["psnr"] + 6)
    assert history["val_ssim"][-1] > before["ssim"] + 0.2
    assert history["val_edges"][-1] < 0.8 * before["edges"]


def test_the_networks_of_a_codec_are_not_trained():
    autoencoder = tiny_autoencoder(*TINY)
    LatentCodec.measured(autoencoder, edge_images(4, (8, 8, 1)))
    with pytest.raises(ValueError, match="frozen by a LatentCodec"):
        autoencoder.fit(edge_images(4, (8, 8, 1)), verbose=0)


def test_microbatches_give_the_same_weights():
    images = edge_images(16, (8, 8, 1))
    weights = []
    for accumulate in (1, 4):
        autoencoder = tiny_autoencoder(*TINY, accumulate=accumulate)
        autoencoder.compile(keras.optimizers.SGD(0.1))  # Adam amplifies rounding of small gradients
        autoencoder.fit(images, batch_size=16, epochs=2, shuffle=False, verbose=0)
        weights.append(autoencoder.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_step_with_an_infinite_gradient_is_skipped():
    autoencoder = tiny_autoencoder(*TINY)
    autoencoder.decoder.get_layer("stem").bias.assign([np.nan] * 4)
    before = autoencoder.encoder.get_weights()
    autoencoder.fit(edge_images(8, (8, 8, 1)), batch_size=4, verbose=0)
    assert int(autoencoder.skipped_steps) == 2
    for one, other in zip(before, autoencoder.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loaded_autoencoder_is_the_same(tmp_path):
    images = edge_images(4, (8, 8, 1))
    autoencoder = tiny_autoencoder(*TINY, edge_weight=0.25, kl_weight=1e-2)
    autoencoder.optimizer.build(autoencoder.trainable_variables)
    autoencoder.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(autoencoder(images), loaded(images))
    config = loaded.get_config()
    assert (config["edge_weight"], config["kl_weight"]) == (0.25, 1e-2)
