"""From a seed to pictures: the graphs behind `model.generate` and every export."""

import numpy as np
import tensorflow as tf

from keras_diffusion import distribution, grids, samplers, schedules
from keras_diffusion.denoiser import make_denoiser
from keras_diffusion.process import mix
from keras_diffusion.randomness import image_noise
from keras_diffusion.registry import lookup


def signature(labelled, endpoints=None, images=None):
    """Returns what varies from one call of a sampling graph to the next, {name: TensorSpec}.

    Args:
        labelled: whether the model has classes.
        endpoints: None, or the TensorSpec of pictures to start from instead of noise.
        images: None, or the TensorSpec of pictures to start from at t = strength.
    """
    arguments = {"seed": (), "indices": (None,), "num_steps": ()}
    if labelled:
        arguments["labels"] = (None,)
    specs = {name: tf.TensorSpec(shape, tf.int32, name) for name, shape in arguments.items()}
    if labelled:
        specs["guidance_scale"] = tf.TensorSpec((), tf.float32, "guidance_scale")
        specs["guidance_interval"] = tf.TensorSpec((2,), tf.float32, "guidance_interval")
    if endpoints is not None:
        specs["endpoints"] = endpoints
    if images is not None:
        specs.update(images=images, strength=tf.TensorSpec((), tf.float32, "strength"))
    return specs


def arguments(
    model,
    num_images,
    *,
    num_steps,
    labels,
    guidance_scale,
    guidance_interval,
    seed,
    **pictures,
):
    """Returns what `SamplingGraphs.draw` takes, checked: (rows, common).

    Args:
        pictures: "endpoints" or "images", (N, H, W, C) each; None values are left out.

    The others: see `DiffusionModel.generate`.

    Raises:
        ValueError: bad numbers; labels, an interval or pictures that do not fit.
    """
    if num_images < 1 or num_steps < 1:
        raise ValueError("num_images and num_steps must be at least 1.")
    rows = {"indices": np.arange(num_images, dtype="int32")}
    common = {"seed": np.int32(seed), "num_steps": np.int32(num_steps)}
    labels = checked_labels(labels, rows["indices"], model.num_classes)
    interval = checked_interval(guidance_interval, model.num_classes)
    if labels is not None:
        rows["labels"] = labels
        common["guidance_scale"] = np.float32(guidance_scale)
        common["guidance_interval"] = interval
    for name, images in pictures.items():
        if images is not None:
            rows[name] = checked_pictures(name, images, (num_images, *model.image_shape))
    return rows, common


def checked_labels(labels, indices, num_classes):
    """Returns the label of each picture, int32 (N,), or None for a model without labels.

    Args:
        labels: (N,) ints in 0 .. num_classes, the last one "no class"; None: the classes in turn.
        indices: (N,) array, the numbers of the pictures.
        num_classes: of the model; 0: without labels.

    Raises:
        ValueError: labels that do not fit.
    """
    if not num_classes:
        if labels is not None:
            raise ValueError("labels: this model was trained without labels.")
        return None
    if labels is None:
        return indices % num_classes
    labels = np.asarray(labels, dtype="int32")
    if labels.shape != indices.shape:
        raise ValueError(f"labels: {labels.shape} given for {len(indices)} images.")
    if labels.min() < 0 or labels.max() > num_classes:
        raise ValueError(f"labels: must be 0 .. {num_classes - 1}, or {num_classes} for none.")
    return labels


def checked_interval(interval, num_classes):
    """Returns (low, high), the times between which guidance is on, as float32 (2,).

    Raises:
        ValueError: it is not 0 <= low <= high <= 1; a part of [0, 1] for a model without labels
            (`num_classes` 0), which cannot be guided.
    """
    ends = np.asarray(interval, dtype="float64")
    if ends.shape != (2,) or not 0 <= ends[0] <= ends[1] <= 1:
        raise ValueError(f"guidance_interval: {interval} is not two times, 0 <= low <= high <= 1.")
    if not num_classes and (ends[0], ends[1]) != (0, 1):
        raise ValueError("guidance_interval: this model was trained without labels.")
    return ends.astype("float32")


