"""Two trainings of equal length, and the scores of their samples at every guidance scale."""

import dataclasses
import json
import time

import numpy as np

from keras_diffusion.config.resolve import resolve
from keras_diffusion.evaluation import real_images, references
from keras_diffusion.saving import checkpoints, loading
from keras_diffusion.training import autoencoder_stage
from studies import runs
from studies.latents import KINDS

IMAGES = "pictures.npy"  # uint8 (scales, classes, SHOWN, H, W, C)
SHOWN = 8  # images of each class
SHOWN_CLASSES = 10  # at most


def measure(settings, stages, data_dir):
    """Returns {"pixels": ..., "latents": ...}, the results of `train` and `score` in one dict."""
    results = {}
    for kind in KINDS:
        config = config_of(kind, settings, data_dir)
        run_dir = runs.folder(kind, stages)
        trained = stages.run(f"{kind}-training", lambda _, run=(config, run_dir): train(*run))
        scored = stages.run(
            f"{kind}-scores",
            lambda folder, run_dir=run_dir: score(
                run_dir, settings, stages.shared, data_dir, folder
            ),
        )
        results[kind] = {**trained, **scored}
    return results


def config_of(kind, settings, data_dir=None):
    """Returns the `Config` of one of the two trainings."""
    options = {"seed": settings.seed, "data_dir": data_dir, **settings.options}
    options.update(minutes=settings.minutes, epochs=settings.epochs)
    if kind == "latents":
        options.update(latent=True, **settings.latent_options)
    return resolve(settings.dataset, options)


def train(config, run_dir):
    """Trains, see `runs.train`.

    Returns:
        dict of `images` (that the diffusion model was trained on), `minutes` (of all training),
        `codec` (None, or psnr in dB and ssim of held-out images, minutes and epochs of the
        autoencoder) and `curve` (loss and val_loss of each epoch).
    """
    batches = runs.train(config, run_dir)
    _, _, progress = checkpoints.load(run_dir / "checkpoints")
    quality = run_dir / autoencoder_stage.FOLDER / autoencoder_stage.QUALITY
    codec = json.loads(quality.read_text(encoding="utf-8")) if config.latent else None
    return {
        "images": batches * config.batch_size,
        "minutes": progress.seconds / 60 + (codec["minutes"] if codec else 0.0),
        "codec": codec,
        "curve": [{name: row[name] for name in ("loss", "val_loss")} for row in progress.history],
    }


def score(run_dir, settings, cache, data_dir, folder):
    """Samples at every guidance scale, and scores the images as evaluate.py does.

    Args:
        run_dir: of the training.
        settings: `Settings`.
        cache: folder of the classifier, and of the features of real images.
        data_dir: folder of tfds.
        folder: gets `IMAGES`, from the same noise for every class and scale.

    Returns:
        dict of `scores` (a row for each scale), `floor` (scores of real, held-out images),
        `classifier` (its accuracy on them), `class_names`, `sampler` and `num_steps`.
    """
    model = loading.load(run_dir)
    images = real_images.load(model, {"data_dir": data_dir})
    reference = references.prepare("classifier", images, cache)
    labels = images.labels(settings.pictures, settings.seed)
    rows, shown = [], []
    for scale in settings.guidance:
        guidance = dataclasses.replace(model.guidance, scale=scale)
        rows.append(_row(model, reference, labels, guidance, settings.seed))
        shown.append(_of_each_class(model, guidance, settings.seed))
        print(f"guidance {scale:g}: FID {rows[-1]['fid']:.4g}, "
              f"accuracy {rows[-1]['accuracy']:.1%}", flush=True)  # fmt: skip
    np.save(folder / IMAGES, np.stack(shown))
    return {
        "scores": rows,
        "floor": reference.baseline(settings.pictures),
        "classifier": reference.held_out_accuracy,
        "class_names": model.class_names,
        "sampler": model.sampler,
        "num_steps": model.num_steps,
    }


def _row(model, reference, labels, guidance, seed):
    """The scores of one guidance scale, and the accuracy of each class (None: no images)."""
    options = {**guidance.options(), "seed": seed, "batch_size": min(64, len(labels))}
    first = labels[: options["batch_size"]]
    model.generate(len(first), labels=first, num_steps=1, **options)  # traces
    start = time.monotonic()
    images = model.generate(len(labels), labels=labels, **options)
    seconds = time.monotonic() - start
    features, probabilities = reference.extract(images)
    right = probabilities.argmax(axis=-1) == labels
    by_class = [right[labels == label] for label in range(model.num_classes)]
    return {
        "guidance_scale": guidance.scale,
        "seconds_per_image": seconds / len(labels),
        **reference.score(features, probabilities, labels),
        "by_class": [float(each.mean()) if len(each) else None for each in by_class],
    }


def _of_each_class(model, guidance, seed):
    """Samples of the first classes, uint8 (classes, SHOWN, H, W, C)."""
    classes = min(model.num_classes, SHOWN_CLASSES)
    images = [
        model.generate(SHOWN, labels=[label] * SHOWN, seed=seed, **guidance.options())
        for label in range(classes)
    ]
    return np.stack(images)
