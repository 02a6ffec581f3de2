"""Editing: images in, images out, with a trained model.

Arguments of every function but `noised`:

    model: a `DiffusionModel`, whose EMA network is used, or a `LoadedModel` (see `kd.load`).
    images: (N, H, W, C), uint8 or floats in [0, 1], of the model's shape.
    labels: (N,) ints; None: no class.
    prompts: a text for all images, or N texts; None: the empty prompt.
    sampler, num_steps, negative_prompts, guidance_scale, guidance_interval, guidance_rescale:
        see `DiffusionModel.generate`.
    seed: int; result i depends only on (seed, i) and on image i.
    batch_size: images at once.
    progress: None, or a function that is called after each batch with the number of results so far;
        what it raises ends the call.

They raise ValueError for arguments that are out of bounds or do not fit the model.
"""

import math

import numpy as np
import tensorflow as tf

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion import samplers
from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import rates
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.runtime.registry import lookup
from keras_diffusion.sampling import edit_functions
from keras_diffusion.sampling.anomaly import anomaly_map  # noqa: F401, it is one of them
from keras_diffusion.sampling.edit_graph import make_request

DETERMINISTIC = ("ddim", "heun")  # samplers of one step each, which can be reversed
METHODS = ("mmps", "replace", "repaint")


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
    progress=None,
    num_frames=None,
):
    """Adds noise to images up to the time t = strength, and samples back from there.

    Args:
        strength: in (0, 1]: near 0 an image stays as it is, at 1 nothing of it is left.
        labels, prompts: of the results.
        endpoints: None for noise, or what is mixed in instead, see `DiffusionModel.generate`.
        num_frames: None, or the number of images along the way to return besides the start,
            which is the noised images.

    Returns:
        numpy uint8 (N, H, W, C), or with `num_frames` (num_frames + 1, N, H, W, C).

    Reference: Meng et al. 2022, arXiv:2108.01073 (SDEdit).
    """
    lookup(samplers.SAMPLERS, sampler, "sampler")
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames: {num_frames} is not 1 or more.")
    request = make_request(
        model,
        len(images),
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
    options = {"sampler": sampler, "num_frames": num_frames and int(num_frames)}
    results = model.edit_graph.run(
        edit_functions.img2img, request, batch_size=batch_size, progress=progress, **options
    )
    return results if num_frames is None else np.moveaxis(results, 1, 0)


def restore(
    model,
    measurement,
    operator,
    *,
    noise=0.0,
    method="mmps",
    cg_steps=3,
    sampler="ddpm",
    num_steps=20,
    labels=None,
    prompts=None,
    negative_prompts=None,
    guidance_scale=1.0,
    guidance_interval=(0.0, 1.0),
    guidance_rescale=0.0,
    seed=0,
    batch_size=16,
    progress=None,
):
    """Restores images from linear measurements: fills, enlarges, colourises.

    A result is a sample of the model's images that fit the measurement. Without noise it fits the
    measurement exactly: known pixels are unchanged, and a small image is the enlarged one reduced
    again, up to the rounding to uint8.

    Args:
        measurement: N measurements as uint8 or floats in [0, 1], of the shape that the operator
            gives: of `mask` and `frames` the images with anything in the missing pixels, of
            `downscale` the small images, of `grayscale` (N, H, W, 1).
        operator: `Operator`, see `kd.operators`.
        noise: standard deviation of the noise in the measurement, where white is 1; only "mmps"
            allows for it within the steps.
        method: "mmps", or for comparison "replace" or "repaint", see diffusion/restoration.py.
            "repaint" has its own sampler, and takes 5 times as long as `num_steps` steps.
        cg_steps: steps of conjugate gradients of "mmps". Each costs one backward pass through the
            network in every step of the sampler.
        batch_size: images at once; 64 of 64x64 pixels took 13 GB with the shipped model.

    Returns:
        numpy uint8 (N, H, W, C).

    Reference: Rozet et al. 2024, arXiv:2405.13712 (MMPS).
    """
    lookup(samplers.SAMPLERS, sampler, "sampler")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}. Choose from: {', '.join(METHODS)}.")
    if cg_steps < 1 or cg_steps % 1:
        raise ValueError(f"cg_steps: {cg_steps} is not a whole number of 1 or more.")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise: {noise} is not 0 or more.")
    if tuple(model.x_shape) != tuple(model.image_shape):
        raise ValueError("model: its latents are not linear in the pixels. Use a model of pixels.")
    measurement = _checked_measurement(model, measurement, operator, noise)
    count = len(measurement)
    request = make_request(
        model,
        count,
        num_steps=num_steps,
        seed=seed,
        labels=labels,
        prompts=prompts,
        negative_prompts=negative_prompts,
        guidance=Guidance(guidance_scale, guidance_interval, guidance_rescale),
    )
    arrays = {}
    for i, array in enumerate(operator.arrays):
        if len(array) not in (1, count):
            raise ValueError(f"operator: arrays of {len(array)} rows for {count} measurements.")
        arrays[f"array_{i}"] = np.broadcast_to(array, (count, *array.shape[1:]))
    return model.edit_graph.run(
        edit_functions.restore,
        request,
        per_image={"measurement": measurement, **arrays},
        shared={"noise": np.float32(noise)},
        batch_size=batch_size,
        progress=progress,
        forward=operator.forward,
        backward=operator.backward,
        is_projection=operator.is_projection,
        method=method,
        cg_steps=int(cg_steps),
        sampler=sampler,
    )


