import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_diffusion.networks import TextEncoder, cnn, convnext_unet, unet
from keras_diffusion.networks.layers import (
    DepthToSpace,
    LogSNREmbedding,
    SpaceToDepth,
    SpatialAttention,
)
from keras_diffusion.networks.normalisation import AdaptiveNorm

SMALL = {"widths": (16, 32), "attention": (False, False), "embedding_width": 32}
CONFIGURATIONS = {  # name: (image_shape, arguments)
    "cnn": ((8, 8, 1), {"builder": cnn}),
    "cnn, colour, not square, labels": ((5, 7, 3), {"builder": cnn, "num_classes": 4}),
    "grey": ((8, 8, 1), {}),
    "colour, labels": ((8, 8, 3), {"num_classes": 5}),
    "latent, not square": ((4, 12, 4), {"attention": (False, True)}),
    "depth, dropout": ((8, 8, 1), {"block_depth": 2, "dropout": 0.3}),
    "attention everywhere": (
        (8, 4, 3),
        {"widths": (16, 32, 48), "attention": (True, True, True), "num_classes": 2},
    ),
    "odd widths": ((8, 8, 2), {"widths": (20, 27), "attention": (True, True)}),
    "one level": ((5, 7, 3), {"widths": (16,), "attention": (True,)}),
    "prompts": ((8, 4, 3), {"attention": (False, True), "text": (9, 4)}),
    "prompts, odd widths, convnext": (
        (4, 4, 1),
        {"widths": (9, 14), "attention": (True, True), "text": (5, 3), "builder": convnext_unet},
    ),
    "convnext": ((8, 8, 1), {"builder": convnext_unet}),
    "convnext, labels, 5x5, dropout": (
        (8, 4, 3),
        {
            "num_classes": 5,
            "kernel_size": 5,
            "expansion": 3,
            "builder": convnext_unet,
            "dropout": 0.3,
        },
    ),
    "convnext, odd widths, attention": (
        (4, 4, 2),
        {"widths": (9, 14), "attention": (True, True), "builder": convnext_unet},
    ),
}
# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
every_network = pytest.mark.parametrize("name", sorted(CONFIGURATIONS))


def build(name, awake=True):
    """The network; `awake`: with noise on its weights, so that no layer is zero any more."""
    image_shape, arguments = CONFIGURATIONS[name]
    builder = arguments.get("builder", unet)
    small = SMALL if builder is not cnn else {"widths": (8, 4), "embedding_width": 32}
    options = {key: value for key, value in {**small, **arguments}.items() if key != "builder"}
    if "text" in options:
        options["text"] = TextEncoder(*options["text"], width=8, depth=1)
    network = builder(image_shape, **options)
    if awake:
        rng = np.random.default_rng(0)
        network.set_weights(
            [w + 0.1 * rng.normal(size=w.shape).astype(w.dtype) for w in network.get_weights()]
        )
    return network


@functools.cache
def made(name):
    """(network, its first weights, the same with noise), built once."""
    return (network := build(name)), build(name, awake=False).get_weights(), network.get_weights()


def renewed(name, awake=True):
    """As `build`, of a network that is built once: whatever a test did to its weights is undone."""
    network, fresh, noisy = made(name)
    network.set_weights(noisy if awake else fresh)
    return network


def inputs_of(name, batch=4):
    image_shape, arguments = CONFIGURATIONS[name]
    rng = np.random.default_rng(1)
    inputs = {
        "x": rng.normal(size=(batch, *image_shape)).astype("float32"),
        "logsnr": np.linspace(-8, 8, batch, dtype="float32"),
    }
    if classes := arguments.get("num_classes"):
        inputs["label"] = (np.arange(batch) % (classes + 1)).astype("int32")
    if text := arguments.get("text"):
        inputs["tokens"] = rng.integers(1, text[0] - 1, (batch, text[1]), "int32")
    return inputs


