"""`fit` of a run: resumed at any step, interrupted safely, by one process or several."""

import contextlib

import keras
import tensorflow as tf

from keras_diffusion.runtime import distribution, signals
from keras_diffusion.runtime.frameworks import raising_os_errors
from keras_diffusion.saving import checkpoints
from keras_diffusion.training.callbacks import (
    UNLIMITED_EPOCHS,
    Budget,
    Evaluator,
    Faults,
    ProgressBar,
    TrainingStopped,
)
from keras_diffusion.training.checkpoint_callback import CheckpointCallback
from keras_diffusion.training.status import Status

FROM_OUTSIDE = (OSError, MemoryError, tf.errors.ResourceExhaustedError)
VALIDATION_SHARE = 0.25  # of the number of training images, at most, so that epochs stay short


def fit(run, model, progress, callbacks=()):
    """Trains a model from where `progress` stands to the end that the Config gives.

    Args:
        run: `run.Run`.
        model: a compiled `DiffusionModel` or `Autoencoder`, built under the strategy of the run.
        progress: `checkpoints.Progress`; kept up to date.
        callbacks: Keras callbacks, in any order. An `Evaluator` is called before the checkpoint of
            an epoch is written, all others after it.

    Raises:
        signals.Interrupted: after Ctrl-C or SIGTERM; a checkpoint is written.
        callbacks.TrainingStopped: the training has failed.
        distribution.WorkerLost: another worker is gone.
    """
    budget = Budget(
        run.config.learning_rate,
        warmup=run.config.warmup,
        total_steps=None if run.config.minutes else run.config.epochs * run.data.steps_per_epoch,
        minutes=run.config.minutes,
        seconds=progress.seconds,
        votes=run.votes,
    )
    evaluators = [callback for callback in callbacks if isinstance(callback, Evaluator)]
    others = [callback for callback in callbacks if not isinstance(callback, Evaluator)]
    faults = Faults(progress)
    epochs = UNLIMITED_EPOCHS if run.config.minutes else run.config.epochs
    bar = ProgressBar(run.batch_size, budget, epochs, progress.step)
    status = contextlib.nullcontext()
    if run.votes.is_chief:
        status = Status(run.dir, run.config.epochs, progress, budget, faults)
        others += [bar, status]
    with signals.deferred_signals() as pending:
        checkpoint = CheckpointCallback(run, progress, budget, pending)
        ordered = [budget, faults, *evaluators, checkpoint, *others]
        with bar, status, distribution.raising_worker_lost(run.votes.strategy):
            _fit(run, model, progress, ordered, epochs)
            checkpoint.handle_signal()  # one may have come during the last preview


def is_finished(config, progress):
    """bool: nothing is left to train."""
    if config.minutes:  # a begun epoch is ended even then
        return progress.seconds >= 60 * config.minutes and progress.step == 0
    return progress.epoch >= config.epochs


@contextlib.contextmanager
def naming_last_checkpoint(run_dir):
    """Adds the last good checkpoint to the message of errors that end a training."""
    try:
        with raising_os_errors():
            yield
    except (TrainingStopped, distribution.WorkerLost, *FROM_OUTSIDE) as error:
        saved = checkpoints.list_checkpoints(run_dir / "checkpoints")
        last = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint"
        memory = not isinstance(error, (TrainingStopped, distribution.WorkerLost, OSError))
        kind = MemoryError if memory else OSError if isinstance(error, OSError) else TrainingStopped
        what = "out of memory." if memory else str(error)
        raise kind(f"{what} Training has stopped; {last}.") from error


def _fit(run, model, progress, callbacks, all_epochs):
    """Trains the rest of a begun epoch, if there is one, then all others."""
    steps_per_epoch = run.data.steps_per_epoch
    verbose = "auto" if run.votes.is_chief else 0
    validation = _validation(run)

    def train(steps, epochs):
        model.fit(
            distribution.share_out(
                run.votes.strategy, run.data.training_batches(progress.epoch, progress.step)
            ),
            steps_per_epoch=steps,
            initial_epoch=progress.epoch,
            epochs=epochs,
            callbacks=callbacks,
            shuffle=False,
            verbose=verbose,
            **validation,
        )

    # Keras starts epochs only at their first batch, so the rest of one is a `fit` of its own.
    if progress.step == steps_per_epoch:
        shown = {"verbose": verbose, "epochs": all_epochs, "steps": steps_per_epoch}
        _end_epoch(model, progress, callbacks, shown, **validation)
    elif progress.step:
        train(steps_per_epoch - progress.step, progress.epoch + 1)
    if not model.stop_training and progress.epoch < all_epochs:
        train(steps_per_epoch, all_epochs)


def _end_epoch(model, progress, callbacks, shown, validation_data=None, validation_steps=None):
    """Validates and ends an epoch whose batches are all done, as the end of Keras' `fit` does."""
    epoch = progress.epoch
    callbacks = keras.callbacks.CallbackList(callbacks, model=model, **shown)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(epoch)
    logs = {name: float(value) for name, value in model.get_metrics_result().items()}
    if validation_data is not None:
        results = model.evaluate(
            validation_data,
            steps=validation_steps,
            callbacks=callbacks,
            verbose=0,
            return_dict=True,
        )
        logs.update({f"val_{name}": value for name, value in results.items()})
    callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end(logs)


def _validation(run):
    """Arguments of Keras' `fit`: some of the images, in batches with a row for every replica."""
    batch_size, strategy = run.config.batch_size, run.votes.strategy
    images = run.data.source.num_val
    limit = max(256, int(VALIDATION_SHARE * run.data.source.num_train))
    steps = -(-min(images, limit) // batch_size)
    last_rows = min(batch_size, images - (steps - 1) * batch_size)
    steps -= last_rows < strategy.num_replicas_in_sync
    if not steps:
        return {}
    # Infinite: Keras 3.15 reads one batch more than it evaluates.
    batches = run.data.validation.take(steps).repeat()
    return {
        "validation_data": distribution.share_out(strategy, batches),
        "validation_steps": steps,
    }
