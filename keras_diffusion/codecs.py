"""Codecs: images as users have them <-> x as networks see it."""

import tensorflow as tf


class PixelCodec:
    """uint8 in 0..255 or float in [0, 1] <-> float32 in [-1, 1], the same size."""

    clip = 1.0  # the bound of |x0| that samplers may rely on

    def encode(self, images):
        """Returns float32 in [-1, 1].

        Raises:
            ValueError: another dtype than uint8 or a float.
            tf.errors.InvalidArgumentError: when run, floats outside of [0, 1].
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
            return 2.0 * x - 1.0

    def decode(self, x):
        """Returns uint8 images; values beyond [-1, 1] are clipped."""
        return tf.cast(tf.round(tf.clip_by_value(x * 127.5 + 127.5, 0.0, 255.0)), tf.uint8)
