"""A training run, from Config to export, in a directory of its own."""

import contextlib
import dataclasses
import functools
import json
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion import build
from keras_diffusion.config.options import OPTIONS, Config
from keras_diffusion.data import TrainingData
from keras_diffusion.evaluation import real_images
from keras_diffusion.plotting import figures, images
from keras_diffusion.runtime import distribution, precision, processor
from keras_diffusion.runtime.console import one_line
from keras_diffusion.runtime.files import require_writable
from keras_diffusion.sampling.editing import noised
from keras_diffusion.saving import checkpoints
from keras_diffusion.saving.export_folder import check_target
from keras_diffusion.saving.saved_model import export_saved_model
from keras_diffusion.training import autoencoder_stage, fit, single_image, summary, warm_start
from keras_diffusion.training.callbacks import SampleGrid, curves
from keras_diffusion.training.run_dir import (
    check_data,
    describe_training,
    locked,
    read_decided,
    write_config,
    write_history,
)
from keras_diffusion.training.score_callback import Scores

FIFTHS = tuple(i / 5 for i in range(6))  # stages of forward.png and backward.png


@dataclasses.dataclass(frozen=True)
class Run:
    """What the steps of a training run share.

    Attributes:
        config: `Config`, with the sizes, channels and precision that the data and the hardware
            decide.
        data: `data.TrainingData`.
        dir: Path of the folder for all files of the run.
        votes: `distribution.Votes` of the workers, with their strategy.
        decided: names of the options that data and hardware decided, because nobody else did.
    """

    config: Config
    data: TrainingData
    dir: Path
    votes: distribution.Votes
    decided: tuple = ()

    @property
    def batch_size(self):
        """int: images in each batch, fewer than in the Config if there are not so many."""
        return min(self.config.batch_size, self.data.repeats * self.data.source.num_train)

    @functools.cached_property
    def prompts(self):
        """`Prompts` of the class names, or None without --text."""
        return build.prompts(self.config, self.data.source)


def run(config, run_dir, export_dir, resume=False, dry_run=False):
    """Trains, previews, saves and exports.

    Args:
        config: a `Config`.
        run_dir: folder for all files of the run.
        export_dir: folder for the SavedModel.
        resume: resume from the newest checkpoint in `run_dir`.
        dry_run: only print what would be done.

    Returns:
        bool, whether this process has exported the model.

    Raises:
        ValueError, OSError: an option that cannot be used, a file that cannot be written; one line.
        signals.Interrupted: after Ctrl-C or SIGTERM; a checkpoint is written.
        callbacks.TrainingStopped: the training has failed; names the last good checkpoint.
        distribution.WorkerLost: another worker is gone.
        ExportFailed: the training is finished and saved, but not exported.
    """
    run_dir, export_dir = Path(run_dir), Path(export_dir)
    _check_targets(run_dir, export_dir, resume)
    votes = distribution.Votes(distribution.make_strategy(config.strategy))
    if votes.is_chief and not dry_run:
        _check_writable(config, run_dir, export_dir)
    with distribution.raising_worker_lost(votes.strategy):
        run = _prepare(config, run_dir, votes, resume)
        autoencoder = autoencoder_stage.load_given(run)
        weights = warm_start.load_weights(run, autoencoder)
        writes = votes.is_chief and not dry_run
        with locked(run_dir) if writes else contextlib.nullcontext():
            _check_targets(run_dir, export_dir, resume)  # another run may have finished meanwhile
            if writes:
                checkpoints.clear_parts(run_dir)
                write_config(run)
            model, progress = _build(run, autoencoder, weights, dry_run)
            _check_agreement(run, model)
            summary.print_costs(run, model)
            if dry_run:
                print(json.dumps(dataclasses.asdict(run.config), indent=2))
                print(f"dry run: nothing was trained; the run would be written to {run_dir}")
                return False
            _train(run, model, progress)
            if votes.is_chief:
                try:
                    _finish(run, model, progress, export_dir)
                except (OSError, MemoryError, ValueError, tf.errors.OpError) as error:
                    raise ExportFailed(one_line(error)) from error
            votes.total([1])  # a worker that ends before the chief would count as lost
            return votes.is_chief


class ExportFailed(Exception):
    """A finished run cannot write its figures or its export."""


def has_checkpoint(run_dir):
    """bool: there is a checkpoint of a run, or of its stage one, to resume from."""
    stages = (run_dir, run_dir / autoencoder_stage.FOLDER)
    return any(checkpoints.list_checkpoints(stage / "checkpoints") for stage in stages)


