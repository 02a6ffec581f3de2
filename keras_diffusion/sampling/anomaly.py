"""Anomaly maps: where images differ from those that a model was trained on."""

import functools

import numpy as np
import tensorflow as tf
from scipy import ndimage

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion import samplers, time_grids
from keras_diffusion.diffusion.noise import ANOMALY_METHODS as METHODS
from keras_diffusion.diffusion.noise import NOISES
from keras_diffusion.diffusion.process import mix
from keras_diffusion.diffusion.schedules import rates
from keras_diffusion.sampling.edit_graph import make_request

SCORES = ("mean", "mahalanobis")
TIMES = (0.1, 0.6)
MIN_NORMAL = 20  # images, for mean and standard deviation
MIN_STDS = 2e-3, 0.1  # of errors and of the logarithms of their squares, as in black borders
CELLS = 7  # of each side, that errors are averaged over for "mahalanobis"
MIN_SQUARE = 1e-6  # of squared errors where white is 1: a quarter of a grey level


def anomaly_map(
    model,
    images,
    *,
    noise="gaussian",
    times=TIMES,
    num_draws=4,
    smoothing=1.0,
    normal=None,
    score="mean",
    labels=None,
    prompts=None,
    negative_prompts=None,
    guidance_scale=1.0,
    guidance_interval=(0.0, 1.0),
    guidance_rescale=0.0,
    num_steps=20,
    seed=0,
    batch_size=64,
):
    """Returns where images differ from what a model expects, and one score for each image.

    Noise is added to an image up to a time t, and the model's x0 is compared with the image. A
    model that knows normal images only replaces what is abnormal.

    Args:
        noise: what is added: "gaussian"; "coarse" or "simplex", see `diffusion.noise`. Or
            "inversion": DDIM from the image up to t without label and prompt, and back down with
            them and guidance, without any noise.
        times: several t in (0, 1]. Errors at small ones tell of texture, at large ones of shapes.
        num_draws: draws of the noise at each time, over which errors are averaged.
        smoothing: standard deviation in pixels of the Gaussian that smooths the errors.
        normal: None, or normal images (M, H, W, C), 20 or more. The errors are then compared with
            those of these images at the same pixel and time. Errors that are smaller than usual
            are abnormal, too. Images of the training may be among them.
        score: "mean" of the map; or "mahalanobis", which needs `normal`: the distance of an image
            from these. The logarithms of the squared errors at all times are averaged over a grid
            of 7x7 cells, and a normal distribution is fitted to these numbers of the normal
            images, so that errors count less where they vary together in normal images.
        labels: int, the class of normal images; None: no class.
        prompts: text, the prompt of normal images; None: the empty prompt.
        num_steps: steps of the inversion, up and down.

    Returns:
        maps: float32 (N, H, W). Without `normal`, |x0 - image|, averaged over the times, where
            white is 1. With it, the root mean square over the times of two distances from the
            mean over normal images, in standard deviations: of x0 - image, and of the logarithm
            of its mean square.
        scores: float32 (N,), see `score`.

    Reference: Wyatt et al. 2022, AnoDDPM (CVPR workshops); Kascenas et al. 2023, arXiv:2301.08330
        (coarse noise); Graham et al. 2023, arXiv:2211.07740 (several times, standardised by normal
        images); Sanchez et al. 2022, arXiv:2203.04306 (inversion); Ledoit & Wolf 2004,
        doi:10.1016/S0047-259X(03)00096-4 (covariance of few images).
    """
    if noise not in METHODS:
        raise ValueError(f"unknown noise {noise!r}. Choose from: {', '.join(METHODS)}.")
    if score not in SCORES:
        raise ValueError(f"unknown score {score!r}. Choose from: {', '.join(SCORES)}.")
    if score == "mahalanobis" and normal is None:
        raise ValueError("score: mahalanobis needs normal images. Give normal.")
    if not len(times) or not all(0 < t <= 1 for t in times):
        raise ValueError(f"times: {times} are not numbers in (0, 1].")
    if num_draws < 1:
        raise ValueError(f"num_draws: {num_draws} is not 1 or more.")
    if normal is not None and len(normal) < MIN_NORMAL:
        raise ValueError(f"normal: {len(normal)} images are fewer than {MIN_NORMAL}.")
    if tuple(model.x_shape) != tuple(model.image_shape):
        raise ValueError("model: its errors are those of latents. Use a model of pixels.")
    guidance = Guidance(guidance_scale, guidance_interval, guidance_rescale)

    def errors_of(images):
        """Returns mean error and mean squared error over the draws, each (N, T, H, W, C)."""
        count = len(images)
        common = {"images": images, "num_steps": num_steps, "seed": seed}
        request = make_request(
            model,
            count,
            labels=None if labels is None else np.full(count, labels),
            prompts=prompts,
            negative_prompts=negative_prompts,
            guidance=guidance,
            **common,
        )
        run = functools.partial(
            model.edit_graph.run,
            shared={"times": np.array(times, "float32")},
            batch_size=batch_size,
        )
        if noise == "inversion":
            noisy = run(_inverted, make_request(model, count, labels=None, prompts=None, **common))
            error = run(_regeneration_errors, request, per_image={"noisy": noisy})
            means = error, error**2
        else:
            means = 0, 0
            for draw in range(num_draws):
                eps = [NOISES[noise](model.x_shape, seed, i, draw) for i in range(count)]
                error = run(_errors, request, per_image={"eps": np.stack(eps)})
                means = means[0] + error / num_draws, means[1] + error**2 / num_draws
        smooth = (0, 0, smoothing, smoothing, 0)
        return [ndimage.gaussian_filter(mean, smooth, mode="nearest") for mean in means]

    error, square = errors_of(images)
    if normal is None:
        maps = np.abs(error).mean((1, 4))
        return maps, maps.mean((1, 2))
    usual_error, usual_square = errors_of(normal)
    logs, usual_logs = (np.log(each + MIN_SQUARE) for each in (square, usual_square))
    distances = [
        (values - usual.mean(0)) / np.maximum(usual.std(0), least)
        for values, usual, least in (
            (error, usual_error, MIN_STDS[0]),
            (logs, usual_logs, MIN_STDS[1]),
        )
    ]
    maps = np.sqrt(np.mean(np.square(distances), (0, 2, 5)))
    return maps, maps.mean((1, 2)) if score == "mean" else _mahalanobis(logs, usual_logs)


