"""keras_diffusion as `train.py` trains it and `sample.py` samples it, without labels."""

import tempfile

import keras
import numpy as np
import tensorflow as tf

from benchmarks import subjects
from benchmarks.subjects import keras_parts
from benchmarks.subjects.keras_parts import WITHOUT_END, Stop
from keras_diffusion import build, export_saved_model
from keras_diffusion.config.resolve import resolve
from keras_diffusion.data import pipeline
from keras_diffusion.runtime import precision

# default: what --precision auto picks; deeper: another network, see NETWORKS
VARIANTS = ("default", "float32", "mixed_bfloat16", "deeper")
DATASETS = {"mnist": "mnist", "flowers": "oxford_flowers102"}
NETWORKS = {
    # As many parameters as denoising-diffusion-pytorch's network of dim 32, multipliers 1, 2, 5.
    "mnist": {"widths": (32, 64, 240)},
    # The widths of the keras.io example, and as many parameters.
    "flowers": {"widths": (32, 64, 96, 128)},
    # Its widths and its two blocks on each level, but nearly twice its parameters.
    "flowers, deeper": {"widths": (32, 64, 96, 128), "block_depth": 2},
}
TINY_NETWORK = {"widths": (8, 16), "block_depth": 1, "embedding_width": 16}


class Subject:
    """See `benchmarks.subjects`.

    Attributes:
        precision: str, the dtype policy that the variant comes to.
        model: the `DiffusionModel`.
    """

    def __init__(self, task, variant="default", tiny=False, **options):
        """options: of the network or the training, instead of the task's own."""
        asked = "auto" if variant in ("default", "deeper") else variant
        self.precision = precision.policy(asked)[0]
        keras.config.set_dtype_policy(self.precision)
        keras.utils.set_random_seed(0)
        name = f"{task}, deeper" if variant == "deeper" else task
        network = TINY_NETWORK if tiny else NETWORKS[name]
        self.config = resolve(DATASETS[task], {**network, **options})
        self.model = build.model(self.config, subjects.image_shape(task, tiny), num_classes=0)
        self._forget_graphs()

    @property
    def parameters(self):
        return keras_parts.parameters(self.model.network)

    @property
    def flops(self):
        return keras_parts.flops(self.model.network)

    def train(self, images, batch_size, should_stop):
        batches = pipeline.batches_in_memory(
            {"image": images}, batch_size, horizontal_flip=bool(self.config.horizontal_flip)
        )
        self.model.fit(
            pipeline.endless(batches),
            steps_per_epoch=WITHOUT_END,
            callbacks=[Stop(should_stop)],
            shuffle=False,
            verbose=0,
        )
        self._forget_graphs()

    def sample(self, num, num_steps, seed, sampler="dpmpp_2m"):
        if self._saved_model is None:
            with tempfile.TemporaryDirectory() as folder:
                self._saved_model = tf.saved_model.load(self.export(f"{folder}/model"))
        endpoint = getattr(self._saved_model, f"generate_{sampler}")

        def draw(first, count):
            indices = tf.range(first, first + count)
            return endpoint(tf.constant(seed), indices, tf.constant(num_steps)).numpy()

        return np.concatenate(list(subjects.in_batches(num, draw)))

    def export(self, path):
        """Writes a SavedModel; returns its path."""
        return str(export_saved_model(self.model, path))

    def call(self, num):
        if self._call is None:
            network = self.model.ema_network
            self._call = tf.function(lambda x, t: network({"x": x, "logsnr": t}, training=False))
        x = tf.zeros((num, *self.model.image_shape))
        return self._call(x, tf.zeros((num,))).numpy()

    def save(self, path):
        self.model.save(f"{path}.keras")

    def load(self, path):
        self.model = keras.models.load_model(f"{path}.keras")
        self._forget_graphs()

    def _forget_graphs(self):
        """What was traced or exported holds the weights of before."""
        self._saved_model = self._call = None
