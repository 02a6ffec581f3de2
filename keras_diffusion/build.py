"""From a Config to objects: the only file that knows both."""

import keras
import tensorflow as tf

from keras_diffusion import data
from keras_diffusion.autoencoder import Autoencoder
from keras_diffusion.model import DiffusionModel
from keras_diffusion.networks import NETWORKS, decoder, encoder
from keras_diffusion.networks.layers import Recomputed
from keras_diffusion.networks.normalisation import AdaptiveNorm
from keras_diffusion.networks.unet import check_size as check_unet_size
from keras_diffusion.registry import lookup


def check_size(config, factor=None):
    """Raises ValueError for an image size that the networks cannot take.

    Args:
        config: `Config`; without an image size, or with a codec that is not loaded yet, nothing
            is known.
        factor: between the sides of images and of x; None: as the Config has it.
    """
    if config.image_size and (factor or not config.codec):
        factor = factor or 2 ** (config.latent * len(config.codec_widths))
        try:
            check_unet_size(config.image_size, factor * 2 ** (len(config.widths) - 1))
        except ValueError as error:
            raise ValueError(f"--image-size: {error}") from error


def load_data(config):
    """Returns the `TrainingData` of a Config."""
    where = f"--folder {config.folder}" if config.folder else f"--dataset {config.dataset}"
    names = ("image_size", "batch_size", "data_dir", "train_split", "val_split")
    names += ("horizontal_flip", "channels", "limit", "seed", "folder")
    options = {name: getattr(config, name) for name in names}
    try:
        return data.load_source(
            None if config.folder else config.dataset,
            balance=None if config.balance == "none" else config.balance,
            labels=not config.unconditional,
            **options,
        )
    except (ValueError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{where}: {error}") from error


def autoencoder(config, image_shape):
    """Returns a compiled `Autoencoder`; its layers take the global dtype policy."""
    options = {"latent_channels": config.latent_channels, "widths": config.codec_widths}
    built = Autoencoder(
        encoder(image_shape, **options),
        decoder(image_shape, **options),
        edge_weight=config.edge_weight,
        kl_weight=config.kl_weight,
        accumulate=config.accumulate,
        seed=config.seed,
    )
    built.compile(optimizer=_optimizer(config))
    return built


def model(config, image_shape, num_classes, codec=None):
    """Returns a compiled `DiffusionModel`; its layers take the global dtype policy.

    Args:
        config: `Config`.
        image_shape: (H, W, C) of the images.
        num_classes: 0 for no labels.
        codec: None for pixels, or a `LatentCodec`.
    """
    network_builder = lookup(NETWORKS, config.network, "network")
    try:
        network = network_builder(
            codec.x_shape if codec else image_shape,
            num_classes=num_classes,
            widths=config.widths,
            block_depth=config.block_depth,
            attention=config.attention,
            dropout=config.dropout,
            embedding_width=config.embedding_width,
            remat=config.remat,
        )
    except ValueError as error:
        raise ValueError(f"--image-size: {error}") from error
    built = DiffusionModel(
        network,
        codec=codec,
        schedule=config.schedule,
        prediction_type=config.prediction_type,
        loss_weighting=config.loss_weighting,
        ema_decay=config.ema_decay,
        label_dropout=config.label_dropout,
        accumulate=config.accumulate,
        seed=config.seed,
    )
    built.compile(optimizer=_optimizer(config))
    return built


def _optimizer(config):
    return keras.optimizers.AdamW(
        config.learning_rate,
        weight_decay=config.weight_decay,
        beta_2=0.99,
        global_clipnorm=config.clip_norm,
    )


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
    kernels = [w for w in layer.weights if w.name == "kernel"]
    times = 1 if isinstance(layer, AdaptiveNorm) else _pixels(layer)  # its dense sees no pixels
    return 2 * times * sum(int(tf.size(kernel)) for kernel in kernels)
