"""`fit` for a run: begun and resumed at any step, interrupted safely, by one process or many."""

import contextlib

import keras

from keras_diffusion.config.guidance import Guidance
from keras_diffusion.evaluation import real_images
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.runtime import distribution, signals
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import callbacks, score_callback, single_image
from keras_diffusion.training.checkpoint_callback import Recorder

VALIDATION_SHARE = 0.25  # of the training images, at most: an epoch is not to wait for it


def fit(model, data, config, run_dir, progress, votes, others=()):
    """Trains a model from where `progress` stands to the end that the Config gives.

    Args:
        model: a compiled `DiffusionModel` or `Autoencoder`, made under the strategy of `votes`.
        data: `data.TrainingData`.
        config: `Config`.
        run_dir: folder of the run.
        progress: `checkpoints.Progress`; kept up to date.
        votes: `distribution.Votes`.
        others: more callbacks.

    Raises:
        interruption.Interrupted: after Ctrl-C or SIGTERM; a checkpoint is written.
        callbacks.TrainingStopped: the training has failed.
        distribution.WorkerLost: another worker is gone.
    """
    budget = callbacks.Budget(
        config.learning_rate,
        warmup=config.warmup,
        total_steps=None if config.minutes else config.epochs * data.steps_per_epoch,
        minutes=config.minutes,
        seconds=progress.seconds,
        votes=votes,
    )
    scores = _scores(model, data, config) if config.score_every and votes.is_chief else []
    with signals.deferred_signals() as pending:
        recorder = Recorder(
            run_dir,
            progress,
            budget=budget,
            steps_per_epoch=data.steps_per_epoch,
            pending=pending,
            votes=votes,
            minutes=config.checkpoint_minutes,
            keep=config.keep_checkpoints,
            best_by=score_callback.BEST_BY if config.score_every else "val_loss",
        )
        used = [budget, callbacks.Faults(progress), *scores, recorder, *others]
        if votes.is_chief:
            if data.picture is not None:  # before the recorder, which writes what it measures
                used.insert(
                    0, single_image.restoration_callback(model, data.picture, config, budget)
                )
            used += _shown(model, config, run_dir)
        with distribution.raising_worker_lost(votes.strategy):
            _fit(model, data, config, progress, used, votes.strategy)
            recorder.obey()  # a signal may have come during the last preview


@contextlib.contextmanager
def naming_what_is_left(run_dir):
    """Has the errors that end a training say which checkpoint is the last good one."""
    try:
        yield
    except (callbacks.TrainingStopped, distribution.WorkerLost, OSError) as error:
        saved = checkpoints.list_checkpoints(run_dir / "checkpoints")
        left = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint"
        kind = OSError if isinstance(error, OSError) else callbacks.TrainingStopped
        raise kind(f"{error} Training has stopped; {left}.") from error


def is_finished(config, progress):
    """bool: nothing is left to train."""
    if config.minutes:  # a begun epoch is ended even then
        return progress.seconds >= 60 * config.minutes and progress.step == 0
    return progress.epoch >= config.epochs


def _fit(model, data, config, progress, used, strategy):
    """Keras begins epochs only at their first batch: the rest of a begun one is its own `fit`."""
    options = {
        **_validation(config, data, strategy),
        "callbacks": used,
        "shuffle": False,
        "verbose": "auto" if distribution.is_chief(strategy) else 0,
    }

    def batches():
        rest = data.training_batches(progress.epoch, progress.step)
        return distribution.share_out(strategy, rest)

    left = data.steps_per_epoch - progress.step
    if left == 0:
        _validate_begun_epoch(model, options, progress, used)
    elif progress.step:
        model.fit(
            batches(),
            steps_per_epoch=left,
            initial_epoch=progress.epoch,
            epochs=progress.epoch + 1,
            **options,
        )
    if model.stop_training:
        return
    last = callbacks.UNLIMITED_EPOCHS if config.minutes else config.epochs
    if progress.epoch < last:
        model.fit(
            batches(),
            steps_per_epoch=data.steps_per_epoch,
            initial_epoch=progress.epoch,
            epochs=last,
            **options,
        )


def _validate_begun_epoch(model, options, progress, used):
    """Ends an epoch that was left between its last step and its end."""
    [recorder] = [callback for callback in used if isinstance(callback, Recorder)]
    recorder.set_model(model)
    recorder.on_epoch_begin(progress.epoch)
    logs = {name: float(value) for name, value in model.get_metrics_result().items()}
    if options["validation_data"] is not None:
        results = model.evaluate(
            options["validation_data"],
            steps=options["validation_steps"],
            callbacks=[recorder],
            verbose=0,
            return_dict=True,
        )
        logs.update({f"val_{name}": value for name, value in results.items()})
    for callback in used:
        if isinstance(callback, score_callback.Scores | single_image.Restoration):
            callback.set_model(model)
            callback.on_epoch_end(progress.epoch, logs)
    recorder.end_epoch(logs)
    for callback in used:
        if isinstance(callback, callbacks.Plateau):  # it looks at what is recorded
            callback.set_model(model)
            callback.on_epoch_end(progress.epoch, logs)


def drawing(config, labelled):
    """Returns how pictures of a run are drawn: options of `generate` and `export_saved_model`."""
    names = ["sampler", "num_steps"]
    if labelled:
        names += Guidance.NAMES
    return {name: getattr(config, name) for name in names}


def _shown(model, config, run_dir):
    """Callbacks for whoever watches."""
    curves = keras.callbacks.TensorBoard(run_dir / "logs", write_graph=False)
    shown = [curves, callbacks.ProgressBar(config.batch_size)]
    if not isinstance(model, DiffusionModel):
        return shown
    num_images = 40 if 1 < model.num_classes <= 12 else 36
    preview = callbacks.SampleGrid(
        run_dir / "samples",
        num_images=9 if config.image else num_images,  # crops are large, and runs short
        max_share=0.05,
        log_dir=run_dir / "logs" / "samples",
        **drawing(config, model.num_classes > 0),
    )
    return [preview, *shown]


def _scores(model, data, config):
    """The callback that scores new pictures, in a list."""
    real, reference = real_images.reference_of_run(config, data)
    labels = real.labels(config.score_num, config.seed) if model.num_classes else None
    return [
        score_callback.Scores(
            reference,
            config.score_num,
            labels,
            every=config.score_every,
            last_epoch=None if config.minutes else config.epochs,
            max_share=0.1,
            **drawing(config, model.num_classes > 0),
        )
    ]


def _validation(config, data, strategy):
    """What `fit` is to evaluate: some of the images, in batches with a row for every replica."""
    images = data.source.num_val
    most = max(256, int(VALIDATION_SHARE * data.source.num_train))
    steps = -(-min(images, most) // config.batch_size)
    rows = min(config.batch_size, images - (steps - 1) * config.batch_size)  # of the last one
    steps -= rows < strategy.num_replicas_in_sync
    if not steps:
        return {"validation_data": None}
    # Without an end: Keras 3.15 looks at one batch more than it evaluates.
    batches = data.validation.take(steps).repeat()
    shared = distribution.share_out(strategy, batches)
    return {"validation_data": shared, "validation_steps": steps}
