"""The parts of the studies that compute something, without a training."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_diffusion import DiffusionModel
from keras_diffusion.config.options import Config
from keras_diffusion.diffusion import schedules
from keras_diffusion.diffusion.time_grids import uniform_logsnr
from keras_diffusion.networks import convnext_unet
from studies import morphing, noise_schedules, scoring
from studies.mnist_benchmark import loops
from studies.mnist_benchmark import training as mnist_training
from studies.morphing import data, limits, starts
from studies.morphing import training as morphing_training
from studies.morphing.sampling import UPDATES, Method, Morpher
from studies.noise_schedules import chain
from studies.noise_schedules import training as noise_training
from studies.one_image import measure as image_measure

TOY = morphing.Settings(**morphing.TINY)


def tiny_model(**options):
    """A model of 8x8 images whose predictions are not zero."""
    keras.utils.set_random_seed(0)
    network = convnext_unet((8, 8, 1), widths=(8,), attention=(False,), embedding_width=16)
    rng = np.random.default_rng(1)
    network.set_weights([w + 0.2 * rng.normal(size=w.shape) for w in network.get_weights()])
    return DiffusionModel(network, **options)


def test_noise_in_the_border_is_measured_in_grey_levels():
    images = np.zeros((3, 28, 28, 1), "uint8")
    images[:, 5:20, 5:20] = 255
    assert scoring.border_rms(images) == 0
    images[:, :2], images[:, -2:], images[:, :, :2], images[:, :, -2:] = 10, 10, 10, 10
    assert scoring.border_rms(images) == pytest.approx(10)


# Latents, one image ---------------------------------------------------------------------------


def test_the_best_blur_is_among_those_that_are_tried():
    ramp = np.linspace(90, 160, 64).astype("uint8")
    wide = np.broadcast_to(ramp[None, :, None], (48, 64, 3))
    sigmas = [row["sigma"] for row in image_measure.blur(wide, seed=0)]
    assert sigmas == sorted(sigmas) and 12 < sigmas[-1] < 64


# The MNIST benchmark --------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """(function that makes a `Clock` of ten seconds, function that lets time pass)."""
    now = [100.0]
    monkeypatch.setattr(mnist_training.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    def make(before=None, **options):
        options = {"minutes": 1.0, "until": 10.0, **options}
        clock = mnist_training.Clock(Config(learning_rate=0.5, warmup=0.0), before or {}, **options)
        clock.set_model(SimpleNamespace(stop_training=False))
        clock.on_train_begin()
        return clock

    return make, wait


def test_the_clock_counts_neither_tracing_nor_validation(clock):
    make, wait = clock
    clock = make()
    wait(50)  # tracing
    clock.on_train_batch_end(0)
    wait(9)
    clock.on_train_batch_end(1)
    assert clock.seconds == 9 and not clock.model.stop_training
    clock.on_test_begin()
    wait(30)
    clock.on_test_end()
    clock.on_epoch_end(0, {"loss": 2.0, "val_loss": 3.0})
    wait(1)
    clock.on_train_batch_end(2)
    assert clock.model.stop_training
    assert clock.rows == [{"steps": 2, "seconds": 9.0, "loss": 2.0, "val_loss": 3.0}]


def test_the_clock_may_count_steps_and_resumes(clock):
    make, wait = clock
    endless = make(steps=2, until=float("inf"), minutes=float("inf"), constant=True)
    endless.on_train_batch_end(0)
    wait(1000)
    assert endless.factor(endless.progress) == 1.0 and not endless.model.stop_training
    endless.on_train_batch_end(1)
    assert endless.model.stop_training
    resumed = make({"steps": 70, "seconds": 31.0})
    assert (resumed.steps, resumed.seconds) == (70, 31.0)
    assert resumed.factor(0.5) < 0.6  # a half cosine


@pytest.mark.slow
def test_three_loops_give_the_same_images():
    model = tiny_model()
    times = uniform_logsnr(model.noise_schedule, 3)
    compiled, *others = (
        loop(times).numpy() for loop in loops.sampling_loops(model, 3, seed=1).values()
    )
    assert compiled.shape == (3, 8, 8, 1) and np.ptp(compiled) > 0.5
    for other in others:
        np.testing.assert_allclose(other, compiled, atol=1e-4)


# Noise schedules ------------------------------------------------------------------------------


def test_minutes_become_the_same_steps_for_every_schedule():
    stages = SimpleNamespace(run=lambda name, compute: {"step": 0.3, "call": 0.001})
    epoch = SimpleNamespace(steps_per_epoch=468)
    steps = [
        noise_training.steps_per_round(
            epoch, noise_schedules.Settings(minutes=minutes, epochs=None), stages
        )
        for minutes in (1, 30, 60)
    ]
    assert 1 <= steps[0] < steps[1] < steps[2]
    assert 0.3 * 5 * 40 * steps[2] < 60 * 60
    # Without minutes a round is an epoch.
    assert noise_training.steps_per_round(epoch, noise_schedules.Settings(), stages) == 468


def test_the_chain_adds_beta(monkeypatch):
    """For N(0, 1) the variance beta is exact in a chain of any length (Ho et al., section 3.2)."""

    def network(inputs, training=False):  # the best eps for N(0, 1) is noise_rate x
        return tf.sqrt(tf.sigmoid(-inputs["logsnr"]))[:, None, None, None] * inputs["x"]

    model = SimpleNamespace(
        noise_schedule=schedules.SCHEDULES["linear"],
        image_shape=(8, 8, 1),
        prediction_type="eps",
        graphs=SimpleNamespace(network=network),
        codec=SimpleNamespace(decode=lambda x: x),
    )
    monkeypatch.setattr(chain, "BATCH", 48)
    images, frames = chain.generate(model, 64, num_steps=5, seed=0, num_frames=5)
    assert images.shape == (64, 8, 8, 1) and frames.shape == (6, 48, 8, 8, 1)
    np.testing.assert_array_equal(frames[-1], images[:48])
    assert frames[:-1].std(axis=(1, 2, 3, 4)) == pytest.approx(1.0, abs=0.03)


# Morphing -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toys():
    return data.load(TOY, None)


def test_a_digit_gets_another_garment_in_each_epoch(toys):
    batches = data.Batches(*toys, TOY)
    steps = len(toys[1]["train_images"]) // TOY.batch_size

    def taken(morphing, first, count):
        return list(batches.training(morphing, first).take(count).as_numpy_iterator())

    seen, partners = taken(True, 0, 100), {}
    for batch in seen:
        for digit, garment in zip(batch["image"], batch["endpoint"], strict=True):
            partners.setdefault(digit.tobytes(), []).append(garment.tobytes())
    repeated = [garments for garments in partners.values() if len(garments) > 1]
    assert len(repeated) > 50
    assert np.mean([len(set(garments)) > 1 for garments in repeated]) > 0.9
    known = {garment.tobytes() for garment in toys[1]["train_images"]}
    assert {garment for garments in partners.values() for garment in garments} <= known

    first = steps + 3  # in the second epoch of garments: a later part starts where one ended
    for late, again in zip(taken(True, first, 4), seen[first:], strict=False):
        np.testing.assert_array_equal(late["image"], again["image"])
        np.testing.assert_array_equal(late["endpoint"], again["endpoint"])
    [alone] = taken(False, 0, 1)
    np.testing.assert_array_equal(alone["image"], seen[0]["image"])
    assert set(alone) == {"image"}
    held_out = list(batches.validation(True).as_numpy_iterator())
    for name, images in zip(("image", "endpoint"), toys, strict=True):
        found = np.concatenate([batch[name] for batch in held_out])
        np.testing.assert_array_equal(found, images["test_images"][: TOY.pictures])


@pytest.mark.slow
def test_sampling_is_that_of_the_package(toys):
    model = tiny_model(prediction_type="x0")
    morpher, (digits, garments) = Morpher(model), (each["test_images"][:6] for each in toys)
    x0, x = morpher.encode(digits), morpher.encode(garments)
    np.testing.assert_array_equal(morpher.decode(x), garments)
    images = {}
    for update, sampler in zip(UPDATES, ("ddim", "cold"), strict=True):
        images[update] = morpher.generate(x, Method(4, "uniform_logsnr", update)).astype(int)
        expected = model.generate(6, sampler=sampler, num_steps=4, endpoints=garments)
        assert np.abs(images[update] - expected).max() <= 1
    assert np.abs(images["held"] - images["re-estimated"]).max() > 5
    signal, noise = (float(rate) for rate in schedules.rates(schedules.cosine, 0.3))
    mixed = morpher.mix(x0, x, 0.3)
    np.testing.assert_allclose(mixed, signal * x0 + noise * x, atol=1e-6)
    assert mixed.dtype == np.float32


def test_a_mixture_gives_new_garments_of_the_same_kinds():
    rng = np.random.default_rng(0)
    greys = np.where(rng.random(400) < 0.25, -0.5, 0.5)  # two kinds, one of them rarer
    x = greys[:, None, None, None] + 0.05 * rng.standard_normal((400, 4, 4, 1))
    mixture = starts.Mixture(x.astype("float32"), components=2, dimensions=3, seed=0)
    samples = mixture.sample(1000)
    assert samples.shape == (1000, 4, 4, 1) and np.abs(samples).max() <= 1
    means = samples.mean(axis=(1, 2, 3))
    assert np.abs(np.abs(means) - 0.5).max() < 0.2
    assert (means < 0).mean() == pytest.approx(0.25, abs=0.06)
    assert 0 < (means[:24] < 0).sum() < 24  # the first ones, which are shown, are of both kinds
    assert len(np.unique(samples.reshape(1000, -1), axis=0)) == 1000
    assert 0.9 < mixture.kept < 1
    np.testing.assert_allclose(mixture.project(x), x, atol=0.3)


def test_images_that_are_alike_count_as_one():
    rng = np.random.default_rng(0)
    images = rng.integers(20, 230, (10, 8, 8, 1), "uint8")
    near = images[:4] + rng.integers(0, 5, (4, 8, 8, 1), "uint8")
    far = images[:4] + np.uint8(20)
    assert limits.different(images) == 10
    assert limits.different(np.concatenate([images, images, near])) == 10
    assert limits.different(np.concatenate([images, far])) == 14


def test_parts_end_with_the_epochs_that_fit():
    def ends(**options):
        settings = dataclasses.replace(morphing.Settings(), **options)
        stages = SimpleNamespace(run=lambda *_: {"step": 0.4, "call": 1e-3})
        return morphing_training.part_ends(None, settings, stages)

    assert ends(epochs=12) == (5, 10, 12)
    assert ends(epochs=3) == (3,)
    assert ends(epochs=None, minutes=1) == (5,)
    few, many = (ends(epochs=None, minutes=minutes)[-1] for minutes in (60, 120))
    # 60 minutes more; 48 steps of 0.4 s and two seconds of sampling per epoch of three trainings
    assert many - few == pytest.approx(0.85 * 3600 / (3 * (48 * 0.4 + 2)), abs=5)
