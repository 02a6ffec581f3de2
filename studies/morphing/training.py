"""One training in parts; after each part images are generated and scored."""

import time

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion import DiffusionModel
from keras_diffusion.networks import convnext_unet
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.training.callbacks import Budget
from studies.morphing import SCHEDULES, limits, restoration
from studies.morphing.sampling import GRIDS, UPDATES, Method, Morpher
from studies.parts import PartedTraining, pace

EMA_DECAY = 0.995  # of 960 steps; an average over 200 of them
SHARE = 0.85  # of the minutes: planned; reading, scoring and tracing take the rest
TRAININGS = len(SCHEDULES) + 1
SHOWN = 36


def new_model(schedule, shape, settings):
    """Returns a compiled model, with the same initial weights for every training."""
    keras.utils.set_random_seed(settings.seed)
    network = convnext_unet(
        shape,
        widths=settings.widths,
        attention=(False,) * len(settings.widths),
        expansion=settings.expansion,
    )
    model = DiffusionModel(
        network, schedule=schedule, prediction_type="x0", ema_decay=EMA_DECAY, seed=settings.seed
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(
            settings.learning_rate, weight_decay=1e-4, beta_2=0.99, global_clipnorm=1.0
        )
    )
    return model


def part_ends(batches, settings, stages):
    """Returns the epochs that the parts of a training end with, such as (5, 10, 12).

    Args:
        batches: `data.Batches`.
        settings: `Settings`.
        stages: `Stages`.
    """
    epochs = settings.epochs
    if epochs is None:
        measured = stages.run("speed", lambda folder: _pace(batches, settings))
        step, call = measured["step"], measured["call"]
        sampling = settings.pictures * settings.curve_steps * call
        part = settings.part * settings.epoch_steps * step + sampling
        left = SHARE * 60 * settings.minutes - network_calls(settings) * call
        epochs = settings.part * max(1, int(left / (TRAININGS * part)))
    return (*range(settings.part, epochs, settings.part), epochs)


def _pace(batches, settings):
    model = new_model("cosine", batches.shape, settings)
    return pace(model, batches.training(True, 0), settings.batch_size)


def network_calls(settings):
    """Returns the number of network calls per image after the trainings, times the images."""
    images, num_steps = settings.pictures, settings.num_steps
    methods = len(GRIDS) * (len(UPDATES) * len(SCHEDULES) + 1)
    shared = images * (methods * (settings.few_steps + num_steps) + TRAININGS * (1 + num_steps))
    each = 1 + len(UPDATES) * settings.restore_steps
    restored = len(SCHEDULES) * settings.restored * len(restoration.TIMES) * each
    noisy = len(limits.STRENGTHS) * (settings.noisy + settings.noisy // limits.COPIES)
    starts = noisy + (len(limits.AVERAGED) + 3) * images
    return shared + restored + num_steps * starts


class Training(PartedTraining):
    """The training with one schedule.

    Args:
        schedule: its name.
        morphing: bool; False: with Gaussian noise instead of garments.
        batches: `data.Batches`.
        garments: uint8 images where sampling starts, or as many samples of noise. Methods are
            chosen by scores from the second half, and scored again from the first half.
        scorer: `scoring.Scorer`.
        settings: `Settings`.
        stages: `Stages`.
        ends: epochs that the parts end with, see `part_ends`.
    """

    def __init__(self, schedule, morphing, batches, garments, scorer, settings, stages, ends):
        name = f"{'morphing' if morphing else 'noise'}-{schedule}"
        super().__init__(name, len(ends), stages)
        self.schedule, self.morphing = schedule, morphing
        self.batches, self.scorer, self.settings = batches, scorer, settings
        self._garments, self._ends = garments, (0, *ends)
        self._morpher = None  # (model, its `Morpher`)

    def new_model(self):
        return new_model(self.schedule, self.batches.shape, self.settings)

    def results(self):
        """Trains what is missing.

        Returns:
            dict of `loss` (of each epoch), `val_loss`, `scores` (after each part), `seconds` (of
            training alone), `images` (of all batches) and `parameters` of the network.
        """
        parts = self.run()
        return {
            "loss": [loss for part in parts for loss in part["loss"]],
            "val_loss": [part["val_loss"] for part in parts],
            "scores": [part["score"] for part in parts],
            "seconds": sum(part["seconds"] for part in parts),
            "images": self._ends[-1] * self.settings.epoch_steps * self.settings.batch_size,
            "parameters": parts[-1]["parameters"],
        }

    def morpher(self, model=None):
        """Returns the `Morpher` of a model; None: of the trained one."""
        model = model or self.model()
        if self._morpher is None or self._morpher[0] is not model:
            self._morpher = model, Morpher(model)
        return self._morpher[1]

    def starts(self, morpher, again=False):
        """Returns x at t = 1 for a scored set: garments, or noise; `again`: of the first half."""
        half = len(self._garments) // 2
        rows = slice(half) if again else slice(half, None)
        if self.morphing:
            return morpher.encode(self._garments[rows])
        seed, indices = tf.constant(self.settings.seed), tf.range(len(self._garments))
        return image_noise(seed, indices[rows], self.batches.shape, 0).numpy()

    def train(self, model, part, before, folder):
        """Returns the results of a part, see `results`."""
        settings, steps = self.settings, self.settings.epoch_steps
        budget = Budget(settings.learning_rate, total_steps=self._ends[-1] * steps)
        start = time.monotonic()
        history = model.fit(
            self.batches.training(self.morphing, self._ends[part - 1] * steps),
            steps_per_epoch=steps,
            initial_epoch=self._ends[part - 1],
            epochs=self._ends[part],
            verbose=0,
            shuffle=False,  # the batches are shuffled; Keras would warn
            callbacks=[budget],
        ).history
        seconds = time.monotonic() - start
        validation = self.batches.validation(self.morphing)
        val_loss = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
        morpher = self.morpher(model)
        images = morpher.generate(self.starts(morpher), Method(settings.curve_steps))
        np.save(folder / "pictures.npy", images[:SHOWN])
        return {
            "loss": history["loss"],
            "val_loss": val_loss,
            "score": self.scorer.score(images),
            "seconds": seconds,
            "parameters": model.network.count_params(),
        }
