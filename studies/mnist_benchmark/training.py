"""Both trainings, through `fit`, in parts that are kept."""

import dataclasses
import time

import keras
import numpy as np

from keras_diffusion import build
from keras_diffusion.config.options import Config
from keras_diffusion.config.resolve import preset
from keras_diffusion.evaluation.real_images import sample_labels
from keras_diffusion.training import callbacks
from studies.mnist_benchmark import PUBLISHED, TOY

MODEL = "model.keras"
SHOWN = 32  # pictures in TensorBoard


def configuration(name, settings, data_dir):
    """Returns the `Config` of "published" or "default"."""
    config = Config(**PUBLISHED) if name == "published" else preset("mnist")
    config = dataclasses.replace(config, seed=settings.seed, data_dir=data_dir)
    if settings.toy:
        config = dataclasses.replace(config, **TOY)
    return config


class Clock(callbacks.Budget):
    """A `Budget` that counts training alone, and ends a part of it.

    Time begins with the end of the first step, so tracing is not in it, and stands still during
    validation. The published configuration has a learning rate that never changes.

    Args:
        config: `Config`.
        before: row of the round before, {} at the start; see `rows`.
        minutes: of the whole training.
        until: seconds that end this part.
        steps: None, or the step that ends it instead.
        constant: whether the learning rate stays as it is.

    Attributes:
        rows: a dict for each round: steps, seconds, loss, val_loss.
    """

    def __init__(self, config, before, *, minutes, until, steps=None, constant=False):
        seconds = before.get("seconds", 0.0)
        super().__init__(
            config.learning_rate, warmup=config.warmup, minutes=minutes, seconds=seconds
        )
        self.until, self.last, self.constant = until, steps, constant
        self.steps = before.get("steps", 0)
        self.rows = []

    def factor(self, progress):
        return 1.0 if self.constant else super().factor(progress)

    def on_train_begin(self, logs=None):
        self._started = None

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self._started = self._started or time.monotonic()
        ended = self.steps >= self.last if self.last else self.seconds >= self.until
        if ended:
            self.model.stop_training = True

    def on_test_begin(self, logs=None):
        self._validating = time.monotonic()

    def on_test_end(self, logs=None):
        self._started += time.monotonic() - self._validating

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(logs[name]) for name in ("loss", "val_loss")}
        self.rows.append({"steps": self.steps, "seconds": self.seconds, **row})


class Training:
    """The training of one configuration; its model is made or loaded when a part is missing.

    Args:
        name: "published" or "default".
        settings: `Settings`.
        kept: `kept.Kept`.
        data_dir: where tfds keeps its data.
        minutes: of the training; None: of the epochs in the settings.
    """

    def __init__(self, name, settings, kept, data_dir, minutes):
        self.name, self.settings, self.kept, self.minutes = name, settings, kept, minutes
        self.config = configuration(name, settings, data_dir)
        self.data = build.load_data(self.config)
        self._model = None  # after the part that was made last
        self._rows = []  # of all parts so far

    def run(self):
        """Trains what is missing; returns the rows of all rounds, see `Clock`."""
        for part in range(1, self.settings.parts + 1):
            self._rows += self.kept.stage(
                f"{self.name}-part{part}", lambda folder, part=part: self._train(part, folder)
            )["rows"]
            before = self.kept.path(f"{self.name}-part{part - 1}", MODEL)
            before.unlink(missing_ok=True)  # it has a successor
        return self._rows

    def model(self):
        """Returns the trained model."""
        return self._after(self.settings.parts)

    def scored(self):
        """Options of `generate` for the pictures that are scored: how many, of which classes."""
        count, seed = self.settings.pictures, self.settings.seed
        options = {"num_images": count, "seed": seed}
        if self.data.source.num_classes:
            known = self.data.source.train_labels
            options["labels"] = sample_labels(known, count, seed)
        return options

    def drawing(self):
        """Options of `generate`: what this configuration's users draw with."""
        return build.sampling_options(self.config, self.data.source.num_classes)

    def quick_drawing(self):
        """The same with the sampler of the curve."""
        return {**self.drawing(), "sampler": "dpmpp_2m", "num_steps": self.settings.curve_steps}

    def _train(self, part, folder):
        model, clock = self._after(part - 1), self._clock(part)
        logs = self.kept.folder / "logs" / self.name
        validation = self.data.validation.unbatch().take(self.settings.validation)
        count = min(self.settings.validation, self.data.source.num_val)
        model.fit(
            self.data.training_batches(*divmod(clock.steps, self.data.steps_per_epoch)),
            steps_per_epoch=max(1, self.data.steps_per_epoch // self.settings.rounds_per_epoch),
            initial_epoch=len(self._rows),
            epochs=callbacks.UNLIMITED_EPOCHS,
            # Without an end: Keras 3.15 looks at one batch more than it evaluates.
            validation_data=validation.batch(self.config.batch_size).repeat(),
            validation_steps=-(-count // self.config.batch_size),
            callbacks=[clock, keras.callbacks.TensorBoard(logs, write_graph=False)],
            shuffle=False,
            verbose=0,
        )
        self._show(model, part, logs)
        images = model.generate(**self.scored(), **self.quick_drawing())
        np.save(folder / "pictures.npy", images)
        model.save(folder / MODEL)
        self._model = part, model
        return {"rows": clock.rows}

    def _show(self, model, part, logs):
        """Draws the same noise as after the other parts, for TensorBoard."""
        grid = callbacks.SampleGrid(
            logs / "grids", SHOWN, log_dir=logs / "samples", seed=self.settings.seed,
            **self.quick_drawing(),
        )  # fmt: skip
        grid.set_model(model)
        grid.save(part - 1)
        grid.on_train_end()

    def _clock(self, part):
        share, steps = part / self.settings.parts, None
        if self.minutes is None:
            steps = round(share * self.settings.epochs * self.data.steps_per_epoch)
        minutes = self.minutes or float("inf")
        return Clock(
            self.config,
            self._rows[-1] if self._rows else {},
            minutes=minutes,
            until=60 * minutes * share,
            steps=steps,
            constant=self.name == "published",
        )

    def _after(self, part):
        """The model after a part; 0: before the first."""
        if part == 0:
            keras.utils.set_random_seed(self.settings.seed)
            return build.model(self.config, self.data.image_shape, self.data.source.num_classes)
        if self._model is None or self._model[0] != part:
            path = self.kept.path(f"{self.name}-part{part}", MODEL)
            self._model = part, keras.models.load_model(path)
        return self._model[1]
