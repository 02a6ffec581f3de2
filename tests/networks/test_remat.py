"""Networks with `remat` (blocks computed again in the backward pass) are the same function."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion import DiffusionModel, build
from keras_diffusion.config.options import Config
from keras_diffusion.networks import unet
from keras_diffusion.networks.costs import estimate_costs
from keras_diffusion.networks.layers import Recomputed

SHAPE = (4, 4, 3)
OPTIONS = {"widths": (4,), "num_classes": 3, "dropout": 0.3, "embedding_width": 8}
INPUTS = {
    "x": np.random.default_rng(0).normal(size=(4, *SHAPE)).astype("float32"),
    "logsnr": np.linspace(-6, 6, 4, dtype="float32"),
    "label": np.arange(4, dtype="int32"),
    "tokens": np.array([[1, 2, 3], [1, 3, 0], [1, 0, 0], [1, 2, 2]], "int32"),
}
# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def by_path(weights):
    """Weights in an order that does not depend on the blocks that contain them."""
    return sorted(weights, key=lambda weight: weight.path)


def seeds_of(network):
    return [variable for variable in network.variables if "seed" in variable.path]


def pair(**options):
    """Returns networks without and with remat, with the same random weights and dropout seeds."""
    pair = [unet(SHAPE, remat=remat, **{**OPTIONS, **options}) for remat in (False, True)]
    rng = np.random.default_rng(1)
    for weights in zip(*(by_path(network.weights) for network in pair), strict=True):
        assert weights[0].path == weights[1].path
        value = weights[0] + 0.1 * rng.normal(size=weights[0].shape).astype(weights[0].dtype)
        for weight in weights:
            weight.assign(value)
    for network in pair:
        for number, seed in enumerate(seeds_of(network)):
            seed.assign((number, 0))
    return pair


def train_pass(network):
    """Returns the output, and the gradients of x and of all weights, in training."""
    inputs = {name: tf.constant(INPUTS[name]) for name in network.input}
    x = inputs["x"]
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = network(inputs, training=True)
        loss = tf.reduce_mean((output - x**2) ** 2)
    return output, tape.gradient(loss, [x, *by_path(network.trainable_variables)])


def assert_same_pass(result, expected, rtol, atol=0):
    np.testing.assert_allclose(result[0], expected[0], rtol=0, atol=atol)
    for gradient, other in zip(result[1], expected[1], strict=True):
        gradient, other = (tf.convert_to_tensor(g).numpy() for g in (gradient, other))
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(gradient, other, atol=rtol * np.abs(other).max())


@pytest.mark.parametrize(
    "mode", ["graph", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("eager", "xla"))]
)
def test_outputs_and_gradients_are_the_same_with_dropout(mode):
    plain, remat = pair(attention=(mode != "xla",))  # its compilation takes long
    assert len(seeds_of(plain)) == len(seeds_of(remat)) == 2
    run = train_pass
    if mode != "eager":
        run = tf.function(train_pass, jit_compile=mode == "xla", autograph=False)
    first = run(remat)
    rounding = 1e-4 if mode == "xla" else 0  # XLA fuses single blocks differently
    assert_same_pass(first, run(plain), rtol=1e-5 + rounding, atol=rounding)
    np.testing.assert_array_equal(seeds_of(remat), seeds_of(plain))
    assert np.abs(run(remat)[0] - first[0]).max() > 1e-3  # another mask


def test_blocks_run_twice_in_training_and_once_otherwise(monkeypatch):
    _, network = pair()
    calls = []
    call = keras.layers.Conv2D.call

    def counted(self, x):
        calls.append(self.name)
        return call(self, x)

    monkeypatch.setattr(keras.layers.Conv2D, "call", counted)
    train_pass(network)
    assert [calls.count(name) for name in ("stem", "middle_1_conv1", "middle_0_conv2")] == [1, 2, 2]
    calls.clear()
    with tf.GradientTape():
        network({name: INPUTS[name] for name in network.input}, training=False)
    assert calls.count("middle_1_conv1") == 1


def test_a_model_is_cloned_saved_and_loaded(tmp_path):
    _, network = pair(attention=(False,))
    model = DiffusionModel(network)
    own = {id(variable) for variable in network.variables}
    assert not any(id(variable) in own for variable in model.ema_network.variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.network.get_layer("middle_1_recomputed"), Recomputed)
    inputs = {name: INPUTS[name] for name in network.input}
    for other in (model.ema_network, loaded.network, loaded.ema_network):
        np.testing.assert_array_equal(other(inputs), network(inputs))


def test_the_option_reduces_the_estimate_of_memory():
    options = {"widths": (16,), "attention": (False,), "embedding_width": 8, "block_depth": 3}
    plain, remat = (
        estimate_costs(build.model(Config(remat=remat, **options), SHAPE, 3).network, batch_size=64)
        for remat in (False, True)
    )
    assert remat["parameters"] == plain["parameters"] and remat["flops"] == plain["flops"]
    assert remat["memory"] < 0.6 * plain["memory"]
