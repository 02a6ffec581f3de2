"""Anomalies in folders of images: scores, maps, and how well they tell abnormal from normal."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from keras_diffusion.data import folder, pipeline
from keras_diffusion.data.listing import lines_of_skipped, printable
from keras_diffusion.evaluation import real_images
from keras_diffusion.plotting import anomalies
from keras_diffusion.plotting.comparisons import comparison
from keras_diffusion.plotting.images import save_png
from keras_diffusion.runtime import console
from keras_diffusion.runtime.files import whole_file
from keras_diffusion.sampling.anomaly import METHODS, MIN_NORMAL, anomaly_map

NORMAL_NAMES = ("normal", "good", "healthy")  # of classes and folders
MAX_NORMAL = 400  # images of the training that errors are compared with
SHOWN = 4  # images of each class on the page
RESAMPLES = 1000  # of the bootstrap
LEVEL = 0.95  # of the intervals
COMPONENTS = (4, 8, 16, 32, 64)  # of PCA


def auroc(abnormal, scores, others=None, seed=0):
    """Returns the area under the ROC curve with a bootstrap interval.

    It is the probability that an abnormal image has a higher score than a normal one.

    Args:
        abnormal: bool (N,), some True and some False.
        scores: (N,), higher for abnormal images.
        others: None, or other scores (N,) of the same images, whose area is subtracted.
        seed: int, of the resampling, within the normal and within the abnormal images.

    Returns:
        dict of floats: "auroc" (of the difference with `others`), and "low" and "high", the
        percentile interval of 95%.
    """
    abnormal = np.asarray(abnormal, bool)
    groups = [np.flatnonzero(abnormal == kind) for kind in (False, True)]
    generator = np.random.default_rng(seed)

    def area(rows):
        first = roc_auc_score(abnormal[rows], np.asarray(scores)[rows])
        return first - (0 if others is None else roc_auc_score(abnormal[rows], others[rows]))

    areas = [
        area(np.concatenate([generator.choice(group, len(group)) for group in groups]))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(areas, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    whole = area(np.arange(len(abnormal)))
    return {"auroc": float(whole), "low": float(low), "high": float(high)}


def baselines(normal, images, abnormal):
    """Returns scores that need no model, {name: float (N,)}, each in its most favourable form.

    Contrast (standard deviation of the pixels), brightness and sharpness (mean difference of
    neighbours) count low or high values as abnormal, whichever is right more often; PCA has as many
    components as score best. A method with a lower score has learned nothing of use.

    Args:
        normal: (M, H, W, C), uint8 or floats in [0, 1], images that are known to be normal.
        images: (N, H, W, C), likewise.
        abnormal: bool (N,), the truth.
    """
    normal, images = as_floats(normal), as_floats(images)
    statistics = {
        "contrast": images.std((1, 2, 3)),
        "brightness": images.mean((1, 2, 3)),
        "sharpness": sum(np.abs(np.diff(images, axis=a)).mean((1, 2, 3)) for a in (1, 2)),
    }
    scores = {
        name: values if roc_auc_score(abnormal, values) >= 0.5 else -values
        for name, values in statistics.items()
    }
    normal, images = (array.reshape(len(array), -1) for array in (normal, images))
    most = min(normal.shape)
    errors = []
    for components in [count for count in COMPONENTS if count < most] or [1]:
        pca = PCA(components, random_state=0).fit(normal)
        errors.append(((images - pca.inverse_transform(pca.transform(images))) ** 2).mean(1))
    scores["PCA"] = max(errors, key=lambda error: roc_auc_score(abnormal, error))
    neighbours = NearestNeighbors(n_neighbors=1).fit(normal)
    scores["nearest neighbour"] = neighbours.kneighbors(images)[0][:, 0]
    return scores


def normalise_contrast(images, like):
    """Returns images that all have the same mean and standard deviation, as far as 0 .. 1 allows.

    Args:
        images: (N, H, W, C), uint8 or floats in [0, 1].
        like: (M, H, W, C), images whose average mean and standard deviation they get.

    Returns:
        float32 (N, H, W, C) in [0, 1].
    """
    images, like = as_floats(images), as_floats(like)
    axes = (1, 2, 3)
    shifted = images - images.mean(axes, keepdims=True)
    scale = like.std(axes).mean() / np.maximum(images.std(axes, keepdims=True), 1e-6)
    return np.clip(shifted * scale + like.mean(), 0, 1)


def as_floats(images):
    """Returns float32 images in [0, 1] of uint8 or floating images."""
    images = np.asarray(images)
    return images.astype("float32") / (255 if images.dtype == np.uint8 else 1)


# From folders to a report ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What to search for anomalies, and how.

    Attributes:
        folders: list of folders of images; sub-folders are classes, a folder without any is one.
        out: folder for the results.
        normal: name of the class of normal images; None: the one of `NORMAL_NAMES`, if any.
        reference: None, or a folder of normal images that errors are compared with; None: images
            of the training.
        methods: tuple of `noise` of `anomaly_map`; maps are written for the first one.
        contrasts: tuple of "raw" and "normalised".
        options: dict of other arguments of `anomaly_map`, such as times and num_draws.
        seed: int, of the noise and of the bootstrap.
        batch_size: images at once.
    """

    folders: list
    out: Path
    normal: str | None = None
    reference: Path | None = None
    methods: tuple = METHODS[:1]
    contrasts: tuple = ("raw",)
    options: dict = dataclasses.field(default_factory=dict)
    seed: int = 0
    batch_size: int = 64


