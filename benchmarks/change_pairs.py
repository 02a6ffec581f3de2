"""The two versions of each change in `changes.py`: {name: function (tiny) -> [before, after]}."""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks import plain, runs
from benchmarks.changes import BATCH, SIDE, WIDTH
from keras_diffusion import build
from keras_diffusion.config import options as configuration
from keras_diffusion.data import pipeline
from keras_diffusion.networks.layers import DepthToSpace, SpaceToDepth
from keras_diffusion.networks.normalisation import GroupRMSNorm
from keras_diffusion.sampling import graphs


def _images(tiny, channels=WIDTH):
    shape = (2, 4, 4, 16) if tiny else (BATCH, SIDE, SIDE, channels)
    return tf.cast(tf.random.stateless_normal(shape, (0, 0)), "bfloat16")


def _both_ways(function, x):
    """One call: the value, and the gradient by x for a random one by the value."""
    dy = tf.cast(tf.random.stateless_normal(function(x).shape, (0, 1)), x.dtype)

    @tf.function  # both are arguments: of constants, TensorFlow would compute it all beforehand
    def both(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, output_gradients=dy)

    return lambda: both(x, dy)


def _layer(tiny):
    x = _images(tiny)
    norm = GroupRMSNorm(activation="silu")
    return _plain_and_own(lambda: _both_ways(norm, x))


def _training_step(tiny):
    return _plain_and_own(lambda: _step(tiny))


def _bfloat16(tiny):
    keras.config.set_dtype_policy("float32")
    before = _step(tiny)
    keras.config.set_dtype_policy("mixed_bfloat16")
    return [before, _step(tiny)]


def _stock_layers(tiny):
    x = _images(tiny)
    own = GroupRMSNorm(activation="silu")
    groups = x.shape[-1] // own.group_width
    stock = keras.Sequential([layers.GroupNormalization(groups), layers.Activation("silu")])
    return [_both_ways(stock, x), _both_ways(own, x)]


def _attention_at_one_level(tiny):
    levels = 2 if tiny else 3
    low = (False,) * (levels - 2)
    return [_step(tiny, attention=(*low, *which)) for which in ((True, True), (False, True))]


def _plain_and_own(make):
    """Returns what `make` returns with plain layers, traced by a first call, and with ours."""
    with plain.layers():
        before = make()
        before()
    return [before, make()]


def _preset(tiny, **options):
    """The model of the MNIST preset, its options and the shape of its images."""
    toy = {"widths": (8, 16), "batch_size": 4} if tiny else {}
    config = configuration.resolve("mnist", {**toy, **options})
    shape = (8, 8, 1) if tiny else (28, 28, 1)
    return build.model(config, shape, num_classes=10), config, shape


def _step(tiny, optimizer=None, jit_compile=False, **options):
    """One training step of the MNIST preset, on noise."""
    model, config, shape = _preset(tiny, **options)
    if optimizer:
        given = model.optimizer
        model.compile(optimizer=optimizer(config.learning_rate, beta_2=given.beta_2))
    model.optimizer.build(model.network.trainable_variables)
    count = config.batch_size
    images = tf.random.stateless_uniform((count, *shape), (0, 0), 0, 256, tf.int32)
    batch = tf.cast(images, tf.uint8), tf.range(count) % 10
    step = tf.function(model.train_step, jit_compile=jit_compile)
    return lambda: step(batch)


def _halving(tiny):
    x = _images(tiny)
    fold = SpaceToDepth()
    return [_both_ways(lambda x: tf.nn.space_to_depth(x, 2), x), _both_ways(fold, x)]


def _doubling(tiny):
    x = _images(tiny)
    width = x.shape[-1]
    before = keras.Sequential([layers.UpSampling2D(), layers.Conv2D(width, 3, padding="same")])
    after = keras.Sequential([layers.Conv2D(4 * width, 1), DepthToSpace()])
    return [_both_ways(model, x) for model in (before, after)]


def _end_of_a_data_set(tiny):
    """A validation of the MNIST preset, on noise."""
    model, config, shape = _preset(tiny)
    count = 8 if tiny else 5_000
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), "uint8")
    arrays = {"image": images, "label": np.arange(count) % 10}
    batches = pipeline.validation_batches(arrays, config.batch_size)
    options = tf.data.Options()
    options.autotune.enabled = True
    tuned = batches.with_options(options)
    return [lambda data=data: model.evaluate(data, verbose=0) for data in (tuned, batches)]


def _guidance_in_an_interval(tiny):
    model, *_ = _preset(tiny)
    count, num_steps = (2, 2) if tiny else (16, 20)
    options = {"num_steps": num_steps, "guidance_scale": 2.0}
    return [
        lambda interval=interval: model.generate(count, guidance_interval=interval, **options)
        for interval in ((0.0, 1.0), (0.1, 0.8))
    ]


def _autograph(tiny):
    """Starts a process in each call, as what was rewritten once is kept."""

    def draw(autograph):
        runs.in_fresh_process("change_pairs.first_picture", autograph=autograph, tiny=tiny)

    return [lambda: draw(True), lambda: draw(False)]


def first_picture(autograph, tiny):
    """Draws one picture with a new model; in a fresh process."""
    graphs.graph = functools.partial(tf.function, autograph=autograph)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, *_ = _preset(tiny)
    model.generate(1, num_steps=2)
    return {}


def _xla(tiny):
    return [_step(tiny), _step(tiny, jit_compile=True)]


def _embeddings(tiny):
    config = configuration.resolve("mnist", {"widths": (8, 16)} if tiny else {})
    network = build.model(config, (8, 8, 1) if tiny else (28, 28, 1), num_classes=10).ema_network
    embedding = network.get_layer("embedding").output
    rest = keras.Model([network.input["x"], embedding], network.output)
    count = 2 if tiny else 16
    x = tf.random.stateless_normal((count, *network.output.shape[1:]), (0, 0))
    inputs = {"x": x, "logsnr": tf.zeros((count,)), "label": tf.range(count) % 10}
    ready = keras.Model(network.input, embedding)(inputs)
    return [_called(network, inputs), _called(rest, [x, ready])]


def _called(network, inputs):
    """One call as a graph of its inputs: of constants, TensorFlow would compute it beforehand."""
    predict = tf.function(lambda inputs: network(inputs, training=False))
    return lambda: predict(inputs)


class _OneOperationAdam(keras.optimizers.AdamW):
    """AdamW whose moments and weight are updated by one operation of TensorFlow."""

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        weights = (v if isinstance(v, tf.Variable) else v.value for v in (variable, *moments))
        handles = [weight.handle for weight in weights]
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=handles[0], m=handles[1], v=handles[2], grad=gradient,
            beta1_power=self.beta_1**step, beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1, beta2=self.beta_2, epsilon=self.epsilon,
        )  # fmt: skip


def _adam(tiny):
    return [_step(tiny, keras.optimizers.AdamW), _step(tiny, _OneOperationAdam)]


PAIRS = {
    "bfloat16": _bfloat16,
    "layer": _layer,
    "training step": _training_step,
    "stock layers": _stock_layers,
    "attention at one level": _attention_at_one_level,
    "guidance in an interval": _guidance_in_an_interval,
    "AutoGraph": _autograph,
    "halving": _halving,
    "doubling": _doubling,
    "end of a data set": _end_of_a_data_set,
    "XLA for the whole step": _xla,
    "embeddings before the loop": _embeddings,
    "one operation of Adam": _adam,
}
