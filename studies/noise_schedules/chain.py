"""Sampling as in the published study: the whole chain of DDPM, one step for each of its betas."""

import numpy as np
import tensorflow as tf
from keras import ops

from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.samplers import ddpm
from keras_diffusion.diffusion.schedules import rates
from keras_diffusion.diffusion.time_grids import uniform_t
from keras_diffusion.runtime.randomness import image_noise

BATCH = 64  # images at once


def generate(model, num_images, num_steps, seed, num_frames):
    """Generates images with variance beta, on a grid uniform in t, without clipping.

    Ho et al. 2020 (arXiv:2006.11239, section 3.2) name two variances for a step from t to s: that
    of q(x_s | x_t, x0), which our `ddpm` adds, and beta = 1 - alpha_bar_t / alpha_bar_s, the
    larger. The published study adds beta, and does not clip x0.

    Args:
        model: `DiffusionModel`.
        num_images: int.
        num_steps: int, of the chain.
        seed: int.
        num_frames: int, intermediate stages to return.

    Returns:
        (images, frames), uint8 (N, H, W, C), and of the first images (num_frames + 1, at most
        BATCH, H, W, C).
    """
    schedule, shape = model.noise_schedule, model.image_shape
    signature = [tf.TensorSpec((), tf.int32), tf.TensorSpec((None,), tf.int32)]

    @tf.function(input_signature=signature)
    def chain(seed, indices):
        times = uniform_t(schedule, num_steps)
        denoiser = make_denoiser(model.graphs.network, schedule, model.prediction_type)

        def noise(i):
            noise_t, noise_s = (rates(schedule, times[j])[1] for j in (i, i + 1))
            # `ddpm` multiplies this by its standard deviation; the product has variance beta.
            # The last step ends at t = 0, where no noise is added.
            factor = ops.where(noise_s > 0, noise_t / ops.maximum(noise_s, 1e-6), 0.0)
            return factor * image_noise(seed, indices, shape, i + 1)

        start = image_noise(seed, indices, shape, 0)
        x, frames = ddpm(denoiser, schedule, start, times, noise_fn=noise, num_frames=num_frames)
        return model.codec.decode(x), model.codec.decode(frames)

    batches = [
        chain(tf.constant(seed), tf.range(first, min(first + BATCH, num_images)))
        for first in range(0, num_images, BATCH)
    ]
    return np.concatenate([images for images, _ in batches]), batches[0][1].numpy()
