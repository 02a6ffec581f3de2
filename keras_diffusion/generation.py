"""From a seed to pictures: the one graph behind `model.generate` and every export."""

import tensorflow as tf

from keras_diffusion import grids, samplers
from keras_diffusion.denoiser import make_denoiser
from keras_diffusion.randomness import image_noise
from keras_diffusion.registry import lookup


def signature(labelled):
    """Returns what varies from one call of a sampling graph to the next, {name: TensorSpec}."""
    arguments = {"seed": (), "indices": (None,), "num_steps": ()}
    if labelled:
        arguments["labels"] = (None,)
    specs = {name: tf.TensorSpec(shape, tf.int32, name) for name, shape in arguments.items()}
    if labelled:
        specs["guidance_scale"] = tf.TensorSpec((), tf.float32, "guidance_scale")
    return specs


def draw_images(
    sampler,
    network,
    *,
    schedule,
    prediction_type,
    codec,
    shape,
    seed,
    indices,
    num_steps,
    labels=None,
    null_label=None,
    guidance_scale=None,
    num_frames=None,
):
    """Draws pictures with a whole sampler, as graph operations.

    Args:
        sampler: a name in `samplers.SAMPLERS`.
        network: see `make_denoiser`, as are labels, null_label and guidance_scale.
        schedule: t -> alpha_bar.
        prediction_type: "eps", "x0" or "v".
        codec: decodes x to images.
        shape: (H, W, C) of x.
        seed: scalar int32 tensor.
        indices: (N,) int32 tensor; image i of the result depends on (seed, indices[i]) only.
        num_steps: scalar int32 tensor, at least 1; not traced again for another number.
        num_frames: None, or the number of pictures of the way to return besides the start.

    Returns:
        uint8 images (N, H, W, C), or with `num_frames` (num_frames + 1, N, H, W, C).
    """
    run = lookup(samplers.SAMPLERS, sampler, "sampler")
    denoiser = make_denoiser(
        network,
        schedule,
        prediction_type,
        labels=labels,
        null_label=null_label,
        guidance_scale=guidance_scale,
        clip=codec.clip,
    )
    options = {"num_frames": num_frames}
    if sampler in samplers.STOCHASTIC:
        options["noise_fn"] = lambda i: image_noise(seed, indices, shape, i + 1)
    start = image_noise(seed, indices, shape, 0)
    result = run(denoiser, schedule, start, grids.uniform_logsnr(schedule, num_steps), **options)
    return codec.decode(result if num_frames is None else result[1])
