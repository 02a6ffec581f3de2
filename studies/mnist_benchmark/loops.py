"""The cost of a sampling step: in a compiled loop, as a compiled call, and in plain Keras."""

import time

import tensorflow as tf

from keras_diffusion.diffusion import samplers
from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.time_grids import uniform_logsnr
from keras_diffusion.runtime.randomness import image_noise

MAX_PLAIN = 50  # steps; more are not timed in plain Keras


def sampling_loops(model, num_images, seed):
    """Returns {name: function from times to x}, three loops of DDIM that give the same images.

    "compiled" has the loop in the graph; "calls" calls a graph of one step from Python; "plain"
    executes one Keras operation after the other.

    Args:
        model: `DiffusionModel` without labels.
        num_images: generated at once.
        seed: int.
    """
    schedule = model.noise_schedule
    start = image_noise(tf.constant(seed), tf.range(num_images), model.image_shape, 0)
    graph, plain = (
        make_denoiser(network, schedule, model.prediction_type, clip=model.codec.clip)
        for network in (model.graphs.network, model.ema_network)
    )
    signature = [tf.TensorSpec(start.shape, tf.float32), tf.TensorSpec((None,), tf.float32)]

    @tf.function(input_signature=signature)
    def compiled(x, times):
        return samplers.ddim(graph, schedule, x, times)

    def uncompiled(x, times):
        return samplers.ddim(plain, schedule, x, times)

    def step_by_step(sample):
        def loop(times):
            x = start
            for step in range(len(times) - 1):
                x = sample(x, times[step : step + 2])
            return x

        return loop

    return {
        "compiled": lambda times: compiled(start, times),
        "calls": step_by_step(compiled),
        "plain": step_by_step(uncompiled),
    }


def seconds(model, settings):
    """Returns {name: {num_steps: seconds}}, see `sampling_loops`."""
    results = {}
    for name, loop in sampling_loops(model, settings.loop_pictures, settings.seed).items():
        loop(uniform_logsnr(model.noise_schedule, 1))  # traces
        results[name] = {
            num_steps: _seconds(loop, uniform_logsnr(model.noise_schedule, num_steps))
            for num_steps in settings.loop_steps
            if name != "plain" or num_steps <= MAX_PLAIN
        }
    return results


def _seconds(loop, times):
    """The minimum of three runs; of long loops a single run."""
    runs = []
    for _ in range(3 if len(times) < 250 else 1):
        start = time.monotonic()
        loop(times).numpy()
        runs.append(time.monotonic() - start)
    return min(runs)
