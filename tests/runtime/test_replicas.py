"""Two replicas (logical CPUs) against one: the same training, samples and files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_models import SHAPE, tiny_network

from keras_diffusion import Autoencoder, DiffusionModel, LatentCodec, Muon, Prompts
from keras_diffusion.networks import TextEncoder, decoder, encoder, unet
from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.randomness import batch_positions, replica_rows, step_key

CLASSES = 2
IMAGES = np.random.default_rng(0).integers(0, 256, (32, *SHAPE), np.uint8)
LABELS = np.arange(32) % CLASSES


@keras.saving.register_keras_serializable("tests")
class Poisoned(DiffusionModel):
    """The gradient of its second step is NaN, on the last replica only."""

    def _gradients(self, noised):
        gradients, errors = super()._gradients(noised)
        rank, replicas = distribution.replica()
        now = tf.equal(self.step, 1) & tf.equal(self.skipped_steps, 0)
        poison = tf.where(now & tf.equal(rank, replicas - 1), np.nan, 0.0)
        return [gradients[0] + poison, *gradients[1:]], errors


def batches(count=32, **options):
    data = {"image": IMAGES[:count], "label": LABELS[:count], "index": np.arange(count)}
    data["sample_weight"] = np.linspace(0.5, 1.5, count, dtype="float32")
    return tf.data.Dataset.from_tensor_slices(data).batch(8, **options).repeat()


def trained(strategy, cls=Poisoned, dropout=0.0, optimizer=None, **options):
    """Returns (model, history) after two epochs of two steps; most gradients are clipped."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = cls(tiny_network(num_classes=CLASSES, dropout=dropout), **options)
        sgd = keras.optimizers.SGD(0.2, momentum=0.9, global_clipnorm=0.3)
        model.compile(optimizer() if optimizer else sgd)
    fit_options = {"steps_per_epoch": 2, "epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(
        distribution.share_out(strategy, batches()),
        validation_data=distribution.share_out(strategy, batches(13)),  # 8 and 5 images
        validation_steps=2,
        **fit_options,
    )
    return model, history.history


def largest_difference(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def copies_differ(model):
    """The largest difference between the replicas' copies of the weights, EMA and counters."""
    pairs = [[copy.numpy() for copy in variable.value.values] for variable in model.weights]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.fixture(scope="module")
def two():
    strategy = distribution.make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    return strategy


@pytest.fixture(scope="module")
def one():
    return trained(distribution.make_strategy("single"))


@pytest.fixture(scope="module")
def on_two(two):
    return trained(two)


def assert_same_training(one, other):
    (model, history), (other_model, other_history) = one, other
    assert [int(m.skipped_steps.numpy()) for m in (model, other_model)] == [1, 1]
    assert largest_difference(model.get_weights(), other_model.get_weights()) < 1e-5
    for name, values in history.items():
        np.testing.assert_allclose(other_history[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_weights_and_losses_are_those_of_one_replica(one, on_two):
    assert_same_training(one, on_two)
    assert copies_differ(on_two[0]) == 0


@pytest.mark.slow
def test_muon_takes_the_gradient_of_all_replicas(two):
    single = distribution.make_strategy("single")
    one, other = (trained(strategy, optimizer=Muon) for strategy in (single, two))
    assert_same_training(one, other)
    assert copies_differ(other[0]) == 0


def test_noise_and_positions_differ_between_replicas(two):
    key = step_key(3, tf.constant(7))

    def on_replica():
        count = tf.constant(4)
        noise = replica_rows(lambda n: tf.random.stateless_normal((n, 5), key), count)
        return noise, batch_positions(count)

    results = tf.function(lambda: two.run(on_replica))()
    noise, positions = ([copy.numpy() for copy in result.values] for result in results)
    assert (noise[0] != noise[1]).any()
    np.testing.assert_array_equal(np.concatenate(noise), tf.random.stateless_normal((8, 5), key))
    assert np.concatenate(positions).tolist() == list(range(8))


def test_samples_are_those_of_one_replica(one, on_two):
    for request in (
        {"num_images": 7, "batch_size": 5, "seed": 4, "guidance_scale": 2.0},
        {"num_images": 3, "labels": [2, 1, 0], "num_frames": 2},
    ):
        options = {"sampler": "ddpm", "num_steps": 2, **request}
        samples, others = (model.generate(**options).astype(int) for model, _ in (one, on_two))
        assert samples.shape == others.shape
        assert np.abs(samples - others).max() <= 1


@pytest.mark.slow
def test_microbatches_on_two_replicas(one, two):
    assert_same_training(one, trained(two, accumulate=2))


@pytest.mark.slow
def test_replicas_with_dropout_stay_equal(two):
    model, history = trained(two, DiffusionModel, dropout=0.2)
    assert np.isfinite(history["loss"]).all()
    assert copies_differ(model) == 0


@pytest.mark.slow
def test_a_file_moves_between_strategies(on_two, two, tmp_path):
    model, _ = on_two
    model.save(tmp_path / "model.keras")
    single = keras.models.load_model(tmp_path / "model.keras")
    with two.scope():
        mirrored = keras.models.load_model(tmp_path / "model.keras")
    for other in (single, mirrored):
        assert other.step.numpy() == model.step.numpy() == 3
        assert largest_difference(model.get_weights(), other.get_weights()) == 0


def latent_model(strategy):
    """Returns (weights, samples) of a model of latents and prompts, after two steps each."""
    keras.utils.set_random_seed(1)
    options = {"widths": (4,), "latent_channels": 2}
    with strategy.scope():
        autoencoder = Autoencoder(encoder(SHAPE, **options), decoder(SHAPE, **options))
        autoencoder.compile(keras.optimizers.SGD(0.05, global_clipnorm=0.5))
    fit = {"steps_per_epoch": 2, "shuffle": False, "verbose": 0}
    autoencoder.fit(distribution.share_out(strategy, batches()), **fit)
    codec = LatentCodec.measured(autoencoder, IMAGES)
    prompts = Prompts([f"number {label}" for label in range(CLASSES)])
    with strategy.scope():
        text = TextEncoder(prompts.num_tokens, prompts.length, width=8, depth=1)
        network = unet(codec.x_shape, text=text, widths=(4,), embedding_width=8)
        model = DiffusionModel(network, codec=codec, prompts=prompts)
        model.compile(keras.optimizers.SGD(0.05, global_clipnorm=0.5))
    model.fit(distribution.share_out(strategy, batches()), **fit)
    samples = model.generate(
        5, prompts="number 1", negative_prompts="number 0", guidance_scale=2.0, num_steps=2
    )
    return model.get_weights(), samples.astype(int)


@pytest.mark.slow
def test_latents_and_prompts_on_two_replicas(two):
    weights, samples = latent_model(distribution.make_strategy("single"))
    other_weights, other_samples = latent_model(two)
    assert largest_difference(weights, other_weights) < 1e-4  # the measured scale included
    assert np.abs(samples - other_samples).max() <= 1
