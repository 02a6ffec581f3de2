"""The TensorFlow graphs behind `model.generate` and every export."""

import functools

import numpy as np
import tensorflow as tf

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion import samplers, schedules, time_grids
from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.process import mix
from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.runtime.registry import lookup

# Loops and conditions are those of keras.ops: AutoGraph would find nothing to convert, and take
# a third of the time to a first image.
graph = functools.partial(tf.function, autograph=False)

# Arguments of a sampling graph that concern the denoiser.
CONDITIONING = ("labels", "tokens", "negative_tokens", *Guidance.NAMES)


def signature(model, start=()):
    """Returns the arguments of a sampling graph, {name: TensorSpec}.

    Args:
        model: its `num_classes` and `prompts` decide which arguments there are.
        start: {"endpoints": array (N, H, W, C)}, what sampling starts from instead of noise.
    """
    shapes = {"seed": (), "indices": (None,), "num_steps": ()}
    if model.prompts:
        shapes.update(dict.fromkeys(("tokens", "negative_tokens"), (None, model.prompts.length)))
    elif model.num_classes:
        shapes["labels"] = (None,)
    specs = {name: tf.TensorSpec(shape, tf.int32, name) for name, shape in shapes.items()}
    if model.num_classes:
        for name, value in Guidance().options().items():
            specs[name] = tf.TensorSpec(np.shape(value), tf.float32, name)
    if "endpoints" in start:
        endpoints = start["endpoints"]
        specs["endpoints"] = tf.TensorSpec(
            (None, *endpoints.shape[1:]), endpoints.dtype, "endpoints"
        )
    return specs


def generate_images(
    sampler,
    denoiser,
    *,
    schedule,
    codec,
    shape,
    seed,
    indices,
    num_steps,
    endpoints=None,
    images=None,
    strength=None,
    num_frames=None,
    decode=None,
):
    """Runs a whole sampler, as graph operations.

    Args:
        sampler: a name in `samplers.SAMPLERS`.
        denoiser: (x_t, t) -> (x0, eps), see `make_denoiser`.
        schedule: t -> alpha_bar.
        codec: encodes images to x, and decodes x to images.
        shape: (H, W, C) of x.
        seed: scalar int32 tensor.
        indices: (N,) int32 tensor; image i of the result depends on (seed, indices[i]) only.
        num_steps: scalar int32 tensor, at least 1.
        endpoints: None for noise, or what takes its place at t = 1, images (N, H, W, C) as the
            codec encodes them; the samplers in `samplers.WITH_ENDPOINT` keep it in every step.
        images: None, or images (N, H, W, C) to start from, mixed with noise or endpoint to the
            level of t = strength.
        strength: scalar float32 tensor in (0, 1], with images.
        num_frames: None, or the number of images along the trajectory to return besides the
            start.
        decode: takes the place of `codec.decode`, as a graph.

    Returns:
        uint8 images (N, H, W, C), or with `num_frames` (num_frames + 1, N, H, W, C).
    """
    options = {"num_frames": num_frames}
    if sampler in samplers.STOCHASTIC:
        options["noise_fn"] = lambda i: image_noise(seed, indices, shape, i + 1)
    if endpoints is None:
        start = image_noise(seed, indices, shape, 0)
    else:
        start = codec.encode(endpoints)
        if sampler in samplers.WITH_ENDPOINT:
            options["endpoint"] = start
    if images is not None:
        start = mix((codec.encode(images), start), schedules.rates(schedule, strength))
    times = time_grids.uniform_logsnr(schedule, num_steps, 1.0 if images is None else strength)
    result = samplers.SAMPLERS[sampler](denoiser, schedule, start, times, **options)
    decode = decode or codec.decode
    if num_frames is None:
        return decode(result)
    # One frame at a time: to decode latents needs more memory than to sample them.
    return tf.map_fn(decode, result[1], fn_output_signature=tf.uint8)