def checked_pictures(name, images, shape):
    """Returns the pictures to start from, uint8 or float32, of the shape (N, H, W, C).

    Raises:
        ValueError: another shape, or another dtype than uint8 or a float.
    """
    images = np.asarray(images)
    if images.shape != shape:
        raise ValueError(f"{name}: shape {images.shape}; it must be {shape}.")
    if images.dtype.kind == "f":
        return images.astype("float32")
    if images.dtype != np.uint8:
        what = "give uint8 in 0..255 or floats in [0, 1]"
        raise ValueError(f"{name}: dtype {images.dtype}; {what}.")
    return images


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
    guidance_interval=None,
    endpoints=None,
    images=None,
    strength=None,
    num_frames=None,
):
    """Draws pictures with a whole sampler, as graph operations.

    Args:
        sampler: a name in `samplers.SAMPLERS`.
        network: see `make_denoiser`, as are labels, null_label, guidance_scale and
            guidance_interval.
        schedule: t -> alpha_bar.
        prediction_type: "eps", "x0" or "v".
        codec: decodes x to images.
        shape: (H, W, C) of x.
        seed: scalar int32 tensor.
        indices: (N,) int32 tensor; image i of the result depends on (seed, indices[i]) only.
        num_steps: scalar int32 tensor, at least 1; not traced again for another number.
        endpoints: None for noise, or what sits at t = 1 instead, images (N, H, W, C) as the
            codec encodes them; the samplers in `samplers.HOLDING` hold it.
        images: None, or images (N, H, W, C) to start from, mixed with noise or endpoint to the
            level of t = strength.
        strength: scalar float32 tensor in (0, 1], with images.
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
        guidance_interval=guidance_interval,
        clip=codec.clip,
    )
    options = {"num_frames": num_frames}
    if sampler in samplers.STOCHASTIC:
        options["noise_fn"] = lambda i: image_noise(seed, indices, shape, i + 1)
    if endpoints is None:
        start = image_noise(seed, indices, shape, 0)
    else:
        start = codec.encode(endpoints)
        if sampler in samplers.HOLDING:
            options["endpoint"] = start
    if images is not None:
        start = mix((codec.encode(images), start), schedules.rates(schedule, strength))
    times = grids.uniform_logsnr(schedule, num_steps, 1.0 if images is None else strength)
    result = run(denoiser, schedule, start, times, **options)
    return codec.decode(result if num_frames is None else result[1])


class SamplingGraphs:
    """The sampling graphs of a model, each traced once, when it is first used.

    Args:
        model: a `DiffusionModel`; its schedule may be changed later.
    """

    def __init__(self, model):
        self._model = model
        self._graphs = {}

    def draw(self, sampler, num_frames, rows, common, batch_size):
        """Returns pictures as one array, see `draw_images`.

        Args:
            sampler, num_frames: see `draw_images`.
            rows: dict of "indices" and, if there are any, "labels", "endpoints" and "images",
                arrays (N, ...).
            common: dict of what else is in `signature`.
            batch_size: how many pictures are drawn at once.

        Raises:
            ValueError: an unknown sampler, or a batch of none.
        """
        lookup(samplers.SAMPLERS, sampler, "sampler")
        if batch_size < 1:
            raise ValueError("batch_size must be at least 1.")
        axis = 0 if num_frames is None else 1
        count, parts = len(rows["indices"]), []
        for first in range(0, count, batch_size):
            chosen = {name: values[first:][:batch_size] for name, values in rows.items()}
            shares = self._draw_batch(sampler, num_frames, chosen, common)
            parts.append(np.concatenate(shares, axis).take(range(len(chosen["indices"])), axis))
        return np.concatenate(parts, axis)

    def _draw_batch(self, sampler, num_frames, rows, common):
        """Returns pictures as a list of arrays, one for each replica that took part."""
        strategy = self._model.distribute_strategy
        if distribution.local_replicas(strategy) > 1:
            shared = self._shared(sampler, num_frames)
            return distribution.on_shares(strategy, shared, rows, common)
        tensors = {name: tf.constant(value) for name, value in {**rows, **common}.items()}
        pictures = {
            name: tf.TensorSpec((None, *rows[name].shape[1:]), rows[name].dtype, name)
            for name in ("endpoints", "images")
            if name in rows
        }
        return [self.sampling(sampler, num_frames, **pictures)(**tensors).numpy()]

    def sampling(self, sampler, num_frames=None, **pictures):
        """Returns `draw_images` of the model as one graph, with the arguments of `signature`."""
        return self._once(
            (sampler, num_frames, *pictures.values(), self._model.schedule),
            lambda: tf.function(self._drawing(sampler, num_frames)).get_concrete_function(
                **signature(self._model.num_classes > 0, **pictures)
            ),
        )

    def network(self):
        """Returns the EMA network as one graph that all sampling graphs call."""
        network = self._model.ema_network

        def make():
            specs = {
                name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
                for name, tensor in network.input.items()
            }
            predict = tf.function(
                lambda inputs: network(inputs, training=False), input_signature=[specs]
            )
            return lambda inputs, training=False: predict(inputs)

        return self._once("network", make)

    def _shared(self, sampler, num_frames):
        """The same on all replicas at once: a function of {argument: value on each replica}."""
        draw, strategy = self._drawing(sampler, num_frames), self._model.distribute_strategy
        return self._once(
            ("shared", sampler, num_frames, self._model.schedule),
            lambda: tf.function(lambda arguments: strategy.run(draw, kwargs=arguments)),
        )

    def _drawing(self, sampler, num_frames):
        model = self._model
        return lambda **arguments: draw_images(
            sampler,
            self.network(),
            schedule=model.noise_schedule,
            prediction_type=model.prediction_type,
            codec=model.codec,
            shape=model.x_shape,
            null_label=model.num_classes,
            num_frames=num_frames,
            **arguments,
        )

    def _once(self, key, make):
        if key not in self._graphs:
            self._graphs[key] = make()
        return self._graphs[key]
