"""A training run from Config to export, in a directory of its own."""

import contextlib
import dataclasses
import json
from pathlib import Path

import keras
import tensorflow as tf

from keras_diffusion import build
from keras_diffusion.evaluation import real_images
from keras_diffusion.networks.costs import estimate_costs
from keras_diffusion.plotting import figures
from keras_diffusion.runtime import distribution, precision
from keras_diffusion.sampling.editing import noised
from keras_diffusion.saving import checkpoints
from keras_diffusion.saving.export_folder import check_target
from keras_diffusion.saving.saved_model import export_saved_model
from keras_diffusion.training import autoencoder_stage, fit, single_image, warm_start
from keras_diffusion.training import run_dir as records
from keras_diffusion.training.checkpoint_callback import write_history

FIFTHS = tuple(i / 5 for i in range(6))  # stages of forward.png and backward.png


def run(config, run_dir, export_dir, resume=False, dry_run=False):
    """Trains, previews, saves and exports.

    Args:
        config: a `Config`.
        run_dir: folder for all that the run leaves behind.
        export_dir: folder for the SavedModel.
        resume: go on from the newest checkpoint in `run_dir`.
        dry_run: only print what would be done.

    Raises:
        ValueError, OSError: what cannot be used or written, on one line.
        interruption.Interrupted: after Ctrl-C or SIGTERM; a checkpoint is written.
        callbacks.TrainingStopped: the training has failed; says what is left.
        distribution.WorkerLost: another worker is gone.
    """
    run_dir, export_dir = Path(run_dir), Path(export_dir)
    _check_targets(run_dir, export_dir, resume)
    votes = distribution.Votes(distribution.make_strategy(config.strategy))
    with distribution.raising_worker_lost(votes.strategy):
        _run(config, run_dir, export_dir, resume, dry_run, votes)


def _run(config, run_dir, export_dir, resume, dry_run, votes):
    if config.deterministic:
        _same_bits_again()
    policy, reason = precision.policy(config.precision)
    keras.config.set_dtype_policy(policy)
    print(f"precision: {policy} ({reason})")
    build.check_size(config)
    data = build.load_data(config)
    print(data.summary, flush=True)
    real_images.check_scores(config, data.source)
    if not resume:
        build.prompts(config, data.source)  # what it refuses it is to refuse now
    size = "image_size" if data.picture is None else "crop_size"
    config = dataclasses.replace(
        config,
        **{size: data.image_shape[:2]},
        channels=data.image_shape[2],
        horizontal_flip=data.horizontal_flip,
        precision=policy,
    )
    build.check_size(config)
    _print_sharing(votes.strategy, config, data.source)
    if resume:
        records.check_data(run_dir, config, data.source)
    writes = votes.is_chief and not dry_run
    alone = records.alone_in(run_dir) if writes else contextlib.nullcontext()
    autoencoder = autoencoder_stage.reused(config, run_dir, votes)
    begun = checkpoints.list_checkpoints(run_dir / "checkpoints")
    weights = {} if begun else warm_start.learned(config, data, autoencoder)
    with alone:
        _check_targets(run_dir, export_dir, resume)  # another run may have come and gone
        if writes:
            checkpoints.clear_parts(run_dir)
            records.write(run_dir, config, data.source)
        model, progress = _begin(config, data, run_dir, votes, autoencoder, weights, dry_run)
        _check_agreement(model, run_dir, votes)
        _print_costs(model, config)
        if dry_run:
            print(json.dumps(dataclasses.asdict(config), indent=2))
            print(f"dry run: nothing was trained; the run would be written to {run_dir}")
            return
        _train(model, config, data, run_dir, progress, votes)
        if votes.is_chief:
            _finish(model, config, data, run_dir, export_dir, progress)
        votes.total([1])  # whoever left before the chief would be taken for lost


def _same_bits_again():
    """Has TensorFlow give the same bits in every process (with the same number of threads)."""
    tf.config.experimental.enable_op_determinism()
    # Its arithmetic optimizer puts sums into an order that changes from process to process.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def _check_targets(run_dir, export_dir, resume):
    """Makes sure that there is something to resume, and that nothing of worth is replaced."""
    saved = checkpoints.list_checkpoints(run_dir / "checkpoints")
    there = saved or autoencoder_stage.listed(run_dir)
    if there and not resume:
        raise ValueError(f"--run-dir: {run_dir} holds a run already; --resume goes on with it.")
    if resume and not there:
        raise FileNotFoundError(f"--resume: there is no checkpoint in {run_dir / 'checkpoints'}.")
    try:
        check_target(export_dir)
    except ValueError as error:
        raise ValueError(f"--export-dir: {error}") from error


def _begin(config, data, run_dir, votes, autoencoder, weights, dry_run):
    """Returns (model, `Progress`), new or from the newest checkpoint; `weights`: of a new one."""
    if not checkpoints.list_checkpoints(run_dir / "checkpoints"):
        codec = None
        if config.latent:
            codec = autoencoder_stage.codec(config, data, run_dir, votes, autoencoder, dry_run)
            keras.utils.set_random_seed(config.seed)  # whatever stage one has drawn, or not
        prompts = build.prompts(config, data.source)
        with votes.strategy.scope():
            new = build.model(config, data.image_shape, data.source.num_classes, codec, prompts)
        warm_start.begin(new, weights)
        return new, checkpoints.Progress()
    with votes.strategy.scope():
        path, model, progress = checkpoints.load(run_dir / "checkpoints")
    model.accumulate = config.accumulate
    optimizer = model.optimizer
    print(
        f"resuming {path}: step {int(optimizer.iterations.numpy())}, "
        f"{progress.epoch} epochs and {progress.step} batches, "
        f"learning rate {float(optimizer.learning_rate.numpy()):.2e}"
    )
    return model, progress


