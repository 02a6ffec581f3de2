"""From a seed to pictures: the graphs behind `model.generate` and every export."""

import functools

import numpy as np
import tensorflow as tf

from keras_diffusion.diffusion import samplers, schedules, time_grids
from keras_diffusion.diffusion.denoiser import make_denoiser
from keras_diffusion.diffusion.process import mix
from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.runtime.registry import lookup
from keras_diffusion.sampling.request import GUIDANCE, signature

# Loops and conditions are those of keras.ops. AutoGraph would read and rewrite the source of all
# that is called and find nothing to do, for a third of the time to a first picture.
graph = functools.partial(tf.function, autograph=False)
# What the denoiser is told, of the arguments in `signature`.
_TOLD = ("labels", "tokens", "negative_tokens", *GUIDANCE)


def draw_images(
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
):
    """Draws pictures with a whole sampler, as graph operations.

    Args:
        sampler: a name in `samplers.SAMPLERS`.
        denoiser: (x_t, t) -> (x0, eps), see `make_denoiser`.
        schedule: t -> alpha_bar.
        codec: decodes x to images.
        shape: (H, W, C) of x.
        seed: scalar int32 tensor.
        indices: (N,) int32 tensor; image i of the result depends on (seed, indices[i]) only.
        num_steps: scalar int32 tensor, at least 1; not traced again for another number.
        endpoints: None for noise, or what sits at t = 1 instead, images (N, H, W, C) as the
            codec encodes them; the samplers in `samplers.WITH_ENDPOINT` hold it.
        images: None, or images (N, H, W, C) to start from, mixed with noise or endpoint to the
            level of t = strength.
        strength: scalar float32 tensor in (0, 1], with images.
        num_frames: None, or the number of pictures of the way to return besides the start.

    Returns:
        uint8 images (N, H, W, C), or with `num_frames` (num_frames + 1, N, H, W, C).
    """
    run = lookup(samplers.SAMPLERS, sampler, "sampler")
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
            rows: dict of "indices" and, if there are any, "labels" or "tokens" and
                "negative_tokens", "endpoints" and "images", arrays (N, ...).
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
            return distribution.run_on_shares(strategy, shared, rows, common)
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
            lambda: graph(self._drawing(sampler, num_frames)).get_concrete_function(
                **signature(self._model, **pictures)
            ),
        )

    def denoiser(self):
        """Returns (x_t, t, {name in _TOLD: tensor}) -> (x0, eps) as one graph of all samplers."""
        model = self._model

        def denoise(x_t, t, told):
            return make_denoiser(
                self.network(),
                model.noise_schedule,
                model.prediction_type,
                clip=model.codec.clip,
                **_conditioned(model.num_classes, **told),
            )(x_t, t)

        return self._once(("denoiser", model.schedule), lambda: graph(denoise))

    def network(self):
        """Returns the EMA network as one graph that all denoisers call."""
        network = self._model.ema_network

        def make():
            specs = {
                name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
                for name, tensor in network.input.items()
            }
            predict = graph(lambda inputs: network(inputs, training=False), input_signature=[specs])
            dtypes = {name: spec.dtype for name, spec in specs.items()}  # a label may be a float
            return lambda inputs, training=False: predict(
                {name: tf.cast(value, dtypes[name]) for name, value in inputs.items()}
            )

        return self._once("network", make)

    def _shared(self, sampler, num_frames):
        """The same on all replicas at once: a function of {argument: value on each replica}."""
        draw, strategy = self._drawing(sampler, num_frames), self._model.distribute_strategy
        return self._once(
            ("shared", sampler, num_frames, self._model.schedule),
            lambda: graph(lambda arguments: strategy.run(draw, kwargs=arguments)),
        )

    def _drawing(self, sampler, num_frames):
        """Returns `draw_images` of the model as a function of the arguments in `signature`."""
        model = self._model

        def draw(**arguments):
            told = {name: arguments.pop(name) for name in _TOLD if name in arguments}
            return draw_images(
                sampler,
                lambda x_t, t: self.denoiser()(x_t, t, told),
                schedule=model.noise_schedule,
                codec=model.codec,
                shape=model.x_shape,
                num_frames=num_frames,
                **arguments,
            )

        return draw

    def _once(self, key, make):
        if key not in self._graphs:
            self._graphs[key] = make()
        return self._graphs[key]


def _conditioned(null_label, labels=None, tokens=None, negative_tokens=None, **guidance):
    """Returns what `make_denoiser` is told: guidance, and what pictures are of and are not."""
    if labels is not None:
        guidance.update(condition={"label": labels})
        guidance.update(null={"label": tf.fill(tf.shape(labels), null_label)})
    if tokens is not None:
        guidance.update(condition={"tokens": tokens}, null={"tokens": negative_tokens})
    return guidance
