import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_diffusion.networks import TextEncoder, cnn, convnext_unet, unet
from keras_diffusion.networks.costs import estimate_costs
from keras_diffusion.networks.layers import (
    DepthToSpace,
    LogSNREmbedding,
    SpaceToDepth,
    SpatialAttention,
)
from keras_diffusion.networks.normalisation import AdaptiveNorm
from keras_diffusion.networks.text_encoder import CrossAttention

TINY = {"widths": (4, 8), "attention": (False, False), "embedding_width": 8}
CONFIGURATIONS = {  # name: (builder, image_shape, arguments)
    "cnn, 5x7, labels": (
        cnn, (5, 7, 3), {"num_classes": 4, "widths": (6, 4), "embedding_width": 8},
    ),
    "unet, labels, depth, dropout": (
        unet, (4, 4, 3), {**TINY, "num_classes": 5, "block_depth": 2, "dropout": 0.3},
    ),
    "unet, one level, 5x7": (unet, (5, 7, 3), {"widths": (6,), "embedding_width": 8}),
    "unet, prompts": (unet, (4, 2, 3), {**TINY, "attention": (False, True), "text": (9, 4)}),
    "convnext, labels, 5x5, dropout": (
        convnext_unet, (4, 4, 3),
        {**TINY, "num_classes": 5, "kernel_size": 5, "expansion": 3, "dropout": 0.3},
    ),
    "convnext, prompts, odd widths": (
        convnext_unet, (4, 2, 1),
        {**TINY, "widths": (5, 10), "attention": (True, True), "text": (5, 3)},
    ),
}  # fmt: skip
# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
every_network = pytest.mark.parametrize("name", sorted(CONFIGURATIONS))


def build(name):
    builder, image_shape, options = CONFIGURATIONS[name]
    if "text" in options:
        options = {**options, "text": TextEncoder(*options["text"], width=8, depth=1)}
    return builder(image_shape, **options)


def randomise(network):
    """Adds noise to the weights, so that no layer is zero."""
    rng = np.random.default_rng(0)
    network.set_weights(
        [w + 0.1 * rng.normal(size=w.shape).astype(w.dtype) for w in network.get_weights()]
    )
    return network


def inputs_of(name, batch=4):
    _, image_shape, options = CONFIGURATIONS[name]
    rng = np.random.default_rng(1)
    inputs = {
        "x": rng.normal(size=(batch, *image_shape)).astype("float32"),
        "logsnr": np.linspace(-8, 8, batch, dtype="float32"),
    }
    if classes := options.get("num_classes"):
        inputs["label"] = (np.arange(batch) % (classes + 1)).astype("int32")
    if text := options.get("text"):
        inputs["tokens"] = rng.integers(1, text[0] - 1, (batch, text[1]), "int32")
    return inputs


@every_network
def test_a_network_starts_at_zero_uses_every_input_and_trains_every_weight(name):
    network, inputs = build(name), inputs_of(name)
    output = network(inputs, training=False)
    assert output.shape == inputs["x"].shape and output.dtype == "float32"
    assert network.output_shape == (None, *CONFIGURATIONS[name][1])
    np.testing.assert_array_equal(output, 0)

    output = randomise(network)(inputs, training=False).numpy()
    for key, value in inputs.items():
        changed = value.copy()
        changed[0] = 1 - value[0] if key == "label" else value[0] + 1
        difference = np.abs(network({**inputs, key: changed}, training=False) - output)
        assert difference[0].max() > 1e-4, key
        assert difference[1:].max() < 1e-5, f"{key} of another image"

    def loss(training=False):
        return ops.mean((network(inputs, training=training) - inputs["x"] ** 2) ** 2)

    keras.utils.set_random_seed(0)  # of dropout
    with tf.GradientTape() as tape:
        value = loss(training=True)
    assert (abs(float(value - loss())) > 1e-5) == ("dropout" in name)
    gradients = tape.gradient(value, network.trainable_variables)
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.path
    before = float(loss())
    keras.optimizers.Adam(1e-3).apply(gradients, network.trainable_variables)
    assert float(loss()) < before


@pytest.mark.parametrize("name", ["cnn, 5x7, labels", "convnext, labels, 5x5, dropout"])
def test_global_settings_of_keras_do_not_matter_or_are_named(name, monkeypatch):
    network, inputs = randomise(build(name)), inputs_of(name)
    expected = network(inputs, training=False)
    keras.config.set_image_data_format("channels_first")
    try:
        other = build(name)
    finally:
        keras.config.set_image_data_format("channels_last")
    other.set_weights(network.get_weights())
    np.testing.assert_array_equal(other(inputs, training=False), expected)
    for setting in ("dtype_policy", "floatx"):
        monkeypatch.setattr(keras.config, setting, lambda: keras.DTypePolicy("float64"))
        with pytest.raises(ValueError, match=f"^keras.config.{setting}: "):
            build(name)
        monkeypatch.undo()


