"""The network and training of the keras.io DDIM example, written anew in stock Keras 3 layers.

As published: Oxford Flowers at 64x64, widths 32-64-96-128, two blocks per level, batch
normalisation without scale and centre, average pooling and bilinear upsampling, a skip from every
block; eps with an absolute error, AdamW, an average with decay 0.999, no clipping; sampled by
DDIM. Images are normalised by their mean and variance.
Reference: https://keras.io/examples/generative/ddim/ (Béres 2022).
"""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks import subjects
from benchmarks.subjects import keras_parts

VARIANTS = ("float32", "mixed_bfloat16", "float32, our optimizer")
WIDTHS, BLOCK_DEPTH = (32, 64, 96, 128), 2
TINY_WIDTHS, TINY_DEPTH = (8, 16), 1
ADAPT_IMAGES = 4096  # at most, for mean and variance
EMBEDDING_WIDTH, MAX_FREQUENCY = 32, 1000.0
MAX_SIGNAL, MIN_SIGNAL = 0.95, 0.02  # signal rates at the ends of the schedule
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4
EMA_DECAY = 0.999


class Subject:
    """See `benchmarks.subjects`."""

    def __init__(self, task, variant="float32", tiny=False):
        policy, *with_ours = variant.split(", ")
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(0)
        self.image_shape = subjects.image_shape(task, tiny)
        depths = (TINY_WIDTHS, TINY_DEPTH) if tiny else (WIDTHS, BLOCK_DEPTH)
        self.model = ImplicitModel(self.image_shape, *depths)
        optimizer, self._learning_rate = keras_parts.our_optimizer() if with_ours else (
            keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY), None
        )  # fmt: skip
        self.model.compile(optimizer)

    def facts(self):
        return keras_parts.facts(self.model.network)

    def train(self, images, batch_size, should_stop):
        if not self.model.optimizer.built:
            self.model.normalizer.adapt(_scaled(images[:: -(-len(images) // ADAPT_IMAGES)]))
        size = min(batch_size, len(images))
        batches = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images)).repeat()
        batches = batches.batch(size, drop_remainder=True).map(_scaled).prefetch(2)
        keras_parts.fit(self.model, batches, should_stop, self._learning_rate)

    def sample(self, num, num_steps, seed):
        def sample(first, count):
            noise = tf.random.stateless_normal((count, *self.image_shape), (seed, first))
            return self.model.sample(noise, num_steps)

        x = np.concatenate(list(subjects.in_batches(num, sample)))
        return np.round(np.clip(x, 0, 1) * 255).astype("uint8")

    def call(self, num):
        x = tf.zeros((num, *self.image_shape))
        return self.model.predict_eps(x, tf.zeros((num, 1, 1, 1))).numpy()

    def use_last_weights(self):
        self.model.ema_network.set_weights(self.model.network.get_weights())

    def save(self, path):
        self.model.save_weights(f"{path}.weights.h5")

    def load(self, path):
        self.model.optimizer.build(self.model.network.trainable_variables)
        self.model.load_weights(f"{path}.weights.h5")


class ImplicitModel(keras.Model):
    """The model of the example: a network, its average, and a cosine schedule of angles."""

    def __init__(self, image_shape, widths, block_depth):
        super().__init__()
        self.normalizer = layers.Normalization(dtype="float32")
        self.normalizer.build((None, *image_shape))
        self.network = build_network(image_shape, widths, block_depth)
        self.ema_network = keras.models.clone_model(self.network)
        self.ema_network.set_weights(self.network.get_weights())
        self.ema_network.trainable = False
        self.noise_loss = keras.metrics.Mean(name="noise_loss")
        self.built = True

    @property
    def metrics(self):
        return [self.noise_loss]

    @staticmethod
    def rates(t):
        """Returns (signal_rate, noise_rate): cosine and sine of an angle linear in t."""
        first, last = math.acos(MAX_SIGNAL), math.acos(MIN_SIGNAL)
        angle = first + t * (last - first)
        return tf.cos(angle), tf.sin(angle)

    def train_step(self, images):
        x0 = self.normalizer(images)
        count = tf.shape(x0)[0]
        eps = tf.random.normal(tf.shape(x0))
        signal_rate, noise_rate = self.rates(tf.random.uniform((count, 1, 1, 1)))
        x_t = signal_rate * x0 + noise_rate * eps
        with tf.GradientTape() as tape:
            predicted = self.network([x_t, noise_rate**2], training=True)
            loss = keras.losses.mean_absolute_error(eps, predicted)  # not reduced, as published
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        for average, weight in zip(self.ema_network.weights, self.network.weights, strict=True):
            average.assign(EMA_DECAY * average + (1 - EMA_DECAY) * weight)
        self.noise_loss.update_state(loss)
        return {"noise_loss": self.noise_loss.result()}

    @tf.function(reduce_retracing=True)
    def predict_eps(self, x_t, noise_rate):
        """Calls the averaged network as a graph; the example calls it eagerly."""
        return self.ema_network([x_t, noise_rate**2], training=False)

    def sample(self, noise, num_steps):
        """Returns images in [0, 1], by DDIM in steps of equal time."""
        x_t, ones = noise, tf.ones((noise.shape[0], 1, 1, 1))
        for step in range(num_steps):
            signal_rate, noise_rate = self.rates(ones * (1 - step / num_steps))
            eps = self.predict_eps(x_t, noise_rate)
            x0 = (x_t - noise_rate * eps) / signal_rate
            signal_rate, noise_rate = self.rates(ones * (1 - (step + 1) / num_steps))
            x_t = signal_rate * x0 + noise_rate * eps
        return (self.normalizer.mean + x0 * tf.sqrt(self.normalizer.variance)).numpy()


def build_network(image_shape, widths, block_depth):
    """Returns the U-Net: [x_t, noise variance (B, 1, 1, 1)] -> eps; its last layer is zero."""
    height, width, channels = image_shape
    x_t, variance = keras.Input(image_shape), keras.Input((1, 1, 1))
    embedding = SinusoidalEmbedding(dtype="float32")(variance)
    embedding = layers.UpSampling2D((height, width), interpolation="nearest")(embedding)
    h = layers.Concatenate()([layers.Conv2D(widths[0], 1)(x_t), embedding])
    skips = []
    for level in widths[:-1]:
        for _ in range(block_depth):
            h = _block(h, level)
            skips.append(h)
        h = layers.AveragePooling2D(2)(h)
    for _ in range(block_depth):
        h = _block(h, widths[-1])
    for level in reversed(widths[:-1]):
        h = layers.UpSampling2D(2, interpolation="bilinear")(h)
        for _ in range(block_depth):
            h = _block(layers.Concatenate()([h, skips.pop()]), level)
    eps = layers.Conv2D(channels, 1, kernel_initializer="zeros")(h)
    eps = layers.Activation("linear", dtype="float32")(eps)
    return keras.Model([x_t, variance], eps)


def _block(x, width):
    """Residual block: batch normalisation, two convolutions, and a 1x1 where widths differ."""
    shortcut = x if x.shape[-1] == width else layers.Conv2D(width, 1)(x)
    h = layers.BatchNormalization(center=False, scale=False)(x)
    h = layers.Conv2D(width, 3, padding="same", activation="swish")(h)
    h = layers.Conv2D(width, 3, padding="same")(h)
    return layers.Add()([h, shortcut])


class SinusoidalEmbedding(layers.Layer):
    """Sines and cosines of the noise variance, at frequencies from 1 to 1000."""

    def call(self, variance):
        steps = np.linspace(0, math.log(MAX_FREQUENCY), EMBEDDING_WIDTH // 2)
        angles = (2 * math.pi * np.exp(steps)).astype("float32") * variance
        return keras.ops.concatenate([keras.ops.sin(angles), keras.ops.cos(angles)], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], EMBEDDING_WIDTH)


def _scaled(images):
    return tf.cast(images, tf.float32) / 255