def variations(model, image, num, *, strength=0.5, labels=None, prompts=None, **options):
    """Returns variations of one image: `img2img` with different noise.

    Args:
        image: (H, W, C).
        num: number of variations.
        strength: in (0, 1], how different they are.
        labels, prompts: an int or a text for all of them, or one for each.
        **options: of `img2img`.

    Returns:
        numpy uint8 (num, H, W, C).
    """
    images = np.repeat(np.asarray(image)[None], num, axis=0)
    condition = _condition(labels, num) | _condition(prompts, num)
    return img2img(model, images, strength=strength, **condition, **options)


def invert(
    model, images, *, num_steps=25, labels=None, prompts=None, sampler="heun", batch_size=64
):
    """Returns the noise that a deterministic sampler turns into the images.

    Follows the sampler's grid of times from the image to noise. `from_noise` with the same labels
    or prompts and numbers of steps gives the images back, up to the error of the steps.

    Args:
        labels, prompts: of the images.
        sampler: "heun", or "ddim", whose step takes half the time and whose error is larger.

    Returns:
        float32 (N, h, w, c), the shape of x.

    Raises:
        ValueError: another sampler.

    Reference: Song et al. 2020, arXiv:2010.02502, section 4.3.
    """
    _check_deterministic(sampler)
    request = make_request(
        model, len(images), num_steps=num_steps, labels=labels, prompts=prompts, images=images
    )
    return model.edit_graph.run(
        edit_functions.invert, request, batch_size=batch_size, sampler=sampler
    )


def from_noise(
    model,
    noise,
    *,
    sampler="heun",
    num_steps=25,
    labels=None,
    prompts=None,
    negative_prompts=None,
    guidance_scale=1.0,
    guidance_interval=(0.0, 1.0),
    guidance_rescale=0.0,
    batch_size=64,
    progress=None,
):
    """Samples from given noise, with a deterministic sampler.

    Args:
        noise: (N, h, w, c), float, such as `invert` returns.

    Returns:
        numpy uint8 (N, H, W, C).
    """
    _check_deterministic(sampler)
    noise = np.asarray(noise, "float32")
    if noise.shape[1:] != tuple(model.x_shape):
        raise ValueError(f"noise: shape {noise.shape}; it must be (N, *{tuple(model.x_shape)}).")
    request = make_request(
        model,
        len(noise),
        num_steps=num_steps,
        labels=labels,
        prompts=prompts,
        negative_prompts=negative_prompts,
        guidance=Guidance(guidance_scale, guidance_interval, guidance_rescale),
    )
    return model.edit_graph.run(
        edit_functions.from_noise,
        request,
        per_image={"noise": noise},
        batch_size=batch_size,
        progress=progress,
        sampler=sampler,
    )


