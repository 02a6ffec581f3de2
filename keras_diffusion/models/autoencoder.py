"""`Autoencoder`: an encoder and a decoder trained by `fit` to reconstruct images."""

import keras
import tensorflow as tf

from keras_diffusion.models import metrics
from keras_diffusion.models.base import BaseModel
from keras_diffusion.models.codecs import PixelCodec, halves_config, load_halves
from keras_diffusion.models.inputs import WEIGHT, mean_over_microbatches
from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.randomness import check_seed, replica_rows, step_key

LOG_VARIANCE_BOUNDS = (-12.0, 4.0)  # keep exp finite
CHARBONNIER = 0.01  # about one grey level; smaller errors are penalised quadratically
SSIM_WINDOW = 11  # pixels; smaller for smaller images


@keras.saving.register_keras_serializable("keras_diffusion")
class Autoencoder(BaseModel):
    """A variational autoencoder (VAE) with a small KL term.

        loss = reconstruction + edge_weight * edges + kl_weight * kl

        reconstruction = mean of sqrt(d^2 + 0.01^2),  d = y - x, x in [-1, 1]
        edges = mean of |d of one pixel - d of its neighbour|, a penalty on blur
        kl = mean over the latents of KL(N(mean, variance) || N(0, 1)), in nats

    The KL term keeps the latent noise from vanishing, so that the decoder stays smooth.

    Args:
        encoder: network x -> [mean, log_variance], see `keras_diffusion.networks.encoder`.
        decoder: network latents -> x, see `keras_diffusion.networks.decoder`.
        edge_weight: weight of `edges`.
        kl_weight: weight of `kl`.
        accumulate: number of microbatches per batch, to save memory.
        seed: seed of the latent noise.

    Attributes:
        image_shape, x_shape: (H, W, C) of images and of latents.
        step, skipped_steps: variables, see `BaseModel`. The noise depends on `step`.

    Raises:
        ValueError: an encoder and a decoder of different latent shapes.

    Example:

        autoencoder = Autoencoder(networks.encoder((32, 32, 3)), networks.decoder((32, 32, 3)))
        autoencoder.compile(optimizer=keras.optimizers.AdamW(2e-3))
        autoencoder.fit(images, epochs=10)
        codec = LatentCodec.measured(autoencoder, images)

    Reference: Kingma & Welling 2014, arXiv:1312.6114; Rombach et al. 2022, arXiv:2112.10752;
        Charbonnier et al. 1994, doi:10.1109/ICIP.1994.413553 (the distance).
    """

    def __init__(
        self,
        encoder,
        decoder,
        *,
        edge_weight=0.5,
        kl_weight=1e-3,
        accumulate=1,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if tuple(encoder.output_shape[0]) != tuple(decoder.input_shape):
            raise ValueError(
                f"decoder: its input has shape {decoder.input_shape[1:]}, the latents of the "
                f"encoder {encoder.output_shape[0][1:]}."
            )
        self.encoder = encoder
        self.decoder = decoder
        self.edge_weight = edge_weight
        self.kl_weight = kl_weight
        self.accumulate = accumulate
        check_seed(seed)
        self.seed = seed
        self.image_shape = tuple(encoder.input_shape[1:])
        self.x_shape = tuple(decoder.input_shape[1:])
        names = ("loss", "reconstruction", "edges", "kl", "psnr", "ssim")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self.trackers["loss"] = metrics.Loss(name="loss")
        self.built = True

    def call(self, images, training=False):
        """Returns the reconstruction of images from their mean latents, x (B, H, W, C)."""
        batch = self._unpack(images)
        mean, _ = self.encoder(PixelCodec().encode(batch["image"]), training=training)
        return self.decoder(mean, training=training)

    def train_step(self, data):
        """Takes one optimizer step on a batch of images; returns the means so far."""
        batch = self._unpack(data)
        x = PixelCodec().encode(batch["image"])
        key, count = step_key(self.seed, self.step), tf.shape(x)[0]
        noise = replica_rows(lambda n: tf.random.stateless_normal((n, *self.x_shape), key), count)
        parts = {"x": x, "noise": noise}
        if WEIGHT in batch:
            parts[WEIGHT] = batch[WEIGHT]
        gradients, values = mean_over_microbatches(self._gradients, parts, self.accumulate)
        gradients = distribution.mean_over_replicas(gradients)
        finite = tf.math.is_finite(tf.linalg.global_norm(gradients))
        distribution.cond_on_replicas(
            finite,
            lambda: self._update_weights(gradients),
            lambda: self.skipped_steps.assign_add(1),
        )
        return self._update_metrics(values, counted=finite)

    def test_step(self, data):
        """Measures reconstructions as a `LatentCodec` makes them: no noise, clipped images."""
        batch = self._unpack(data)
        x = PixelCodec().encode(batch["image"])
        values, y = self._values(x, noise=0.0, weights=batch.get(WEIGHT, 1.0))
        y = tf.clip_by_value(y, -1.0, 1.0)
        values["psnr"] = _psnr(y - x)
        window = min(SSIM_WINDOW, *self.image_shape[:2])
        # SSIM is defined for values in [0, max_val].
        values["ssim"] = tf.image.ssim((x + 1) / 2, (y + 1) / 2, max_val=1.0, filter_size=window)
        return self._update_metrics(values)

    def _prepare_training(self, class_weight):
        if not self.trainable_variables:
            raise ValueError(
                "autoencoder: frozen by a LatentCodec. Train it before it is given to one."
            )
        super()._prepare_training(class_weight)

    def _update_weights(self, gradients):
        distribution.apply_reduced(self.optimizer, gradients, self.trainable_variables)
        self.step.assign_add(1)

    def _gradients(self, batch):
        """Returns the gradients of the mean loss, and the values of each image."""
        with tf.GradientTape() as tape:
            weights = batch.get(WEIGHT, 1.0)
            values, _ = self._values(batch["x"], batch["noise"], weights, training=True)
            loss = tf.reduce_mean(values["loss"]) + sum(self.losses)  # regularisers
        zero = tf.UnconnectedGradients.ZERO  # a weight without effect
        gradients = tape.gradient(loss, self.trainable_variables, unconnected_gradients=zero)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], values

    def _values(self, x, noise, weights=1.0, training=False):
        """Returns (dict of values of each image, all (B,), reconstructions (B, H, W, C)).

        `weights` (B,) multiply the loss of each image.
        """
        mean, log_variance = self.encoder(x, training=training)
        log_variance = tf.clip_by_value(log_variance, *LOG_VARIANCE_BOUNDS)
        y = self.decoder(mean + tf.exp(log_variance / 2) * noise, training=training)
        error = y - x
        down, right = error[:, 1:] - error[:, :-1], error[:, :, 1:] - error[:, :, :-1]
        values = {
            "reconstruction": _mean(tf.sqrt(error**2 + CHARBONNIER**2)),
            "edges": (_mean(tf.abs(down)) + _mean(tf.abs(right))) / 2,
            "kl": _mean(mean**2 + tf.exp(log_variance) - 1 - log_variance) / 2,
            "psnr": _psnr(error),
        }
        values["loss"] = weights * (
            values["reconstruction"]
            + self.edge_weight * values["edges"]
            + self.kl_weight * values["kl"]
        )
        return values, y

    def _update_metrics(self, values, counted=True):
        """Adds a batch's values to the epoch's means, unless the step was skipped."""
        weighted = {name: (value, tf.ones_like(value)) for name, value in values.items()}
        return distribution.as_logs(metrics.update(self.trackers, weighted, counted))

    def get_metrics_result(self):
        """Returns the means of the training batches. SSIM is slow: only evaluation has it."""
        results = {name: tracker.result() for name, tracker in self.trackers.items()}
        results.pop("ssim")
        return results

    @property
    def metrics(self):
        return list(self.trackers.values())

    def get_config(self):
        names = ("edge_weight", "kl_weight", "accumulate", "seed", "name")
        return {**halves_config(self), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config):
        return cls(**load_halves(config))


def _psnr(error):
    """Peak signal-to-noise ratio in dB, (B,), at most 100; of errors of x in [-1, 1]."""
    return -10 / tf.math.log(10.0) * tf.math.log(_mean(error**2) / 4 + 1e-10)


def _mean(values):
    return tf.reduce_mean(values, axis=(1, 2, 3))
