"""Pictures in, pictures out; a network that knows the answer stands in for a trained one."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_diffusion import DiffusionModel
from keras_diffusion.networks import unet
from keras_diffusion.sampling.editing import img2img, noised

SHAPE = (8, 4, 3)
rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (5, *SHAPE), np.uint8)
KNOWN = rng.integers(0, 256, SHAPE, np.uint8)


class Knowing(layers.Layer):
    """Predicts the v of one picture, whatever it is shown."""

    def call(self, x, logsnr):
        signal, noise = (
            ops.sqrt(ops.sigmoid(sign * logsnr))[:, None, None, None] for sign in (1, -1)
        )
        return (signal * x - (KNOWN / 127.5 - 1)) / noise


@pytest.fixture(scope="module")
def knowing():
    inputs = {"x": keras.Input(SHAPE, name="x"), "logsnr": keras.Input((), name="logsnr")}
    return DiffusionModel(keras.Model(inputs, Knowing()(**inputs)))


@pytest.fixture(scope="module")
def labelled():
    """A network of random weights that listens to its labels."""
    keras.utils.set_random_seed(0)
    network = unet(SHAPE, num_classes=3, widths=(8,), embedding_width=8)
    network.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in network.get_weights()])
    return DiffusionModel(network)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "heun", "ddpm"])
@pytest.mark.parametrize("strength", [0.2, 0.7, 1.0])
def test_a_known_picture_comes_back_from_any_time(knowing, sampler, strength):
    drawn = img2img(knowing, KNOWN[None], strength=strength, sampler=sampler, num_steps=5)
    assert np.abs(drawn[0].astype(int) - KNOWN).max() <= 2


def test_the_start_is_the_noised_picture(labelled):
    frames = img2img(labelled, IMAGES, strength=0.4, num_steps=3, num_frames=3, seed=7)
    assert frames.shape == (4, 5, *SHAPE)
    [start] = noised(labelled, IMAGES, [0.4], seed=7)
    np.testing.assert_array_equal(frames[0], start)
    last = img2img(labelled, IMAGES, strength=0.4, num_steps=3, seed=7)
    assert np.abs(frames[-1].astype(int) - last).max() <= 1


def test_little_noise_changes_little_and_all_of_it_everything(labelled):
    def change(strength):
        drawn = img2img(labelled, IMAGES, strength=strength, num_steps=2)
        return np.abs(drawn.astype(int) - IMAGES).mean()

    assert change(0.01) < 4 < change(0.5)
    from_noise = labelled.generate(5, num_steps=2).astype(int)
    all_noise = img2img(labelled, IMAGES, strength=1.0, num_steps=2)
    assert np.abs(all_noise - from_noise).mean() < 2  # signal_rate is 0.003 at t = 1


def test_a_picture_depends_on_itself_the_seed_and_its_number(labelled):
    options = {"strength": 0.6, "num_steps": 2, "labels": [0, 1, 2, 0, 1]}
    drawn = img2img(labelled, IMAGES, **options).astype(int)
    small = img2img(labelled, IMAGES, batch_size=2, **options)
    assert np.abs(drawn - small).max() <= 1
    floats = img2img(labelled, IMAGES / 255, **options)
    assert np.abs(drawn - floats).max() <= 1
    assert np.abs(drawn - img2img(labelled, IMAGES, seed=1, **options)).max() > 5
    others = img2img(labelled, IMAGES, **{**options, "labels": [0, 1, 2, 0, 2]})
    moved = np.abs(others - drawn).max(axis=(1, 2, 3)) > 1
    assert moved.tolist() == [False, False, False, False, True]


def test_another_strength_traces_nothing(knowing, monkeypatch):
    img2img(knowing, IMAGES, strength=0.5)
    before = len(knowing.graphs._graphs)
    img2img(knowing, IMAGES, strength=0.6, num_steps=3)
    assert len(knowing.graphs._graphs) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0}, r"strength: 0 is not in \(0, 1\]"),
        ({"strength": float("nan")}, "strength: nan is not in"),
        ({"strength": 1.5}, "strength: 1.5 is not in"),
        ({"sampler": "euler"}, "ddim.*ddpm"),
        ({"num_steps": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"labels": [0]}, "without labels"),
        ({"images": IMAGES[..., :1]}, r"images: shape \(5, 8, 4, 1\); it must be"),
        ({"images": IMAGES.astype("int32")}, "images: dtype int32; give uint8"),
        ({"images": IMAGES[:0]}, "at least 1"),
    ],
)
def test_what_cannot_be_edited(knowing, options, message):
    with pytest.raises(ValueError, match=message):
        img2img(knowing, **{"images": IMAGES, **options})
