"""Codecs: images of users <-> x of networks."""

import keras
import numpy as np
import tensorflow as tf

HALVES = ("encoder", "decoder")  # the two networks of an autoencoder
MEASURED_IMAGES = 10_000  # mean and standard deviation of latents are then known to about 0.1%


class PixelCodec:
    """uint8 in 0..255 or float in [0, 1] <-> float32 in [-1, 1], the same size."""

    clip = 1.0  # bound of |x0| for samplers

    def image_shape_of(self, x_shape):
        """Returns the (H, W, C) of the images of x with shape `x_shape`."""
        return x_shape

    def encode(self, images):
        """Returns float32 in [-1, 1].

        Raises:
            ValueError: a dtype other than uint8 and floats.
            tf.errors.InvalidArgumentError: at run time, floats outside of [0, 1]. XLA omits such
                checks; the result is NaN there.
        """
        if images.dtype == tf.uint8:
            return tf.cast(images, tf.float32) / 127.5 - 1.0
        if not images.dtype.is_floating:
            raise ValueError(
                f"images: dtype {images.dtype.name}; must be uint8 in 0..255 or float in [0, 1]."
            )
        x = tf.cast(images, tf.float32)
        lowest, highest = tf.reduce_min(x), tf.reduce_max(x)
        in_range = tf.logical_and(lowest >= -1e-3, highest <= 1.001)  # resizing may overshoot
        message = "images: floats must lie in [0, 1]; integers must be uint8. Minimum, maximum:"
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, lowest, highest])]):
            return tf.where(in_range, 2.0 * x - 1.0, np.nan)

    def decode(self, x):
        """Returns uint8 images; x is clipped to [-1, 1]."""
        return tf.cast(tf.round(tf.clip_by_value(x * 127.5 + 127.5, 0.0, 255.0)), tf.uint8)

    def describe(self):
        """Returns a description for JSON files."""
        return {"kind": "pixels"}


@keras.saving.register_keras_serializable("keras_diffusion")
class LatentCodec(keras.layers.Layer):
    """Images <-> standardised latents of a trained autoencoder.

        x = (mean of the encoder - latent_mean) * latent_scale

    The codec holds and freezes the two networks, not copies: train the autoencoder first.

    Args:
        encoder: trained network, see `keras_diffusion.networks.encoder`.
        decoder: trained network, see `keras_diffusion.networks.decoder`.
        latent_mean: mean of each channel of the latents, (C,); None: 0.
        latent_scale: 1 / standard deviation of each channel, (C,); None: 1.
        clip: bound of |x0| for samplers; None: no bound.

    Attributes:
        image_shape, x_shape: (H, W, C) of images and of latents.

    Raises:
        ValueError: networks that do not fit each other, or not one number per channel.

    Reference: Rombach et al. 2022, arXiv:2112.10752, appendix G; a scale and mean for each
        channel: Karras et al. 2024, arXiv:2312.02696, appendix B.
    """

    def __init__(
        self, encoder, decoder, *, latent_mean=None, latent_scale=None, clip=None, **kwargs
    ):
        super().__init__(**{**kwargs, "autocast": False})
        encoder.trainable = decoder.trainable = False
        self.encoder = encoder
        self.decoder = decoder
        self.image_shape = tuple(encoder.input_shape[1:])
        self.x_shape = tuple(decoder.input_shape[1:])
        if tuple(decoder.output_shape[1:]) != self.image_shape:
            raise ValueError(
                f"decoder: its output has shape {decoder.output_shape[1:]}, the input of the "
                f"encoder {self.image_shape}."
            )
        channels = self.x_shape[-1]
        self.latent_mean = [0.0] * channels if latent_mean is None else list(latent_mean)
        self.latent_scale = [1.0] * channels if latent_scale is None else list(latent_scale)
        self.clip = clip
        if not len(self.latent_mean) == len(self.latent_scale) == channels:
            raise ValueError(
                f"latent_mean, latent_scale: must have {channels} numbers, one for each channel; "
                f"got {len(self.latent_mean)} and {len(self.latent_scale)}."
            )
        self.built = True

    @classmethod
    def measured(cls, autoencoder, batches):
        """Returns the codec of an autoencoder, with measured mean, scale and clip.

        Args:
            autoencoder: trained `Autoencoder`.
            batches: array of images, or iterable of batches as for `fit`; about 10,000 images are
                used.
        """
        plain = cls(autoencoder.encoder, autoencoder.decoder)
        encode = tf.function(plain.encode, reduce_retracing=True)
        if isinstance(batches, np.ndarray):
            batches = tf.data.Dataset.from_tensor_slices(batches).batch(256)
        latents, count = [], 0
        for batch in batches:
            batch = batch[0] if isinstance(batch, tuple) else batch
            images = batch["image"] if isinstance(batch, dict) else batch
            latents.append(encode(images).numpy())
            count += len(images)
            if count >= MEASURED_IMAGES:
                break
        latents = np.concatenate(latents)
        mean = latents.mean(axis=(0, 1, 2), dtype="float64")
        scale = 1 / np.maximum(latents.std(axis=(0, 1, 2), dtype="float64"), 1e-6)
        return cls(
            autoencoder.encoder,
            autoencoder.decoder,
            latent_mean=mean.tolist(),
            latent_scale=scale.tolist(),
            clip=float(np.abs((latents - mean) * scale).max()),
        )

    def image_shape_of(self, x_shape):
        """Returns the (H, W, C) of the images of x with shape `x_shape`.

        Raises:
            ValueError: the latents of this codec have another shape.
        """
        if tuple(x_shape) != self.x_shape:
            raise ValueError(
                f"codec: its latents have shape {self.x_shape}, the input of the network "
                f"{tuple(x_shape)}."
            )
        return self.image_shape

    def encode(self, images):
        """Returns x, float32 (B, h, w, c), of images (B, H, W, C), see `PixelCodec.encode`."""
        mean, _ = self.encoder(PixelCodec().encode(images), training=False)
        return (mean - tf.constant(self.latent_mean)) * tf.constant(self.latent_scale)

    def decode(self, x):
        """Returns uint8 images (B, H, W, C) of x (B, h, w, c); also with a first axis of frames."""
        if x.shape.rank == 5:  # one frame at a time: decoding needs more memory than sampling
            return tf.map_fn(self.decode, x, fn_output_signature=tf.uint8)
        latents = x / tf.constant(self.latent_scale) + tf.constant(self.latent_mean)
        return PixelCodec().decode(self.decoder(latents, training=False))

    def describe(self):
        """Returns a description for JSON files."""
        names = ("x_shape", "latent_mean", "latent_scale", "clip")
        return {"kind": "latents", **{name: getattr(self, name) for name in names}}

    def get_config(self):
        names = ("latent_mean", "latent_scale", "clip", "name")
        return {**halves_config(self), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config):
        return cls(**load_halves(config))


def halves_config(owner):
    """Returns {"encoder", "decoder"} of an object, serialised for its `get_config`."""
    return {name: keras.saving.serialize_keras_object(getattr(owner, name)) for name in HALVES}


def load_halves(config):
    """Returns a config with the networks of `halves_config` built, for `from_config`."""
    halves = {name: keras.saving.deserialize_keras_object(config[name]) for name in HALVES}
    return {**config, **halves}
