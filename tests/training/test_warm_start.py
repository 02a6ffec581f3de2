"""Runs that start from the weights of another one."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from keras_diffusion import Autoencoder, LatentCodec, Prompts, build
from keras_diffusion.config.options import Config
from keras_diffusion.networks import decoder, encoder
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import warm_start
from keras_diffusion.training.run import Run

CONFIG = Config(widths=(8,), attention=(True,), embedding_width=8)
TEXT = {"text": True, "text_width": 8, "text_depth": 1}
HALF = {"widths": (8,), "latent_channels": 2}


def data_of(shape, *classes):
    source = SimpleNamespace(num_classes=len(classes), class_names=classes, name="made up")
    return SimpleNamespace(image_shape=shape, source=source)


DIGITS = data_of((8, 8, 1), *"0123456789")
PETS = data_of((12, 8, 1), "cat", "dog")


def run_of(folder, data=DIGITS, config=CONFIG, **options):
    return Run(dataclasses.replace(config, **options), data, folder, None)


def build_model(run, codec=None):
    classes = run.data.source.num_classes
    return build.model(run.config, run.data.image_shape, classes, codec, run.prompts)


def write_run(folder, codec=None, **options):
    """Writes a checkpoint with noise on all weights; returns the model."""
    model = build_model(run_of(folder, **options), codec)
    for seed, network in enumerate((model.network, model.ema_network)):
        rng = np.random.default_rng(seed)
        network.set_weights([w + rng.normal(size=w.shape) for w in network.get_weights()])
    model.optimizer.build(model.network.trainable_variables)
    checkpoints.save(model, checkpoints.Progress(), folder / "checkpoints", 7)
    return model


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return folder, write_run(folder)


def assert_starts_from(other, run, autoencoder=None, codec=None, new=()):
    """All weights of the run's model are the EMA weights of `other`, except those of new layers."""
    weights = warm_start.load_weights(run, autoencoder)
    model = build_model(run, codec)
    first = {weight.path: weight.numpy() for weight in model.network.weights}
    average = {weight.path: weight.numpy() for weight in other.ema_network.weights}
    warm_start.assign(model, weights)
    for network in (model.network, model.ema_network):
        for weight in network.weights:
            source = first if weight.path.partition("/")[0] in new else average
            np.testing.assert_array_equal(weight, source[weight.path], err_msg=weight.path)


def test_the_same_data(digits, tmp_path, capsys):
    folder, other = digits
    file = folder / "checkpoints/step-00000007.keras"
    assert_starts_from(other, run_of(tmp_path, start_from=str(folder)))
    assert capsys.readouterr().out == f"starting from {file}\n"
    assert_starts_from(other, run_of(tmp_path, start_from=str(file)))
    assert warm_start.load_weights(run_of(tmp_path)) == {}
    assert warm_start.load_weights(run_of(folder, start_from=str(file))) == {}, "it has begun"


def test_other_classes_and_sizes(digits, tmp_path, capsys):
    folder, other = digits
    assert_starts_from(
        other, run_of(tmp_path, PETS, start_from=str(folder)), new=("label_embedding",)
    )
    assert "newly initialised layers: label_embedding" in capsys.readouterr().out
    assert_starts_from(other, run_of(tmp_path, data_of((8, 8, 1)), start_from=str(folder)))


def test_other_words(tmp_path, capsys, monkeypatch):
    built = []
    monkeypatch.setattr(build, "Prompts", lambda names: built.append(names) or Prompts(names))
    other = write_run(tmp_path / "digits", **TEXT)
    options = {**TEXT, "start_from": str(tmp_path / "digits")}
    assert_starts_from(other, run_of(tmp_path, **options))
    assert len(built) == 2, "once per run"
    capsys.readouterr()
    assert_starts_from(other, run_of(tmp_path, PETS, **options), new=("text",))
    assert "newly initialised layers: text\n" in capsys.readouterr().out


def test_latents_must_be_those_of_the_same_autoencoder(tmp_path):
    one, two = (
        Autoencoder(encoder((8, 8, 1), **HALF), decoder((8, 8, 1), **HALF)) for _ in range(2)
    )
    codec = LatentCodec(one.encoder, one.decoder)
    other = write_run(tmp_path / "other", codec)
    options = {"start_from": str(tmp_path / "other")}
    run = run_of(tmp_path, latent=True, codec="there", **options)
    assert_starts_from(other, run, one, codec)
    for wrong in (two, None):
        with pytest.raises(ValueError, match="--start-from: .* has other latents; give"):
            warm_start.load_weights(run, wrong)
    with pytest.raises(ValueError, match="--start-from: .* is a model of latents"):
        warm_start.load_weights(run_of(tmp_path, **options))


def test_other_networks_and_wrong_paths_are_rejected(digits, tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export/saved_model.pb").touch()
    for path, options, pattern in (
        (digits[0], {"widths": (16,)}, r"another network: \S+ is \(.*\) there and \(.*\) here"),
        (digits[0], {"block_depth": 2}, r"another network: \S+ is None there and \(.*\) here"),
        (digits[0], {"prediction_type": "eps"}, "predicts 'v'; give --prediction-type"),
        (tmp_path / "export", {}, "is an export"),
        (tmp_path / "nothing", {}, "does not exist"),
    ):
        with pytest.raises(ValueError, match=f"^--start-from: .*{pattern}"):
            warm_start.load_weights(run_of(tmp_path, start_from=str(path), **options))