def _check_targets(run_dir, export_dir, resume):
    """Checks that there is a run to resume, or that no run or other files would be replaced."""
    exists = has_checkpoint(run_dir)
    if exists and not resume:
        raise ValueError(
            f"--run-dir: {run_dir} already holds a run. Resume it with --resume, or choose "
            "another folder."
        )
    if resume and not exists:
        raise FileNotFoundError(f"--resume: there is no checkpoint in {run_dir / 'checkpoints'}.")
    run, export = (Path(os.path.abspath(path)) for path in (run_dir, export_dir))
    if export in (run, *run.parents):
        raise ValueError(f"--export-dir: {export_dir} contains the run. Choose another folder.")
    try:
        check_target(export_dir)
    except ValueError as error:
        raise ValueError(f"--export-dir: {error}") from error


def _check_writable(config, run_dir, export_dir):
    """Raises OSError if a folder that the run needs cannot be written: before it is trained."""
    folders = [("--run-dir", run_dir / name) for name in ("", "checkpoints", "samples", "logs")]
    folders.append(("--export-dir", Path(os.path.abspath(export_dir)).parent))
    if export_dir.exists():  # it is replaced
        folders.append(("--export-dir", export_dir))
    if config.latent and not config.codec:
        folders.append(("--run-dir", run_dir / autoencoder_stage.FOLDER / "checkpoints"))
    if config.score_every:
        folders.append(("--score-every", real_images.CACHE))
    for flag, folder in folders:
        require_writable(flag, folder)


# Prepare -------------------------------------------------------------------------------------


def _prepare(config, run_dir, votes, resume):
    """Returns the `Run`, with its data loaded and its options checked; writes nothing."""
    if config.deterministic:
        _make_deterministic()
    policy, reason = precision.policy(config.precision)
    keras.config.set_dtype_policy(policy)
    print(f"processor: {processor.describe()}")
    print(f"precision: {policy} ({reason})")
    build.check_size(config)
    data = build.load_data(config).repeated(config.repeats, config.batch_size)
    print(data.summary, flush=True)
    real_images.check_scores(config, data.source)
    size = "image_size" if data.whole_image is None else "crop_size"
    given, config = (
        config,
        dataclasses.replace(
            config,
            **{size: data.image_shape[:2]},
            channels=data.channels,
            horizontal_flip=data.horizontal_flip,
            precision=policy,
            repeats=data.repeats,
        ),
    )
    build.check_size(config)
    changed = (name for name in OPTIONS if getattr(config, name) != getattr(given, name))
    decided = read_decided(run_dir) if resume else tuple(changed)
    run = Run(config, data, run_dir, votes, decided)
    summary.print_batches(run)
    if resume:
        check_data(run)
    else:
        _ = run.prompts  # raises now if they cannot be built
    return run


def _make_deterministic():
    """Makes TensorFlow compute the same bits in every process with the same number of threads."""
    tf.config.experimental.enable_op_determinism()
    # Its arithmetic optimizer orders sums differently from process to process.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


# Build ---------------------------------------------------------------------------------------


def _build(run, autoencoder, weights, dry_run):
    """Returns (model, `Progress`), new or from the newest checkpoint."""
    config, strategy = run.config, run.votes.strategy
    if checkpoints.list_checkpoints(run.dir / "checkpoints"):
        return _load_checkpoint(run)
    codec = None
    if config.latent:
        codec = autoencoder_stage.make_codec(run, autoencoder, dry_run)
        keras.utils.set_random_seed(config.seed)  # whatever random numbers stage one has used
    num_classes = run.data.source.num_classes
    with strategy.scope():
        model = build.model(config, run.data.image_shape, num_classes, codec, run.prompts)
    warm_start.assign(model, weights)
    return model, checkpoints.Progress()


def _load_checkpoint(run):
    with run.votes.strategy.scope():
        path, model, progress = checkpoints.load(run.dir / "checkpoints")
    model.accumulate = run.config.accumulate
    optimizer = model.optimizer
    print(
        f"resuming {path}: step {int(model.step.numpy())}, "
        f"{progress.epoch} epochs and {progress.step} batches, "
        f"learning rate {float(optimizer.learning_rate.numpy()):.2e}"
    )
    return model, progress


