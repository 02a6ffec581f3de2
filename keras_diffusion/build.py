"""From a Config to objects: the only file that knows both."""

import dataclasses

import keras
import tensorflow as tf

from keras_diffusion import data
from keras_diffusion.model import DiffusionModel
from keras_diffusion.networks import NETWORKS
from keras_diffusion.networks.layers import Recomputed
from keras_diffusion.networks.normalisation import AdaptiveNorm
from keras_diffusion.networks.unet import check_size as check_unet_size
from keras_diffusion.registry import lookup


def check_size(config):
    """Raises ValueError for an image size that the network cannot take, before data is read."""
    if config.image and config.network == "cnn":  # it learns a crop and draws the whole picture
        raise ValueError(
            "--network: 'cnn' has weights for each pixel, and one picture needs a network of any "
            "size: unet or convnext_unet."
        )
    size = config.crop_size if config.image else config.image_size
    if size and config.network != "cnn":
        try:
            check_unet_size(size, 2 ** (len(config.widths) - 1))
        except ValueError as error:
            raise ValueError(f"{_size_flag(config)}: {error}") from error


def _size_flag(config):
    return "--crop-size" if config.image and config.crop_size else "--image-size"


def load_data(config):
    """Returns the `TrainingData` of a Config."""
    [kind] = [name for name in ("folder", "image", "dataset") if getattr(config, name)][:1]
    where = f"--{kind} {getattr(config, kind)}"
    names = ("image_size", "crop_size", "batch_size", "data_dir", "train_split", "val_split")
    names += ("horizontal_flip", "channels", "limit", "seed", "folder", "image")
    options = {name: getattr(config, name) for name in names}
    try:
        return data.load_source(
            config.dataset if kind == "dataset" else None,
            balance=None if config.balance == "none" else config.balance,
            labels=not config.unconditional,
            **options,
        )
    except (ValueError, OSError) as error:
        error_type = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise error_type(f"{where}: {error}") from error


def model(config, image_shape, num_classes):
    """Returns a compiled `DiffusionModel`; its layers take the global dtype policy."""
    network_builder = lookup(NETWORKS, config.network, "network")
    try:
        network = network_builder(image_shape, num_classes=num_classes, **config.network_options)
    except ValueError as error:
        raise ValueError(f"{_size_flag(config)}: {error}") from error
    built = DiffusionModel(
        network,
        schedule=config.schedule,
        prediction_type=config.prediction_type,
        loss_weighting=config.loss_weighting,
        ema_decay=config.ema_decay,
        label_dropout=config.label_dropout,
        accumulate=config.accumulate,
        seed=config.seed,
    )
    built.compile(
        optimizer=keras.optimizers.AdamW(
            config.learning_rate,
            weight_decay=config.weight_decay,
            beta_2=0.99,
            global_clipnorm=config.clip_norm,
        )
    )
    return built


def resized(trained, config, image_shape):
    """Returns a model of the same weights for images of another size.

    Args:
        trained: a `DiffusionModel` as from `model`, of a network without attention, or so trained
            that its attention does well with more or fewer pixels.
        config: its `Config`.
        image_shape: (height, width, channels).

    Raises:
        ValueError: a size that the network cannot take.
    """
    config = dataclasses.replace(config, crop_size=None)  # it is not what is wrong with a size
    other = model(config, image_shape, trained.num_classes)
    other.network.set_weights(trained.network.get_weights())
    other.ema_network.set_weights(trained.ema_network.get_weights())
    return other


def costs(network, batch_size):
    """Returns what a network costs, as estimates for `--dry-run`.

    Returns:
        dict of parameters; flops of one forward pass of one image (2 per multiply-add, of
        convolutions and dense layers); memory, bytes of a training step: weights, their
        average, gradients and two moments, and every activation kept once; of blocks that are
        recomputed, the outputs and the inside of the largest one.
    """
    flops = kept = largest = 0
    for layer in network.layers:
        parts = layer.block.layers if isinstance(layer, Recomputed) else [layer]
        flops += sum(map(_flops, parts))
        kept += _activation(layer)
        if isinstance(layer, Recomputed):
            largest = max(largest, sum(map(_activation, parts)))
    parameters = network.count_params()
    memory = 5 * 4 * parameters + batch_size * (kept + largest)
    return {"parameters": parameters, "flops": flops, "memory": memory}


def _pixels(layer):
    shape = layer.output.shape
    return shape[1] * shape[2] if len(shape) == 4 else 1


def _activation(layer):
    """Bytes of the output of a layer, for one image."""
    shape = layer.output.shape
    width = 2 if layer.compute_dtype in ("bfloat16", "float16") else 4
    return _pixels(layer) * shape[-1] * width if len(shape) > 1 else 0


def _flops(layer):
    kernels = [w for w in layer.trainable_variables if w.name == "kernel"]
    times = 1 if isinstance(layer, AdaptiveNorm) else _pixels(layer)  # its dense sees no pixels
    return 2 * times * sum(int(tf.size(kernel)) for kernel in kernels)