@contextlib.contextmanager
def policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@every_network
def test_output_has_the_shape_of_x_and_starts_at_zero(name):
    network, inputs = renewed(name, awake=False), inputs_of(name)
    output = network(inputs, training=False)
    assert output.shape == inputs["x"].shape and output.dtype == "float32"
    np.testing.assert_array_equal(output, 0)
    assert network.output_shape == (None, *CONFIGURATIONS[name][0])


@every_network
def test_output_depends_on_every_input_and_on_one_image_only(name):
    network, inputs = renewed(name), inputs_of(name)
    before = network(inputs, training=False).numpy()
    for key, value in inputs.items():
        changed = value.copy()
        changed[0] = 1 - value[0] if key == "label" else value[0] + 1
        difference = np.abs(network({**inputs, key: changed}, training=False) - before)
        assert difference[0].max() > 1e-4, key
        assert difference[1:].max() < 1e-5, key


@every_network
def test_gradients_reach_every_weight_and_a_step_lowers_the_loss(name):
    network, inputs = renewed(name), inputs_of(name)
    keras.utils.set_random_seed(0)  # dropout

    def loss(training=False):
        return ops.mean((network(inputs, training=training) - inputs["x"] ** 2) ** 2)

    with tf.GradientTape() as tape:
        value = loss(training=True)
    gradients = tape.gradient(value, network.trainable_variables)
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.path
    before = float(loss())
    keras.optimizers.Adam(1e-3).apply(gradients, network.trainable_variables)
    assert float(loss()) < before


@pytest.mark.parametrize("name", ["colour, labels", "convnext"])
def test_a_fresh_network_learns(name):
    network, inputs = build(name, awake=False), inputs_of(name)
    optimizer = keras.optimizers.Adam(3e-3)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = ops.mean((network(inputs, training=True) - inputs["x"]) ** 2)
        optimizer.apply(
            tape.gradient(loss, network.trainable_variables), network.trainable_variables
        )
        return loss

    losses = [float(step()) for _ in range(30)]
    assert losses[1] != losses[0]
    assert losses[-1] < 0.5 * losses[0]


def test_dropout_is_for_training_only():
    network, inputs = build("depth, dropout"), inputs_of("depth, dropout")
    still = network(inputs, training=False)
    np.testing.assert_array_equal(network(inputs, training=False), still)
    assert np.abs(network(inputs, training=True) - still).max() > 1e-3


@every_network
def test_saving_keeps_the_function(name, tmp_path):
    network, inputs = renewed(name), inputs_of(name)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(inputs, training=False), network(inputs, training=False))


@every_network
def test_mixed_precision_is_close_to_float32(name):
    network, inputs = renewed(name), inputs_of(name)
    with policy("mixed_bfloat16"):
        mixed = build(name, awake=False)
    mixed.set_weights(network.get_weights())
    assert all(variable.dtype == "float32" for variable in mixed.trainable_variables)
    assert mixed.get_layer("conv0" if "cnn" in name else "stem").compute_dtype == "bfloat16"
    assert mixed.get_layer("logsnr_waves").compute_dtype == "float32"
    output = mixed(inputs, training=False)
    assert output.dtype == "float32"
    expected = network(inputs, training=False).numpy()
    assert np.abs(output - expected).mean() < 0.03 * expected.std()


def test_a_loaded_mixed_network_is_still_mixed(tmp_path):
    inputs = inputs_of("attention everywhere")
    with policy("mixed_bfloat16"):
        network = build("attention everywhere")
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert loaded.get_layer("stem").compute_dtype == "bfloat16"
    np.testing.assert_array_equal(loaded(inputs, training=False), network(inputs, training=False))


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((30, 30), ["28x28", "32x32"]),
        ((28, 30), ["28x28", "28x32"]),
        ((2, 8), ["4x8"]),
        ((1, 9), ["4x8", "4x12"]),
    ],
)
def test_invalid_sizes_name_the_nearest_valid_ones(size, nearest):
    arguments = {"widths": (8, 8, 8), "attention": (False,) * 3}
    with pytest.raises(ValueError, match="multiples of 4") as error:
        unet((*size, 1), **arguments)
    message = str(error.value)
    assert f"{size[0]}x{size[1]}" in message
    for name in nearest:
        assert name in message.split("Nearest")[1]
        unet((*map(int, name.split("x")), 1), **arguments)  # and they are valid