def interpolate(model, a, b, num, *, num_steps=25, labels=None, prompts=None, **options):
    """Returns images on the way from one image to another.

    The noise of both (see `invert`) is interpolated on the sphere, and sampled from.

    Args:
        a, b: each an image (H, W, C), or an int, the seed of a generated image.
        num: number of results, at least 2; the first is `a`, the last `b`, up to the error of
            `invert`; guidance changes them.
        labels, prompts: an int or a text for both images and all results.
        **options: of `from_noise`.

    Returns:
        numpy uint8 (num, H, W, C).

    Reference: Song et al. 2020, arXiv:2010.02502, section 5.3; Shoemake 1985 (slerp).
    """
    if num < 2:
        raise ValueError(f"num: {num} is not 2 or more.")
    options = {"num_steps": num_steps, **options}
    condition = _condition(labels, num) | _condition(prompts, num)
    ends = []
    for end in (a, b):
        if np.ndim(end) == 0:
            noise = image_noise(tf.constant(end, tf.int32), tf.range(1), tuple(model.x_shape), 0)
            ends.append(noise.numpy()[0])
        else:
            names = [name for name in ("num_steps", "sampler") if name in options]
            inversion = {name: options[name] for name in names}
            end = np.asarray(end)[None]
            first = {name: values[:1] for name, values in condition.items()}
            ends.append(invert(model, end, **first, **inversion)[0])
    noise = _slerp(*ends, np.linspace(0, 1, num))
    return from_noise(model, noise, **condition, **options)


def translate(model, images, *, source, target, num_steps=25, sampler="heun", **options):
    """Translates images from one class or prompt to another, keeping their layout.

    The images are inverted under the source's condition, and sampled from that noise under the
    target's.

    Args:
        source, target: each a label or a text for all images, or N of them; None: no class.
        **options: of `from_noise`: negative prompts and guidance for the target; batch_size.

    Returns:
        numpy uint8 (N, H, W, C).

    Reference: Su et al. 2023, arXiv:2203.08382 (DDIB).
    """
    count, steps = len(images), {"num_steps": num_steps, "sampler": sampler}
    size = {name: options[name] for name in ("batch_size",) if name in options}
    noise = invert(model, images, **_condition(source, count), **steps, **size)
    return from_noise(model, noise, **_condition(target, count), **steps, **options)


# Arguments ------------------------------------------------------------------------------------


def _check_deterministic(sampler):
    if sampler not in DETERMINISTIC:
        choices = ", ".join(DETERMINISTIC)
        raise ValueError(f"sampler: {sampler!r} cannot be reversed. Choose from: {choices}.")


def _condition(value, count):
    """Returns {"labels"} or {"prompts"}, of one or `count` ints or texts; {} of None."""
    if value is None:
        return {}
    values = [value] * count if isinstance(value, str) or np.ndim(value) == 0 else list(value)
    is_text = all(isinstance(each, str) for each in values)
    return {"prompts": values} if is_text else {"labels": values}


def _slerp(a, b, shares):
    """Returns (len(shares), ...), spherical interpolations of two arrays as vectors."""
    cosine = np.vdot(a, b) / np.maximum(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)
    angle = max(np.arccos(np.clip(cosine, -1, 1)), 1e-4)
    shares = np.reshape(shares, (-1,) + (1,) * a.ndim)
    mixed = np.sin((1 - shares) * angle) * a + np.sin(shares * angle) * b
    return (mixed / np.sin(angle)).astype("float32")


def _checked_measurement(model, measurement, operator, noise):
    """Returns uint8 or float32 (N, ...) of the shape that the operator gives."""
    measurement = np.asarray(measurement)
    first = [array[:1] for array in operator.arrays]
    shape = operator.forward(tf.zeros((1, *model.image_shape)), *first).shape[1:]
    if measurement.shape[1:] != tuple(shape):
        raise ValueError(f"measurement: shape {measurement.shape}; it must be (N, *{shape}).")
    if measurement.dtype == np.uint8:
        return measurement
    if measurement.dtype.kind != "f":
        raise ValueError(
            f"measurement: dtype {measurement.dtype}; give uint8 in 0 .. 255 or floats in [0, 1]."
        )
    if not np.isfinite(measurement).all():
        raise ValueError("measurement: it contains NaN or infinity.")
    if operator.keeps_range and not noise and (abs(measurement - 0.5) > 0.501).any():
        raise ValueError("measurement: floats outside of [0, 1].")
    return measurement.astype("float32")