def _check_agreement(run, model):
    """Raises ValueError if the workers have not loaded the same checkpoint."""
    step = int(model.step.numpy())
    workers, steps, squares = run.votes.total([1, step, step**2])
    if workers * squares != steps**2:  # the variance of their steps is not zero
        raise ValueError(f"--resume: the workers do not see the same checkpoints in {run.dir}.")


# Train ---------------------------------------------------------------------------------------


def _train(run, model, progress):
    if run.votes.is_chief:
        write_history(progress.history, run.dir / "history.csv")
    if run.config.latent:
        run = autoencoder_stage.second_stage(run)
    if fit.is_finished(run.config, progress):
        print("this run is finished: only its figures and its export are written again")
        return
    if run.config.latent:
        run = autoencoder_stage.encode(run, model.codec, progress)
    callbacks = []
    if run.votes.is_chief:
        callbacks = _evaluators(run, model, progress) + _watchers(run, model)
    with fit.naming_last_checkpoint(run.dir):
        fit.fit(run, model, progress, callbacks)


def _evaluators(run, model, progress):
    """Callbacks that add scores to the logs of epochs."""
    config, options = run.config, build.sampling_options(run.config, model.num_classes)
    evaluators = []
    if run.data.whole_image is not None:
        evaluators.append(single_image.restoration_callback(run, model, progress))
    if config.score_every:
        real, reference = real_images.reference_of_run(config, run.data)
        evaluators.append(
            Scores(
                reference,
                config.score_num,
                real.labels(config.score_num, config.seed) if model.num_classes else None,
                every=config.score_every,
                last_epoch=None if config.minutes else config.epochs,
                max_share=0.1,
                **options,
            )
        )
    return evaluators


def _watchers(run, model):
    """Callbacks that show the state of the training: samples and curves."""
    num_images = 40 if 1 < model.num_classes <= 12 else 36
    if run.data.frames > 1:
        num_images = 12
    samples = SampleGrid(
        run.dir / "samples",
        num_images=9 if run.config.image else num_images,  # crops are large, and runs short
        max_share=0.05,
        log_dir=run.dir / "logs" / "samples",
        frames=run.data.frames,
        **build.sampling_options(run.config, model.num_classes),
    )
    return [samples, curves(run)]


# Export --------------------------------------------------------------------------------------


def _finish(run, model, progress, export_dir):
    """Writes the figures of the run, and exports the model."""
    if model.distribute_strategy.num_replicas_in_sync > 1:  # one device suffices from here on
        _, model, _ = checkpoints.load(run.dir / "checkpoints")
    if run.data.whole_image is not None:
        model = build.resized(model, run.config, run.data.whole_image.shape)
    _plot(run, model)
    seconds = progress.seconds + 60 * autoencoder_stage.spent_minutes(run.dir)
    export_saved_model(
        model,
        export_dir,
        **build.sampling_options(run.config, model.num_classes),
        precision=run.config.export_precision,
        class_names=run.data.source.class_names,
        frames=run.data.frames,
        training=describe_training(run, int(model.step.numpy()), seconds),
    )
    summary.print_results(run, export_dir, progress)


def _plot(run, model):
    """Writes loss.png, health.png, forward.png and backward.png, and those of a single image."""
    config, whole_image = run.config, run.data.whole_image
    figures.loss_curves(run.dir / "history.csv", run.dir / "loss.png")
    figures.health(run.dir / "history.csv", run.dir / "health.png")
    if whole_image is None:
        real = next(iter(run.data.validation))["image"][:6]
    else:
        real = whole_image[None]
    forward = noised(model, real, FIFTHS, config.seed)
    titles = [f"t = {t:.1f}" for t in FIFTHS]
    figures.process_strip(_rows(run, forward), titles, run.dir / "forward.png")
    options = build.sampling_options(config, model.num_classes)
    backward = model.generate(6, num_frames=5, **options)
    titles = [f"{i * config.num_steps // 5} steps" for i in range(6)]
    figures.process_strip(_rows(run, backward), titles, run.dir / "backward.png")
    if whole_image is not None:
        single_image.plot(run, model, {"forward": forward, "backward": backward})


def _rows(run, stages):
    """The rows of a process strip: images, or up to 10 frames of the first clip."""
    frames = run.data.frames
    if frames == 1:
        return stages
    shown = np.linspace(0, frames - 1, min(frames, 10)).round().astype(int)
    return images.split_frames(stages[:, 0], frames)[:, shown]