@pytest.mark.parametrize(
    "name", ["cnn, 5x7, labels", "unet, prompts", "convnext, labels, 5x5, dropout"]
)
def test_mixed_precision_and_saving_keep_the_function(name, tmp_path):
    network, inputs = randomise(build(name)), inputs_of(name)
    expected = network(inputs, training=False).numpy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = build(name)
    mixed.set_weights(network.get_weights())
    keras.config.set_dtype_policy("float32")
    output = mixed(inputs, training=False)
    assert output.dtype == "float32"
    assert 0 < np.abs(output - expected).mean() < 0.03 * expected.std()
    mixed.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(inputs, training=False), output)
    for each in (mixed, loaded):
        first = each.get_layer("conv0" if "cnn" in name else "stem")
        assert first.compute_dtype == "bfloat16"
        assert each.get_layer("logsnr_waves").compute_dtype == "float32"
        assert all(variable.dtype == "float32" for variable in each.trainable_variables)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((30, 30), ["28x28", "32x32"]), ((28, 30), ["28x28", "28x32"]), ((1, 9), ["4x8", "4x12"])],
)
def test_invalid_sizes_name_the_nearest_valid_ones(size, nearest):
    options = {"widths": (4, 4, 4), "attention": (False,) * 3, "embedding_width": 8}
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}: .*multiples of 4") as error:
        unet((*size, 1), **options)
    for name in nearest:
        assert name in str(error.value).split("Nearest")[1]
        unet((*map(int, name.split("x")), 1), **options)


def test_attention_needs_one_entry_per_level():
    with pytest.raises(ValueError, match="attention: 3 .* 2"):
        unet((8, 8, 1), widths=(8, 8), attention=(True,) * 3)


@pytest.mark.parametrize(("channels", "head_width"), [(8, 4), (8, 8), (6, 4), (3, 4)])
def test_attention_against_numpy(channels, head_width):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, channels)).astype("float32")
    layer = SpatialAttention(head_width=head_width)
    np.testing.assert_array_equal(layer(x), 0)
    rng = np.random.default_rng(2)
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    project_in, project_out, bias = layer.get_weights()
    qkv = (x.reshape(2, 12, channels) @ project_in).reshape(2, 12, 3, -1, head_width)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    q, k = (part / np.sqrt((part**2).mean(-1, keepdims=True)) for part in (q, k))
    weights = np.exp(np.einsum("bphc,bqhc->bhpq", q, k) / np.sqrt(head_width))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhpq,bqhc->bphc", weights, v).reshape(2, 3, 4, -1)
    np.testing.assert_allclose(layer(x), mixed @ project_out + bias, atol=1e-4)


def test_depth_to_space_inverts_space_to_depth():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
    folded = SpaceToDepth()(x)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(np.sort(folded[0, 0, 0]), np.sort(x[0, :2, :2].ravel()))
    np.testing.assert_array_equal(DepthToSpace()(folded), x)


def test_the_embedding_distinguishes_noise_levels():
    logsnr = np.arange(-12, 17, 0.5, dtype="float32")
    waves = np.array(LogSNREmbedding(width=64)(logsnr))
    assert waves.shape == (len(logsnr), 64)
    distances = np.linalg.norm(waves[:, None] - waves[None], axis=-1)
    assert distances[~np.eye(len(logsnr), dtype=bool)].min() > 0.5


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (AdaptiveNorm, {"group_width": 8, "epsilon": 1e-3, "activation": "silu"}),
        (SpatialAttention, {"head_width": 8}),
        (CrossAttention, {"head_width": 8}),
        (LogSNREmbedding, {"width": 16, "longest": 50.0, "shortest": 3.0}),
        (TextEncoder, {"num_tokens": 5, "length": 3, "width": 8, "depth": 1}),
    ],
)
def test_a_layer_is_restored_with_all_its_arguments(cls, arguments):
    layer = cls(**arguments)
    again = cls.from_config(layer.get_config())
    assert {name: getattr(again, name) for name in arguments} == arguments
    assert again.dtype_policy.name == layer.dtype_policy.name


# Costs


def test_costs_of_a_convolution():
    inputs = keras.Input((8, 4, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(5, 3, padding="same")(inputs))
    costs = estimate_costs(network, batch_size=10)
    assert costs["flops"] == 2 * 8 * 4 * 3 * 3 * 3 * 5
    assert costs["parameters"] == 3 * 3 * 3 * 5 + 5
    assert costs["memory"] == 20 * costs["parameters"] + 10 * 4 * 8 * 4 * (3 + 5)


def test_flops_grow_with_the_pixels_but_not_those_of_words():
    small, large = (
        estimate_costs(unet((s, s, 1), **{**TINY, "widths": (16, 32)}), 1)["flops"] for s in (8, 16)
    )
    assert 3.8 < large / small <= 4
    for side in (4, 8):
        x, words = keras.Input((side, side, 8)), keras.Input((5, 6))
        network = keras.Model([x, words], CrossAttention(head_width=4)(x, words))
        expected = side * side * 8 * 8 * 2 + 5 * 6 * 16
        assert estimate_costs(network, batch_size=1)["flops"] == 2 * expected