def _mahalanobis(values, usual):
    """Returns the distances (N,) of values (N, T, H, W, C) from usual ones (M, T, H, W, C)."""
    from sklearn.covariance import LedoitWolf  # takes a second to import

    mean, std = usual.mean(0), np.maximum(usual.std(0), MIN_STDS[1])
    cells = [_cells((each - mean) / std) for each in (values, usual)]
    fitted = LedoitWolf().fit(cells[1])
    return np.sqrt(fitted.mahalanobis(cells[0])).astype("float32")


def _cells(values):
    """Returns the means over a grid of cells of (N, T, H, W, C), as (N, F)."""
    for axis in (2, 3):
        parts = np.array_split(values, min(CELLS, values.shape[axis]), axis)
        values = np.stack([part.mean(axis) for part in parts], axis)
    return values.reshape(len(values), -1)


def _errors(parts, *, images, eps, times, **_):
    """Returns x0 - x where noise was added up to each time, (N, T, H, W, C)."""
    x = parts.codec.encode(images)
    denoiser = parts.make_denoiser(clip=parts.codec.clip)

    def error(t):
        x0, _ = denoiser(mix((x, eps), rates(parts.schedule, t)), t)
        return (x0 - x) / 2  # white is 1, black 0

    return _at_each(error, times)


def _inverted(parts, *, images, times, num_steps, **_):
    """Returns the images inverted by DDIM up to each time, (N, T, H, W, C)."""
    x = parts.codec.encode(images)
    denoiser = parts.make_denoiser()  # near t = 0 a clipped x0 would change eps a lot

    def invert(t):
        grid = time_grids.upward(parts.schedule, num_steps, t)
        return samplers.ddim(denoiser, parts.schedule, x, grid)

    return _at_each(invert, times)


def _regeneration_errors(parts, *, images, noisy, times, num_steps, **_):
    """Returns x0 - x where DDIM goes back from inverted images, (N, T, H, W, C)."""
    x = parts.codec.encode(images)
    denoiser = parts.make_denoiser()

    def error(values):
        t, x_t = values
        grid = time_grids.uniform_logsnr(parts.schedule, num_steps, t)
        return (samplers.ddim(denoiser, parts.schedule, x_t, grid) - x) / 2

    return _at_each(error, (times, tf.experimental.numpy.moveaxis(noisy, 1, 0)))


def _at_each(function, values):
    """Returns the results of a function of times (T,) along a second axis."""
    results = tf.map_fn(function, values, fn_output_signature=tf.float32)
    return tf.experimental.numpy.moveaxis(results, 0, 1)
