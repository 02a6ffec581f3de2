"""Images by `DiffusionModel.generate`."""

import numpy as np
import pytest
import tensorflow as tf
from fixtures_models import tiny_model

from keras_diffusion.diffusion import samplers
from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.time_grids import uniform_logsnr
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.sampling.editing import img2img

SHAPE = (8, 8, 1)
rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (5, *SHAPE), np.uint8)


@pytest.fixture(scope="module")
def model():
    return tiny_model(SHAPE, num_classes=3, schedule="linear")


@pytest.fixture(scope="module")
def unlabelled():
    return tiny_model(SHAPE)


def largest(one, other):
    return np.abs(one.astype(int) - other).max()


def changed(one, other):
    """Which images differ by more than rounding."""
    return (np.abs(one.astype(int) - other).max(axis=(1, 2, 3)) > 1).tolist()


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_an_image_depends_on_the_seed_and_its_number_alone(model, sampler):
    options = {"sampler": sampler, "num_steps": 5, "seed": 3, "guidance_scale": 2.0}
    whole = model.generate(8, batch_size=8, **options)
    assert whole.shape == (8, *SHAPE) and whole.std() > 10
    assert largest(whole, model.generate(8, batch_size=3, **options)) <= 1
    assert largest(whole[:2], model.generate(2, **options)) <= 1
    assert all(changed(whole, model.generate(8, **{**options, "seed": 4})))


def test_ddpm_adds_other_noise_in_every_step(model):
    """Against a plain loop, with noise stream i + 1 in step i."""
    seed, indices, schedule = tf.constant(3), tf.range(4), model.noise_schedule
    condition = {"label": tf.constant([0, 1, 2, 0])}
    denoiser = make_denoiser(model.ema_network, schedule, "v", condition=condition, clip=1.0)
    x, times = image_noise(seed, indices, SHAPE, 0), uniform_logsnr(schedule, 3)
    for i in range(3):
        z = image_noise(seed, indices, SHAPE, i + 1)
        x = samplers.ddpm(denoiser, schedule, x, times[i : i + 2], noise_fn=lambda _, z=z: z)
    images = model.generate(4, sampler="ddpm", num_steps=3, seed=3)
    assert largest(images, model.codec.decode(x).numpy()) <= 1


def test_labels_are_the_classes_in_turn_unless_given(model):
    options = {"num_steps": 3, "guidance_scale": 3.0}
    in_turn = model.generate(5, **options)
    np.testing.assert_array_equal(in_turn, model.generate(5, labels=[0, 1, 2, 0, 1], **options))
    others = model.generate(5, labels=[0, 2, 1, 0, 3], **options)
    assert changed(in_turn, others) == [False, True, True, False, True]


def test_guidance(model):
    def generate(**options):
        return model.generate(4, num_steps=3, **options)

    off, full = generate(), generate(guidance_scale=4.0)
    np.testing.assert_array_equal(generate(guidance_scale=1.0), off)
    assert largest(generate(guidance_scale=1.0001), off) <= 1 < largest(full, off)
    assert largest(generate(guidance_scale=0.0), generate(labels=[3] * 4)) <= 1
    for interval, expected in (((0.0, 1.0), full), ([0, 1], full), ((0.99, 0.99), off)):
        images = generate(guidance_scale=4.0, guidance_interval=interval)
        np.testing.assert_array_equal(images, expected)
    some = generate(guidance_scale=4.0, guidance_interval=(0.2, 0.9))
    assert largest(some, full) > 1 and largest(some, off) > 1
    np.testing.assert_array_equal(generate(guidance_scale=4.0, guidance_rescale=0.0), full)
    assert largest(generate(guidance_scale=4.0, guidance_rescale=0.7), full) > 1


