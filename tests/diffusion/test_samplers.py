"""Every sampler on Gaussian data, where the best denoiser and the exact answer are known."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from analytic import STD, gaussian_denoiser, marginal_std

from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.samplers import SAMPLERS, STOCHASTIC, cold, ddim, ddpm, dpmpp_2m
from keras_diffusion.diffusion.schedules import SCHEDULES, rates, time_of_logsnr
from keras_diffusion.diffusion.time_grids import GRIDS, uniform_logsnr, uniform_t

DETERMINISTIC = sorted(set(SAMPLERS) - STOCHASTIC)
every_sampler = pytest.mark.parametrize("sampler", sorted(SAMPLERS))
every_deterministic = pytest.mark.parametrize("sampler", DETERMINISTIC)
every_schedule = pytest.mark.parametrize("schedule", sorted(SCHEDULES))
SHAPE = (256, 8, 8, 1)
TIMES = tf.TensorSpec((None,), tf.float32)


def gaussian(seed=0, shape=SHAPE):
    return tf.random.stateless_normal(shape, (seed, 0))


def noise_of(x, seed=7):
    return lambda i: tf.random.stateless_normal(tf.shape(x), tf.stack([seed, i]))


def call(sampler, schedule, x, times, **options):
    """One run with the closed-form denoiser; stochastic samplers get fixed noise."""
    if sampler in STOCHASTIC:
        options["noise_fn"] = noise_of(x)
    schedule = SCHEDULES[schedule]
    return SAMPLERS[sampler](gaussian_denoiser(schedule), schedule, x, times, **options)


@functools.cache
def traced(sampler, schedule, num_frames=None):
    """The same as a graph of (x, times), traced once."""
    options = {} if num_frames is None else {"num_frames": num_frames}
    return tf.function(
        lambda x, times: call(sampler, schedule, x, times, **options),
        input_signature=[tf.TensorSpec((None,) * 3 + (1,), tf.float32), TIMES],
    )


@functools.cache
def traced_grid(grid, schedule):
    return tf.function(
        functools.partial(GRIDS[grid], SCHEDULES[schedule]),
        input_signature=[tf.TensorSpec((), tf.int32)],
    )


@every_sampler
@every_schedule
def test_default_grid_finite_and_of_the_right_std(sampler, schedule):
    # DDPM leaves out the spread of x0 given x_t: too narrow by about 4 / num_steps.
    last = 0.1 if sampler == "ddpm" else 0.06
    for num_steps, tolerance in [(1, None), (2, None), (5, None), (50, last), (250, 0.03)]:
        times = traced_grid("uniform_logsnr", schedule)(num_steps)
        x = traced(sampler, schedule)(gaussian(), times).numpy()
        assert np.isfinite(x).all(), num_steps
        if tolerance:
            assert abs(x.mean()) < 0.02, num_steps
            assert x.std() == pytest.approx(STD, rel=tolerance), num_steps


@every_sampler
@pytest.mark.parametrize(
    ("grid", "schedule"),
    [("karras", name) for name in sorted(SCHEDULES)]
    # where equal steps in t make sense: they ruin `constant` and `inverse_linear`
    + [("uniform_t", name) for name in ("cosine", "linear", "sigmoid")],
)
def test_other_grids(sampler, grid, schedule):
    for num_steps in (1, 2, 250):
        times = traced_grid(grid, schedule)(num_steps)
        x = traced(sampler, schedule)(gaussian(), times).numpy()
        assert np.isfinite(x).all(), num_steps
    assert x.std() == pytest.approx(STD, rel=0.05)


@every_sampler
@pytest.mark.parametrize("schedule", ["constant", "inverse_linear"])
def test_unsuited_grid_stays_finite(sampler, schedule):
    times = traced_grid("uniform_t", schedule)(50)
    assert np.isfinite(traced(sampler, schedule)(gaussian(), times)).all()


ORDERS = {"ddim": (0.9, 1.1), "cold": (0.9, 1.1), "heun": (1.85, 2.2), "dpmpp_2m": (1.8, 2.2)}


def orders(sampler, schedule):
    """log2 of how much each halving of the steps lowers the error against the exact ODE."""
    errors = []
    ends = time_of_logsnr(SCHEDULES[schedule], np.array([-5.0, 5.0], "float32"))
    first, last = (marginal_std(SCHEDULES[schedule], t) for t in ends)
    for num_steps in (20, 40, 80, 160):
        # Strictly inside (0, 1): the steps to and from the ends are of fixed length.
        ratios = np.linspace(-5, 5, num_steps + 1).astype("float32")
        times = time_of_logsnr(SCHEDULES[schedule], ratios)
        x = traced(sampler, schedule)(tf.ones((1, 1, 1, 1)), times)
        errors.append(abs(float(x[0, 0, 0, 0]) - float(last / first)))
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


@every_deterministic
@every_schedule
def test_order_of_convergence(sampler, schedule):
    low, high = ORDERS[sampler]
    measured = orders(sampler, schedule)
    assert low < measured.mean() < high, measured


@every_deterministic
@every_schedule
def test_whole_way_ends_near_the_exact_map(sampler, schedule):
    times = traced_grid("uniform_logsnr", schedule)(200)
    x = gaussian(shape=(4, 4, 4, 1))
    exact = x * STD / marginal_std(SCHEDULES[schedule], 1.0)
    got = traced(sampler, schedule)(x, times)
    # 7e-4: the last step, from logSNR 9 to t = 0, is of first order whatever the sampler
    tolerance = 0.02 if sampler in ("ddim", "cold") else 2e-3
    np.testing.assert_allclose(got, exact, atol=1e-6, rtol=tolerance)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.8), (0.6, 0.5), (0.3, 0.05), (0.2, 0.0)])
def test_a_ddpm_step_samples_the_posterior(t, s):
    """Against q(x_s | x_t, x0), Ho et al. 2020, equations 6 and 7, in float64."""
    schedule = SCHEDULES["cosine"]
    x_t, x0 = np.float32(0.7), np.float32(-0.4)
    signal_t, noise_t = (np.array(rate, "float64") for rate in rates(schedule, t))
    signal_s, noise_s = (np.array(rate, "float64") for rate in rates(schedule, s))
    alpha = (signal_t / signal_s) ** 2
    mean = signal_s * (1 - alpha) / noise_t**2 * x0
    mean += np.sqrt(alpha) * noise_s**2 / noise_t**2 * x_t
    std = noise_s / noise_t * np.sqrt(1 - alpha)

    def denoiser(x, time):
        signal, noise = rates(schedule, time)
        return tf.fill((1, 1, 1, 1), x0), (x - signal * x0) / noise

    for z in (-1.0, 0.0, 1.0):
        x_s = ddpm(
            denoiser,
            schedule,
            tf.fill((1, 1, 1, 1), x_t),
            tf.constant([t, s]),
            noise_fn=lambda i, z=z: tf.fill((1, 1, 1, 1), z),
        )
        assert float(x_s[0, 0, 0, 0]) == pytest.approx(mean + z * std, abs=1e-4)


@every_schedule
def test_cold_without_an_endpoint_is_ddim(schedule):
    x = gaussian(shape=(4, 4, 4, 1))
    for grid in ("uniform_logsnr", "uniform_t"):
        times = traced_grid(grid, schedule)(10)
        expected = traced("ddim", schedule)(x, times).numpy()
        np.testing.assert_allclose(traced("cold", schedule)(x, times), expected, atol=2e-6)


@every_schedule
def test_cold_with_the_endpoint_undoes_a_mixture(schedule):
    """From any t, if the predictions are right; a wrong one is as wrong after any steps."""
    schedule = SCHEDULES[schedule]
    x0, endpoint, wrong = (gaussian(seed, (2, 4, 4, 1)) for seed in (1, 2, 3))
    for start, num_steps in ((1.0, 1), (1.0, 7), (0.3, 4)):
        times = uniform_t(schedule, num_steps, start)
        x = mix((x0, endpoint), rates(schedule, start))
        for guess in (x0, wrong):
            got = cold(lambda x, t, g=guess: (g, x), schedule, x, times, endpoint=endpoint)
            expected = guess + rates(schedule, start)[0] * (x0 - guess)
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_cold_with_an_endpoint_is_a_mean_of_predictions():
    schedule, endpoint = SCHEDULES["cosine"], gaussian(shape=(1, 4, 4, 1))
    times = uniform_t(schedule, 5)
    guesses = gaussian(1, (5, 1, 4, 4, 1))

    def denoiser(x, t):
        return guesses[tf.argmax(times == t)], tf.zeros_like(x)

    got = cold(denoiser, schedule, endpoint, times, endpoint=endpoint)
    signal, _ = rates(schedule, times)
    weights = np.diff(signal)
    assert weights.sum() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(got, np.einsum("i,i...->...", weights, guesses), atol=1e-4)


def test_ddpm_is_ddim_with_eta_one():
    schedule, x = SCHEDULES["cosine"], gaussian(shape=(2, 4, 4, 1))
    times = uniform_logsnr(schedule, 10)
    options = {"eta": 1.0, "noise_fn": noise_of(x)}
    expected = ddim(gaussian_denoiser(schedule), schedule, x, times, **options)
    np.testing.assert_allclose(call("ddpm", "cosine", x, times), expected, atol=1e-6)
    other = ddpm(gaussian_denoiser(schedule), schedule, x, times, noise_fn=noise_of(x, seed=8))
    assert np.abs(other - expected).max() > 0.1


def test_eta_needs_noise():
    schedule = SCHEDULES["cosine"]
    with pytest.raises(ValueError, match="noise_fn"):
        ddim(gaussian_denoiser(schedule), schedule, gaussian(), uniform_t(schedule, 2), eta=0.5)


@pytest.mark.parametrize("eta", [0.3, 0.7])
def test_every_eta_keeps_the_std(eta):
    schedule = SCHEDULES["cosine"]

    @tf.function
    def run(x, times):
        return ddim(gaussian_denoiser(schedule), schedule, x, times, eta=eta, noise_fn=noise_of(x))

    assert np.std(run(gaussian(), uniform_logsnr(schedule, 200))) == pytest.approx(STD, rel=0.03)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_two_halves_of_a_grid_are_the_whole(sampler):
    times, x = traced_grid("uniform_logsnr", "linear")(20), gaussian(shape=(2, 4, 4, 1))
    run = traced(sampler, "linear")
    np.testing.assert_allclose(run(run(x, times[:8]), times[7:]), run(x, times), atol=1e-6)


@every_sampler
@pytest.mark.parametrize("num_frames", [1, 3, 10, 16])
def test_frames(sampler, num_frames):
    times, x = traced_grid("uniform_logsnr", "cosine")(10), gaussian(shape=(2, 4, 4, 1))
    result, frames = traced(sampler, "cosine", num_frames)(x, times)
    assert frames.shape == (num_frames + 1, 2, 4, 4, 1)
    np.testing.assert_array_equal(frames[0], x)
    np.testing.assert_array_equal(frames[-1], result)
    np.testing.assert_allclose(result, traced(sampler, "cosine")(x, times), atol=1e-6)
    if sampler not in STOCHASTIC and num_frames == 10:  # frame i is the run's first i steps
        for i in (1, 4, 9):
            part = traced(sampler, "cosine")(x, times[: i + 1])
            np.testing.assert_allclose(frames[i], part, atol=1e-6)


@every_sampler
def test_steps_of_no_length_change_nothing(sampler):
    times, x = traced_grid("uniform_logsnr", "cosine")(40), gaussian(shape=(8, 8, 8, 1))
    doubled = tf.concat([times[:1], times[:9], times[8:20], times[19:], times[-1:]], axis=0)
    got = traced(sampler, "cosine")(x, doubled).numpy()
    assert np.isfinite(got).all()
    if sampler not in STOCHASTIC:
        # 2M takes one step of first order after each of no length
        tolerance = 0.01 if sampler == "dpmpp_2m" else 1e-4
        np.testing.assert_allclose(got, traced(sampler, "cosine")(x, times), rtol=tolerance)


def test_dpmpp_2m_survives_the_flat_end_of_a_floored_schedule():
    schedule = SCHEDULES["cosine"]
    times = tf.concat([tf.linspace(1.0, 0.998, 50), uniform_t(schedule, 100)[1:]], axis=0)
    flat = np.array(schedule(times))
    assert (np.diff(flat) == 0).sum() > 10
    x = dpmpp_2m(gaussian_denoiser(schedule), schedule, gaussian(), times)
    assert np.std(x) == pytest.approx(STD, rel=0.05)


@every_sampler
def test_one_loop_in_the_graph_whatever_the_number_of_steps(sampler):
    calls = []

    @tf.function
    def run(x, times):
        schedule = SCHEDULES["cosine"]
        denoiser = gaussian_denoiser(schedule)

        def counted(x_t, t):
            calls.append(1)
            return denoiser(x_t, t)

        options = {"noise_fn": noise_of(x)} if sampler in STOCHASTIC else {}
        return SAMPLERS[sampler](counted, schedule, x, times, **options)

    def size(num_steps):
        calls.clear()
        x, times = (tf.TensorSpec(shape, tf.float32) for shape in ((1, 4, 4, 1), num_steps + 1))
        graph = run.get_concrete_function(x, times).graph.as_graph_def()
        nodes = len(graph.node) + sum(len(f.node_def) for f in graph.library.function)
        return nodes, len(calls)

    few, many = size(3), size(300)
    assert few == many
    assert few[1] <= 4  # the body, traced once or twice, of at most two calls


@every_sampler
def test_one_trace_serves_every_number_of_steps(sampler):
    run = traced(sampler, "cosine")
    for num_steps in (1, 3, 10):
        run(gaussian(shape=(1, 4, 4, 1)), uniform_t(SCHEDULES["cosine"], num_steps))
    assert run.experimental_get_tracing_count() == 1


@every_schedule
def test_ddim_backwards_in_time_inverts(schedule):
    run, x = traced("ddim", schedule), STD * gaussian(shape=(4, 4, 4, 1))
    times = traced_grid("uniform_logsnr", schedule)(400)
    latent = run(x, times[::-1])
    assert np.std(latent) == pytest.approx(np.std(x) / STD, rel=0.03)
    np.testing.assert_allclose(run(latent, times), x, rtol=0.05, atol=1e-4)
