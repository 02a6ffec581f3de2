"""Chest X-rays: anomalies by a model of normal ones, and synthetic images to train a classifier.

The images are PneumoniaMNIST (Yang et al. 2023, MedMNIST v2, of the X-rays of Kermany et al. 2018,
both CC BY 4.0), as folders train/, val/ and test/ with normal/ and pneumonia/ in each.
"""

import shutil
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from keras_diffusion.config.resolve import resolve
from keras_diffusion.evaluation import anomaly, classifier, real_images
from keras_diffusion.saving import loading
from studies import runs
from studies.report import Claim, table

NORMAL = "normal"
CONTRASTS = ("raw", "normalised")
GOAL = 0.83  # area under the ROC curve that contrast alone nearly reaches
MARGIN = 0.1  # above the best baseline, with contrast normalised
PAGE = "anomaly.png"


def measure(settings, stages):
    """Returns {"anomaly": results of `find`, "synthesis": results of `synthesise`}.

    Args:
        settings: has `xrays` (the folder), `xray_options` (dict of `Config`, of both trainings,
            with minutes or epochs), `xray_samples` (number of synthetic images), `methods` (tuple
            of `noise` of `anomaly_map`), `draws` and `seed`.
        stages: `Stages`.
    """
    results = {}
    for name, kind, compute in (
        ("anomaly", "normal", find),
        ("synthesis", "both", synthesise),
    ):
        trained = stages.run(f"xrays-{kind}", lambda _, kind=kind: train(kind, settings, stages))
        scored = stages.run(
            f"xrays-{name}",
            lambda folder, kind=kind, compute=compute: compute(
                loading.load(_run_dir(kind, stages)), settings, folder
            ),
        )
        results[name] = {**trained, **scored}
    return results


def train(kind, settings, stages):
    """Trains on "normal" images or on "both" classes; returns {"trained": number of images}."""
    data = stages.folder.absolute() / f"xrays-{kind}-images"
    for split in ("train", "val"):
        source = Path(settings.xrays).absolute() / split
        if not (data / split).exists():
            data.mkdir(parents=True, exist_ok=True)
            (data / split).symlink_to(source if kind == "both" else source / NORMAL)
    options = {"folder": str(data), "seed": settings.seed, **settings.xray_options}
    config = resolve(None, options)
    return {"trained": runs.train(config, _run_dir(kind, stages)) * config.batch_size}


def _run_dir(kind, stages):
    return runs.folder(f"xrays-{kind}", stages)


def find(model, settings, folder):
    """Scores validation images by all methods, then the test images, first by the best method.

    Returns:
        dict: `best`, the method with the highest mean area of raw and normalised validation images;
        `val` and `test`, lists of score, contrast, auroc, low and high; `gaps` of the test images,
        between the best method and the best baseline.
    """

    def record(split, methods):
        return anomaly.run(
            model,
            anomaly.Settings(
                folders=[Path(settings.xrays) / split],
                out=folder / split,
                methods=methods,
                contrasts=CONTRASTS,
                options={"num_draws": settings.draws},
                seed=settings.seed,
            ),
        )

    val = record("val", settings.methods)["cells"]
    areas = {
        method: sum(c["auroc"] for c in val if c["score"] == f"model, {method}")
        for method in settings.methods
    }
    best = max(areas, key=areas.get)
    test = record("test", (best, *(m for m in settings.methods if m != best)))
    for split in ("val", "test"):
        shutil.rmtree(folder / split / "maps")  # hundreds of files; examples are on the page
    return {"best": best, "val": val, "test": test["cells"], "gaps": test["gaps"]}


def synthesise(model, settings, folder):
    """Trains the same classifier on samples and on as many real images; tests both.

    Samples and real images have the classes in the same numbers, those of a random sample of the
    training images.

    Returns:
        dict: `num`, and `synthetic` and `real`, each with the auroc and the accuracy on the test
        images.
    """
    real = real_images.load(model, {})
    images, labels = (real.arrays[f"train_{name}"] for name in ("images", "labels"))
    rows = np.random.default_rng(settings.seed).permutation(len(labels))[: settings.xray_samples]
    samples = model.generate(len(rows), labels=labels[rows], seed=settings.seed)
    np.save(folder / "samples.npy", samples[:64])
    test = anomaly.read([Path(settings.xrays) / "test"], model.image_shape)
    truth = np.array([model.class_names.index(name) for name in test.classes])
    results = {"num": len(rows)}
    for name, pixels in (("synthetic", samples), ("real", images[rows])):
        data = {"train_images": pixels, "train_labels": labels[rows]}
        trained = classifier.train(data, classifier.settings_for(model.image_shape, len(rows)))
        _, probabilities = classifier.predict(trained, test.pixels)
        results[name] = {
            "auroc": float(roc_auc_score(truth, probabilities[:, 1])),
            "accuracy": float(np.mean(probabilities.argmax(1) == truth)),
        }
    return results


# The page -------------------------------------------------------------------------------------


def claims(results):
    """Returns the claims, decided."""
    detection, synthesis = results["anomaly"], results["synthesis"]
    own = {
        cell["contrast"]: cell
        for cell in detection["test"]
        if cell["score"] == f"model, {detection['best']}"
    }
    gaps = {gap["contrast"]: gap for gap in detection["gaps"]}
    shown = {
        contrast: f"{cell['auroc']:.3f} ({cell['low']:.3f} .. {cell['high']:.3f})"
        for contrast, cell in own.items()
    }
    return [
        Claim(
            f"with a model of normal X-rays, abnormal ones have an AUROC above {GOAL:g}",
            shown["raw"],
            own["raw"]["low"] > GOAL or (False if own["raw"]["auroc"] <= GOAL else None),
        ),
        *(_margin(contrast, shown[contrast], gaps[contrast]) for contrast in CONTRASTS),
        Claim(
            "a classifier that is trained on synthetic X-rays alone separates real ones within "
            "0.03 AUROC of one that is trained on as many real ones",
            f"{synthesis['synthetic']['auroc']:.3f} and {synthesis['real']['auroc']:.3f}",
            synthesis["synthetic"]["auroc"] > synthesis["real"]["auroc"] - 0.03,
        ),
    ]


def _margin(contrast, shown, gap):
    least = MARGIN if contrast == "normalised" else 0.0
    text = f"{contrast} contrast: that is"
    text += f" at least {least:g} above" if least else " above"
    measured = (
        f"{shown}; {gap['auroc']:+.3f} ({gap['low']:+.3f} .. {gap['high']:+.3f}) beside "
        f"{gap['baseline']}"
    )
    decided = True if gap["low"] > least else False if gap["high"] < least else None
    return Claim(f"{text} the best baseline without a model", measured, decided)


def anomaly_table(results, split="test"):
    """Returns the areas of one split as a Markdown table."""
    return anomaly.table({"cells": results["anomaly"][split]}, markdown=True)


def synthesis_table(results):
    """Returns what the two classifiers reach on the test images, as a Markdown table."""
    rows = [
        [name, f"{results['synthesis']['num']:,}", f"{row['auroc']:.3f}", f"{row['accuracy']:.1%}"]
        for name, row in results["synthesis"].items()
        if name != "num"
    ]
    return table(["trained on", "images", "AUROC", "accuracy"], rows)