def test_frames_lead_from_noise_to_the_image(model):
    for num_steps in (3, 10):
        options = {"num_steps": num_steps, "seed": 1, "batch_size": 2}
        frames = model.generate(5, num_frames=5, **options)
        assert frames.shape == (6, 5, *SHAPE)
        assert largest(frames[-1], model.generate(5, **options)) <= 1
        # Clipped standard Gaussian noise: a third of the pixels is black or white.
        assert np.isin(frames[0], (0, 255)).mean() == pytest.approx(0.32, abs=0.08)


def test_an_unknown_sampler_lists_the_choices(model):
    with pytest.raises(ValueError, match="cold.*ddim.*ddpm.*dpmpp_2m.*heun"):
        model.generate(2, sampler="euler")


def test_frames_are_counted_by_any_whole_number(model):
    assert model.generate(2, num_steps=2, num_frames=np.int64(2)).shape[:2] == (3, 2)
    with pytest.raises(ValueError, match="num_frames: 0"):
        model.generate(2, num_frames=0)


# Graphs -------------------------------------------------------------------------------------


def test_only_samplers_frames_and_schedules_are_traced(monkeypatch):
    model, graphs = tiny_model(SHAPE, num_classes=3, schedule="linear"), []
    run = samplers.SAMPLERS["ddim"]
    monkeypatch.setitem(
        samplers.SAMPLERS,
        "ddim",
        lambda *args, **options: graphs.append(1) or run(*args, **options),
    )
    for num_steps, num_images, scale in ((1, 2, 1.0), (2, 3, 2.0), (7, 2, 1.0)):
        options = {"num_steps": num_steps, "guidance_scale": scale, "seed": num_steps}
        assert len(model.generate(num_images, sampler="ddim", **options)) == num_images
    assert len(graphs) == 1
    for strength, num_steps in ((0.5, 2), (0.6, 3)):
        img2img(model, IMAGES, sampler="ddim", strength=strength, num_steps=num_steps)
    assert len(graphs) == 2
    linear = model.generate(2, sampler="ddim", num_steps=3)
    model.schedule = "cosine"
    cosine = model.generate(2, sampler="ddim", num_steps=3)
    assert len(graphs) == 3 and largest(cosine, linear) > 1
    model.schedule = "linear"
    np.testing.assert_array_equal(model.generate(2, sampler="ddim", num_steps=3), linear)
    assert len(graphs) == 3
    assert model.graphs.network_graph.experimental_get_tracing_count() == 1


# Endpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddim", "cold"])
def test_images_depend_on_their_endpoints_alone(model, sampler):
    options = {"sampler": sampler, "num_steps": 3, "labels": [0, 1, 2, 0, 1], "num_frames": 3}
    frames = model.generate(5, endpoints=IMAGES, batch_size=2, **options)
    np.testing.assert_array_equal(frames[0], IMAGES)
    assert largest(frames, model.generate(5, endpoints=IMAGES, seed=9, **options)) <= 1
    assert largest(frames, model.generate(5, endpoints=IMAGES / 255, **options)) <= 1
    others = model.generate(5, endpoints=IMAGES[[1, 0, 2, 3, 4]], **options)
    assert changed(frames[-1], others[-1]) == [True, True, False, False, False]


def test_cold_keeps_the_endpoints(unlabelled):
    model, options = unlabelled, {"num_steps": 4, "endpoints": IMAGES}
    cold = model.generate(5, sampler="cold", **options)
    assert largest(cold, model.generate(5, sampler="ddim", **options)) > 5
    schedule, x = model.noise_schedule, model.codec.encode(tf.constant(IMAGES))
    denoiser = make_denoiser(model.ema_network, schedule, model.prediction_type, clip=1.0)
    expected = samplers.cold(denoiser, schedule, x, uniform_logsnr(schedule, 4), endpoint=x)
    assert largest(cold, model.codec.decode(expected).numpy()) <= 1
    noise = [model.generate(5, sampler=name, num_steps=4) for name in ("ddim", "cold")]
    assert largest(*noise) <= 1  # no endpoints
    with pytest.raises(ValueError, match="^endpoints: NaN, or floats outside"):
        model.generate(5, endpoints=IMAGES.astype("float32"), num_steps=1)
