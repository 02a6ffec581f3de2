"""Runs that begin with the weights of another one."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from keras_diffusion import Autoencoder, LatentCodec, Prompts, build
from keras_diffusion.config.options import Config
from keras_diffusion.networks import decoder, encoder
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import warm_start

CONFIG = Config(widths=(8, 16), attention=(False, True), embedding_width=16)
TEXT = {"text": True, "text_width": 8, "text_depth": 1}
HALF = {"widths": (8,), "latent_channels": 2}


def data_of(shape, *classes):
    source = SimpleNamespace(num_classes=len(classes), class_names=classes, name="made up")
    return SimpleNamespace(image_shape=shape, source=source)


DIGITS = data_of((8, 8, 1), *"0123456789")
PETS = data_of((12, 8, 1), "cat", "dog")


def noisy(model):
    """The same with noise on all weights of network and average, each other ones."""
    for seed, network in enumerate((model.network, model.ema_network)):
        rng = np.random.default_rng(seed)
        network.set_weights([w + rng.normal(size=w.shape) for w in network.get_weights()])
    return model


def written(folder, config, data, codec=None, prompts=None):
    """A model with noise on its weights, and the folder of its run."""
    classes = data.source.num_classes
    model = noisy(build.model(config, data.image_shape, classes, codec, prompts))
    model.optimizer.build(model.network.trainable_variables)
    checkpoints.save(model, checkpoints.Progress(), folder / "checkpoints", 7)
    return model, folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return written(tmp_path_factory.mktemp("digits"), CONFIG, DIGITS)


def begun(config, data, codec=None, autoencoder=None, prompts=None):
    """A new model that has begun with what is there."""
    weights = warm_start.learned(config, data, autoencoder)
    classes = data.source.num_classes
    model = build.model(config, data.image_shape, classes, codec, prompts)
    first = {weight.path: weight.numpy() for weight in model.network.weights}
    warm_start.begin(model, weights)
    return model, first


def assert_taken(model, other, first, anew=()):
    """All weights are the other model's average, but those of layers that begin anew."""
    average = {weight.path: weight.numpy() for weight in other.ema_network.weights}
    for network in (model.network, model.ema_network):
        for weight in network.weights:
            source = first if weight.path.partition("/")[0] in anew else average
            np.testing.assert_array_equal(weight, source[weight.path], err_msg=weight.path)


def test_the_same_pictures_again(digits, capsys):
    other, folder = digits
    config = dataclasses.replace(CONFIG, start_from=str(folder))
    model, first = begun(config, DIGITS)
    assert_taken(model, other, first)
    assert capsys.readouterr().out == f"starting from {folder}/checkpoints/step-00000007.keras\n"
    file = str(folder / "checkpoints/step-00000007.keras")
    model, first = begun(dataclasses.replace(config, start_from=file), DIGITS)
    assert_taken(model, other, first)


def test_other_classes_of_another_size(digits, capsys):
    other, folder = digits
    model, first = begun(dataclasses.replace(CONFIG, start_from=str(folder)), PETS)
    assert_taken(model, other, first, anew=("label_embedding",))
    assert "these layers begin anew: label_embedding" in capsys.readouterr().out
    model, first = begun(dataclasses.replace(CONFIG, start_from=str(folder)), data_of((8, 8, 1)))
    assert_taken(model, other, first)  # without classes


def test_other_words(tmp_path, capsys):
    config = dataclasses.replace(CONFIG, **TEXT)
    other, folder = written(tmp_path, config, DIGITS, prompts=Prompts(DIGITS.source.class_names))
    config = dataclasses.replace(config, start_from=str(folder))
    model, first = begun(config, DIGITS, prompts=Prompts(DIGITS.source.class_names))
    assert_taken(model, other, first)
    capsys.readouterr()
    model, first = begun(config, PETS, prompts=Prompts(PETS.source.class_names))
    assert_taken(model, other, first, anew=("text",))
    assert "these layers begin anew: text\n" in capsys.readouterr().out


def test_latents_are_those_of_the_same_autoencoder(tmp_path):
    def autoencoder():
        return Autoencoder(encoder((8, 8, 1), **HALF), decoder((8, 8, 1), **HALF))

    one, two = autoencoder(), autoencoder()
    codec = LatentCodec(one.encoder, one.decoder)
    other, folder = written(tmp_path, CONFIG, DIGITS, codec)
    config = dataclasses.replace(CONFIG, latent=True, codec="there", start_from=str(folder))
    model, first = begun(config, DIGITS, codec, one)
    assert_taken(model, other, first)
    for wrong in (two, None):
        with pytest.raises(ValueError, match="--start-from: .* has learned other latents; give"):
            warm_start.learned(config, DIGITS, wrong)
    with pytest.raises(ValueError, match="step-00000007.keras is a model of latents, and this run"):
        warm_start.learned(dataclasses.replace(CONFIG, start_from=str(folder)), DIGITS)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"widths": (16, 16)}, r"another network: \S+ is \(.*\) there and \(.*\) here; give"),
        ({"block_depth": 2}, r"another network: \S+ is None there and \(.*\) here"),
        ({"prediction_type": "eps"}, "predicts 'v'; give --prediction-type"),
    ],
)
def test_another_network_is_refused(digits, options, pattern):
    config = dataclasses.replace(CONFIG, **options)
    with pytest.raises(ValueError, match=f"^--start-from: .*{pattern}"):
        warm_start.learned(dataclasses.replace(config, start_from=str(digits[1])), DIGITS)


def test_what_cannot_be_begun_with(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export/saved_model.pb").touch()
    for path, pattern in (
        (tmp_path / "export", "is an export, which learns no more; give its run"),
        (tmp_path / "nothing", "nothing does not exist"),
    ):
        with pytest.raises(ValueError, match=f"--start-from: .*{pattern}"):
            warm_start.learned(dataclasses.replace(CONFIG, start_from=str(path)), DIGITS)


def test_nothing_is_begun_with_by_default():
    assert warm_start.learned(CONFIG, DIGITS) == {}