def test_attention_needs_one_entry_per_level():
    with pytest.raises(ValueError, match="attention.*3.*2"):
        unet((8, 8, 1), widths=(8, 8), attention=(True,) * 3)


def test_a_pixel_of_the_cnn_sees_13_to_each_side():
    network = cnn((33, 33, 1), widths=(4, 4, 4, 4), embedding_width=8)
    for layer in network.layers:  # whose statistics see every pixel
        if layer.name.startswith("norm"):
            layer.call = lambda x: x
    network.set_weights([np.full_like(weight, 0.01) for weight in network.get_weights()])
    x = np.zeros((1, 33, 33, 1), "float32")
    still, level = network({"x": x, "logsnr": np.zeros(1)}).numpy(), {"logsnr": np.zeros(1)}
    x[0, 16, 16, 0] = 1.0
    seen = np.argwhere(np.abs(network({"x": x, **level}) - still)[0, :, :, 0] > 0)
    assert seen.min() == 3 and seen.max() == 29


def awake_attention(x, head_width):
    layer = SpatialAttention(head_width=head_width)
    layer(x)
    rng = np.random.default_rng(2)
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize(("channels", "head_width"), [(8, 4), (8, 8), (6, 4), (3, 4)])
def test_attention_against_numpy(channels, head_width):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, channels)).astype("float32")
    layer = awake_attention(x, head_width)
    project_in, project_out, bias = layer.get_weights()
    qkv = (x.reshape(2, 12, channels) @ project_in).reshape(2, 12, 3, -1, head_width)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    q, k = (part / np.sqrt((part**2).mean(-1, keepdims=True)) for part in (q, k))
    weights = np.exp(np.einsum("bphc,bqhc->bhpq", q, k) / np.sqrt(head_width))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhpq,bqhc->bphc", weights, v).reshape(2, 3, 4, -1)
    np.testing.assert_allclose(layer(x), mixed @ project_out + bias, atol=1e-4)


def test_attention_knows_no_order_of_pixels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 8)).astype("float32")
    layer, order = awake_attention(x, 4), rng.permutation(12)

    def shuffled(image):
        return np.reshape(image, (2, 12, 8))[:, order].reshape(2, 3, 4, 8)

    np.testing.assert_allclose(layer(shuffled(x)), shuffled(layer(x)), atol=1e-4)


def test_folding_pixels_is_undone_by_unfolding():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
    folded = SpaceToDepth()(x)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(np.sort(folded[0, 0, 0]), np.sort(x[0, :2, :2].ravel()))
    np.testing.assert_array_equal(DepthToSpace()(folded), x)


def test_embedding_tells_noise_levels_apart():
    logsnr = np.arange(-12, 17, 0.5, dtype="float32")
    waves = np.array(LogSNREmbedding(width=64)(logsnr))
    assert waves.shape == (len(logsnr), 64)
    distances = np.linalg.norm(waves[:, None] - waves[None], axis=-1)
    assert distances[~np.eye(len(logsnr), dtype=bool)].min() > 0.5


@pytest.mark.parametrize(
    "layer",
    [
        AdaptiveNorm(group_width=8, epsilon=1e-3, activation="silu"),
        SpatialAttention(head_width=8),
        LogSNREmbedding(width=16, longest=50.0, shortest=3.0),
    ],
    ids=lambda layer: layer.name,
)
def test_a_layer_is_restored_with_all_its_arguments(layer):
    again = type(layer).from_config(layer.get_config())
    for key in {
        "group_width",
        "epsilon",
        "activation",
        "head_width",
        "width",
        "longest",
        "shortest",
    }:
        assert getattr(again, key, None) == getattr(layer, key, None), key
    assert again.dtype_policy.name == layer.dtype_policy.name
