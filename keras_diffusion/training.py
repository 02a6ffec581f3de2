"""A training run from Config to export, in a directory of its own."""

import dataclasses
import json
import os
import platform
import subprocess
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion import __version__, build, callbacks, plotting
from keras_diffusion.export import check_target, export_saved_model
from keras_diffusion.files import whole_file
from keras_diffusion.process import mix
from keras_diffusion.randomness import image_noise
from keras_diffusion.schedules import rates

FIFTHS = tuple(i / 5 for i in range(6))  # stages of forward.png and backward.png
VALIDATION_SHARE = 0.25  # of the training images, at most: an epoch is not to wait for it


def run(config, run_dir, export_dir, resume=False, dry_run=False):
    """Trains, previews, saves and exports.

    Args:
        config: a `Config`.
        run_dir: folder for all that the run leaves behind.
        export_dir: folder for the SavedModel.
        resume: go on from the newest checkpoint in `run_dir`.
        dry_run: only print what would be done.

    Raises:
        ValueError, FileNotFoundError: what cannot be used, on one line.
    """
    run_dir, export_dir = Path(run_dir), _checked_targets(run_dir, export_dir, resume)
    checkpoint = _checkpoint_to_resume(run_dir) if resume else None
    policy, reason = build.precision(config.precision)
    keras.config.set_dtype_policy(policy)
    print(f"precision: {policy} ({reason})")
    data = build.load_data(config)
    print(data.summary, flush=True)
    config = dataclasses.replace(
        config,
        image_size=data.image_shape[:2],
        channels=data.image_shape[2],
        horizontal_flip=data.horizontal_flip,
        precision=policy,
    )

    if checkpoint:
        path, state = checkpoint
        model = keras.models.load_model(path)
        rate, step = float(model.optimizer.learning_rate), int(model.optimizer.iterations)
        print(f"resuming {path}: step {step}, {state['epochs']} epochs, learning rate {rate:.2e}")
    else:
        state = {"epochs": 0, "elapsed": 0.0}
        model = build.model(config, data.image_shape, data.source.num_classes)
    _print_costs(model.network, config)
    if dry_run:
        print(json.dumps(dataclasses.asdict(config), indent=2))
        print(f"dry run: nothing was trained; the run would be written to {run_dir}")
        return

    _write_config(run_dir, config, data.source)
    _forget_epochs(run_dir / "history.csv", state["epochs"])
    _train(model, config, data, run_dir, state)
    _draw_processes(model, config, data, run_dir)
    export_saved_model(
        model,
        export_dir,
        sampler=config.sampler,
        num_steps=config.num_steps,
        guidance_scale=config.guidance_scale if model.num_classes else 1.0,
        class_names=data.source.class_names,
        training=_describe_run(config),
    )
    _print_summary(run_dir, export_dir)


def _checked_targets(run_dir, export_dir, resume):
    """Returns the export folder, once it is sure that nothing of worth will be replaced."""
    if not resume and callbacks.newest_checkpoint(Path(run_dir) / "checkpoints"):
        raise ValueError(f"--run-dir: {run_dir} holds a run already; --resume goes on with it.")
    try:
        return check_target(export_dir)
    except ValueError as error:
        raise ValueError(f"--export-dir: {error}") from error


def _checkpoint_to_resume(run_dir):
    found = callbacks.newest_checkpoint(run_dir / "checkpoints")
    if found is None:
        raise FileNotFoundError(f"--resume: there is no checkpoint in {run_dir / 'checkpoints'}.")
    return found


def _forget_epochs(history_csv, epochs):
    """Drops the rows of epochs that were trained after the checkpoint, and will be again."""
    if history_csv.exists():
        lines = history_csv.read_text().splitlines(keepends=True)
        with whole_file(history_csv) as part:
            Path(part).write_text("".join(lines[: 1 + epochs]))


