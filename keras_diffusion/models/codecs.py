"""Codecs: images as users have them <-> x as networks see it."""

import keras
import numpy as np
import tensorflow as tf

HALVES = ("encoder", "decoder")  # the networks of an autoencoder
MEASURED_IMAGES = 10_000  # enough to know means and standard deviations to one in a thousand


class PixelCodec:
    """uint8 in 0..255 or float in [0, 1] <-> float32 in [-1, 1], the same size."""

    clip = 1.0  # the bound of |x0| that samplers may rely on

    def image_shape_of(self, x_shape):
        """Returns the shape (H, W, C) of the images that x of a shape stands for."""
        return x_shape

    def encode(self, images):
        """Returns float32 in [-1, 1].

        Raises:
            ValueError: another dtype than uint8 or a float.
            tf.errors.InvalidArgumentError: when run, floats outside of [0, 1]. XLA leaves such
                checks out: what is returned there is NaN.
        """
        if images.dtype == tf.uint8:
            return tf.cast(images, tf.float32) / 127.5 - 1.0
        if not images.dtype.is_floating:
            raise ValueError(
                f"images: dtype {images.dtype.name}; give uint8 in 0..255 or floats in [0, 1]."
            )
        x = tf.cast(images, tf.float32)
        lowest, highest = tf.reduce_min(x), tf.reduce_max(x)
        in_range = tf.logical_and(lowest >= -1e-3, highest <= 1.001)  # room for resizing
        message = "images: floats must lie in [0, 1] (or give uint8); found lowest, highest:"
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, lowest, highest])]):
            return tf.where(in_range, 2.0 * x - 1.0, np.nan)

    def decode(self, x):
        """Returns uint8 images; values beyond [-1, 1] are clipped."""
        return tf.cast(tf.round(tf.clip_by_value(x * 127.5 + 127.5, 0.0, 255.0)), tf.uint8)

    def describe(self):
        """Returns what others may want to know, as JSON allows."""
        return {"kind": "pixels"}


@keras.saving.register_keras_serializable("keras_diffusion")
class LatentCodec(keras.layers.Layer):
    """Images <-> latents of a trained autoencoder, standardised.

    It holds the halves themselves, not copies, and freezes them: train the autoencoder first.

        x = (mean of the encoder - latent_mean) * latent_scale

    Args:
        encoder, decoder: as from `keras_diffusion.networks.encoder` and `decoder`, trained.
        latent_mean: of each channel of the latents, (C,).
        latent_scale: 1 / standard deviation of each channel, (C,).
        clip: None, or the bound of |x0| that samplers may rely on.

    Attributes:
        image_shape, x_shape: (H, W, C) of images and of latents.

    Raises:
        ValueError: halves that do not fit, or numbers that are not one for each channel.

    Reference: Rombach et al. 2022, arXiv:2112.10752, appendix G; a scale and mean for each
        channel: Karras et al. 2024, arXiv:2312.02696, appendix B.
    """

    def __init__(
        self, encoder, decoder, *, latent_mean=None, latent_scale=None, clip=None, **kwargs
    ):
        super().__init__(**{**kwargs, "autocast": False})
        encoder.trainable = decoder.trainable = False  # whoever else holds them, too
        self.encoder = encoder
        self.decoder = decoder
        self.image_shape = tuple(encoder.input_shape[1:])
        self.x_shape = tuple(decoder.input_shape[1:])
        if tuple(decoder.output_shape[1:]) != self.image_shape:
            raise ValueError(
                f"decoder: draws {decoder.output_shape[1:]}, but the encoder takes "
                f"{self.image_shape}."
            )
        channels = self.x_shape[-1]
        self.latent_mean = [0.0] * channels if latent_mean is None else list(latent_mean)
        self.latent_scale = [1.0] * channels if latent_scale is None else list(latent_scale)
        self.clip = clip
        if not len(self.latent_mean) == len(self.latent_scale) == channels:
            raise ValueError(
                f"latent_mean, latent_scale: {len(self.latent_mean)} and "
                f"{len(self.latent_scale)} numbers for {channels} channels; one for each."
            )
        self.built = True

    @classmethod
    def measured(cls, autoencoder, batches):
        """Returns the codec of an autoencoder, with mean, scale and bound of its latents.

        Args:
            autoencoder: `Autoencoder`, trained.
            batches: iterable of what `fit` takes: images, tuples or dicts; or one array of
                images. The first 10,000 images or so are measured.
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
        """Returns the shape (H, W, C) of the images that x of a shape stands for.

        Raises:
            ValueError: x of this codec has another shape.
        """
        if tuple(x_shape) != self.x_shape:
            raise ValueError(f"codec: gives {self.x_shape}; the network takes {tuple(x_shape)}.")
        return self.image_shape

    def encode(self, images):
        """Returns x, float32 (B, h, w, c); images (B, H, W, C) as `PixelCodec` takes them."""
        mean, _ = self.encoder(PixelCodec().encode(images), training=False)
        return (mean - tf.constant(self.latent_mean)) * tf.constant(self.latent_scale)

    def decode(self, x):
        """Returns uint8 images of x (B, h, w, c), or (frames, B, H, W, C) of (frames, B, ...)."""
        if x.shape.rank == 5:  # frame by frame: decoding takes more memory than drawing
            return tf.map_fn(self.decode, x, fn_output_signature=tf.uint8)
        latents = x / tf.constant(self.latent_scale) + tf.constant(self.latent_mean)
        return PixelCodec().decode(self.decoder(latents, training=False))

    def describe(self):
        """Returns what others may want to know, as JSON allows."""
        names = ("x_shape", "latent_mean", "latent_scale", "clip")
        return {"kind": "latents", **{name: getattr(self, name) for name in names}}

    def get_config(self):
        names = ("latent_mean", "latent_scale", "clip", "name")
        return {**saved_halves(self), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config):
        return cls(**loaded_halves(config))


def saved_halves(holder):
    """Returns the configurations of the encoder and decoder that `holder` has, for `get_config`."""
    return {name: keras.saving.serialize_keras_object(getattr(holder, name)) for name in HALVES}


def loaded_halves(config):
    """Returns a config of `saved_halves` with the networks themselves, for `from_config`."""
    halves = {name: keras.saving.deserialize_keras_object(config[name]) for name in HALVES}
    return {**config, **halves}
