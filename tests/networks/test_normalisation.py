import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion.networks.normalisation import AdaptiveNorm

EPSILON = 1e-5
SHAPES = [(32, 2), (16, 1), (5, 1)]  # (channels, groups of up to 16)
activations = pytest.mark.parametrize("activation", [None, "silu"])


def sample(channels, dtype="float64", width=7):
    """Returns x, embedding, and the two weights of the layer."""
    rng = np.random.default_rng(0)
    shapes = (3, 4, 5, channels), (3, width), (width, 2 * channels), (2 * channels,)
    x, *others = (rng.normal(size=shape) for shape in shapes)
    return [tf.constant(values, dtype) for values in (2 + 3 * x, *others)]


def plain(x, embedding, kernel, bias, groups, activation):
    """The formula in TensorFlow's operations, with TensorFlow's gradient."""
    grouped = tf.reshape(x, (*x.shape[:3], groups, -1))
    mean_square = tf.reduce_mean(grouped**2, axis=(1, 2, 4), keepdims=True)
    normal = tf.reshape(grouped / tf.sqrt(mean_square + EPSILON), x.shape)
    scale, shift = tf.split(embedding @ kernel + bias, 2, axis=-1)
    z = normal * (1 + scale[:, None, None]) + shift[:, None, None]
    return z * tf.sigmoid(z) if activation else z


def layer_of(kernel, bias, x, embedding, activation):
    layer = AdaptiveNorm(group_width=16, activation=activation, dtype=x.dtype.name)
    layer(x, embedding)
    layer.set_weights([kernel, bias])
    return layer


def gradients(function, inputs, dy):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    return y, tape.gradient(y, inputs, output_gradients=tf.cast(dy, y.dtype))


@activations
@pytest.mark.parametrize(("channels", "groups"), SHAPES)
@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_values_and_gradients_are_those_of_the_formula(
    channels, groups, activation, in_graph, training
):
    x, embedding, kernel, bias = sample(channels)
    weighted = layer_of(kernel, bias, x, embedding, activation)
    layer = functools.partial(weighted, training=training)
    dy = tf.constant(np.random.default_rng(1).normal(size=x.shape))

    def by_layer(x, embedding):
        y, (dx, de) = gradients(layer, [x, embedding], dy)
        with tf.GradientTape() as tape:
            y = layer(x, embedding)
        return y, dx, de, *tape.gradient(y, weighted.trainable_variables, output_gradients=dy)

    ours = (tf.function(by_layer) if in_graph else by_layer)(x, embedding)
    inputs = [x, embedding, kernel, bias]
    y, expected = gradients(lambda *values: plain(*values, groups, activation), inputs, dy)
    for own, other in zip(ours, [y, *expected], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-10)


@activations
def test_the_error_in_bfloat16_is_a_few_roundings(activation):
    x, embedding, kernel, bias = sample(32)
    exact = gradients(lambda x, e: plain(x, e, kernel, bias, 2, activation), [x, embedding], x)
    layer = AdaptiveNorm(activation=activation, dtype="mixed_bfloat16")
    inputs = [tf.cast(x, "bfloat16"), tf.cast(embedding, "float32")]
    layer(*inputs)
    layer.set_weights([kernel, bias])
    y, (dx, de) = gradients(layer, inputs, x)
    assert y.dtype == dx.dtype == "bfloat16" and de.dtype == "float32"
    for own, other in zip((y, dx, de), (exact[0], *exact[1]), strict=True):
        error = np.abs(tf.cast(own, "float64") - other)
        assert error.max() < 0.03 * np.abs(other).max()  # 8 bits: 0.004 for each rounding


def test_an_unknown_activation_is_rejected():
    with pytest.raises(ValueError, match="activation: unknown 'relu'"):
        AdaptiveNorm(activation="relu")
