"""Editing: pictures in, pictures out, with a model that was trained to draw them."""

import numpy as np
import tensorflow as tf

from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import rates
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.sampling import request


def noised(model, images, times, seed=0):
    """Shows pictures on their way to noise, the noise that `img2img` starts from.

    Args:
        model: `DiffusionModel`, for its schedule.
        images: (N, H, W, C), uint8 or floats in [0, 1].
        times: T numbers in [0, 1].
        seed: of the noise; that of picture i depends only on (seed, i).

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
    """Noises pictures to the time t = strength, and draws them again from there.

    What the noise has left of a picture stays, the rest is drawn anew. The noise of picture i
    depends only on (seed, i).

    Args:
        model: `DiffusionModel`; its EMA network draws.
        images: (N, H, W, C), uint8 or floats in [0, 1], of the shape that the model draws.
        strength: in (0, 1]: near 0 the picture stays as it is, at 1 nothing of it is left.
        labels: (N,) ints, the classes that the pictures are to be of; None: the classes in turn.
        endpoints: None for noise, or what is mixed in instead, see `DiffusionModel.generate`.
        num_frames: None, or the number of pictures of the way to return besides the start, the
            first one the noised pictures.
        sampler, num_steps, prompts, negative_prompts, guidance_scale, guidance_interval,
            guidance_rescale, seed, batch_size: see `DiffusionModel.generate`.

    Returns:
        numpy uint8 (N, H, W, C), or with `num_frames` (num_frames + 1, N, H, W, C).

    Raises:
        ValueError: a strength outside of (0, 1]; pictures of another shape or dtype; else as
            `DiffusionModel.generate`.

    Reference: Meng et al. 2022, arXiv:2108.01073 (SDEdit).
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength: {strength} is not in (0, 1].")
    rows, common = request.checked(
        model,
        len(images),
        num_steps=num_steps,
        labels=labels,
        prompts=prompts,
        negative_prompts=negative_prompts,
        guidance_scale=guidance_scale,
        guidance_interval=guidance_interval,
        guidance_rescale=guidance_rescale,
        seed=seed,
        endpoints=endpoints,
        images=images,
    )
    common["strength"] = np.float32(strength)
    return model.graphs.draw(sampler, num_frames, rows, common, batch_size)
