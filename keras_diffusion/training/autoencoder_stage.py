"""What a run on latents does before its diffusion model is trained: autoencoder, then latents.

Stage one is a run of its own in `RUN/codec/`, with checkpoints and history like any other; it is
finished when its `autoencoder.keras` and `quality.json` are there.
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
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.saving import checkpoints
from keras_diffusion.training import fit
from keras_diffusion.training import run_dir as records
from keras_diffusion.training.callbacks import Plateau

FOLDER = "codec"  # of stage one, in that of the run
AUTOENCODER, QUALITY = "autoencoder.keras", "quality.json"
PATIENCE = 3  # epochs without a better reconstruction of the validation that end stage one
SHOWN = 12  # images in the strip of reconstructions


def reused(config, run_dir, votes):
    """Returns the `Autoencoder` that `--codec` names; None without, or where the run holds it.

    Raises:
        ValueError: there is none, or it does not fit; one line.
    """
    if config.codec is None or checkpoints.list_checkpoints(Path(run_dir) / "checkpoints"):
        return None
    found = _found(Path(config.codec))
    try:
        autoencoder = _load(found, votes)
    except ValueError as error:
        raise ValueError(f"--codec: {error}") from error
    ours, theirs = (*config.image_size, config.channels), autoencoder.image_shape
    if ours != theirs:
        ours, theirs = ("x".join(map(str, shape)) for shape in (ours, theirs))
        raise ValueError(f"--codec: {found} is for images of {theirs}; these are {ours}.")
    build.check_size(config, factor=theirs[0] // autoencoder.x_shape[0])
    saved = autoencoder.decoder.layers[-2].dtype_policy.name
    if saved != keras.config.dtype_policy().name:
        print(f"the autoencoder computes in {saved}, as it was trained", flush=True)
    return autoencoder


def _found(path):
    """Returns the file of an autoencoder: `path`, or in a run or its codec folder.

    Raises:
        ValueError: there is none; one line, that says where one may be.
    """
    places = [path] if path.is_file() else [path / AUTOENCODER, path / FOLDER / AUTOENCODER]
    found = [place for place in places if place.is_file()]
    if found:
        return found[0]
    known = "give a run on latents whose stage one is finished, its codec folder, or the file."
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        other = json.loads((path / "config.json").read_text(encoding="utf-8"))["config"]["codec"]
        known = f"that run took the one of {other}." if other else known
    raise ValueError(f"--codec: there is no {AUTOENCODER} in {path}; {known}")


def _load(path, votes):
    try:
        with votes.strategy.scope():
            autoencoder = keras.models.load_model(path)
    except Exception as error:  # a damaged file raises anything
        what = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} cannot be loaded ({what}).") from error
    if not isinstance(autoencoder, Autoencoder):
        kind = type(autoencoder).__name__
        raise ValueError(f"{path} holds a {kind}; give one of an Autoencoder.")
    return autoencoder


def codec(config, data, run_dir, votes, autoencoder=None, dry_run=False):
    """Returns the `LatentCodec` of a run on latents, and trains its autoencoder first if need be.

    Args:
        config: `Config` with `latent`.
        data: `data.TrainingData` of images.
        run_dir: folder of the run.
        votes: `distribution.Votes`.
        autoencoder: None, or the one to be used again, see `reused`.
        dry_run: an autoencoder that is not trained will do.

    Raises:
        As `fitting.fit`.
    """
    folder = Path(run_dir) / FOLDER
    if autoencoder is None:
        if (folder / QUALITY).exists():
            autoencoder = _load(folder / AUTOENCODER, votes)
        elif dry_run:
            autoencoder = build.autoencoder(config, data.image_shape)
        else:
            autoencoder = _train(config, data, folder, votes)
    if dry_run:
        return LatentCodec(autoencoder.encoder, autoencoder.decoder)
    one_epoch = data.training_batches().take(data.steps_per_epoch)
    return LatentCodec.measured(autoencoder, one_epoch)


def listed(run_dir):
    """Returns the paths of the checkpoints of stage one, oldest first."""
    return checkpoints.list_checkpoints(Path(run_dir) / FOLDER / "checkpoints")


def second_stage(config, run_dir, votes):
    """Returns the Config with the minutes that stage one has left over, a tenth at least."""
    quality = Path(run_dir) / FOLDER / QUALITY
    spent = json.loads(quality.read_text())["minutes"] if quality.exists() else 0.0
    if not config.minutes:
        return config
    left = config.minutes - votes.of_chief([spent])[0]
    return dataclasses.replace(config, minutes=max(left, 0.1 * config.minutes))


def encoded(codec, data, config, progress):
    """Returns the `TrainingData` of a run's latents, encoded now.

    Latents that are too many for memory are not kept: the model encodes images in each step.

    Args:
        codec: `LatentCodec`.
        data: `data.TrainingData` of images.
        config: `Config`.
        progress: the run's `checkpoints.Progress`; its seconds grow by those of the encoding.
    """
    began = time.monotonic()
    ready = latents.encoded(
        data,
        tf.function(codec.encode, reduce_retracing=True),
        codec.x_shape,
        batch_size=config.batch_size,
        seed=config.seed,
        balance=None if config.balance == "none" else config.balance,
    )
    if ready is None:
        print("the latents are too many for memory: each step encodes its images", flush=True)
        return data
    seconds = time.monotonic() - began
    progress.seconds += seconds
    print(f"stage two: diffusion; all images became latents in {seconds:.0f} s", flush=True)
    return ready


def _train(config, data, folder, votes):
    """Trains the autoencoder, from its newest checkpoint if there is one; returns it."""
    stage = dataclasses.replace(
        config,
        epochs=config.codec_epochs,
        minutes=config.minutes and config.minutes * config.codec_share,
        learning_rate=config.codec_learning_rate,
        score_every=None,  # there is nothing to draw yet
    )
    autoencoder, progress = _begin(stage, data.image_shape, folder, votes)
    if votes.is_chief:
        images = next(iter(data.validation))["image"][:SHOWN]
        folder.mkdir(exist_ok=True)
        checkpoints.clear_parts(folder)
        records.write(folder, stage, data.source)
    plateau = Plateau(progress, PATIENCE, "val_reconstruction")
    if not fit.is_finished(stage, progress) and not plateau.is_reached:
        print("stage one: the autoencoder", flush=True)
        used = [plateau]
        if votes.is_chief:
            used.append(
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda *_: draw_reconstructions(autoencoder, images, folder)
                )
            )
        with fit.naming_what_is_left(folder):
            fit.fit(autoencoder, data, stage, folder, progress, votes, used)
    if votes.is_chief:
        quality = _keep_best(progress, folder)
    votes.total([1])  # until the chief's file is there
    autoencoder = _load(folder / AUTOENCODER, votes)  # the best, and not the last
    if votes.is_chief:
        draw_reconstructions(autoencoder, images, folder)
        _finish(quality, folder)
    return autoencoder


def _begin(stage, image_shape, folder, votes):
    """Returns (autoencoder, `Progress`), new or from the newest checkpoint."""
    with votes.strategy.scope():
        if not checkpoints.list_checkpoints(folder / "checkpoints"):
            return build.autoencoder(stage, image_shape), checkpoints.Progress()
        path, autoencoder, progress = checkpoints.load(folder / "checkpoints", Autoencoder)
    autoencoder.accumulate = stage.accumulate
    print(f"resuming {path}: {progress.epoch} epochs and {progress.step} batches")
    return autoencoder, progress


def _keep_best(progress, folder):
    """Leaves the autoencoder of the best epoch; returns what is known of it."""
    [*_, kept] = checkpoints.list_checkpoints(folder / "checkpoints")
    row = progress.history[-1]
    if progress.best:  # there was a validation
        kept = checkpoints.best_of(folder / "checkpoints", progress)
        least = progress.best["val_loss"]
        row = next(row for row in progress.history if row.get("val_loss") == least)
    with whole_file(folder / AUTOENCODER) as part:
        shutil.copyfile(kept, part)
    scores = {name: row[f"val_{name}"] for name in ("psnr", "ssim") if f"val_{name}" in row}
    return {**scores, "epochs": progress.epoch, "minutes": progress.seconds / 60}


def _finish(quality, folder):
    """Writes the file that says that stage one is finished, and tells."""
    with whole_file(folder / QUALITY) as part:
        Path(part).write_text(json.dumps(quality, indent=2) + "\n")
    lines = ["", "stage one is finished"]
    if "psnr" in quality:
        lines.append(f"  validation    PSNR {quality['psnr']:.2f} dB, SSIM {quality['ssim']:.3f}")
    lines += [f"  pictures      {folder}/reconstructions.png", f"  codec         {folder}/"]
    print("\n".join(lines), flush=True)


def draw_reconstructions(autoencoder, images, folder):
    """Writes reconstructions.png: pairs of columns, images and what came back of them.

    Args:
        autoencoder: `Autoencoder`.
        images: uint8 (N, H, W, C).
        folder: for the PNG.
    """
    returned = PixelCodec().decode(autoencoder(images))
    pairs = min(3, len(images))
    rows = len(images) // pairs
    parts = [slice(first, first + rows) for first in range(0, pairs * rows, rows)]
    frames = [column[part] for part in parts for column in (images, returned)]
    titles = ["original", "reconstruction"] * pairs
    figures.process_strip(np.stack(frames), titles, Path(folder) / "reconstructions.png")
