"""A run that begins with what another one has learned, of the same classes or of others."""

from pathlib import Path

import numpy as np

from keras_diffusion import build
from keras_diffusion.saving import loading

# Layers that know the classes, or the words, of a run: where these are others, they begin anew.
CONDITION = {"label_embedding", "text", "text_dense"}


def learned(config, data, autoencoder=None):
    """Returns what a run begins with: {path of a weight: array}, {} without `start_from`.

    That is the average of the weights of a trained model of the same network.

    Args:
        config: `Config`.
        data: `data.TrainingData` of images.
        autoencoder: of a run on latents, the one that is used again.

    Raises:
        ValueError: there is no such model, or it does not fit; one line.
    """
    if config.start_from is None:
        return {}
    prompts = build.prompts(config, data.source)
    try:
        other, file = _opened(Path(config.start_from))
        _check(other, file, config, autoencoder)
    except ValueError as error:
        raise ValueError(f"--start-from: {error}") from error
    shape = autoencoder.x_shape if config.latent else data.image_shape
    network = build.network(config, shape, data.source.num_classes, prompts)
    known = {weight.path: weight.numpy() for weight in other.ema_network.weights}
    ours = {weight.path: tuple(weight.shape) for weight in network.weights}
    if _words(other.prompts) != _words(prompts):
        known = {path: value for path, value in known.items() if _layer(path) != "text"}
    kept = {path: known[path] for path in ours if _shape(known, path) == ours[path]}
    others = sorted((ours.keys() | known.keys()) - kept.keys())
    for path in others:
        if _layer(path) not in CONDITION:
            raise ValueError(
                f"--start-from: {file} has another network: {path} is {_shape(known, path)} there "
                f"and {ours.get(path)} here; give the options that it was trained with."
            )
    anew = ", ".join(sorted({_layer(path) for path in others if path in ours}))
    print(f"starting from {file}" + (f"; these layers begin anew: {anew}" if anew else ""))
    return kept


def begin(model, weights):
    """Gives a new `DiffusionModel`, and its average, the weights that `learned` has returned."""
    for network in (model.network, model.ema_network):
        for weight in network.weights:
            if weight.path in weights:
                weight.assign(weights[weight.path])


def _opened(path):
    if not path.exists():
        raise ValueError(f"{path} does not exist; give a run, or a .keras file.")
    if (path / "saved_model.pb").exists():
        raise ValueError(f"{path} is an export, which learns no more; give its run.")
    other, file, _ = loading.load_diffusion_model(path)
    return other, file


def _check(other, file, config, autoencoder):
    if other.prediction_type != config.prediction_type:
        raise ValueError(f"{file} predicts {other.prediction_type!r}; give --prediction-type.")
    theirs = getattr(other.codec, "encoder", None)
    if (theirs is not None) != config.latent:
        kind = "pixels" if theirs is None else "latents"
        raise ValueError(f"{file} is a model of {kind}, and this run is not.")
    if config.latent and not (autoencoder and _are_equal(theirs, autoencoder.encoder)):
        raise ValueError(f"{file} has learned other latents; give its autoencoder by --codec.")


def _are_equal(one, other):
    ours, theirs = one.get_weights(), other.get_weights()
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def _words(prompts):
    return prompts and (prompts.words, prompts.length)


def _layer(path):
    return path.partition("/")[0]


def _shape(weights, path):
    return weights[path].shape if path in weights else None
