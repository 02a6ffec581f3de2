"""Functions of a denoiser that `editing` runs as graphs, see `edit_graph.EditGraph.run`.

All but `with_pullback` take `parts` (`edit_graph.Parts`), seed, indices and num_steps, and the
arrays and options of the edit, and return a batch of results.
"""

import functools

import tensorflow as tf

from keras_diffusion.diffusion import restoration, samplers, time_grids
from keras_diffusion.diffusion.operators import Operator
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.sampling.graphs import generate_images


def img2img(parts, *, sampler, num_frames, **arguments):
    """Returns uint8 (B, H, W, C), or (B, num_frames + 1, H, W, C)."""
    result = generate_images(
        sampler,
        parts.make_denoiser(clip=parts.codec.clip),
        schedule=parts.schedule,
        codec=parts.codec,
        shape=parts.shape,
        num_frames=num_frames,
        **arguments,
    )
    return result if num_frames is None else tf.experimental.numpy.moveaxis(result, 0, 1)


def restore(
    parts,
    *,
    seed,
    indices,
    num_steps,
    measurement,
    noise,
    forward,
    backward,
    is_projection,
    method,
    cg_steps,
    sampler,
    **arrays,
):
    """Returns images (B, H, W, C) that fit the measurement; without noise exactly."""
    operator = Operator(forward, backward, tuple(arrays[f"array_{i}"] for i in range(len(arrays))))
    start = image_noise(seed, indices, parts.shape, 0)
    if measurement.dtype == tf.uint8:
        measurement = tf.cast(measurement, tf.float32) / 255
    if is_projection:
        measurement = operator.apply(measurement)
    measurement = 2 * measurement - operator.apply(tf.ones_like(start))  # as x = 2 images - 1
    schedule, clip = parts.schedule, parts.codec.clip
    if method == "mmps":
        denoiser = restoration.mmps(
            with_pullback(parts.make_denoiser(with_gradient=True)),
            schedule,
            operator,
            measurement,
            noise_std=2 * noise,
            cg_steps=cg_steps,
            clip=clip,
        )
    else:
        denoiser = restoration.replacement(
            parts.make_denoiser(), schedule, operator, measurement, clip=clip
        )
    times = time_grids.uniform_logsnr(schedule, num_steps)
    options = {}
    run = samplers.SAMPLERS[sampler]
    if method == "repaint":
        run = restoration.repaint
    if method == "repaint" or sampler in samplers.STOCHASTIC:
        options["noise_fn"] = lambda i: image_noise(seed, indices, parts.shape, i + 1)
    x = run(denoiser, schedule, start, times, **options)
    exact = restoration.project_clipped(x, operator, measurement, clip)
    return parts.codec.decode(tf.where(noise > 0, x, exact))


def invert(parts, *, seed, indices, num_steps, images, sampler):
    """Returns the noise of the images, (B, h, w, c)."""
    times = time_grids.upward(parts.schedule, num_steps)
    run = samplers.SAMPLERS[sampler]
    return run(parts.make_denoiser(), parts.schedule, parts.codec.encode(images), times)


def from_noise(parts, *, seed, indices, num_steps, noise, sampler):
    """Returns images (B, H, W, C) of given noise."""
    times = time_grids.uniform_logsnr(parts.schedule, num_steps)
    denoiser = parts.make_denoiser(clip=parts.codec.clip)
    return parts.codec.decode(samplers.SAMPLERS[sampler](denoiser, parts.schedule, noise, times))


def with_pullback(denoiser):
    """Returns (x_t, t) -> (x0, pullback), pullback: u -> J^T u, J = d x0 / d x_t."""

    def denoise(x_t, t):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x_t)
            x0, _ = denoiser(x_t, t)
        return x0, functools.partial(_pulled_back, tape, x0, x_t)

    return denoise


def _pulled_back(tape, x0, x_t, u):
    return tape.gradient(x0, x_t, output_gradients=u)
