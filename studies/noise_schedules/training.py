"""One training for each schedule, in parts that are kept, and the pictures that come of it."""

import time

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion import DiffusionModel
from keras_diffusion.data import pipeline
from keras_diffusion.networks import cnn
from studies.noise_schedules import chain

WARM, TIMED = 5, 20  # steps of the pace: left out, counted
SHARE = 0.9  # of the minutes, that trainings and pictures are planned for
LEAST = 0.3  # of the minutes, at least, for the trainings
STAGES = 5  # of the way back that is shown: every 200 of 1000 steps
MODEL = "model.keras"


class Data:
    """The real pictures as batches.

    Args:
        real: as from `scoring.real_images`.
        settings: `Settings`.
    """

    def __init__(self, real, settings):
        images = real["train_images"]
        self.shape = images.shape[1:]
        self.batch_size = settings.batch_size
        self.steps_per_epoch = pipeline.steps_per_epoch(len(images), self.batch_size)
        self._test = real["test_images"]
        self._epoch = pipeline.batches_in_memory(
            {"image": images}, self.batch_size, seed=settings.seed
        )

    def training(self, first_step):
        """All batches from a step on, without an end."""
        return pipeline.endless(self._epoch, *divmod(first_step, self.steps_per_epoch))

    def validation(self, count):
        """Arguments of `fit` for the first held-out images, at most `count`."""
        images = self._test[:count]
        steps = -(-len(images) // self.batch_size)
        # Without an end: Keras 3.15 looks at one batch more than it evaluates.
        batches = pipeline.validation_batches({"image": images}, self.batch_size).repeat()
        return {"validation_data": batches, "validation_steps": steps}


def new_model(schedule, shape, settings):
    """Returns a compiled model; the first weights are those of the seed, for every schedule."""
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


def steps_of_a_round(data, settings, kept):
    """Returns the steps of a round, the same for all schedules: of the epochs or the minutes."""
    rounds = settings.parts * settings.rounds
    if settings.minutes is None:
        return max(1, round(settings.epochs * data.steps_per_epoch / rounds))
    pace = kept.stage("pace", lambda folder: _pace(data, settings))
    pictures = settings.parts * settings.curve_pictures + settings.final_pictures
    calls = settings.curve_steps * pictures + settings.chain_steps * settings.chain_pictures
    calls += rounds * settings.validation
    seconds = 60 * settings.minutes / len(settings.schedules)
    left = SHARE * seconds - calls * pace["picture"]
    return max(1, int(max(left, LEAST * seconds) / (rounds * pace["step"])))


def _pace(data, settings):
    """Returns {"step", "picture"}: seconds of a training step, of one call for one picture."""
    model, ends = new_model(settings.schedules[0], data.shape, settings), []
    told = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs=None: ends.append(_now())
    )
    steps = {"steps_per_epoch": WARM + TIMED, "shuffle": False, "verbose": 0}
    model.fit(data.training(0), callbacks=[told], **steps)
    network, count = model.graphs.network, settings.chain_pictures
    inputs = {"x": tf.zeros((count, *data.shape)), "logsnr": tf.zeros((count,))}
    network(inputs)
    began = _now()
    for _ in range(TIMED):
        network(inputs)
    picture = (_now() - began) / (TIMED * count)
    return {"step": float(np.median(np.diff(ends)[WARM - 1 :])), "picture": picture}


def _now():
    return time.monotonic()


class Training:
    """The training of one schedule; its model is made or loaded when a part is missing.

    Args:
        schedule: its name.
        data: `Data`.
        settings: `Settings`.
        kept: `kept.Kept`.
        steps: of a round.
    """

    def __init__(self, schedule, data, settings, kept, steps):
        self.schedule, self.data, self.settings = schedule, data, settings
        self.kept, self.steps = kept, steps
        self._model = None  # after the part that was made last

    def name(self, part):
        """Of the stage that a part is kept in."""
        return f"{self.schedule}-part{part}"

    def run(self):
        """Trains what is missing.

        Returns:
            dict of `loss`, `val_loss` (one for each round), `seconds` (of all rounds) and
            `final_val_loss`; the pictures are left in the stages.
        """
        parts = [self.part(number) for number in range(1, self.settings.parts + 1)]
        last = self.kept.stage(f"{self.schedule}-final", self._finish)
        return {
            **{key: [value for part in parts for value in part[key]] for key in parts[0] if
               key != "seconds"},
            "seconds": sum(part["seconds"] for part in parts),
            **last,
        }  # fmt: skip

    def part(self, number):
        """Trains a part, the ones before it being there; returns its losses and seconds."""
        found = self.kept.stage(self.name(number), lambda folder: self._train(number, folder))
        self.kept.path(self.name(number - 1), MODEL).unlink(missing_ok=True)  # it has a successor
        return found

    def _train(self, part, folder):
        model, rounds = self._after(part - 1), self.settings.rounds
        began = _now()
        history = model.fit(
            self.data.training((part - 1) * rounds * self.steps),
            steps_per_epoch=self.steps,
            initial_epoch=(part - 1) * rounds,
            epochs=part * rounds,
            shuffle=False,
            verbose=0,
            **self.data.validation(self.settings.validation),
        ).history
        seconds = _now() - began
        np.save(folder / "pictures.npy", self._draw(model, self.settings.curve_pictures))
        model.save(folder / MODEL)
        self._model = part, model
        return {"loss": history["loss"], "val_loss": history["val_loss"], "seconds": seconds}

    def _finish(self, folder):
        model, settings = self._after(self.settings.parts), self.settings
        validation = self.data.validation(10 * settings.validation)
        found = model.evaluate(
            validation["validation_data"], steps=validation["validation_steps"], verbose=0,
            return_dict=True,
        )  # fmt: skip
        np.save(folder / "pictures.npy", self._draw(model, settings.final_pictures))
        images, frames = chain.draw(
            model, settings.chain_pictures, settings.chain_steps, settings.seed, STAGES
        )
        np.save(folder / "chain.npy", images)
        np.save(folder / "frames.npy", frames[:, :4])
        return {"final_val_loss": found["loss"]}

    def _draw(self, model, count):
        return model.generate(
            count, num_steps=self.settings.curve_steps, seed=self.settings.seed, batch_size=128
        )

    def _after(self, part):
        """The model after a part; 0: before the first."""
        if part == 0:
            return new_model(self.schedule, self.data.shape, self.settings)
        if self._model is None or self._model[0] != part:
            self._model = part, keras.models.load_model(self.kept.path(self.name(part), MODEL))
        return self._model[1]