@dataclasses.dataclass(frozen=True)
class Images:
    """Images of folders, of the model's size.

    Attributes:
        names: list of N paths below their folder, as text.
        classes: list of N names of classes.
        pixels: uint8 (N, H, W, C).
    """

    names: list
    classes: list
    pixels: np.ndarray


def run(model, settings):
    """Scores the images of folders, and writes scores, maps and a page.

    Writes scores.csv (one line for each image), scores.json, anomaly.png (examples of each class)
    and maps/FOLDER/NAME.png (image, map, and map over the image), with the sub-folders of FOLDER.
    Where a class of normal images is known, scores.md is a table of AUROC beside baselines.

    Args:
        model: `LoadedModel`.
        settings: `Settings`.

    Returns:
        dict, as in scores.json.

    Raises:
        ValueError, OSError: what cannot be used or written, on one line.
    """
    data = read(settings.folders, model.image_shape)
    normal = _normal_class(data, settings.normal)
    reference, origin = _reference(model, settings, normal)
    count = console.names([f"{data.classes.count(c):,} {c}" for c in sorted(set(data.classes))])
    print(f"images: {count}; compared with {len(reference):,} of {origin}", flush=True)
    abnormal = None if normal is None else np.array([name != normal for name in data.classes])
    options = {**settings.options, "seed": settings.seed, "batch_size": settings.batch_size}
    if normal in model.class_names and not model.prompts:
        options["labels"] = model.class_names.index(normal)
    columns, cells, gaps, first = {}, [], [], None

    def add(name, contrast, scores):
        columns[f"{name}, {contrast}"] = scores
        if normal is not None:
            area = auroc(abnormal, scores, seed=settings.seed)
            cells.append({"score": name, "contrast": contrast, **area})

    for contrast in settings.contrasts:
        pixels, usual = as_floats(data.pixels), as_floats(reference)
        if contrast == "normalised":
            pixels, usual = (normalise_contrast(each, reference) for each in (pixels, usual))
        for method in settings.methods:
            print(f"{method}, {contrast} contrast", flush=True)
            maps, scores = anomaly_map(model, pixels, noise=method, normal=usual, **options)
            first = first or (maps, scores)
            add(f"model, {method}", contrast, scores)
        if normal is not None:
            known = baselines(usual, pixels, abnormal)
            for name, scores in known.items():
                add(name, contrast, scores)
            best = max(known, key=lambda name: roc_auc_score(abnormal, known[name]))
            scores = columns[f"model, {settings.methods[0]}, {contrast}"]
            gap = auroc(abnormal, scores, others=known[best], seed=settings.seed)
            gaps.append(
                {"method": settings.methods[0], "baseline": best, "contrast": contrast, **gap}
            )
    record = {
        "model": model.name,
        "images": {name: data.classes.count(name) for name in sorted(set(data.classes))},
        "normal": normal,
        "reference": {"images": len(reference), "of": origin},
        "options": {**options, "methods": settings.methods},
        "cells": cells,
        "gaps": gaps,
    }
    _write(settings.out, record, data, columns, *first)
    if cells:
        print("", table(record), "", *gap_lines(record), sep="\n")
    print(f"wrote {settings.out}/: scores, anomaly.png, and the map of each image in maps/")
    return record


def read(folders, image_shape, argument="FOLDER"):
    """Returns the `Images` of folders, cropped and resized as for training.

    Args:
        folders: paths.
        image_shape: (height, width, channels).
        argument: str, what the command calls the folders, for errors.

    Raises:
        ValueError: a folder without readable images.
    """
    names, classes, pixels = [], [], []
    height, width, channels = image_shape
    for root in map(Path, folders):
        try:
            files = folder.scan(root)
        except (OSError, ValueError) as error:
            raise ValueError(f"{argument}: {error}") from error
        own = root.resolve().name
        for i, path in enumerate(files.paths):
            image = tf.constant(files.decode(i, channels))
            pixels.append(pipeline.resize(image, height, width).numpy())
            classes.append(own if files.labels is None else files.class_names[files.labels[i]])
            names.append(printable(f"{own}/{Path(path).relative_to(root).as_posix()}"))
        lines = [f"note: {root}: {note}" for note in files.notes] + lines_of_skipped(files.skipped)
        print(*lines, sep="\n", end="\n" * bool(lines))
    if len(set(names)) < len(names):
        raise ValueError("FOLDER: two of the folders have the same name. Give one at a time.")
    return Images(names, classes, np.stack(pixels))


