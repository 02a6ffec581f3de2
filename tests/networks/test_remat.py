"""Networks that compute their blocks again in the backward pass: the same function."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion import DiffusionModel, build
from keras_diffusion.config.options import Config
from keras_diffusion.networks import TextEncoder, unet
from keras_diffusion.networks.costs import estimate_costs
from keras_diffusion.networks.layers import Recomputed
from keras_diffusion.saving import saved_model

SHAPE = (8, 8, 3)
OPTIONS = {
    "widths": (16,),
    "attention": (True,),
    "num_classes": 3,
    "dropout": 0.3,
    "embedding_width": 16,
}
INPUTS = {
    "x": np.random.default_rng(0).normal(size=(4, *SHAPE)).astype("float32"),
    "logsnr": np.linspace(-6, 6, 4, dtype="float32"),
    "label": np.arange(4, dtype="int32"),
    "tokens": np.array([[1, 2, 3], [1, 3, 0], [1, 0, 0], [1, 2, 2]], "int32"),
}
IMAGES = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), np.uint8)
LABELS = np.arange(8) % 3
# Keras 3.15 with numpy 2, in model.save; nothing that we could do.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def pair(**options):
    """The network, kept and recomputed, with the same weights, all awake, and dropout seeds."""
    kept, again = (unet(SHAPE, remat=remat, **{**OPTIONS, **options}) for remat in (False, True))
    rng = np.random.default_rng(1)
    for weights in zip(by_path(kept.weights), by_path(again.weights), strict=True):
        awake = weights[0] + 0.1 * rng.normal(size=weights[0].shape).astype(weights[0].dtype)
        for weight in weights:
            weight.assign(awake)
    for network in (kept, again):
        for number, seed in enumerate(seeds_of(network)):
            seed.assign((number, 0))
    return kept, again


def by_path(weights):
    """Weights in an order that knows nothing of the blocks that they are in."""
    return sorted(weights, key=lambda weight: weight.path)


def seeds_of(network):
    return [variable for variable in network.variables if "seed" in variable.path]


def train_pass(network):
    """Output, gradient of x and gradients of all weights, in training."""
    inputs = {name: tf.constant(INPUTS[name]) for name in network.input}
    x = inputs["x"]
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = network(inputs, training=True)
        loss = tf.reduce_mean((output - x**2) ** 2)
    return output, tape.gradient(loss, [x, *by_path(network.trainable_variables)])


def assert_same_pass(ours, expected, rtol, atol=0):
    np.testing.assert_allclose(ours[0], expected[0], rtol=0, atol=atol)
    for gradient, wanted in zip(ours[1], expected[1], strict=True):
        gradient, wanted = (tf.convert_to_tensor(g).numpy() for g in (gradient, wanted))
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(gradient, wanted, atol=rtol * np.abs(wanted).max())


def test_the_weights_are_the_same():
    kept, again = pair(widths=(8, 12), attention=(True, True))
    names = [[(w.path, w.shape) for w in by_path(net.weights)] for net in (kept, again)]
    assert names[0] == names[1]
    assert not any(isinstance(layer, Recomputed) for layer in kept.layers)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_outputs_and_gradients_are_the_same_with_dropout(mode):
    kept, again = pair(attention=(mode != "xla",))  # which compiles long
    assert len(seeds_of(kept)) == len(seeds_of(again)) == 2
    if mode == "eager":
        run = train_pass
    else:
        run = tf.function(train_pass, jit_compile=mode == "xla", autograph=False)
    first = run(again)
    rounding = 1e-4 if mode == "xla" else 0  # XLA fuses the blocks and the whole differently
    assert_same_pass(first, run(kept), rtol=1e-5 + rounding, atol=rounding)
    np.testing.assert_array_equal(seeds_of(again), seeds_of(kept))
    assert np.abs(run(again)[0] - first[0]).max() > 1e-3  # another mask


def test_words_are_looked_at_again():
    text = TextEncoder(num_tokens=4, length=3, width=8, depth=1)
    kept, again = pair(num_classes=0, text=text, dropout=0.0)
    assert_same_pass(train_pass(again), train_pass(kept), rtol=1e-5)


def test_blocks_run_twice_in_training_and_once_else(monkeypatch):
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


def test_mixed_precision_rounds_as_without():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        kept, again = pair(dropout=0.0)
    finally:
        keras.config.set_dtype_policy(before)
    block = again.get_layer("middle_1_recomputed").block
    assert block.get_layer("middle_1_conv1").compute_dtype == "bfloat16"
    assert [h.dtype for h in block.inputs] == ["bfloat16", "float32"]
    assert_same_pass(train_pass(again), train_pass(kept), rtol=0.03)


def models():
    for network in pair(dropout=0.0, attention=(False,)):
        model = DiffusionModel(network, ema_decay=0.9)
        model.compile(keras.optimizers.SGD(1e-2))
        yield model


def test_a_model_trains_samples_saves_and_exports(tmp_path, monkeypatch):
    smallest = {"ddim": saved_model.SAMPLERS["ddim"]}  # one is as good as all
    monkeypatch.setattr(saved_model, "SAMPLERS", smallest)
    kept, again = models()
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    losses = [model.fit(IMAGES, LABELS, **options).history["loss"] for model in (kept, again)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    averages = [by_path(model.ema_network.weights) for model in (again, kept)]
    for ours, wanted in zip(*averages, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-5)
    images = again.generate(3, sampler="ddim", num_steps=2)

    again.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.network.get_layer("middle_1_recomputed"), Recomputed)
    np.testing.assert_array_equal(loaded.generate(3, sampler="ddim", num_steps=2), images)
    assert_same_pass(train_pass(loaded.network), train_pass(again.network), rtol=1e-5)

    path = saved_model.export_saved_model(again, tmp_path / "export", sampler="ddim")
    exported = tf.saved_model.load(path)
    drawn = exported.generate_ddim(
        tf.constant(0),
        tf.range(3),
        tf.constant(2),
        tf.range(3),
        tf.constant(1.0),
        tf.constant([0.0, 1.0]),
        tf.constant(0.0),
    )
    np.testing.assert_array_equal(drawn, images)


def test_clones_and_copies_of_weights_compute_the_same():
    _, network = pair()
    clone = keras.models.clone_model(network)
    clone.set_weights(network.get_weights())
    inputs = {name: INPUTS[name] for name in network.input}
    np.testing.assert_array_equal(clone(inputs), network(inputs))
    ours = {id(variable) for variable in network.variables}
    assert not any(id(variable) in ours for variable in clone.variables)


def test_the_option_reaches_the_network_and_lowers_the_estimate_of_memory():
    options = {"widths": (16,), "attention": (False,), "embedding_width": 16, "block_depth": 3}
    networks = [
        build.model(Config(remat=remat, **options), SHAPE, 3).network for remat in (False, True)
    ]
    kept, again = (estimate_costs(network, batch_size=64) for network in networks)
    assert isinstance(networks[1].get_layer("middle_1_recomputed"), Recomputed)
    assert again["parameters"] == kept["parameters"] and again["flops"] == kept["flops"]
    assert again["memory"] < 0.6 * kept["memory"]
