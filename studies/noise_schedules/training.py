"""One training for each schedule, in parts, and samples of the trained model."""

import time

import keras
import numpy as np

from keras_diffusion import DiffusionModel
from keras_diffusion.data import pipeline
from keras_diffusion.networks import cnn
from studies.noise_schedules import chain
from studies.parts import PartedTraining, endless_batches, pace

SHARE = 0.9  # of the minutes: planned for trainings and sampling
MIN_SHARE = 0.3  # of the minutes, at least, for the trainings
STAGES = 5  # of the reverse process that is shown: every 200 of 1000 steps


class Data:
    """The real images in batches.

    Args:
        real: as from `scoring.real_images`.
        settings: `Settings`.
    """

    def __init__(self, real, settings):
        self._train, self._test = real["train_images"], real["test_images"]
        self.shape, self._seed = self._train.shape[1:], settings.seed
        self.batch_size = settings.batch_size
        self.steps_per_epoch = pipeline.steps_per_epoch(len(self._train), self.batch_size)

    def training(self, first_step):
        """Returns endless batches from a step on."""
        return endless_batches(self._train, self.batch_size, self._seed, first_step)

    def validation(self, count):
        """Returns (batches, number of batches) of the first held-out images, at most `count`."""
        images = self._test[:count]
        # Endless: Keras 3.15 reads one batch more than it evaluates.
        batches = pipeline.validation_batches({"image": images}, self.batch_size).repeat()
        return batches, -(-len(images) // self.batch_size)


def new_model(schedule, shape, settings):
    """Returns a compiled model, with the same initial weights for every schedule."""
    keras.utils.set_random_seed(settings.seed)
    model = DiffusionModel(
        cnn(shape, widths=settings.widths),
        schedule=schedule,
        prediction_type="eps",
        ema_decay=0.0,
        seed=settings.seed,
    )
    model.compile(optimizer=keras.optimizers.Adam(settings.learning_rate))
    return model


def steps_per_round(data, settings, stages):
    """Returns the steps of a round, for all schedules, from the epochs or the minutes."""
    rounds = settings.parts * settings.rounds
    if settings.minutes is None:
        return max(1, round(settings.epochs * data.steps_per_epoch / rounds))
    measured = stages.run("speed", lambda folder: _pace(data, settings))
    images = settings.parts * settings.curve_pictures + settings.final_pictures
    calls = settings.curve_steps * images + settings.chain_steps * settings.chain_pictures
    calls += rounds * settings.validation
    seconds = 60 * settings.minutes / len(settings.schedules)
    left = SHARE * seconds - calls * measured["call"]
    return max(1, int(max(left, MIN_SHARE * seconds) / (rounds * measured["step"])))


def _pace(data, settings):
    model = new_model(settings.schedules[0], data.shape, settings)
    return pace(model, data.training(0), settings.chain_pictures)


class Training(PartedTraining):
    """The training with one schedule.

    Args:
        schedule: its name.
        data: `Data`.
        settings: `Settings`.
        stages: `Stages`.
        steps: of a round.
    """

    def __init__(self, schedule, data, settings, stages, steps):
        super().__init__(schedule, settings.parts, stages)
        self.data, self.settings, self.steps = data, settings, steps

    def new_model(self):
        return new_model(self.name, self.data.shape, self.settings)

    def results(self):
        """Trains what is missing; images stay in the stages.

        Returns:
            dict of `loss`, `val_loss` (one for each round), `seconds` (of all rounds) and
            `final_val_loss`.
        """
        parts = self.run()
        final = self.stages.run(f"{self.name}-final", self._finish)
        losses = {name: sum((part[name] for part in parts), []) for name in ("loss", "val_loss")}
        return {**losses, "seconds": sum(part["seconds"] for part in parts), **final}

    def train(self, model, part, before, folder):
        """Returns dict of `loss` and `val_loss` of each round, and `seconds`."""
        rounds = self.settings.rounds
        validation, validation_steps = self.data.validation(self.settings.validation)
        start = time.monotonic()
        history = model.fit(
            self.data.training((part - 1) * rounds * self.steps),
            steps_per_epoch=self.steps,
            initial_epoch=(part - 1) * rounds,
            epochs=part * rounds,
            validation_data=validation,
            validation_steps=validation_steps,
            shuffle=False,
            verbose=0,
        ).history
        seconds = time.monotonic() - start
        np.save(folder / "pictures.npy", self._generate(model, self.settings.curve_pictures))
        return {"loss": history["loss"], "val_loss": history["val_loss"], "seconds": seconds}

    def _finish(self, folder):
        model, settings = self.model(), self.settings
        validation, steps = self.data.validation(10 * settings.validation)
        loss = model.evaluate(validation, steps=steps, verbose=0, return_dict=True)["loss"]
        np.save(folder / "pictures.npy", self._generate(model, settings.final_pictures))
        images, frames = chain.generate(
            model, settings.chain_pictures, settings.chain_steps, settings.seed, STAGES
        )
        np.save(folder / "chain.npy", images)
        np.save(folder / "frames.npy", frames[:, :4])
        return {"final_val_loss": loss}

    def _generate(self, model, count):
        return model.generate(
            count, num_steps=self.settings.curve_steps, seed=self.settings.seed, batch_size=128
        )