def _train(model, config, data, run_dir, state):
    first_epoch = state["epochs"]
    budget = callbacks.Budget(
        config.learning_rate,
        warmup=config.warmup,
        total_steps=None if config.minutes else config.epochs * data.steps_per_epoch,
        minutes=config.minutes,
        elapsed=state["elapsed"],
    )
    if (
        budget.minutes
        and budget.elapsed >= 60 * budget.minutes
        or (not budget.minutes and first_epoch >= config.epochs)
    ):
        print("this run is finished; only its pictures and its export are made again")
        return
    checkpoint = callbacks.Checkpoint(
        run_dir / "checkpoints", budget, minutes=config.checkpoint_minutes
    )
    try:
        model.fit(
            data.training_batches(first_epoch),
            steps_per_epoch=data.steps_per_epoch,
            initial_epoch=first_epoch,
            epochs=callbacks.UNLIMITED_EPOCHS if config.minutes else config.epochs,
            validation_data=data.validation,
            validation_steps=_validation_steps(config, data.source),
            shuffle=False,
            callbacks=[
                budget,
                _preview(model, config, run_dir),
                checkpoint,
                keras.callbacks.CSVLogger(run_dir / "history.csv", append=first_epoch > 0),
                keras.callbacks.TensorBoard(run_dir / "logs", write_graph=False),
                callbacks.Progress(config.batch_size),
            ],
        )
    except KeyboardInterrupt:
        # Keras ends no callbacks here. The weights of now are kept; the epoch begins again.
        checkpoint.save()
        raise
    plotting.loss_curves(run_dir / "history.csv", run_dir / "loss.png")


def _preview(model, config, run_dir):
    options = {"sampler": config.sampler, "num_steps": config.num_steps}
    if model.num_classes:
        options["guidance_scale"] = config.guidance_scale
    return callbacks.SampleGrid(
        run_dir / "samples",
        num_images=40 if 1 < model.num_classes <= 12 else 36,
        max_share=0.05,
        log_dir=run_dir / "logs" / "samples",
        **options,
    )


def _validation_steps(config, source):
    most = max(256, int(VALIDATION_SHARE * source.num_train))
    return -(-min(source.num_val, most) // config.batch_size)


def _draw_processes(model, config, data, run_dir):
    """Writes forward.png and backward.png, every fifth of the way."""
    batch = next(iter(data.validation))
    x0 = model.codec.encode(batch["image"][:6])
    eps = image_noise(tf.constant(config.seed), tf.range(tf.shape(x0)[0]), model.image_shape, 0)
    forward = [model.codec.decode(mix((x0, eps), rates(model.noise_schedule, t))) for t in FIFTHS]
    titles = [f"t = {t:.1f}" for t in FIFTHS]
    plotting.process_strip(np.stack(forward), titles, run_dir / "forward.png")
    options = {"guidance_scale": config.guidance_scale} if model.num_classes else {}
    backward = model.generate(
        6, sampler=config.sampler, num_steps=config.num_steps, num_frames=5, **options
    )
    titles = [f"{i * config.num_steps // 5} steps" for i in range(6)]
    plotting.process_strip(backward, titles, run_dir / "backward.png")


def _print_costs(network, config):
    costs = build.costs(network, config.batch_size)
    print(
        f"network: {costs['parameters'] / 1e6:.2f} M parameters, "
        f"{costs['flops'] / 1e9:.2f} GFLOP per image forward, "
        f"about {costs['memory'] / 2**30:.1f} GiB to train batches of {config.batch_size}",
        flush=True,
    )


def _describe_run(config):
    return {
        "config": dataclasses.asdict(config),
        "versions": {
            "keras_diffusion": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
        "git_revision": _git_revision(),
    }


def _git_revision():
    try:
        return subprocess.run(
            ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _write_config(run_dir, config, source):
    run_dir.mkdir(parents=True, exist_ok=True)
    record = _describe_run(config)
    record["splits"] = {"train": source.train_split, "validation": source.val_split}
    with whole_file(run_dir / "config.json") as part:
        Path(part).write_text(json.dumps(record, indent=2) + "\n")


def _print_summary(run_dir, export_dir):
    lines = [
        "",
        "done",
        f"  previews      {run_dir}/samples/",
        f"  losses        {run_dir}/loss.png, {run_dir}/history.csv",
        f"  processes     {run_dir}/forward.png, {run_dir}/backward.png",
        f"  checkpoints   {run_dir}/checkpoints/",
        f"  SavedModel    {export_dir}",
        "next",
        f"  python sample.py --model {export_dir}",
        f"  tensorboard --logdir {run_dir}/logs",
    ]
    print("\n".join(lines))
