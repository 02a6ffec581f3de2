"""DiffusionModel: a network, a schedule and what to predict, trained by `fit`."""

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion import process, schedules
from keras_diffusion.batches import unpack
from keras_diffusion.codecs import PixelCodec
from keras_diffusion.generation import draw_images, signature
from keras_diffusion.networks.layers import LabelEmbedding
from keras_diffusion.randomness import step_key
from keras_diffusion.registry import lookup
from keras_diffusion.samplers import SAMPLERS

BANDS = ("t0-25", "t25-50", "t50-75", "t75-100")  # quarters of time, in percent


@keras.saving.register_keras_serializable("keras_diffusion")
class DiffusionModel(keras.Model):
    """A diffusion model around any Keras network.

    Args:
        network: {"x" (B, H, W, C), "logsnr" (B,)[, "label" (B,)]} -> (B, H, W, C), such as
            `keras_diffusion.networks.unet(...)`. A labelled one holds a `LabelEmbedding`.
        schedule: "cosine", "linear", "constant", "inverse_linear" or "sigmoid".
        prediction_type: what the network predicts: "v", "eps" or "x0".
        loss_weighting: "uniform" or "min_snr", see `process.loss_weights`.
        ema_decay: decay of the running average of the weights that evaluation and sampling
            use; warmed up, min(ema_decay, (1 + step) / (10 + step)). 0: no averaging.
        label_dropout: share of labels replaced by the null class in training, for guidance.
        seed: of noise, times and label dropout in training and evaluation.

    Raises:
        ValueError: an unknown name, with the choices; a share outside of [0, 1).

    Example:

        model = DiffusionModel(networks.unet((28, 28, 1), num_classes=10))
        model.compile(optimizer=keras.optimizers.AdamW(1e-3))
        model.fit(images, labels, epochs=10)
        digits = model.generate(16)

    Reference: Ho et al. 2020, arXiv:2006.11239.
    """

    def __init__(
        self,
        network,
        *,
        schedule="cosine",
        prediction_type="v",
        loss_weighting="uniform",
        ema_decay=0.999,
        label_dropout=0.1,
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
        self.network = network
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.loss_weighting = loss_weighting
        self.ema_decay = ema_decay
        self.label_dropout = label_dropout
        self.seed = seed

        self.image_shape = tuple(network.output_shape[1:])
        self.num_classes = _count_classes(network)
        self.codec = PixelCodec()
        self.ema_network = keras.models.clone_model(network)
        self.ema_network.set_weights(network.get_weights())
        self.ema_network.trainable = False
        names = ("loss", "eps_error", "x0_error", "v_error", *(f"loss_{b}" for b in BANDS))
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self._graphs = {}
        self.built = True

    # Training ---------------------------------------------------------------------------

    def train_step(self, data):
        batch = unpack(data, self.image_shape, self.num_classes)
        key = step_key(self.seed, self.optimizer.iterations)
        with tf.GradientTape() as tape:
            loss, details = self._diffusion_loss(self.network, batch, key, training=True)
            # gradients are summed over replicas
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(share)
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        self._update_ema()
        return self._update_metrics(loss, details)

    def test_step(self, data):
        batch = unpack(data, self.image_shape, self.num_classes)
        fixed_key = step_key(self.seed, -1)
        return self._update_metrics(
            *self._diffusion_loss(self.ema_network, batch, fixed_key, training=False)
        )

    def call(self, data, training=False):
        """Returns the EMA network's guess of x0 for a batch that is noised as in `evaluate`."""
        batch = unpack(data, self.image_shape, self.num_classes)
        x_t, t, level, _, labels = self._noised(batch, step_key(self.seed, -1), training)
        output = self._predict(self.ema_network, x_t, t, labels, training)
        return process.to_pair(output, x_t, level, self.prediction_type)[0]

    def _diffusion_loss(self, network, batch, key, training):
        """Returns the mean loss and what the metrics need, (errors, weights, t), each (B,)."""
        x_t, t, level, pair, labels = self._noised(batch, key, training)
        output = self._predict(network, x_t, t, labels, training)
        target = process.target(pair, level, self.prediction_type)
        error = tf.reduce_mean((output - target) ** 2, axis=(1, 2, 3))
        flat_level = schedules.rates(self.noise_schedule, t)
        weights = process.loss_weights(flat_level, self.prediction_type, self.loss_weighting)
        return tf.reduce_mean(weights * error), (error, weights, t)

    def _noised(self, batch, key, training):
        """Draws times, noise and label dropout: (x_t, t, level, (x0, eps), labels)."""
        time_key, noise_key, label_key = tf.unstack(tf.random.split(key, 3))
        x0 = self.codec.encode(batch["image"])
        batch_size = tf.shape(x0)[0]
        t = process.stratified_times(tf.random.stateless_uniform((), time_key), batch_size)
        level = [rate[:, None, None, None] for rate in schedules.rates(self.noise_schedule, t)]
        if "endpoint" in batch:
            eps = self.codec.encode(batch["endpoint"])
        else:
            eps = tf.random.stateless_normal(tf.shape(x0), noise_key)
        labels = batch.get("label")
        if labels is not None and training:
            dropped = tf.random.stateless_uniform((batch_size,), label_key) < self.label_dropout
            labels = tf.where(dropped, self.num_classes, labels)
        return process.mix((x0, eps), level), t, level, (x0, eps), labels

    def _predict(self, network, x_t, t, labels, training):
        inputs = {"x": x_t, "logsnr": schedules.logsnr(self.noise_schedule, t)}
        if labels is not None:
            inputs["label"] = labels
        return network(inputs, training=training)

    def _update_ema(self):
        step = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(self.ema_decay, (1 + step) / (10 + step))
        for average, weight in zip(self.ema_network.weights, self.network.weights, strict=True):
            average.assign(average + (1 - decay) * (weight - average))

    def _update_metrics(self, loss, details):
        error, weights, t = details
        self.trackers["loss"].update_state(loss, sample_weight=tf.shape(error)[0])
        level = schedules.rates(self.noise_schedule, t)
        for space, value in process.errors(error, level, self.prediction_type).items():
            self.trackers[f"{space}_error"].update_state(value)
        band_of = tf.minimum(tf.cast(t * len(BANDS), tf.int32), len(BANDS) - 1)
        for index, band in enumerate(BANDS):
            inside = tf.cast(band_of == index, tf.float32)
            self.trackers[f"loss_{band}"].update_state(weights * error, sample_weight=inside)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    @property
    def metrics(self):
        return list(self.trackers.values())

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
        guidance_scale=1.0,
        seed=0,
        batch_size=64,
        num_frames=None,
    ):
        """Draws pictures with the EMA network; picture i depends only on (seed, i).

        Args:
            num_images: how many.
            sampler: "dpmpp_2m", "ddim", "heun" or "ddpm".
            num_steps: sampler steps, 1 to about 1000.
            labels: (num_images,) ints; None: the classes in turn, in equal shares.
            guidance_scale: 1 is off; above 1 pictures are more typical of their class, less
                diverse, at twice the work.
            seed: int.
            batch_size: how many pictures are drawn at once.
            num_frames: None, or the number of pictures of the way from noise.

        Returns:
            numpy uint8 (num_images, H, W, C), or with `num_frames`
            (num_frames + 1, num_images, H, W, C).

        Raises:
            ValueError: an unknown sampler, bad numbers, or labels that do not fit.
        """
        lookup(SAMPLERS, sampler, "sampler")
        if num_images < 1 or num_steps < 1 or batch_size < 1:
            raise ValueError("num_images, num_steps and batch_size must be at least 1.")
        indices = np.arange(num_images, dtype="int32")
        labels = self._labels_of(indices, labels)
        graph = self.sampling_graph(sampler, num_frames)
        arguments = {"seed": np.int32(seed), "num_steps": np.int32(num_steps)}
        if labels is not None:
            arguments["guidance_scale"] = np.float32(guidance_scale)
        parts = []
        for first in range(0, num_images, batch_size):
            part = slice(first, first + batch_size)
            arguments["indices"] = indices[part]
            if labels is not None:
                arguments["labels"] = labels[part]
            tensors = {name: tf.constant(value) for name, value in arguments.items()}
            parts.append(graph(**tensors).numpy())
        return np.concatenate(parts, axis=0 if num_frames is None else 1)

    def sampling_graph(self, sampler, num_frames=None):
        """Returns `draw_images` of this model as one graph, traced once.

        Its arguments are those of `generation.signature`, all else is fixed.
        """
        key = sampler, num_frames, self.schedule  # the schedule may be changed after training
        if key not in self._graphs:

            def draw(**arguments):
                return draw_images(
                    sampler,
                    self.network_graph(),
                    schedule=self.noise_schedule,
                    prediction_type=self.prediction_type,
                    codec=self.codec,
                    shape=self.image_shape,
                    null_label=self.num_classes,
                    num_frames=num_frames,
                    **arguments,
                )

            graph = tf.function(draw).get_concrete_function(**signature(self.num_classes > 0))
            self._graphs[key] = graph
        return self._graphs[key]

    def network_graph(self):
        """Returns the EMA network as one graph that all sampling graphs call."""
        if "network" not in self._graphs:
            specs = {
                name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
                for name, tensor in self.ema_network.input.items()
            }
            graph = tf.function(
                lambda inputs: self.ema_network(inputs, training=False), input_signature=[specs]
            )
            self._graphs["network"] = lambda inputs, training=False: graph(inputs)
        return self._graphs["network"]

    def _labels_of(self, indices, labels):
        if not self.num_classes:
            if labels is not None:
                raise ValueError("labels: this model was trained without labels.")
            return None
        if labels is None:
            return indices % self.num_classes
        labels = np.asarray(labels, dtype="int32")
        if labels.shape != indices.shape:
            raise ValueError(f"labels: {labels.shape} given for {len(indices)} images.")
        if labels.min() < 0 or labels.max() > self.num_classes:
            raise ValueError(
                f"labels: must be 0 .. {self.num_classes - 1}, or {self.num_classes} for none."
            )
        return labels

    # Saving -----------------------------------------------------------------------------

    def get_config(self):
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "schedule": self.schedule,
            "prediction_type": self.prediction_type,
            "loss_weighting": self.loss_weighting,
            "ema_decay": self.ema_decay,
            "label_dropout": self.label_dropout,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def _count_classes(network):
    embeddings = [layer for layer in network.layers if isinstance(layer, LabelEmbedding)]
    return embeddings[0].num_classes if embeddings else 0
