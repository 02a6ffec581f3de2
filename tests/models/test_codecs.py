import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.models.codecs import PixelCodec

CODEC = PixelCodec()
ALL_VALUES = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)


def test_decode_inverts_encode_for_every_value():
    for images in (ALL_VALUES, (ALL_VALUES / 255).astype("float32")):
        x = CODEC.encode(tf.constant(images))
        assert x.dtype == tf.float32
        np.testing.assert_array_equal(CODEC.decode(x), ALL_VALUES)
    x = x.numpy().ravel()
    assert (x[0], x[255]) == (-1, 1)
    np.testing.assert_allclose(np.diff(x), 2 / 255, rtol=1e-4)
    assert np.abs(x).max() <= CODEC.clip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_floats_of_every_width(dtype):
    x = CODEC.encode(tf.cast(tf.constant([[[[0.0], [0.25], [1.0]]]]), dtype))
    assert x.dtype == tf.float32
    np.testing.assert_allclose(x[0, 0, :, 0], [-1, -0.5, 1])


def test_decode_clips_and_rounds_to_the_nearest():
    x = tf.constant([-9.0, -1.0001, 1.0001, 9.0, -1 + 1.9 / 255, -1 + 2.1 / 255])
    np.testing.assert_array_equal(CODEC.decode(x), [0, 0, 255, 255, 1, 1])
    assert CODEC.decode(x).dtype == tf.uint8


@pytest.mark.parametrize("images", [[0.0, 255.0], [-1.0, 1.0], [0.0, 1.01], [0.5, float("nan")]])
def test_other_ranges_are_rejected(images):
    for encode in (CODEC.encode, tf.function(CODEC.encode)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"must lie in \[0, 1\]"):
            encode(tf.constant(images))
