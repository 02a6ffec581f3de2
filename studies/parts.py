"""Trainings in parts, each a stage; and how fast a model trains and samples."""

import functools
import time

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion.data import pipeline
from keras_diffusion.runtime import precision

MODEL = "model.keras"
WARM, TIMED = 5, 20  # steps and calls for the pace: not counted, counted


class PartedTraining:
    """A training in parts; the model of a part is kept until the next part is computed.

    A subclass defines `new_model()`, which returns the untrained model, and
    `train(model, part, before, folder)`, which trains a part (1 .. num_parts) after the results
    `before`, may write files to the folder and returns a JSON-serialisable dict.

    Args:
        name: begins the names of the stages.
        num_parts: int.
        stages: `Stages`.
    """

    def __init__(self, name, num_parts, stages):
        self.name, self.num_parts, self.stages = name, num_parts, stages
        self._latest = None  # (part, model)

    def run(self):
        """Trains the missing parts; returns the list of what `train` returned for each part."""
        results = []
        for part in range(1, self.num_parts + 1):
            compute = functools.partial(self._compute, part, tuple(results))
            results.append(self.stages.run(self.stage(part), compute))
            self._path(part - 1).unlink(missing_ok=True)  # only once its successor is there
        return results

    def stage(self, part):
        """Returns the name of the stage of a part."""
        return f"{self.name}-part{part}"

    def model(self, part=None):
        """Returns the model after a part; None: the trained model."""
        part = self.num_parts if part is None else part
        if self._latest is None or self._latest[0] != part:
            model = keras.models.load_model(self._path(part)) if part else self.new_model()
            self._latest = part, model
        return self._latest[1]

    def _compute(self, part, before, folder):
        model = self.model(part - 1)
        self._latest = None  # until the training has ended well
        result = self.train(model, part, before, folder)
        model.save(folder / MODEL)
        self._latest = part, model
        return result

    def _path(self, part):
        return self.stages.path(self.stage(part), MODEL)


def endless_batches(images, batch_size, seed, first_step):
    """Returns endless shuffled batches {"image"} of uint8 images (N, H, W, C) from a step on."""
    epochs = pipeline.batches_in_memory({"image": images}, batch_size, seed=seed)
    steps = pipeline.steps_per_epoch(len(images), batch_size)
    return pipeline.endless(epochs, *divmod(first_step, steps))


def set_precision(stages):
    """Sets the precision that is fastest on this machine; returns its name."""
    policy, reason = precision.policy("auto")
    keras.config.set_dtype_policy(policy)
    stages.log(f"precision: {policy} ({reason})")
    return policy


def pace(model, batches, count):
    """Measures how fast a model is.

    Args:
        model: compiled `DiffusionModel` without labels; it is trained a little.
        batches: endless `tf.data.Dataset` for `fit`.
        count: int, images per call of the network.

    Returns:
        dict of "step", seconds of a training step, and "call", seconds of a network call per image.
    """
    times = []
    stamp = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs=None: times.append(time.monotonic())
    )
    model.fit(batches, steps_per_epoch=WARM + TIMED, shuffle=False, verbose=0, callbacks=[stamp])
    network = model.graphs.network
    inputs = {"x": tf.zeros((count, *model.image_shape)), "logsnr": tf.zeros((count,))}
    network(inputs)
    start = time.monotonic()
    for _ in range(TIMED):
        network(inputs)
    call = (time.monotonic() - start) / (TIMED * count)
    return {"step": float(np.median(np.diff(times)[WARM - 1 :])), "call": call}