def _check_agreement(model, run_dir, votes):
    step = int(model.optimizer.iterations.numpy())
    workers, steps, squares = votes.total([1, step, step**2])
    if workers * squares != steps**2:  # their variance is not zero
        raise ValueError(f"--resume: not all workers see the same checkpoint in {run_dir}.")


def _train(model, config, data, run_dir, progress, votes):
    if votes.is_chief:
        write_history(progress.history, run_dir / "history.csv")
    if config.latent:
        config = autoencoder_stage.second_stage(config, run_dir, votes)
    if fit.is_finished(config, progress):
        print("this run is finished; only its pictures and its export are made again")
        return
    if config.latent:
        data = autoencoder_stage.encoded(model.codec, data, config, progress)
    with fit.naming_what_is_left(run_dir):
        fit.fit(model, data, config, run_dir, progress, votes)


def _finish(model, config, data, run_dir, export_dir, progress):
    """Draws the pictures of the run, and exports the model."""
    if model.distribute_strategy.num_replicas_in_sync > 1:  # from here on, one device will do
        _, model, _ = checkpoints.load(run_dir / "checkpoints")
    figures.loss_curves(run_dir / "history.csv", run_dir / "loss.png")
    figures.health(run_dir / "history.csv", run_dir / "health.png")
    if data.picture is None:
        shown = next(iter(data.validation))["image"][:6]
    else:
        shown = data.picture[None]
        model = build.resized(model, config, data.picture.shape)
    strips = _draw_processes(model, config, shown, run_dir)
    if data.picture is not None:
        single_image.draw(model, data.picture, config, run_dir, strips)
    export_saved_model(
        model,
        export_dir,
        **fit.drawing(config, model.num_classes > 0),
        class_names=data.source.class_names,
        training=records.describe(config),
    )
    _print_summary(run_dir, export_dir, data.picture is not None, progress)


def _draw_processes(model, config, images, run_dir):
    """Writes forward.png of these images and backward.png, every fifth of the way; returns both."""
    forward = noised(model, images, FIFTHS, config.seed)
    titles = [f"t = {t:.1f}" for t in FIFTHS]
    figures.process_strip(forward, titles, run_dir / "forward.png")
    backward = model.generate(6, num_frames=5, **fit.drawing(config, model.num_classes > 0))
    titles = [f"{i * config.num_steps // 5} steps" for i in range(6)]
    figures.process_strip(backward, titles, run_dir / "backward.png")
    return {"forward": forward, "backward": backward}


def _print_sharing(strategy, config, source):
    """Prints how a batch is shared out; a batch is never larger than the data."""
    batch_size = min(config.batch_size, source.num_train)
    try:
        share = distribution.images_per_replica(strategy, batch_size, config.accumulate)
    except ValueError as error:
        raise ValueError(f"--batch-size: {error}") from error
    replicas = strategy.num_replicas_in_sync
    parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
    name = type(strategy).__name__
    name = "single" if strategy is tf.distribute.get_strategy() else name
    print(f"strategy: {name}, {replicas} x {share} images{parts} in each batch", flush=True)


def _print_costs(model, config):
    if config.latent:
        parts = [estimate_costs(half, 1) for half in (model.codec.encoder, model.codec.decoder)]
        height, width, channels = model.x_shape
        print(
            f"codec: {sum(part['parameters'] for part in parts) / 1e6:.2f} M parameters, "
            f"latents {height}x{width}x{channels}, {parts[0]['flops'] / 1e9:.3f} GFLOP per image "
            f"to encode, {parts[1]['flops'] / 1e9:.3f} to decode"
        )
    costs = estimate_costs(model.network, config.batch_size)
    print(
        f"network: {costs['parameters'] / 1e6:.2f} M parameters, "
        f"{costs['flops'] / 1e9:.2f} GFLOP per image forward, "
        f"about {costs['memory'] / 2**30:.1f} GiB to train batches of {config.batch_size}"
    )
    whole = model.jit_compile  # as Keras decides: on one GPU alone
    print(f"XLA: {'the whole training step' if whole else 'element-wise chains'}", flush=True)


def _print_summary(run_dir, export_dir, of_one_image, progress):
    best = checkpoints.best_of(run_dir / "checkpoints", progress)
    by = best and next(name for name in progress.best if name != "batches")
    lines = [
        "",
        "done",
        f"  previews      {run_dir}/samples/",
        f"  losses        {run_dir}/loss.png, {run_dir}/health.png, {run_dir}/history.csv",
        f"  processes     {run_dir}/forward.png, {run_dir}/backward.png",
        f"  checkpoints   {run_dir}/checkpoints/"
        + (f", best by {by}: {best.name}" if best else ""),
        f"  SavedModel    {export_dir}",
        "next",
        f"  python sample.py --model {export_dir}",
        f"  tensorboard --logdir {run_dir}/logs",
    ]
    if of_one_image:
        names = "reconstruction.png, variations.png, other_size.png, quality.png"
        lines.insert(-5, f"  the picture   {run_dir}/{names}")
    else:
        lines.insert(-1, f"  python evaluate.py --model {export_dir}")
    print("\n".join(lines))