def table(record, markdown=False):
    """Returns the areas under the ROC curves of a record as a table."""
    cells = sorted(record["cells"], key=lambda cell: (cell["contrast"] != "raw", -cell["auroc"]))
    rows = [
        [c["score"], c["contrast"], f"{c['auroc']:.3f}", f"{c['low']:.3f} .. {c['high']:.3f}"]
        for c in cells
    ]
    return console.table(["score", "contrast", "AUROC", "95%"], rows, "llr", markdown)


def gap_lines(record):
    """Returns lines of text: the first method of a record beside the best baseline."""
    return [
        f"{gap['contrast']} contrast: {gap['method']} noise is {gap['auroc']:+.3f} "
        f"({gap['low']:+.3f} .. {gap['high']:+.3f}) above the best baseline, {gap['baseline']}"
        for gap in record["gaps"]
    ]


def _normal_class(data, name):
    """Returns the name of the class of normal images, or None."""
    classes = set(data.classes)
    if name is not None and name not in classes:
        names = console.names(sorted(classes))
        raise ValueError(f"--normal: there is no class {name!r}. Choose from: {names}.")
    if name is not None and len(classes) == 1:
        raise ValueError("--normal: there is only one class. Give folders of others, too.")
    name = name or next((n for n in sorted(classes) if n.lower() in NORMAL_NAMES), None)
    return name if len(classes) > 1 else None


def _reference(model, settings, normal):
    """Returns (uint8 (M, H, W, C), text): normal images, and of what they are.

    Args:
        normal: name of the class of normal images, or None; of a labelled training set only
            images of this class are taken.
    """
    if settings.reference is not None:
        origin = settings.reference
        pixels = read([origin], model.image_shape, "--reference").pixels
    else:
        try:
            real = real_images.load(model, {})
        except (ValueError, OSError) as error:
            reason = str(error).partition(": ")[2] or error
            raise ValueError(f"--reference: {reason} Or give a folder of normal images.") from error
        pixels, origin = real.arrays["train_images"], "the training images"
        if normal in model.class_names:
            pixels = pixels[real.arrays["train_labels"] == model.class_names.index(normal)]
            origin += f" of class {normal}"
    if len(pixels) < MIN_NORMAL:
        raise ValueError(
            f"--reference: {len(pixels)} normal images are too few. Give {MIN_NORMAL} or more."
        )
    rows = np.random.default_rng(settings.seed).permutation(len(pixels))[:MAX_NORMAL]
    return pixels[np.sort(rows)], str(origin)


def _write(out, record, data, columns, maps, scores):
    """Writes all results; the maps and scores are those of the first method."""
    out.mkdir(parents=True, exist_ok=True)
    with (
        whole_file(out / "scores.csv") as part,
        open(part, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["file", "class", *columns])
        writer.writerows(zip(data.names, data.classes, *columns.values(), strict=True))
    with whole_file(out / "scores.json") as part:
        Path(part).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if record["cells"]:
        with whole_file(out / "scores.md") as part:
            Path(part).write_text(
                "\n".join([table(record, markdown=True), "", *gap_lines(record), ""]),
                encoding="utf-8",
            )
    ends = anomalies.limits(maps)
    shown = [anomalies.heat(maps, ends), anomalies.overlay(data.pixels, maps, ends)]
    for name, triple in zip(data.names, zip(data.pixels, *shown, strict=True), strict=True):
        path = out / "maps" / name
        path = path if path.suffix.lower() == ".png" else path.with_name(f"{path.name}.png")
        save_png(path, comparison([("", [triple[0]], triple[1:])], ["image"], ["map", "overlay"]))
    rows = []
    for name in sorted(set(data.classes)):
        places = np.flatnonzero(np.array(data.classes) == name)
        ranked = places[np.argsort(-scores[places], kind="stable")]
        spread = np.unique(np.linspace(0, len(ranked) - 1, SHOWN).round().astype(int))
        rows += [
            (f"{name} {scores[i]:.2f}", [data.pixels[i]], [each[i] for each in shown])
            for i in ranked[spread]
        ]
    save_png(out / "anomaly.png", comparison(rows, ["image"], ["map", "overlay"]))
