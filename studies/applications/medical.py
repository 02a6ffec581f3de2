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
from studies.applications import examples
from studies.applications.context import (
    CachedStages,
    NotMeasured,
    length,
    training_facts,
    training_in_words,
)
from studies.report import Claim, table

TITLE = "A model of normal X-rays finds abnormal ones, and synthetic X-rays train a classifier"
NORMAL = "normal"
CONTRASTS = ("raw", "normalised")
GOAL = 0.83  # area under the ROC curve that contrast alone nearly reaches
MARGIN = 0.1  # above the best baseline, with contrast normalised
CLOSE = 0.03  # of areas
FIGURE = "anomaly.png"
COPIED = {FIGURE: ("xrays-anomaly", f"test/{FIGURE}")}
SHOWN = 8  # images of each kind


def measure(context):
    """Returns {"anomaly": results of `find`, "synthesis": results of `synthesise`}."""
    is_there = all((Path(context.xrays) / split).is_dir() for split in ("train", "val", "test"))
    if not is_there and not isinstance(context.stages, CachedStages):
        raise NotMeasured("`--xrays` has no folders train, val and test")
    results = {}
    for name, kind, compute in (("anomaly", "normal", find), ("synthesis", "both", synthesise)):
        trained = context.stages.run(
            f"xrays-{kind}", lambda folder, kind=kind: train(kind, context)
        )
        scored = context.stages.run(
            f"xrays-{name}",
            lambda folder, kind=kind, compute=compute: compute(
                loading.load(_run_dir(kind, context)), context, folder
            ),
        )
        results[name] = {**trained, **scored}
    return results


def train(kind, context):
    """Trains on "normal" images or on "both" classes.

    Returns:
        dict of `trained` (number of images seen), `minutes` or `epochs`.
    """
    settings = context.settings
    data = context.stages.folder.absolute() / f"xrays-{kind}-images"
    for split in ("train", "val"):
        source = Path(context.xrays).absolute() / split
        if not (data / split).exists():
            data.mkdir(parents=True, exist_ok=True)
            (data / split).symlink_to(source if kind == "both" else source / NORMAL)
    options = {**settings.xray_options, **length(settings, settings.xray_minutes)}
    config = resolve(None, {"folder": str(data), "seed": settings.seed, **options})
    batches = runs.train(config, _run_dir(kind, context))
    return training_facts(config, batches)


def _run_dir(kind, context):
    return runs.folder(f"xrays-{kind}", context.stages)


def find(model, context, folder):
    """Scores validation images in all ways, then the test images, first in the best way.

    A way is a `noise` and a `score` of `anomaly_map`.

    Returns:
        dict: `best`, the way with the highest mean area of raw and normalised validation images;
        `val` and `test`, lists of score, contrast, auroc, low and high; `gaps` of the test images,
        between the best way and the best baseline.
    """
    settings = context.settings

    def record(split, methods, score):
        return anomaly.run(
            model,
            anomaly.Settings(
                folders=[Path(context.xrays) / split],
                out=folder / f"{split}-{score}",
                methods=methods,
                contrasts=CONTRASTS,
                options={"num_draws": settings.draws, "score": score},
                seed=settings.seed,
            ),
        )

    val = {score: record("val", settings.methods, score) for score in settings.scores}
    areas = {
        (method, score): sum(
            cell["auroc"] for cell in val[score]["cells"] if cell["score"] == f"model, {method}"
        )
        for method in settings.methods
        for score in settings.scores
    }
    best, score = max(areas, key=areas.get)
    methods = (best, *(method for method in settings.methods if method != best))
    scores = (score, *(other for other in settings.scores if other != score))
    test = {each: record("test", methods, each) for each in scores}
    (folder / f"test-{score}").rename(folder / "test")
    for maps in folder.glob("*/maps"):
        shutil.rmtree(maps)  # hundreds of files; examples are on the page
    gaps = [{**gap, "method": way(best, score)} for gap in test[score]["gaps"]]
    return {"best": way(best, score), "val": _cells(val), "test": _cells(test), "gaps": gaps}


def way(method, score):
    """Returns the name of a noise and a score."""
    return method if score == "mean" else f"{method}, {score}"


def _cells(records):
    """Returns the cells of all scores, the baselines once."""
    cells = []
    for number, (score, record) in enumerate(records.items()):
        for cell in record["cells"]:
            is_model = cell["score"].startswith("model, ")
            if is_model or number == 0:
                cells.append({**cell, "score": way(cell["score"], score) if is_model
                              else cell["score"]})  # fmt: skip
    return cells


def synthesise(model, context, folder):
    """Trains the same classifier on samples and on as many real images; tests both.

    Samples and real images have the classes in the same numbers, those of a random sample of the
    training images.

    Returns:
        dict: `num`, `examples`, and `synthetic` and `real`, each with the auroc and the accuracy on
        the test images.
    """
    settings = context.settings
    real = real_images.load(model, {})
    images, labels = (real.arrays[f"train_{name}"] for name in ("images", "labels"))
    rows = np.random.default_rng(settings.seed).permutation(len(labels))[: settings.xray_samples]
    samples = model.generate(len(rows), labels=labels[rows], seed=settings.seed)
    test = anomaly.read([Path(context.xrays) / "test"], model.image_shape)
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
    shown = []
    for label, name in enumerate(model.class_names):
        places = np.flatnonzero(labels[rows] == label)[:SHOWN]
        places = np.resize(places, SHOWN)
        shown += [(f"{name}: synthetic", samples[places]), (f"{name}: real", images[rows][places])]
    kept = examples.keep(folder, "xrays", shown, [""] * SHOWN)
    return {**results, "examples": kept}


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
            f"{CLOSE:g} AUROC of one that is trained on as many real ones",
            f"{synthesis['synthetic']['auroc']:.3f} and {synthesis['real']['auroc']:.3f}",
            synthesis["synthetic"]["auroc"] > synthesis["real"]["auroc"] - CLOSE,
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


def section(result):
    """Returns the part of the page."""
    detection, synthesis = result["anomaly"], result["synthesis"]
    areas = anomaly.table({"cells": detection["test"]}, markdown=True)
    rows = [
        [f"{synthesis['num']:,} {name}", f"{synthesis[name]['auroc']:.3f}",
         f"{synthesis[name]['accuracy']:.1%}"]
        for name in ("synthetic", "real")
    ]  # fmt: skip
    lengths = [training_in_words(each, "images") for each in (detection, synthesis)]
    return "\n\n".join([
        f"The model of normal images was trained {lengths[0]}, that of both classes {lengths[1]}. "
        f"Best on the validation images: {detection['best']}. Test images:",
        areas,
        f"![X-rays with anomaly maps, by {detection['best']}]({FIGURE})",
        "A classifier of X-rays, tested on the real test images:",
        table(["trained on", "AUROC", "accuracy"], rows),
        "![Synthetic and real X-rays](xrays.png)",
    ])  # fmt: skip


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    return examples.figure(result["synthesis"]["examples"], "xrays-synthesis", stages)
