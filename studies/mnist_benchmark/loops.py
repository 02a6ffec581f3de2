"""What a step of sampling costs: one compiled loop, a call for each step, and plain Keras."""

import time

import tensorflow as tf

from keras_diffusion import samplers
from keras_diffusion.denoiser import make_denoiser
from keras_diffusion.grids import uniform_logsnr
from keras_diffusion.randomness import image_noise

PLAIN_MOST = 50  # steps, beyond which plain Keras is not timed


def seconds(model, settings):
    """Times DDIM without labels, three ways.

    Args:
        model: a `DiffusionModel` without labels.
        settings: `Settings`.

    Returns:
        {way: {num_steps: seconds}}: "compiled" has the loop in the graph; "calls" calls a graph of
        one step from Python; "plain" runs one step after the other as Keras operations.
    """
    schedule = model.noise_schedule
    start = image_noise(
        tf.constant(settings.seed), tf.range(settings.loop_pictures), model.image_shape, 0
    )
    quick, plain = (
        make_denoiser(network, schedule, model.prediction_type, clip=model.codec.clip)
        for network in (model.graphs.network(), model.ema_network)
    )
    times_spec = tf.TensorSpec((None,), tf.float32)
    compiled = tf.function(
        lambda x, times: samplers.ddim(quick, schedule, x, times),
        input_signature=[tf.TensorSpec(start.shape, tf.float32), times_spec],
    )

    def whole(times):
        return compiled(start, times)

    def in_calls(times):
        x = start
        for step in range(len(times) - 1):
            x = compiled(x, times[step : step + 2])
        return x

    def in_plain_calls(times):
        x = start
        for step in range(len(times) - 1):
            x = samplers.ddim(plain, schedule, x, times[step : step + 2])
        return x

    ways = {"compiled": whole, "calls": in_calls, "plain": in_plain_calls}
    found = {}
    for name, draw in ways.items():
        draw(uniform_logsnr(schedule, 1))  # traces
        found[name] = {
            num_steps: _seconds(draw, uniform_logsnr(schedule, num_steps))
            for num_steps in settings.loop_steps
            if name != "plain" or num_steps <= PLAIN_MOST
        }
    return found


def _seconds(draw, times):
    """The least of three runs; one run of the longest."""
    runs = []
    for _ in range(3 if len(times) < 250 else 1):
        began = time.monotonic()
        draw(times).numpy()
        runs.append(time.monotonic() - began)
    return min(runs)
