"""One training, in parts that are kept; after each of them pictures are drawn and scored."""

import functools
import time

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion import DiffusionModel
from keras_diffusion.networks import convnext_unet
from keras_diffusion.runtime.randomness import image_noise
from keras_diffusion.training.callbacks import Budget
from studies.morphing.sampling import Morpher, Way

EMA_DECAY = 0.995  # of 960 steps; an average over 200 of them
MODEL = "model.keras"
SHOWN = 36


def new_model(schedule, shape, settings):
    """Returns a compiled model; the first weights are those of the seed, for every training."""
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


class Training:
    """The training with one schedule; its model is made or loaded where a part is missing.

    Args:
        schedule: its name.
        morphing: bool; False: with Gaussian noise instead of garments.
        batches: `pictures.Batches`.
        starts: uint8 garments that sampling begins with, or noise of the same number: from the
            second half all is chosen, and from the first scored that was chosen.
        judge: `scoring.Judge`.
        settings: `Settings`.
        kept: `kept.Kept`.
        ends: epochs that the parts end with, see `pace.ends`.
    """

    def __init__(self, schedule, morphing, batches, starts, judge, settings, kept, ends):
        self.schedule, self.morphing = schedule, morphing
        self.name = name_of(schedule, morphing)
        self.batches, self.judge, self.settings, self.kept = batches, judge, settings, kept
        self._garments, self._ends = starts, (0, *ends)
        self._model = None  # (part, model) that was made last
        self._morpher = None  # (model, what is made of it)

    def run(self):
        """Trains what is missing.

        Returns:
            dict of `loss` (of each epoch), `val_loss`, `scores` (after each part), `seconds` (of
            training alone), `images` seen and `parameters` of the network.
        """
        found = []
        for part in range(1, len(self._ends)):
            make = functools.partial(self._part, part)
            found.append(self.kept.stage(f"{self.name}-part{part}", make))
            self._path(part - 1).unlink(missing_ok=True)  # the next one is there now
        return {
            "loss": [loss for each in found for loss in each["loss"]],
            "val_loss": [each["val_loss"] for each in found],
            "scores": [each["score"] for each in found],
            "seconds": sum(each["seconds"] for each in found),
            "images": self._steps(-1) * self.settings.batch_size,
            "parameters": found[-1]["parameters"],
        }

    def morpher(self):
        """Returns the trained model as a `Morpher`."""
        return self._as_morpher(self._after(len(self._ends) - 1))

    def starts(self, morpher, chosen=False):
        """Returns x at t = 1, as many as pictures are scored: garments, or noise.

        Args:
            morpher: `Morpher`.
            chosen: bool; True: others, for what was chosen by its score.
        """
        half = len(self._garments) // 2
        rows = slice(half) if chosen else slice(half, None)
        if self.morphing:
            return morpher.encode(self._garments[rows])
        seed, indices = tf.constant(self.settings.seed), tf.range(len(self._garments))
        return image_noise(seed, indices[rows], self.batches.shape, 0).numpy()

    def _part(self, part, folder):
        settings, model = self.settings, self._after(part - 1)
        budget = Budget(settings.learning_rate, total_steps=self._steps(-1))
        began = time.monotonic()
        history = model.fit(
            self.batches.training(self.morphing, self._steps(part - 1)),
            steps_per_epoch=settings.epoch_steps,
            initial_epoch=self._ends[part - 1],
            epochs=self._ends[part],
            verbose=0,
            shuffle=False,  # it is; Keras would warn
            callbacks=[budget],
        ).history
        seconds = time.monotonic() - began
        validation = self.batches.validation(self.morphing)
        val_loss = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
        morpher = self._as_morpher(model)
        images = morpher.pictures(self.starts(morpher), Way(settings.curve_steps))
        np.save(folder / "pictures.npy", images[:SHOWN])
        model.save(folder / MODEL)
        self._model = part, model
        return {
            "loss": history["loss"],
            "val_loss": val_loss,
            "score": self.judge.score(images),
            "seconds": seconds,
            "parameters": model.network.count_params(),
        }

    def _steps(self, part):
        """Steps until the end of a part."""
        return self._ends[part] * self.settings.epoch_steps

    def _after(self, part):
        """The model after a part; 0: before the first."""
        if part == 0:
            return new_model(self.schedule, self.batches.shape, self.settings)
        if self._model is None or self._model[0] != part:
            self._model = part, keras.models.load_model(self._path(part))
        return self._model[1]

    def _as_morpher(self, model):
        if self._morpher is None or self._morpher[0] is not model:
            self._morpher = model, Morpher(model)
        return self._morpher[1]

    def _path(self, part):
        return self.kept.path(f"{self.name}-part{part}", MODEL)


def name_of(schedule, morphing):
    """The name of a training and its stages."""
    return f"{'morphing' if morphing else 'noise'}-{schedule}"
