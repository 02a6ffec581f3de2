"""Autoencoder: the two halves trained together, by `fit`, to give images back."""

import keras
import tensorflow as tf

from keras_diffusion.models import metrics
from keras_diffusion.models.codecs import PixelCodec, loaded_halves, saved_halves
from keras_diffusion.models.inputs import mean_over_parts, unpack
from keras_diffusion.runtime import distribution
from keras_diffusion.runtime.randomness import own_rows, step_key

LOG_VARIANCES = (-12.0, 4.0)  # bounds, for exp to stay finite
CHARBONNIER = 0.01  # errors below, about one grey level, count by their square
SSIM_WINDOW = 11  # pixels, of the reference below; smaller images take a smaller one


@keras.saving.register_keras_serializable("keras_diffusion")
class Autoencoder(keras.Model):
    """An autoencoder with a Gaussian in latent space for each image.

        loss = reconstruction + edge_weight * edges + kl_weight * kl

    reconstruction: mean Charbonnier distance sqrt(d^2 + 0.01^2) of x in [-1, 1]; edges: mean
    absolute difference of the slopes between neighbouring pixels, which blur makes too small;
    kl: mean over the latents of the KL divergence from the standard normal, in nats. Small as
    its weight is, it keeps the noise in latents from vanishing, and so neighbours alike.

    Args:
        encoder, decoder: as from `keras_diffusion.networks.encoder` and `decoder`.
        edge_weight, kl_weight: see above.
        accumulate: in how many parts each batch is worked through, to save memory.
        seed: of the noise in latent space.

    Attributes:
        image_shape, x_shape: (H, W, C) of images and of latents.
        skipped_steps: variable, steps left out because their gradient was not finite.

    Example:

        autoencoder = Autoencoder(networks.encoder((32, 32, 3)), networks.decoder((32, 32, 3)))
        autoencoder.compile(optimizer=keras.optimizers.AdamW(2e-3))
        autoencoder.fit(images, epochs=10)
        codec = LatentCodec.measured(autoencoder, images)

    Reference: Kingma & Welling 2014, arXiv:1312.6114; as a first stage Rombach et al. 2022,
        arXiv:2112.10752; the distance: Charbonnier et al. 1994, doi:10.1109/ICIP.1994.413553.
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
                f"decoder: takes {decoder.input_shape[1:]}, but the latents of the encoder are "
                f"{encoder.output_shape[0][1:]}."
            )
        self.encoder = encoder
        self.decoder = decoder
        self.edge_weight = edge_weight
        self.kl_weight = kl_weight
        self.accumulate = accumulate
        self.seed = seed
        self.image_shape = tuple(encoder.input_shape[1:])
        self.x_shape = tuple(decoder.input_shape[1:])
        self.skipped_steps = self.add_weight(
            shape=(), dtype="int64", initializer="zeros", trainable=False, name="skipped_steps"
        )
        names = ("loss", "reconstruction", "edges", "kl", "psnr", "ssim")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self.built = True

    def call(self, images, training=False):
        """Returns images (B, H, W, C) as they come back from their mean latents: x in [-1, 1]."""
        batch = unpack(images, self.image_shape, num_classes=0)
        mean, _ = self.encoder(PixelCodec().encode(batch["image"]), training=training)
        return self.decoder(mean, training=training)

    def train_step(self, data):
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError("mixed_float16 overflows here; use mixed_bfloat16 or float32.")
        if not self.trainable_variables:
            raise ValueError("autoencoder: is frozen, as a LatentCodec holds it.")
        x = PixelCodec().encode(unpack(data, self.image_shape, num_classes=0)["image"])
        key, count = step_key(self.seed, self.optimizer.iterations), tf.shape(x)[0]
        noise = own_rows(lambda n: tf.random.stateless_normal((n, *self.x_shape), key), count)
        gradients, values = mean_over_parts(
            self._gradients, {"x": x, "noise": noise}, self.accumulate
        )
        gradients = distribution.mean_over_replicas(gradients)
        finite = tf.math.is_finite(tf.linalg.global_norm(gradients))
        distribution.either(
            finite,
            lambda: distribution.apply_reduced(self.optimizer, gradients, self.trainable_variables),
            lambda: self.skipped_steps.assign_add(1),
        )
        return self._update_metrics(values, counted=finite)

    def test_step(self, data):
        """Measures what a `LatentCodec` will do: mean latents without noise, clipped images."""
        x = PixelCodec().encode(unpack(data, self.image_shape, num_classes=0)["image"])
        values, y = self._measured(x, noise=0.0)
        y = tf.clip_by_value(y, -1.0, 1.0)
        values["psnr"] = _psnr(y - x)
        window = min(SSIM_WINDOW, *self.image_shape[:2])  # SSIM is of brightness from 0 on
        values["ssim"] = tf.image.ssim((x + 1) / 2, (y + 1) / 2, max_val=1.0, filter_size=window)
        return self._update_metrics(values)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """What Keras does before `fit`, see `DiffusionModel`."""
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _gradients(self, batch):
        """Returns the gradients of the mean loss, and `_measured`."""
        with tf.GradientTape() as tape:
            values, _ = self._measured(batch["x"], batch["noise"], training=True)
            loss = tf.reduce_mean(values["loss"])
        gradients = tape.gradient(loss, self.trainable_variables)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], values

    def _measured(self, x, noise, training=False):
        """Returns what is measured of each image, all (B,), and the images that came back."""
        mean, log_variance = self.encoder(x, training=training)
        log_variance = tf.clip_by_value(log_variance, *LOG_VARIANCES)
        y = self.decoder(mean + tf.exp(log_variance / 2) * noise, training=training)
        error = y - x
        down, right = error[:, 1:] - error[:, :-1], error[:, :, 1:] - error[:, :, :-1]
        values = {
            "reconstruction": _mean(tf.sqrt(error**2 + CHARBONNIER**2)),
            "edges": (_mean(tf.abs(down)) + _mean(tf.abs(right))) / 2,
            "kl": _mean(mean**2 + tf.exp(log_variance) - 1 - log_variance) / 2,
            "psnr": _psnr(error),
        }
        values["loss"] = (
            values["reconstruction"]
            + self.edge_weight * values["edges"]
            + self.kl_weight * values["kl"]
        )
        return values, y

    def _update_metrics(self, values, counted=True):
        """Adds the values of a batch to the means of the epoch, unless its step was skipped."""
        weighted = {name: (value, tf.ones_like(value)) for name, value in values.items()}
        return distribution.as_logs(metrics.update(self.trackers, weighted, counted))

    def get_metrics_result(self):
        """Results of the training batches: SSIM, which takes long, is for evaluation alone."""
        results = {name: tracker.result() for name, tracker in self.trackers.items()}
        results.pop("ssim")
        return results

    @property
    def metrics(self):
        return list(self.trackers.values())

    def get_config(self):
        names = ("edge_weight", "kl_weight", "accumulate", "seed", "name")
        return {**saved_halves(self), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config):
        return cls(**loaded_halves(config))


def _psnr(error):
    """dB (B,), of errors on the scale of [-1, 1]; 100 at most."""
    return -10 / tf.math.log(10.0) * tf.math.log(_mean(error**2) / 4 + 1e-10)


def _mean(values):
    return tf.reduce_mean(values, axis=(1, 2, 3))
