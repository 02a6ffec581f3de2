"""One device against two logical CPUs on the same batches; prints the differences as JSON.

    python tests/support/replicas.py

A process of its own, since logical devices must be made before TensorFlow starts.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from keras_diffusion import Autoencoder, DiffusionModel, LatentCodec, Prompts
from keras_diffusion.networks import TextEncoder, decoder, encoder, unet  # noqa: E402
from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.randomness import batch_positions, replica_rows, step_key  # noqa: E402

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 8, 8, 1), np.uint8)
LABELS = np.arange(64) % 10
EPOCHS, STEPS = 4, 4


@keras.saving.register_keras_serializable("tests")
class Poisoned(DiffusionModel):
    """Its sixth step has a gradient with a NaN, on the last replica alone."""

    def _gradients(self, noised):
        gradients, errors = super()._gradients(noised)
        rank, replicas = distribution.replica()
        now = tf.equal(self.optimizer.iterations, 5) & tf.equal(self.skipped_steps, 0)
        poison = tf.where(now & tf.equal(rank, replicas - 1), np.nan, 0.0)
        return [gradients[0] + poison, *gradients[1:]], errors


def training():
    data = tf.data.Dataset.from_tensor_slices({"image": IMAGES, "label": LABELS})
    return data.batch(16, drop_remainder=True).repeat()


def validation():
    """21 images in batches of 8: the last one is shared out as 2 and 3."""
    arrays = {"image": IMAGES[:21], "label": LABELS[:21], "index": np.arange(21)}
    return tf.data.Dataset.from_tensor_slices(arrays).batch(8).repeat()


def trained(strategy, dropout=0.0, **options):
    """Returns (model, history) after a few epochs; the gradient is clipped in most steps.

    One of the steps is skipped, and is a step like the others on the replica without a NaN.
    """
    keras.utils.set_random_seed(1)
    with strategy.scope():
        network = unet((8, 8, 1), num_classes=10, widths=(8,), attention=(False,), dropout=dropout)
        model = Poisoned(network, **options)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.5))
    history = model.fit(
        distribution.share_out(strategy, training()),
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        validation_data=distribution.share_out(strategy, validation()),
        validation_steps=3,
        shuffle=False,
        verbose=0,
    )
    return model, history.history


def latents(strategy):
    """Returns (weights, pictures) of a model of latents and prompts, each after an epoch."""
    keras.utils.set_random_seed(1)
    options = {"widths": (8,), "latent_channels": 2}
    with strategy.scope():
        autoencoder = Autoencoder(encoder((8, 8, 1), **options), decoder((8, 8, 1), **options))
        autoencoder.compile(keras.optimizers.SGD(0.05, global_clipnorm=0.5))
    fit = {"steps_per_epoch": STEPS, "shuffle": False, "verbose": 0}
    autoencoder.fit(distribution.share_out(strategy, training()), **fit)
    codec = LatentCodec.measured(autoencoder, IMAGES)
    prompts = Prompts([f"number {label}" for label in range(10)])
    with strategy.scope():
        text = TextEncoder(prompts.num_tokens, prompts.length, width=8, depth=1)
        network = unet(codec.x_shape, text=text, widths=(8, 16))
        model = DiffusionModel(network, codec=codec, prompts=prompts)
        model.compile(keras.optimizers.SGD(0.05, global_clipnorm=0.5))
    model.fit(distribution.share_out(strategy, training()), **fit)
    drawn = model.generate(
        5, prompts="number 2", negative_prompts="number 6", guidance_scale=2.0, num_steps=2
    )
    return model.get_weights(), drawn.astype(int)


def largest_difference(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def losses_differ(one, other):
    return max(largest_difference(one[name], other[name]) for name in one)


def copies_differ(variables):
    """The largest difference between the two copies of each variable."""
    pairs = [[copy.numpy() for copy in variable.value.values] for variable in variables]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def draws(strategy):
    """Whether noise and times differ between replicas, and together are those of one device."""

    def draw():
        key = step_key(3, tf.constant(7))
        count = tf.constant(4)
        noise = replica_rows(lambda n: tf.random.stateless_normal((n, 5), key), count)
        return key, noise, batch_positions(count)

    drawn = tf.function(lambda: strategy.run(draw))()
    keys, noise, place = ([copy.numpy() for copy in value.values] for value in drawn)
    key = step_key(3, tf.constant(7))
    whole = tf.random.stateless_normal((8, 5), key).numpy()
    return {
        "keys_are_one": all(bool((copy == key.numpy()).all()) for copy in keys),
        "noise_differs": bool((noise[0] != noise[1]).any()),
        "noise_is_whole": bool((np.concatenate(noise) == whole).all()),
        "places": np.concatenate(place).tolist(),
    }


def pictures_differ(one, other):
    """Largest difference of the same requests, in 255ths: odd numbers, labels, frames."""
    requests = [
        {"num_images": 11, "batch_size": 5, "seed": 4, "guidance_scale": 2.0},
        {"num_images": 3, "guidance_scale": 3.0, "guidance_interval": (0.2, 0.8)},
        {"num_images": 3, "labels": [3, 10, 1], "num_frames": 2},
    ]
    worst = 0
    for request in requests:
        options = {"sampler": "ddpm", "num_steps": 4, **request}
        a, b = (model.generate(**options).astype(int) for model in (one, other))
        assert a.shape == b.shape
        worst = max(worst, int(np.abs(a - b).max()))
    return worst


def reloaded_differ(model, strategy):
    """A .keras file written under a strategy, read without one and with one again."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        plain = keras.models.load_model(f"{folder}/model.keras")
        with strategy.scope():
            again = keras.models.load_model(f"{folder}/model.keras")
    steps = [int(m.optimizer.iterations.numpy()) for m in (model, plain, again)]
    assert len(set(steps)) == 1, steps
    weights = model.get_weights()
    return max(largest_difference(weights, m.get_weights()) for m in (plain, again))


def main():
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = distribution.make_strategy("mirrored")
    one, history = trained(distribution.make_strategy("single"))
    results = {"replicas": two.num_replicas_in_sync, **draws(two)}
    for name, options in (("two", {}), ("two_in_parts", {"accumulate": 2})):
        model, other = trained(two, **options)
        results[f"{name}_weights"] = largest_difference(one.get_weights(), model.get_weights())
        results[f"{name}_losses"] = losses_differ(history, other)
        results[f"{name}_copies"] = copies_differ(model.weights)
        results[f"{name}_skipped"] = [int(m.skipped_steps.numpy()) for m in (one, model)]
    results["pictures"] = pictures_differ(one, model)
    results["reloaded"] = reloaded_differ(model, two)
    (weights, pictures), (others, drawn) = (
        latents(strategy) for strategy in (distribution.make_strategy("single"), two)
    )
    results["latent_weights"] = largest_difference(weights, others)
    results["latent_pictures"] = int(np.abs(pictures - drawn).max())
    dropped, noisy = trained(two, dropout=0.2)
    results["dropout_finite"] = bool(np.isfinite(noisy["loss"]).all())
    results["dropout_copies"] = copies_differ(dropped.weights)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
