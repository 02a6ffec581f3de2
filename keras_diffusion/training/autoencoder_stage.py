"""Stage one of a run on latents: it trains the autoencoder, and encodes the images.

It is a run of its own in `RUN/codec/`, with checkpoints and history like any other; it is
finished when `autoencoder.keras` and `quality.json` are there.
"""

import contextlib
import dataclasses
import json
import shutil
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion import build
from keras_diffusion.data import latents
from keras_diffusion.models.autoencoder import Autoencoder
from keras_diffusion.models.codecs import LatentCodec, PixelCodec
from keras_diffusion.plotting import figures
from keras_diffusion.runtime.console import one_line
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import fit
from keras_diffusion.training.callbacks import Plateau, curves
from keras_diffusion.training.run_dir import write_config

FOLDER = "codec"  # of stage one, in that of the run
AUTOENCODER, QUALITY = "autoencoder.keras", "quality.json"
PATIENCE = 3  # epochs without a better validation that end stage one
SHOWN = 12  # images in reconstructions.png


def load_given(run):
    """Returns the `Autoencoder` that --codec names, or None: without --codec, or on resuming.

    A run with checkpoints of its diffusion model has the autoencoder in them.

    Raises:
        ValueError: there is none, or it does not fit; one line.
    """
    config = run.config
    if config.codec is None or checkpoints.list_checkpoints(run.dir / "checkpoints"):
        return None
    path = _find(Path(config.codec))
    try:
        autoencoder = _load(path, run.votes.strategy)
    except ValueError as error:
        raise ValueError(f"--codec: {error}") from error
    if autoencoder.image_shape != run.data.image_shape:
        theirs, ours = (
            "x".join(map(str, shape)) for shape in (autoencoder.image_shape, run.data.image_shape)
        )
        raise ValueError(f"--codec: {path} is for images of {theirs}; these are {ours}.")
    build.check_size(config, factor=autoencoder.image_shape[0] // autoencoder.x_shape[0])
    saved = autoencoder.decoder.layers[-2].dtype_policy.name
    if saved != keras.config.dtype_policy().name:
        print(f"the autoencoder computes in {saved}, as in its training", flush=True)
    return autoencoder


def _find(path):
    """Returns the file of an autoencoder: `path`, or in a run or its codec folder.

    Raises:
        ValueError: there is none; one line, with a hint where one may be.
    """
    candidates = [path] if path.is_file() else [path / AUTOENCODER, path / FOLDER / AUTOENCODER]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    hint = "give a run on latents whose stage one is finished, its codec folder, or the file."
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        codec = json.loads((path / "config.json").read_text(encoding="utf-8"))["config"]["codec"]
        hint = f"that run uses the one of {codec}." if codec else hint
    raise ValueError(f"--codec: there is no {AUTOENCODER} in {path}; {hint}")


def _load(path, strategy):
    try:
        with strategy.scope():
            autoencoder = keras.models.load_model(path)
    except Exception as error:  # a damaged file raises anything
        raise ValueError(f"{path} cannot be loaded ({one_line(error, 160)}).") from error
    if not isinstance(autoencoder, Autoencoder):
        kind = type(autoencoder).__name__
        raise ValueError(f"{path} contains a {kind}; give the file of an Autoencoder.")
    return autoencoder


def make_codec(run, autoencoder=None, dry_run=False):
    """Returns the `LatentCodec` of a run on latents; trains its autoencoder first if necessary.

    Args:
        run: `run.Run` with `latent` in its Config, and images as its data.
        autoencoder: None, or that of --codec, see `load_given`.
        dry_run: an untrained autoencoder suffices.

    Raises:
        As `fit.fit`.
    """
    folder = run.dir / FOLDER
    if autoencoder is None:
        if (folder / QUALITY).exists():
            autoencoder = _load(folder / AUTOENCODER, run.votes.strategy)
        elif dry_run:
            autoencoder = build.autoencoder(run.config, run.data.image_shape)
        else:
            autoencoder = _train(_first_stage(run))
    if dry_run:
        return LatentCodec(autoencoder.encoder, autoencoder.decoder)
    one_epoch = run.data.training_batches().take(run.data.steps_per_epoch)
    return LatentCodec.measured(autoencoder, one_epoch)


def spent_minutes(run_dir):
    """Returns the minutes that stage one of a run has taken, 0 without one."""
    quality = run_dir / FOLDER / QUALITY
    return json.loads(quality.read_text())["minutes"] if quality.exists() else 0.0


def second_stage(run):
    """Returns the run with the minutes that stage one has left, at least a tenth of them."""
    minutes = run.config.minutes
    if not minutes:
        return run
    left = max(minutes - run.votes.of_chief([spent_minutes(run.dir)])[0], 0.1 * minutes)
    return dataclasses.replace(run, config=dataclasses.replace(run.config, minutes=left))


def encode(run, codec, progress):
    """Returns the run with latents as its data, encoded now.

    Latents that do not fit into memory are not kept: the model encodes images in each step.

    Args:
        run: `run.Run` with images as its data.
        codec: `LatentCodec`.
        progress: `checkpoints.Progress` of the run; the time of the encoding is added to it.
    """
    started = time.monotonic()
    data = latents.encoded(
        run.data,
        tf.function(codec.encode, reduce_retracing=True),
        codec.x_shape,
        batch_size=run.config.batch_size,
        seed=run.config.seed,
        balance=None if run.config.balance == "none" else run.config.balance,
    )
    if data is None:
        print("the latents do not fit into memory: each step encodes its images", flush=True)
        return run
    seconds = time.monotonic() - started
    progress.seconds += seconds
    print(f"stage two: diffusion; all images were encoded in {seconds:.0f} s", flush=True)
    return dataclasses.replace(run, data=data)


def _first_stage(run):
    """The run of stage one."""
    config = run.config
    config = dataclasses.replace(
        config,
        epochs=config.codec_epochs,
        minutes=config.minutes and config.minutes * config.codec_share,
        optimizer="adamw",
        learning_rate=config.codec_learning_rate,
        score_every=None,  # there are no samples to score yet
    )
    return dataclasses.replace(run, config=config, dir=run.dir / FOLDER)


def _train(stage):
    """Trains the autoencoder, from its newest checkpoint if there is one; returns it."""
    is_chief = stage.votes.is_chief
    autoencoder, progress = _build(stage)
    if is_chief:
        images = next(iter(stage.data.validation))["image"][:SHOWN]
        stage.dir.mkdir(exist_ok=True)
        checkpoints.clear_parts(stage.dir)
        write_config(stage)
    plateau = Plateau(progress, PATIENCE, "val_reconstruction")
    if not fit.is_finished(stage.config, progress) and not plateau.is_reached:
        print("stage one: the autoencoder", flush=True)
        callbacks = [plateau]
        if is_chief:
            plot = keras.callbacks.LambdaCallback(
                on_epoch_end=lambda *_: plot_reconstructions(autoencoder, images, stage.dir)
            )
            callbacks += [plot, curves(stage)]
        with fit.naming_last_checkpoint(stage.dir):
            fit.fit(stage, autoencoder, progress, callbacks)
    if is_chief:
        quality = _keep_best(progress, stage.dir)
    stage.votes.total([1])  # waits for the chief's file
    autoencoder = _load(stage.dir / AUTOENCODER, stage.votes.strategy)  # the best, not the last
    if is_chief:
        plot_reconstructions(autoencoder, images, stage.dir)
        _finish(quality, stage.dir)
    return autoencoder


def _build(stage):
    """Returns (autoencoder, `Progress`), new or from the newest checkpoint."""
    with stage.votes.strategy.scope():
        if not checkpoints.list_checkpoints(stage.dir / "checkpoints"):
            return build.autoencoder(stage.config, stage.data.image_shape), checkpoints.Progress()
        path, autoencoder, progress = checkpoints.load(stage.dir / "checkpoints", Autoencoder)
    autoencoder.accumulate = stage.config.accumulate
    print(f"resuming {path}: {progress.epoch} epochs and {progress.step} batches")
    return autoencoder, progress


def _keep_best(progress, folder):
    """Copies the autoencoder of the best epoch; returns its scores and the costs of stage one."""
    *_, best = checkpoints.list_checkpoints(folder / "checkpoints")
    row = progress.history[-1]
    if progress.best:  # there was a validation
        best = checkpoints.best_of(folder / "checkpoints", progress)
        lowest = progress.best["val_loss"]
        row = next(row for row in progress.history if row.get("val_loss") == lowest)
    with whole_file(folder / AUTOENCODER) as part:
        shutil.copyfile(best, part)
    scores = {name: row[f"val_{name}"] for name in ("psnr", "ssim") if f"val_{name}" in row}
    return {**scores, "epochs": progress.epoch, "minutes": progress.seconds / 60}


def _finish(quality, folder):
    """Writes the file that marks stage one as finished, and prints its results."""
    with whole_file(folder / QUALITY) as part:
        Path(part).write_text(json.dumps(quality, indent=2) + "\n")
    lines = ["", "stage one is finished"]
    if "psnr" in quality:
        lines.append(f"  validation    PSNR {quality['psnr']:.2f} dB, SSIM {quality['ssim']:.3f}")
    lines += [f"  images        {folder}/reconstructions.png", f"  codec         {folder}/"]
    print("\n".join(lines), flush=True)


def plot_reconstructions(autoencoder, images, folder):
    """Writes reconstructions.png: pairs of columns, images and their reconstructions.

    Args:
        autoencoder: `Autoencoder`.
        images: uint8 (N, H, W, C).
        folder: for the PNG.
    """
    reconstructed = PixelCodec().decode(autoencoder(images))
    pairs = min(3, len(images))
    rows = len(images) // pairs
    parts = [slice(first, first + rows) for first in range(0, pairs * rows, rows)]
    frames = [column[part] for part in parts for column in (images, reconstructed)]
    titles = ["original", "reconstruction"] * pairs
    figures.process_strip(np.stack(frames), titles, Path(folder) / "reconstructions.png")
