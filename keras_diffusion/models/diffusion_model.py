"""`DiffusionModel`: a network, a noise schedule and a prediction type, trained by `fit`."""

import json

import keras
import tensorflow as tf

from keras_diffusion.conditioning.prompts import Prompts
from keras_diffusion.config.guidance import Guidance
from keras_diffusion.diffusion import process, schedules
from keras_diffusion.models import metrics
from keras_diffusion.models.averages import paired
from keras_diffusion.models.base import BaseModel
from keras_diffusion.models.codecs import PixelCodec
from keras_diffusion.models.inputs import (
    WEIGHT,
    check_network,
    mean_over_microbatches,
    size_of,
    with_tokens,
)
from keras_diffusion.networks.embedding import CONDITION_INPUTS, count_classes
from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.randomness import (
    batch_positions,
    check_seed,
    image_noise,
    replica_rows,
    step_key,
)
from keras_diffusion.runtime.registry import lookup
from keras_diffusion.sampling.edit_graph import EditGraph
from keras_diffusion.sampling.graphs import SamplingGraphs
from keras_diffusion.sampling.request import Request

VALIDATION_STREAM = -1  # stream of `image_noise` for evaluation; samplers use 0, 1, 2, ...


@keras.saving.register_keras_serializable("keras_diffusion")
class DiffusionModel(BaseModel):
    """A diffusion model around any Keras network.

    Args:
        network: functional `keras.Model`, {"x": (B, H, W, C), "logsnr": (B,)} -> (B, H, W, C), such
            as `keras_diffusion.networks.unet(...)`. It may take one conditioning input more:
            "label" (B,), if it holds a `LabelEmbedding`, or "tokens" (B, L) of prompts.
        codec: `LatentCodec` between images and x. None: x is the pixels.
        prompts: `Prompts` for a network with "tokens". In training each label becomes one of its
            prompts, chosen at random in each step.
        schedule: noise schedule, "cosine", "linear", "constant", "inverse_linear" or "sigmoid".
        prediction_type: output of the network, "v", "eps" or "x0".
        loss_weighting: "uniform" or "min_snr", see `process.loss_weights`.
        ema_decay: decay of the exponential moving average (EMA) of the weights, in [0, 1), used in
            evaluation and sampling; min(ema_decay, (1 + step) / (10 + step)). 0: no averaging.
            It moves after every step, also if the optimizer only accumulates its gradient.
        label_dropout: probability in [0, 1) that a label is replaced by the null class in
            training, for classifier-free guidance.
        accumulate: number of microbatches per batch, to save memory. The gradients are the same.
        seed: seed of noise, times and label dropout, in training and evaluation.

    Attributes:
        image_shape, x_shape: (H, W, C) of images and of x.
        step, skipped_steps: variables, see `BaseModel`. Noise, times, label dropout and the
            start of the EMA depend on `step`.

    Raises:
        ValueError: an unknown name, a number out of range, or a codec or prompts that do not fit
            the network.

    Example:

        model = DiffusionModel(networks.unet((28, 28, 1), num_classes=10))
        model.compile(optimizer=Muon(0.01))
        model.fit(images, labels, epochs=10)
        samples = model.generate(16)

    Reference: Ho et al. 2020, arXiv:2006.11239; Salimans & Ho 2022, arXiv:2202.00512 (v).
    """

    def __init__(
        self,
        network,
        *,
        codec=None,
        prompts=None,
        schedule="cosine",
        prediction_type="v",
        loss_weighting="uniform",
        ema_decay=0.999,
        label_dropout=0.1,
        accumulate=1,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        lookup(schedules.SCHEDULES, schedule, "schedule")
        lookup(process.PREDICTION_TYPES, prediction_type, "prediction type")
        lookup(process.LOSS_WEIGHTINGS, loss_weighting, "loss weighting")
        for name, share in (("ema_decay", ema_decay), ("label_dropout", label_dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name}: {share} is not in [0, 1).")
        if accumulate < 1:
            raise ValueError(f"accumulate: {accumulate} is not 1 or more.")
        check_seed(seed)
        check_network(network)
        self.network = network
        self.codec = codec or PixelCodec()
        self.prompts = prompts
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.loss_weighting = loss_weighting
        self.ema_decay = ema_decay
        self.label_dropout = label_dropout
        self.accumulate = accumulate
        self.seed = seed

        self.num_classes = count_classes(network, prompts)
        self.x_shape = tuple(network.output_shape[1:])
        self.latent_shape = self.x_shape
        self.image_shape = self.codec.image_shape_of(self.x_shape)
        self.ema_network = keras.models.clone_model(network)
        for average, weight in paired(self.ema_network, network):
            average.assign(weight)
        self.ema_network.trainable = False
        self.trackers = metrics.make_trackers()
        self.graphs = SamplingGraphs(self)
        self.edit_graph = EditGraph(self)
        self.built = True

    # Training ---------------------------------------------------------------------------

    def train_step(self, data):
        """Takes one optimizer step on a batch, see `inputs.unpack`; returns the means so far."""
        batch = self._unpack(data, training=True)
        noised = self._noised(batch, step_key(self.seed, self.step))
        gradients, errors = mean_over_microbatches(self._gradients, noised, self.accumulate)
        gradients = distribution.mean_over_replicas(gradients)
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm)
        distribution.cond_on_replicas(
            finite,
            lambda: self._update_weights(gradients),
            lambda: self.skipped_steps.assign_add(1),
        )
        return self._update_metrics(errors, finite, {metrics.GRADIENT_NORM: (norm, 1.0)})

    def test_step(self, data):
        """Measures the EMA weights on a batch, and the raw weights on some of its images."""
        batch = self._unpack(data)
        noised = self._noised_by_index(batch)
        errors = self._errors(self.ema_network, noised)
        rows, weights = metrics.raw_loss_rows(noised["index"], self.jit_compile)
        some = {name: tf.gather(values, rows) for name, values in noised.items()}
        excess = self._errors(self.network, some)["loss"] - tf.gather(errors["loss"], rows)
        others = {metrics.RAW_EXCESS: (excess, weights)}
        return self._update_metrics(errors, True, others)

    def call(self, data, training=False):
        """Returns the EMA network's x0, (B, H, W, C), for a batch noised as in `evaluate`."""
        batch = self._unpack(data)
        noised = self._noised_by_index(batch)
        output = self._predict(self.ema_network, noised, training)
        level = self._level(noised["t"])
        return process.to_pair(output, noised["x_t"], level, self.prediction_type)[0]

    def _trained_variables(self):
        return self.network.trainable_variables

    def _prepare_training(self, class_weight):
        paired(self.ema_network, self.network)  # raises if they differ
        super()._prepare_training(class_weight)

    def _gradients(self, noised):
        """Returns the gradients of the mean loss, and the errors of each image."""
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            errors = self._errors(self.network, noised, training=True)
            loss = tf.reduce_mean(errors["loss"]) + sum(self.network.losses)  # regularisers
        zero = tf.UnconnectedGradients.ZERO  # a weight without effect
        gradients = tape.gradient(loss, variables, unconnected_gradients=zero)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], errors

    def _update_weights(self, gradients):
        """Applies the gradients, then moves the EMA weights towards the new weights."""
        variables = self.network.trainable_variables
        distribution.apply_reduced(self.optimizer, gradients, variables)
        self.step.assign_add(1)
        step = tf.cast(self.step, tf.float32)
        rate = 1 - tf.minimum(self.ema_decay, (1 + step) / (10 + step))
        with tf.name_scope("average"):
            for average, weight in paired(self.ema_network, self.network):
                average.assign(average + rate * (weight - average))

    def _noised(self, batch, key):
        """Samples times, noise, label dropout and templates for a batch, see `_mixed`."""
        time_key, noise_key, label_key = tf.unstack(tf.random.split(key, 3))
        count, shape = size_of(batch), self.x_shape
        offset = tf.random.stateless_uniform((), time_key)
        t = process.spread_times(offset, batch_positions(count))
        eps = replica_rows(lambda n: tf.random.stateless_normal((n, *shape), noise_key), count)
        if "label" in batch:
            uniform = replica_rows(lambda n: tf.random.stateless_uniform((n,), label_key), count)
            dropped = uniform < self.label_dropout
            batch = {**batch, "label": tf.where(dropped, self.num_classes, batch["label"])}
        if self.prompts:
            key = tf.random.fold_in(label_key, 1)
            uniform = replica_rows(lambda n: tf.random.stateless_uniform((n,), key), count)
            batch = with_tokens(batch, self.prompts, uniform)
        return self._mixed(batch, t, eps)

    def _noised_by_index(self, batch):
        """Like `_noised`, but time and noise of an image depend on its index only."""
        index = tf.cast(batch.get("index", batch_positions(size_of(batch))), tf.int32)
        key = step_key(self.seed, VALIDATION_STREAM)
        t = process.spread_times(tf.random.stateless_uniform((), key), index)
        seed = tf.constant(self.seed, tf.int32)
        eps = image_noise(seed, index, self.x_shape, VALIDATION_STREAM)
        return {**self._mixed(with_tokens(batch, self.prompts), t, eps), "index": index}

    def _mixed(self, batch, t, eps):
        """Returns {"x_t", "target", "t"} and the conditioning input; an endpoint replaces eps."""
        encoded = "latent" in batch
        x0 = tf.cast(batch["latent"], tf.float32) if encoded else self.codec.encode(batch["image"])
        if "valid" in batch:
            x0 = tf.where(batch["valid"][:, None, None, None], x0, float("nan"))
        if "endpoint" in batch:
            eps = self.codec.encode(batch["endpoint"])
        level = self._level(t)
        noised = {"x_t": process.mix((x0, eps), level), "t": t}
        noised["target"] = process.target((x0, eps), level, self.prediction_type)
        names = (*CONDITION_INPUTS, WEIGHT)
        return {**noised, **{name: batch[name] for name in names if name in batch}}

    def _level(self, t):
        return [rate[:, None, None, None] for rate in schedules.rates(self.noise_schedule, t)]

    def _predict(self, network, noised, training):
        logsnr = schedules.logsnr(self.noise_schedule, noised["t"])
        inputs = {"x": noised["x_t"], "logsnr": logsnr}
        inputs.update({name: noised[name] for name in CONDITION_INPUTS if name in noised})
        return tf.cast(network(inputs, training=training), tf.float32)

    def _errors(self, network, noised, training=False):
        """Returns {"loss", "zero_loss", "error", "t"}, each (B,).

        `error` is the mean squared error of the output, `loss` is weighted by `loss_weighting` and
        by the weights of the images, `zero_loss` is the loss of the output 0.
        """
        target, t = noised["target"], noised["t"]
        output = self._predict(network, noised, training)
        error = tf.reduce_mean((output - target) ** 2, axis=(1, 2, 3))
        level = schedules.rates(self.noise_schedule, t)
        weights = process.loss_weights(level, self.prediction_type, self.loss_weighting)
        weights *= noised.get(WEIGHT, 1.0)
        zero_loss = weights * tf.reduce_mean(target**2, axis=(1, 2, 3))
        return {"loss": weights * error, "zero_loss": zero_loss, "error": error, "t": t}

    def _update_metrics(self, errors, counted, others):
        """Adds a batch's errors and `others` to the epoch's means, unless the step was skipped."""
        level = schedules.rates(self.noise_schedule, errors["t"])
        values = {**metrics.batch_values(errors, level, self.prediction_type), **others}
        return distribution.as_logs(metrics.update(self.trackers, values, counted))

    @property
    def metrics(self):
        return list(self.trackers.values())

    def get_metrics_result(self):
        """Returns the means of the epoch that have been updated in it."""
        return metrics.without_empty(super().get_metrics_result(), self.trackers)

    @property
    def noise_schedule(self):
        """The schedule as a function t -> alpha_bar."""
        return schedules.SCHEDULES[self.schedule]

    # Sampling ---------------------------------------------------------------------------

    def generate(
        self,
        num_images,
        *,
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
        """Generates images with the EMA network; image i depends only on (seed, i).

        Args:
            num_images: N.
            sampler: "dpmpp_2m", "ddim", "heun", "ddpm" or "cold", which keeps the endpoints.
            num_steps: sampler steps, 1 to about 1000.
            labels: (N,) ints; None: the classes in turn, in equal shares. A model with prompts
                uses the plain prompts of these classes.
            prompts: a text for all images, or N texts; for models with prompts.
            negative_prompts: likewise, what guidance leads away from; None: the empty prompt.
            guidance_scale: 1 is off; above 1 images are more typical of their class and less
                diverse, at twice the cost.
            guidance_interval: (low, high), the times t in [0, 1] between which guidance is on;
                steps outside cost half.
            guidance_rescale: in [0, 1], the share of the contrast added by guidance that is
                removed again.
            endpoints: None for noise, or the images to start from, (N, H, W, C), uint8 or floats
                in [0, 1], of a model that was trained with such endpoints.
            seed: int.
            batch_size: images generated at once.
            num_frames: None, or the number of images along the way from noise.

        Returns:
            numpy uint8 (N, H, W, C), or with `num_frames` (num_frames + 1, N, H, W, C).

        Raises:
            ValueError: an unknown sampler or word; numbers out of bounds; labels, prompts,
                endpoints or guidance that do not fit the model.
        """
        request = Request(
            model=self,
            num_images=num_images,
            num_steps=num_steps,
            seed=seed,
            labels=labels,
            prompts=prompts,
            negative_prompts=negative_prompts,
            guidance=Guidance(guidance_scale, guidance_interval, guidance_rescale),
            endpoints=endpoints,
        )
        return self.graphs.generate(request, sampler, num_frames=num_frames, batch_size=batch_size)

    def denoise(self, x_t, t, **condition):
        """Predicts with the EMA network, as graph operations; without guidance.

        Args:
            x_t: float32 (B, H, W, C), of the shape of x.
            t: times in [0, 1], a scalar or (B,).
            **condition: int32 "labels" (B,) of a model with labels, "tokens" (B, L) of one with
                prompts.

        Returns:
            (x0, eps), each (B, H, W, C); x0 is not clipped.
        """
        return self.graphs.denoise(x_t, t, **condition)

    # Saving -----------------------------------------------------------------------------

    def get_config(self):
        codec = self.codec if isinstance(self.codec, keras.Layer) else None
        names = ("schedule", "prediction_type", "loss_weighting", "ema_decay", "label_dropout")
        names += ("accumulate", "seed", "name")
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "codec": keras.saving.serialize_keras_object(codec),
            "prompts": self.prompts and self.prompts.get_config(),
            **{name: getattr(self, name) for name in names},
        }

    @classmethod
    def from_config(cls, config):
        load = keras.saving.deserialize_keras_object
        parts = {name: load(config.get(name)) for name in ("network", "codec")}
        prompts = Prompts(**config["prompts"]) if config.get("prompts") else None
        return cls(**{**config, **parts, "prompts": prompts})


def in_float32(model):
    """Returns a copy of a `DiffusionModel` with the same weights that computes in float32."""
    config = json.dumps(keras.saving.serialize_keras_object(model))
    config = config.replace('"mixed_bfloat16"', '"float32"')
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # of layers inside of layers
    try:
        copy = keras.saving.deserialize_keras_object(json.loads(config))
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy
