"""Editing: images in, images out, with a trained model."""

import numpy as np
import tensorflow as tf

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import rates
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.sampling.request import Request


def noised(model, images, times, seed=0):
    """Returns images mixed with the noise that `img2img` starts from.

    Args:
        model: `DiffusionModel`, for its schedule.
        images: (N, H, W, C), uint8 or floats in [0, 1].
        times: T numbers in [0, 1].
        seed: of the noise; that of image i depends only on (seed, i).

    Returns:
        numpy uint8 (T, N, H, W, C).
    """
    x0 = model.codec.encode(tf.convert_to_tensor(images))
    eps = image_noise(tf.constant(seed), tf.range(len(images)), x0.shape[1:], 0)
    levels = [rates(model.noise_schedule, t) for t in times]
    return np.stack([model.codec.decode(mix((x0, eps), level)) for level in levels])


def img2img(
    model,
    images,
    *,
    strength=0.5,
    sampler="dpmpp_2m",
    num_steps=20,
    labels=None,
    prompts=None,
    negative_prompts=None,
    guidance_scale=1.0,
    guidance_interval=(0.0, 1.0),
    guidance_rescale=0.0,
    endpoints=None,
    seed=0,
    batch_size=64,
    num_frames=None,
):
    """Adds noise to images up to the time t = strength, and samples back from there.

    Args:
        model: `DiffusionModel`; its EMA network is used.
        images: N images as uint8 or floats in [0, 1], (N, H, W, C), of the model's shape.
        strength: in (0, 1]: near 0 an image stays as it is, at 1 nothing of it is left.
        labels: (N,) ints, the classes of the results; None: the classes in turn.
        endpoints: None for noise, or what is mixed in instead, see `DiffusionModel.generate`.
        num_frames: None, or the number of images along the way to return besides the start,
            which is the noised images.
        sampler, num_steps, prompts, negative_prompts, guidance_scale, guidance_interval,
            guidance_rescale, seed, batch_size: see `DiffusionModel.generate`.

    Returns:
        numpy uint8 (N, H, W, C), or with `num_frames` (num_frames + 1, N, H, W, C).

    Raises:
        ValueError: a strength outside of (0, 1]; images of another shape or dtype; else as
            `DiffusionModel.generate`.

    Reference: Meng et al. 2022, arXiv:2108.01073 (SDEdit).
    """
    request = Request(
        model=model,
        num_images=len(images),
        num_steps=num_steps,
        seed=seed,
        labels=labels,
        prompts=prompts,
        negative_prompts=negative_prompts,
        guidance=Guidance(guidance_scale, guidance_interval, guidance_rescale),
        endpoints=endpoints,
        images=images,
        strength=strength,
    )
    return model.graphs.generate(request, sampler, num_frames=num_frames, batch_size=batch_size)
