"""From a Config to objects: the only module that knows both."""

import dataclasses

import keras

from keras_diffusion import data
from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.conditioning.word_vectors import word_vectors
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.models.autoencoder import Autoencoder
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.models.muon import Muon
from keras_diffusion.networks import NETWORKS, TextEncoder, decoder, encoder
from keras_diffusion.networks.unet import check_size as check_unet_size
from keras_diffusion.runtime.frameworks import raising_os_errors
from keras_diffusion.runtime.registry import lookup

OPTIMIZERS = {"adamw": keras.optimizers.AdamW, "muon": Muon}


def check_size(config, factor=None):
    """Checks that the networks can process the image size, if it is known.

    Args:
        config: `Config`.
        factor: side of an image divided by the side of x; None: that of the Config, which is
            unknown with a `codec` that is not loaded yet.

    Raises:
        ValueError: they cannot.
    """
    if config.image and config.network == "cnn":  # trained on crops, applied to the whole image
        raise ValueError(
            "--network: 'cnn' has weights for each pixel, and a single image needs a network of "
            "any size: unet or convnext_unet."
        )
    size = config.crop_size if config.image else config.image_size
    if size and (factor or not config.codec):
        factor = factor or 2 ** (config.latent * len(config.codec_widths))
        halvings = 0 if config.network == "cnn" else len(config.widths) - 1
        try:
            check_unet_size(size, factor * 2**halvings)
        except ValueError as error:
            raise ValueError(f"{_size_flag(config)}: {error}") from error


def _size_flag(config):
    return "--crop-size" if config.image and config.crop_size else "--image-size"


def load_data(config):
    """Returns the `TrainingData` of a Config."""
    kind = next(name for name in ("folder", "image", "dataset") if getattr(config, name))
    names = ("image_size", "crop_size", "batch_size", "data_dir", "train_split", "val_split")
    names += ("horizontal_flip", "channels", "limit", "seed", "folder", "image", "frames")
    try:
        with raising_os_errors():
            return data.load_source(
                config.dataset if kind == "dataset" else None,
                balance=None if config.balance == "none" else config.balance,
                labels=not config.unconditional,
                **{name: getattr(config, name) for name in names},
            )
    except (ValueError, OSError) as error:
        error_type = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise error_type(f"--{kind} {getattr(config, kind)}: {error}") from error


def sampling_options(config, num_classes):
    """Returns the arguments that `generate` and `export_saved_model` take from a Config, a dict.

    Guidance is only for models with classes.
    """
    names = ("sampler", "num_steps", *(Guidance.NAMES if num_classes else ()))
    return {name: getattr(config, name) for name in names}


def prompts(config, source):
    """Returns the `Prompts` of the classes of a `data.Source`, or None without --text.

    Raises:
        ValueError: it has no classes, their names cannot be distinguished, or there are no word
            vectors for them.
    """
    if not config.text:
        return None
    if not source.num_classes:
        raise ValueError(f"--text: prompts are made of class names, and {source.name} has none.")
    try:
        result = Prompts(source.class_names)
    except ValueError as error:
        raise ValueError(f"--text: {error}") from error
    _word_vectors(config, result)  # raises now, before anything is written
    return result


def _word_vectors(config, prompts):
    """Initial vectors of the words of prompts, or None."""
    if config.word_vectors is None:
        return None
    try:
        return word_vectors(config.word_vectors, prompts.words, config.text_width)
    except ValueError as error:
        raise ValueError(f"--set word_vectors: {error}") from error


def _text_encoder(config, prompts):
    """The `TextEncoder` of prompts, with pretrained word vectors if the Config names some."""
    text = TextEncoder(
        prompts.num_tokens,
        prompts.length,
        width=config.text_width,
        depth=config.text_depth,
        name="text",
    )
    vectors = _word_vectors(config, prompts)
    if vectors is not None:
        text.build((None, prompts.length))
        text.set_word_vectors(vectors)
    return text


def autoencoder(config, image_shape):
    """Returns a compiled `Autoencoder`; its layers use the global dtype policy."""
    options = {"latent_channels": config.latent_channels, "widths": config.codec_widths}
    result = Autoencoder(
        encoder(image_shape, **options),
        decoder(image_shape, **options),
        edge_weight=config.edge_weight,
        kl_weight=config.kl_weight,
        accumulate=config.accumulate,
        seed=config.seed,
    )
    result.compile(optimizer=optimizer(config))
    return result


def network(config, x_shape, num_classes, prompts=None):
    """Returns the network of a Config, see `model`; x_shape is that of images or of latents."""
    network_builder = lookup(NETWORKS, config.network, "network")
    options = {"num_classes": num_classes, **config.network_options}
    if prompts:
        options.update(num_classes=0, text=_text_encoder(config, prompts))
    try:
        return network_builder(x_shape, **options)
    except ValueError as error:
        raise ValueError(f"{_size_flag(config)}: {error}") from error


def model(config, image_shape, num_classes, codec=None, prompts=None):
    """Returns a compiled `DiffusionModel`; its layers use the global dtype policy.

    Args:
        config: `Config`.
        image_shape: (H, W, C) of the images.
        num_classes: 0 for no labels.
        codec: None for pixels, or a `LatentCodec`.
        prompts: None for labels, or `Prompts`.
    """
    x_shape = codec.x_shape if codec else image_shape
    result = DiffusionModel(
        network(config, x_shape, num_classes, prompts),
        codec=codec,
        prompts=prompts,
        schedule=config.schedule,
        prediction_type=config.prediction_type,
        loss_weighting=config.loss_weighting,
        ema_decay=config.ema_decay,
        label_dropout=config.label_dropout,
        accumulate=config.accumulate,
        seed=config.seed,
    )
    result.compile(optimizer=optimizer(config))
    return result


def resized(trained, config, image_shape):
    """Returns a model with the same weights for images of another size.

    Args:
        trained: a `DiffusionModel` as from `model`, of a network without attention or one whose
            attention generalises to another number of pixels.
        config: its `Config`.
        image_shape: (height, width, channels).

    Raises:
        ValueError: a size that the network cannot process.
    """
    config = dataclasses.replace(config, crop_size=None)  # errors name --image-size
    result = model(config, image_shape, trained.num_classes)
    result.network.set_weights(trained.network.get_weights())
    result.ema_network.set_weights(trained.ema_network.get_weights())
    return result


def optimizer(config):
    """Returns the optimizer of a Config; `callbacks.Budget` sets its learning rate in a run."""
    return lookup(OPTIMIZERS, config.optimizer, "optimizer")(
        config.learning_rate,
        weight_decay=config.weight_decay,
        beta_2=0.99,
        global_clipnorm=config.clip_norm,
    )
