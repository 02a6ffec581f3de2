"""A run that starts from the weights of another one, with the same classes or others."""

from pathlib import Path

import numpy as np

from keras_diffusion import build
from keras_diffusion.saving import checkpoints, loading

# Layers whose weights belong to the classes or words of a run: initialised anew for others.
CONDITION = {"label_embedding", "text", "text_dense"}


def load_weights(run, autoencoder=None):
    """Loads the weights of --start-from: the EMA weights of a trained model of the same network.

    Args:
        run: `run.Run`, with images as its data.
        autoencoder: that of --codec, of a run on latents.

    Returns:
        {path of a weight: array}; {} without --start-from, or if the run has checkpoints already.

    Raises:
        ValueError: there is no such model, or it does not fit; one line.
    """
    config, classes = run.config, run.data.source.num_classes
    if config.start_from is None or checkpoints.list_checkpoints(run.dir / "checkpoints"):
        return {}
    try:
        model, file = _open(Path(config.start_from))
        _check(model, file, config, autoencoder)
    except ValueError as error:
        raise ValueError(f"--start-from: {error}") from error
    x_shape = autoencoder.x_shape if config.latent else run.data.image_shape
    network = build.network(config, x_shape, classes, run.prompts)
    shapes = {weight.path: tuple(weight.shape) for weight in network.weights}
    theirs = {weight.path: weight.numpy() for weight in model.ema_network.weights}
    if _words(model.prompts) != _words(run.prompts):
        theirs = {path: value for path, value in theirs.items() if _layer(path) != "text"}
    kept = {path: theirs[path] for path in shapes if _shape(theirs, path) == shapes[path]}
    different = sorted((shapes.keys() | theirs.keys()) - kept.keys())
    for path in different:
        if _layer(path) not in CONDITION:
            raise ValueError(
                f"--start-from: {file} has another network: {path} is {_shape(theirs, path)} there "
                f"and {shapes.get(path)} here; give the options that it was trained with."
            )
    new = ", ".join(sorted({_layer(path) for path in different if path in shapes}))
    print(f"starting from {file}" + (f"; newly initialised layers: {new}" if new else ""))
    return kept


def assign(model, weights):
    """Assigns the result of `load_weights` to the network and the EMA network of a new model."""
    for network in (model.network, model.ema_network):
        for weight in network.weights:
            if weight.path in weights:
                weight.assign(weights[weight.path])


def _open(path):
    """Returns (model, path of its file)."""
    if not path.exists():
        raise ValueError(f"{path} does not exist; give a run, or a .keras file.")
    if (path / "saved_model.pb").exists():
        raise ValueError(f"{path} is an export, which cannot be trained; give its run.")
    model, file, _ = loading.load_diffusion_model(path)
    return model, file


def _check(model, file, config, autoencoder):
    if model.prediction_type != config.prediction_type:
        raise ValueError(f"{file} predicts {model.prediction_type!r}; give --prediction-type.")
    encoder = getattr(model.codec, "encoder", None)
    if (encoder is not None) != config.latent:
        kind = "pixels" if encoder is None else "latents"
        raise ValueError(f"{file} is a model of {kind}, and this run is not.")
    if config.latent and not (autoencoder and _same_weights(encoder, autoencoder.encoder)):
        raise ValueError(f"{file} has other latents; give its autoencoder by --codec.")


def _same_weights(one, other):
    one, other = one.get_weights(), other.get_weights()
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _words(prompts):
    return prompts and (prompts.words, prompts.length)


def _layer(path):
    return path.partition("/")[0]


def _shape(weights, path):
    return weights[path].shape if path in weights else None
