"""Both trainings, with `fit`, in parts."""

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
from studies.parts import PartedTraining

SHOWN = 32  # images in TensorBoard


def configuration(name, settings, data_dir):
    """Returns the `Config` of "published" or "default"."""
    config = Config(**PUBLISHED) if name == "published" else preset("mnist")
    config = dataclasses.replace(config, seed=settings.seed, data_dir=data_dir)
    return dataclasses.replace(config, **TOY) if settings.toy else config


class Clock(callbacks.Budget):
    """A `Budget` that counts only the time of training steps, and ends a part of the training.

    Time starts at the end of the first step, so tracing is not counted, and stops during
    validation. The published configuration has a constant learning rate.

    Args:
        config: `Config`.
        before: row of the round before, {} at the start; see `rows`.
        minutes: of the whole training.
        until: seconds that end this part.
        steps: None, or the step that ends it instead.
        constant: whether the learning rate is constant.

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
        if self.steps >= self.last if self.last else self.seconds >= self.until:
            self.model.stop_training = True

    def on_test_begin(self, logs=None):
        self._test_start = time.monotonic()

    def on_test_end(self, logs=None):
        self._started += time.monotonic() - self._test_start

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(logs[name]) for name in ("loss", "val_loss")}
        self.rows.append({"steps": self.steps, "seconds": self.seconds, **row})


class Training(PartedTraining):
    """The training of one configuration.

    Args:
        name: "published" or "default".
        settings: `Settings`.
        stages: `Stages`.
        data_dir: folder of tfds.
        minutes: of the training; None: given by the epochs in the settings.
    """

    def __init__(self, name, settings, stages, data_dir, minutes):
        super().__init__(name, settings.parts, stages)
        self.settings, self.minutes = settings, minutes
        self.config = configuration(name, settings, data_dir)
        self.data = build.load_data(self.config)

    def new_model(self):
        keras.utils.set_random_seed(self.settings.seed)
        return build.model(self.config, self.data.image_shape, self.data.source.num_classes)

    def images(self):
        """Arguments of `generate` for the images that are scored: how many, of which classes."""
        count, seed = self.settings.pictures, self.settings.seed
        options = {"num_images": count, "seed": seed}
        if self.data.source.num_classes:
            labels = self.data.source.train_labels
            options["labels"] = sample_labels(labels, count, seed)
        return options

    def sampling(self):
        """Arguments of `generate` that are the defaults of this configuration."""
        return build.sampling_options(self.config, self.data.source.num_classes)

    def curve_sampling(self):
        """The same with the sampler of the curve."""
        return {**self.sampling(), "sampler": "dpmpp_2m", "num_steps": self.settings.curve_steps}

    def train(self, model, part, before, folder):
        """Returns {"rows"} of the part, see `Clock`."""
        rows = [row for result in before for row in result["rows"]]
        clock, per_epoch = self._clock(part, rows), self.data.steps_per_epoch
        logs = self.stages.folder / "logs" / self.name
        validation = self.data.validation.unbatch().take(self.settings.validation)
        count = min(self.settings.validation, self.data.source.num_val)
        model.fit(
            self.data.training_batches(*divmod(clock.steps, per_epoch)),
            steps_per_epoch=max(1, per_epoch // self.settings.rounds_per_epoch),
            initial_epoch=len(rows),
            epochs=callbacks.UNLIMITED_EPOCHS,
            # Endless: Keras 3.15 reads one batch more than it evaluates.
            validation_data=validation.batch(self.config.batch_size).repeat(),
            validation_steps=-(-count // self.config.batch_size),
            callbacks=[clock, keras.callbacks.TensorBoard(logs, write_graph=False)],
            shuffle=False,
            verbose=0,
        )
        self._log_samples(model, part, logs)
        np.save(folder / "pictures.npy", model.generate(**self.images(), **self.curve_sampling()))
        return {"rows": clock.rows}

    def _log_samples(self, model, part, logs):
        """Writes samples to TensorBoard, from the same noise after each part."""
        grid = callbacks.SampleGrid(
            logs / "grids", SHOWN, log_dir=logs / "samples", seed=self.settings.seed,
            **self.curve_sampling(),
        )  # fmt: skip
        grid.set_model(model)
        grid.save(part - 1)
        grid.on_train_end()

    def _clock(self, part, rows):
        share, steps = part / self.num_parts, None
        if self.minutes is None:
            steps = round(share * self.settings.epochs * self.data.steps_per_epoch)
        minutes = self.minutes or float("inf")
        return Clock(
            self.config,
            rows[-1] if rows else {},
            minutes=minutes,
            until=60 * minutes * share,
            steps=steps,
            constant=self.name == "published",
        )
