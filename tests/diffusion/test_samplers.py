"""Every sampler on Gaussian data, where the best denoiser and the exact solution are known."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from analytic import STD, gaussian_denoiser, marginal_std

from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.samplers import SAMPLERS, STOCHASTIC, cold, ddim, ddpm
from keras_diffusion.diffusion.schedules import SCHEDULES, rates, time_of_logsnr
from keras_diffusion.diffusion.time_grids import GRIDS, uniform_logsnr, uniform_t

every_sampler = pytest.mark.parametrize("sampler", sorted(SAMPLERS))
every_deterministic = pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - STOCHASTIC))
every_schedule = pytest.mark.parametrize("schedule", sorted(SCHEDULES))
COSINE = SCHEDULES["cosine"]


def gaussian(seed=0, shape=(64, 8, 8, 1)):
    return tf.random.stateless_normal(shape, (seed, 0))


def noise_of(x, seed=7):
    return lambda i: tf.random.stateless_normal(tf.shape(x), tf.stack([seed, i]))


@functools.cache
def traced(sampler, schedule, num_frames=None):
    """The sampler with the closed-form denoiser as a graph of (x, times), traced once."""
    schedule = SCHEDULES[schedule]
    specs = [tf.TensorSpec((None,) * 3 + (1,)), tf.TensorSpec((None,))]

    @tf.function(input_signature=specs)
    def run(x, times):
        options = {"noise_fn": noise_of(x)} if sampler in STOCHASTIC else {}
        denoiser = gaussian_denoiser(schedule)
        return SAMPLERS[sampler](denoiser, schedule, x, times, num_frames=num_frames, **options)

    return run


@functools.cache
def grid_of(grid, schedule, num_steps):
    return GRIDS[grid](SCHEDULES[schedule], num_steps)


@every_sampler
@every_schedule
@pytest.mark.parametrize("grid", ["uniform_logsnr", "karras", "uniform_t"])
def test_samples_are_finite_and_have_the_std_of_the_data(sampler, schedule, grid):
    # DDPM omits the variance of x0 given x_t: too narrow by about 4 / num_steps.
    cases = [(1, None), (2, None), (50, 0.1 if sampler == "ddpm" else 0.06), (250, 0.05)]
    if grid != "uniform_logsnr":
        cases = [(1, None), (250, 0.05)]
    if grid == "uniform_t" and schedule in ("constant", "inverse_linear"):
        cases = [(50, None)]  # equal steps in t do not suit these two
    for num_steps, tolerance in cases:
        x = traced(sampler, schedule)(gaussian(), grid_of(grid, schedule, num_steps)).numpy()
        assert np.isfinite(x).all(), num_steps
        if tolerance:
            assert abs(x.mean()) < 0.03, num_steps
            assert x.std() == pytest.approx(STD, rel=tolerance), num_steps


ORDERS = {"ddim": (0.9, 1.1), "cold": (0.9, 1.1), "heun": (1.85, 2.2), "dpmpp_2m": (1.8, 2.2)}


@every_deterministic
@every_schedule
def test_order_of_convergence(sampler, schedule):
    errors = []
    ends = time_of_logsnr(SCHEDULES[schedule], np.array([-5.0, 5.0], "float32"))
    first, last = (marginal_std(SCHEDULES[schedule], t) for t in ends)
    for num_steps in (20, 40, 80, 160):
        # Strictly inside of (0, 1): the steps to and from the ends have a fixed length.
        ratios = np.linspace(-5, 5, num_steps + 1).astype("float32")
        times = time_of_logsnr(SCHEDULES[schedule], ratios)
        x = traced(sampler, schedule)(tf.ones((1, 1, 1, 1)), times)
        errors.append(abs(float(x[0, 0, 0, 0]) - float(last / first)))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    low, high = ORDERS[sampler]
    assert low < orders.mean() < high, orders


@every_deterministic
@every_schedule
def test_samples_are_those_of_the_exact_ode(sampler, schedule):
    x = gaussian(shape=(4, 4, 4, 1))
    exact = x * STD / marginal_std(SCHEDULES[schedule], 1.0)
    samples = traced(sampler, schedule)(x, grid_of("uniform_logsnr", schedule, 200))
    # 7e-4: the last step, from logSNR 9 to t = 0, is of first order for every sampler
    tolerance = 0.02 if sampler in ("ddim", "cold") else 2e-3
    np.testing.assert_allclose(samples, exact, atol=1e-6, rtol=tolerance)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.8), (0.6, 0.5), (0.3, 0.05), (0.2, 0.0)])
def test_a_ddpm_step_samples_the_posterior(t, s):
    """Against q(x_s | x_t, x0), Ho et al. 2020, equations 6 and 7, in float64."""
    x_t, x0 = np.float32(0.7), np.float32(-0.4)
    signal_t, noise_t = (np.array(rate, "float64") for rate in rates(COSINE, t))
    signal_s, noise_s = (np.array(rate, "float64") for rate in rates(COSINE, s))
    alpha = (signal_t / signal_s) ** 2
    mean = signal_s * (1 - alpha) / noise_t**2 * x0
    mean += np.sqrt(alpha) * noise_s**2 / noise_t**2 * x_t
    std = noise_s / noise_t * np.sqrt(1 - alpha)

    def denoiser(x, time):
        signal, noise = rates(COSINE, time)
        return tf.fill((1, 1, 1, 1), x0), (x - signal * x0) / noise

    x, times = tf.fill((1, 1, 1, 1), x_t), tf.constant([t, s])
    for z in (-1.0, 0.0, 1.0):
        x_s = ddpm(denoiser, COSINE, x, times, noise_fn=lambda i, z=z: tf.fill((1, 1, 1, 1), z))
        assert float(x_s[0, 0, 0, 0]) == pytest.approx(mean + z * std, abs=1e-4)


def test_ddpm_is_ddim_with_eta_one_and_fresh_noise_in_each_step():
    x, times = gaussian(shape=(2, 4, 4, 1)), uniform_logsnr(COSINE, 6)
    steps = []

    def noise_fn(i):
        steps.append(int(i))
        return noise_of(x)(i)

    denoiser = gaussian_denoiser(COSINE)
    expected = ddim(denoiser, COSINE, x, times, eta=1.0, noise_fn=noise_fn)
    assert steps == list(range(6))
    np.testing.assert_allclose(traced("ddpm", "cosine")(x, times), expected, atol=1e-6)
    other = ddpm(denoiser, COSINE, x, times, noise_fn=noise_of(x, seed=8))
    assert np.abs(other - expected).max() > 0.1


@every_schedule
def test_cold_with_the_endpoint_inverts_a_mixture(schedule):
    """Exactly, if the predictions are exact; an error in x0 does not depend on the steps."""
    schedule = SCHEDULES[schedule]
    x0, endpoint, wrong = (gaussian(seed, (2, 4, 4, 1)) for seed in (1, 2, 3))
    for start, num_steps in ((1.0, 1), (0.3, 4)):
        times = uniform_t(schedule, num_steps, start)
        x = mix((x0, endpoint), rates(schedule, start))
        for guess in (x0, wrong):
            samples = cold(lambda x, t, g=guess: (g, x), schedule, x, times, endpoint=endpoint)
            expected = guess + rates(schedule, start)[0] * (x0 - guess)
            np.testing.assert_allclose(samples, expected, atol=1e-5)


@every_sampler
def test_frames_are_the_steps_of_the_same_run(sampler):
    x, times = gaussian(shape=(2, 4, 4, 1)), grid_of("uniform_logsnr", "cosine", 10)
    run = traced(sampler, "cosine")
    for num_frames in (3, 10, 16):
        result, frames = traced(sampler, "cosine", num_frames)(x, times)
        assert frames.shape == (num_frames + 1, 2, 4, 4, 1)
        np.testing.assert_array_equal(frames[0], x)
        np.testing.assert_array_equal(frames[-1], result)
        np.testing.assert_allclose(result, run(x, times), atol=1e-6)
        if sampler not in STOCHASTIC and num_frames == 10:
            for i in (1, 4, 9):
                np.testing.assert_allclose(frames[i], run(x, times[: i + 1]), atol=1e-6)


@every_sampler
def test_steps_of_length_0_change_nothing(sampler):
    times, x = grid_of("uniform_logsnr", "cosine", 40), gaussian(shape=(8, 8, 8, 1))
    doubled = tf.concat([times[:1], times[:9], times[8:20], times[19:], times[-1:]], axis=0)
    samples = traced(sampler, "cosine")(x, doubled).numpy()
    assert np.isfinite(samples).all()
    if sampler not in STOCHASTIC:
        # 2M takes a first-order step after each of them.
        tolerance = 0.01 if sampler == "dpmpp_2m" else 1e-4
        np.testing.assert_allclose(samples, traced(sampler, "cosine")(x, times), rtol=tolerance)


@every_sampler
def test_one_trace_and_one_loop_for_every_number_of_steps(sampler):
    run = traced(sampler, "cosine")
    x = gaussian(shape=(1, 4, 4, 1))
    for num_steps in (1, 3, 10):
        run(x, uniform_t(COSINE, num_steps))
    assert run.experimental_get_tracing_count() == 1
    times = tf.TensorSpec((301,), tf.float32)  # 300 steps, known when the graph is traced
    graph = tf.function(run.python_function).get_concrete_function(x, times).graph.as_graph_def()
    nodes = len(graph.node) + sum(len(f.node_def) for f in graph.library.function)
    assert nodes < 600, "the loop is unrolled"


@every_schedule
def test_ddim_backwards_in_time_inverts(schedule):
    run, x = traced("ddim", schedule), STD * gaussian(shape=(4, 4, 4, 1))
    times = grid_of("uniform_logsnr", schedule, 400)
    latent = run(x, times[::-1])
    assert np.std(latent) == pytest.approx(np.std(x) / STD, rel=0.03)
    np.testing.assert_allclose(run(latent, times), x, rtol=0.05, atol=1e-4)
