"""keras_diffusion as `train.py` trains it and `sample.py` samples it, without labels."""

import tempfile

import keras
import numpy as np
import tensorflow as tf

from benchmarks import subjects
from benchmarks.subjects import keras_parts
from keras_diffusion import build, export_saved_model
from keras_diffusion.config.resolve import resolve
from keras_diffusion.data import pipeline
from keras_diffusion.runtime import precision

SAMPLER = "dpmpp_2m"
# default: the dtype policy of --precision auto; deeper: another network, see NETWORKS
VARIANTS = ("default", "float32", "mixed_bfloat16", "deeper")
DATASETS = {"mnist": "mnist", "flowers": "oxford_flowers102"}
NETWORKS = {
    # As many parameters as denoising-diffusion-pytorch's network of dim 32, multipliers 1, 2, 5.
    "mnist": {"widths": (32, 64, 240)},
    # The widths of the keras.io example, and as many parameters.
    "flowers": {"widths": (32, 64, 96, 128)},
    # Its widths and its two blocks per level, but nearly twice its parameters.
    "flowers, deeper": {"widths": (32, 64, 96, 128), "block_depth": 2},
}
TINY_NETWORK = {"widths": (8, 16), "block_depth": 1, "embedding_width": 16}


def configure(dataset, options, policy="auto"):
    """Returns the `Config` of a data set; sets dtype policy and seeds as a training does."""
    keras.config.set_dtype_policy(precision.policy(policy)[0])
    keras.utils.set_random_seed(0)
    return resolve(dataset, options)


class Subject:
    """See `benchmarks.subjects`.

    Attributes:
        precision: str, the dtype policy of the variant.
        model: the `DiffusionModel`.
    """

    def __init__(self, task, variant="default", tiny=False):
        policy = "auto" if variant in ("default", "deeper") else variant
        network = NETWORKS[f"{task}, deeper" if variant == "deeper" else task]
        self.config = configure(DATASETS[task], TINY_NETWORK if tiny else network, policy)
        self.precision = keras.config.dtype_policy().name
        self.model = build.model(self.config, subjects.image_shape(task, tiny), num_classes=0)
        self._endpoint = self._network = None  # traced when first used, after any training

    def facts(self):
        return {**keras_parts.facts(self.model.network), "precision": self.precision}

    def train(self, images, batch_size, should_stop):
        batches = pipeline.batches_in_memory(
            {"image": images}, batch_size, horizontal_flip=bool(self.config.horizontal_flip)
        )
        keras_parts.fit(self.model, pipeline.endless(batches), should_stop)

    def sample(self, num, num_steps, seed):
        if self._endpoint is None:
            with tempfile.TemporaryDirectory() as folder:
                exported = tf.saved_model.load(self.export(f"{folder}/model", samplers=[SAMPLER]))
            self._endpoint = getattr(exported, f"generate_{SAMPLER}")

        def sample(first, count):
            indices = tf.range(first, first + count)
            shared = {"seed": tf.constant(seed), "num_steps": tf.constant(num_steps)}
            return self._endpoint(indices=indices, **shared).numpy()

        return np.concatenate(list(subjects.in_batches(num, sample)))

    def export(self, path, samplers=None):
        """Writes a SavedModel; returns its path."""
        return str(export_saved_model(self.model, path, samplers=samplers))

    def call(self, num):
        if self._network is None:
            network = self.model.ema_network
            self._network = tf.function(lambda x, t: network({"x": x, "logsnr": t}, training=False))
        x = tf.zeros((num, *self.model.image_shape))
        return self._network(x, tf.zeros((num,))).numpy()
