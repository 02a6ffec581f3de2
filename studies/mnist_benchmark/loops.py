"""What a step of sampling costs: one compiled loop, a call for each step, and plain Keras."""

import time

import tensorflow as tf

from keras_diffusion.diffusion import samplers
from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.time_grids import uniform_logsnr
from keras_diffusion.runtime.randomness import image_noise

PLAIN_MOST = 50  # steps, beyond which plain Keras is not timed


def ways(model, num_images, seed):
    """Returns {way: times -> x}, three ways to draw the same pictures by DDIM.

    "compiled" has the loop in the graph; "calls" calls a graph of one step from Python; "plain"
    runs one Keras operation after the other.

    Args:
        model: a `DiffusionModel` without labels.
        num_images: drawn at once.
        seed: int.
    """
    schedule = model.noise_schedule
    start = image_noise(tf.constant(seed), tf.range(num_images), model.image_shape, 0)
    quick, plain = (
        make_denoiser(network, schedule, model.prediction_type, clip=model.codec.clip)
        for network in (model.graphs.network, model.ema_network)
    )

    @tf.function(
        input_signature=[
            tf.TensorSpec(start.shape, tf.float32),
            tf.TensorSpec((None,), tf.float32),
        ]
    )
    def compiled(x, times):
        return samplers.ddim(quick, schedule, x, times)

    def uncompiled(x, times):
        return samplers.ddim(plain, schedule, x, times)

    def one_by_one(draw):
        def drawn(times):
            x = start
            for step in range(len(times) - 1):
                x = draw(x, times[step : step + 2])
            return x

        return drawn

    return {
        "compiled": lambda times: compiled(start, times),
        "calls": one_by_one(compiled),
        "plain": one_by_one(uncompiled),
    }


def seconds(model, settings):
    """Returns {way: {num_steps: seconds}}, see `ways`."""
    found = {}
    for name, draw in ways(model, settings.loop_pictures, settings.seed).items():
        draw(uniform_logsnr(model.noise_schedule, 1))  # traces
        found[name] = {
            num_steps: _seconds(draw, uniform_logsnr(model.noise_schedule, num_steps))
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