class SamplingGraphs:
    """The graphs of a model, each inside of the one before, so that samplers share the others:

        sampler    signature -> images; for each sampler, num_frames, schedule and kind of start
        denoiser   x_t, t, conditioning -> x0, eps; for each schedule
        network    x, logsnr[, label or tokens] -> output of the EMA network

    and `decode`, x -> images, which is inside of the samplers, too.
    tf.function traces each of them on first use and keeps it. Numbers of images and steps, seed,
    labels, guidance and strength are tensors: another value of them traces nothing.

    Args:
        model: a `DiffusionModel`; its schedule may be changed later.
    """

    def __init__(self, model):
        self._model = model
        self._input_specs = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
            for name, tensor in model.ema_network.input.items()
        }
        self.network_graph = graph(
            lambda inputs: model.ema_network(inputs, training=False),
            input_signature=[self._input_specs],
        )
        self.denoiser_graph = graph(self._denoise)
        self.unclipped_denoiser_graph = graph(functools.partial(self._denoise, clip=False))
        self.decode = graph(
            lambda x: model.codec.decode(x),
            input_signature=[tf.TensorSpec((None, *model.x_shape), tf.float32, "x")],
        )
        self.sampler_graph = graph(self.sample)
        self.replicated_sampler_graph = graph(self._sample_on_replicas)

    def generate(self, request, sampler, *, num_frames=None, batch_size=64):
        """Returns the images of a `Request` as one array, see `generate_images`.

        Raises:
            ValueError: an unknown sampler, or a num_frames or batch_size below 1.
        """
        lookup(samplers.SAMPLERS, sampler, "sampler")
        if num_frames is not None:
            num_frames = int(num_frames)  # numpy's integers are no index of a graph
            if num_frames < 1:
                raise ValueError(f"num_frames: {num_frames} is not 1 or more.")
        strategy = self._model.distribute_strategy
        kind = (sampler, num_frames, self._model.schedule)
        axis = 0 if num_frames is None else 1
        parts = []
        for rows in request.batches(batch_size):
            if distribution.local_replicas(strategy) > 1:
                run = functools.partial(self.replicated_sampler_graph, *kind)
                shares = distribution.run_on_shares(strategy, run, rows, request.shared)
                images = np.concatenate(shares, axis)
            else:
                tensors = {n: tf.constant(v) for n, v in {**rows, **request.shared}.items()}
                images = self.sampler(sampler, num_frames, start=rows)(**tensors).numpy()
            parts.append(images.take(range(len(rows["indices"])), axis))  # shares may repeat rows
        return np.concatenate(parts, axis)

    def sampler(self, sampler, num_frames=None, start=()):
        """Returns a sampler as a ConcreteFunction of the arguments in `signature`."""
        return self.sampler_graph.get_concrete_function(
            sampler, num_frames, self._model.schedule, **signature(self._model, start)
        )

    def network(self, inputs, training=False):
        """Calls the EMA network as a graph: {"x", "logsnr"[, "label" or "tokens"]} -> output."""
        specs = self._input_specs  # a label may be a float
        return self.network_graph({n: tf.cast(inputs[n], spec.dtype) for n, spec in specs.items()})

    def denoise(self, x_t, t, **condition):
        """Returns the pair (x0, eps) of labels or tokens without guidance; x0 is not clipped."""
        times = tf.broadcast_to(t, tf.shape(x_t)[:1])
        return self.unclipped_denoiser_graph(x_t, times, condition, self._model.schedule)

    def _denoise(self, x_t, t, conditioning, schedule, clip=True):
        model = self._model
        denoiser = make_denoiser(
            self.network,
            schedules.SCHEDULES[schedule],
            model.prediction_type,
            clip=model.codec.clip if clip else None,
            **_denoiser_options(model.num_classes, **conditioning),
        )
        return denoiser(x_t, t)

    def sample(self, sampler, num_frames, schedule, **arguments):
        """Runs a sampler, as graph operations, with the arguments in `signature`."""
        conditioning = {name: arguments.pop(name) for name in CONDITIONING if name in arguments}
        return generate_images(
            sampler,
            lambda x_t, t: self.denoiser_graph(x_t, t, conditioning, schedule),
            schedule=schedules.SCHEDULES[schedule],
            codec=self._model.codec,
            shape=self._model.x_shape,
            num_frames=num_frames,
            decode=self.decode,
            **arguments,
        )

    def _sample_on_replicas(self, sampler, num_frames, schedule, arguments):
        """`arguments` are {name: value on each replica}; so are the images returned."""
        sample = functools.partial(self.sample, sampler, num_frames, schedule)
        return self._model.distribute_strategy.run(sample, kwargs=arguments)


def _denoiser_options(null_label, labels=None, tokens=None, negative_tokens=None, **guidance):
    """Returns the conditioning of a sampling graph as arguments of `make_denoiser`."""
    options = dict(guidance)
    if labels is not None:
        null = tf.fill(tf.shape(labels), null_label)
        options.update(condition={"label": labels}, null={"label": null})
    if tokens is not None:
        options.update(condition={"tokens": tokens}, null={"tokens": negative_tokens})
    return options
