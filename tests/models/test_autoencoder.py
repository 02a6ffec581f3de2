"""The autoencoder: its halves, what it is trained for, and that it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_latents import shades, tiny_autoencoder
from keras import layers

from keras_diffusion import Autoencoder, LatentCodec
from keras_diffusion.evaluation.restoration import compare
from keras_diffusion.networks import decoder, encoder
from keras_diffusion.networks.layers import DepthToSpace, SpaceToDepth


@pytest.mark.parametrize(
    "shape, widths, latent",
    [((8, 8, 1), (8,), (4, 4, 3)), ((8, 16, 3), (8, 12), (2, 4, 3)), ((8, 8, 4), (7,), (4, 4, 3))],
)
def test_shapes(shape, widths, latent):
    options = {"widths": widths, "latent_channels": 3}
    x = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype("float32")
    mean, log_variance = encoder(shape, **options)(x)
    assert mean.shape == log_variance.shape == (2, *latent)
    assert decoder(shape, **options)(mean).shape == x.shape
    assert np.ptp(log_variance) == 0  # every latent begins with the same noise


@pytest.mark.parametrize("half", [encoder, decoder])
def test_a_size_that_cannot_be_halved(half):
    with pytest.raises(ValueError, match="6x8: this network needs multiples of 4. Nearest: 4x8 or"):
        half((6, 8, 3), widths=(8, 8))


def test_bfloat16_stays_inside():
    keras.config.set_dtype_policy("mixed_bfloat16")
    autoencoder = tiny_autoencoder()
    assert {layer.compute_dtype for layer in autoencoder.encoder.layers} >= {"bfloat16"}
    outputs = [*autoencoder.encoder(tf.zeros((1, 16, 16, 3))), autoencoder(shades(1))]
    assert {tensor.dtype for tensor in outputs} == {tf.float32}


def test_halves_that_do_not_fit():
    with pytest.raises(ValueError, match=r"takes \(4, 4, 5\), but the latents .* \(4, 4, 3\)"):
        Autoencoder(encoder((8, 8, 1), latent_channels=3), decoder((8, 8, 1), latent_channels=5))


def shifting(offset, log_variance=0.0):
    """An autoencoder that gives every image back, plus an offset (H, W, 1)."""
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


def test_the_terms_of_the_loss_are_those_of_the_formulas():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    x = images / 127.5 - 1
    one_row = np.zeros((4, 4, 1))
    one_row[1] = 0.2
    for offset, edges in ((np.full((4, 4, 1), 0.1), 0.0), (one_row, 0.2 * 2 / 3 / 2)):
        autoencoder = shifting(offset, log_variance=-2.0)
        autoencoder.compile()
        found = autoencoder.evaluate(images, batch_size=6, return_dict=True, verbose=0)
        lost = (np.clip(x + offset, -1, 1) - x) ** 2  # as pictures have no more than white
        expected = {
            "reconstruction": np.sqrt(offset**2 + 0.01**2).mean(),
            "edges": edges,
            "kl": (x**2 + np.exp(-2.0) - 1 + 2.0).mean() / 2,
            "psnr": 10 * np.log10(4 / lost.mean(axis=(1, 2, 3))).mean(),
        }
        expected["loss"] = expected["reconstruction"] + 2 * edges + 0.5 * expected["kl"]
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
        assert 0 < found["ssim"] < 1


def test_psnr_and_ssim_are_those_of_the_pictures_that_come_back():
    autoencoder, images = tiny_autoencoder(), shades(64)
    autoencoder.fit(images, epochs=3, verbose=0)
    found = autoencoder.evaluate(images, batch_size=64, return_dict=True, verbose=0)
    codec = LatentCodec(autoencoder.encoder, autoencoder.decoder)
    expected = compare(codec.decode(codec.encode(tf.constant(images))), images)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values.mean(), rel=5e-3), name


def test_once_a_codec_holds_it_it_is_not_trained_on():
    autoencoder = tiny_autoencoder((8, 8, 1), (8,))
    LatentCodec.measured(autoencoder, shades(4, (8, 8, 1)))
    with pytest.raises(ValueError, match="is frozen, as a LatentCodec holds it"):
        autoencoder.fit(shades(4, (8, 8, 1)), verbose=0)


def test_it_learns_by_fit():
    images, held_out = shades(128), shades(32, seed=1)
    autoencoder = tiny_autoencoder()
    before = autoencoder.evaluate(held_out, return_dict=True, verbose=0)
    data = tf.data.Dataset.from_tensor_slices({"image": images, "label": np.zeros(128)}).batch(32)
    history = autoencoder.fit(data, epochs=12, validation_data=(held_out,), verbose=0).history
    assert "ssim" not in history  # it takes too long for every batch
    assert history["val_psnr"][-1] > max(22, before["psnr"] + 8)
    assert history["val_ssim"][-1] > before["ssim"] + 0.3
    assert history["val_edges"][-1] < 0.8 * before["edges"]


def test_parts_of_a_batch_give_the_same_weights():
    images = shades(16, (8, 8, 1))
    weights = []
    for accumulate in (1, 4):
        autoencoder = tiny_autoencoder((8, 8, 1), (8,), accumulate=accumulate)
        autoencoder.compile(keras.optimizers.SGD(0.1))  # Adam makes much of small gradients
        autoencoder.fit(images, batch_size=16, epochs=2, shuffle=False, verbose=0)
        weights.append(autoencoder.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_step_without_a_finite_gradient_is_skipped():
    autoencoder = tiny_autoencoder((8, 8, 1), (8,))
    autoencoder.decoder.get_layer("stem").bias.assign([np.nan] * 8)
    before = autoencoder.encoder.get_weights()
    autoencoder.fit(shades(8, (8, 8, 1)), batch_size=4, verbose=0)
    assert int(autoencoder.skipped_steps) == 2
    for one, other in zip(before, autoencoder.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    images = shades(4, (8, 8, 1))
    autoencoder = tiny_autoencoder((8, 8, 1), (8,), edge_weight=0.25, kl_weight=1e-2)
    autoencoder.optimizer.build(autoencoder.trainable_variables)
    autoencoder.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(autoencoder(images), loaded(images))
    assert loaded.get_config()["edge_weight"] == 0.25
    assert loaded.get_config()["kl_weight"] == 1e-2
