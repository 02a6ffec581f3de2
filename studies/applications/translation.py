"""One class into another: inversion and sampling (DDIB), beside `img2img`."""

import numpy as np
from scipy import ndimage

from keras_diffusion.plotting import figures as plots
from keras_diffusion.sampling import editing
from studies.applications import examples
from studies.applications.context import KINDS
from studies.report import Claim, table

TITLE = "Translated images are of the target's class and keep the source's layout"
BLUR = 1 / 16  # of the side: standard deviation of the Gaussian, for the layout
SHOWN = 5
ENOUGH = 0.5  # of the share of new images that are of the target's class
DDIB, IMG2IMG, NEW = "DDIB", "img2img", "new images of the target"


def measure(context):
    """Returns {kind: result of `translate`}."""
    return {
        kind: context.stages.run(
            f"translation-{kind}", lambda folder, kind=kind: translate(context, kind, folder)
        )
        for kind in KINDS
    }


def layout(images, sources):
    """Returns how alike the layouts of images are, the mean correlation of blurred grey images.

    Args:
        images, sources: uint8 (N, H, W, C).
    """
    sigma = BLUR * images.shape[1]
    blurred = [
        ndimage.gaussian_filter(each.mean(-1), (0, sigma, sigma)).reshape(len(each), -1)
        for each in (images, sources)
    ]
    first, second = (each - each.mean(1, keepdims=True) for each in blurred)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(1) / np.maximum(norms, 1e-6)).mean())


def task(context, kind):
    """Returns (images, source labels, target labels, text of what is translated).

    Digits become a random other digit; flowers of the first class of `settings.pair` become those
    of the second.
    """
    settings = context.settings
    if kind == "digits":
        images, sources = context.held_out(kind, settings.images)
        rng, num_classes = np.random.default_rng(settings.seed), context.model(kind).num_classes
        targets = (sources + rng.integers(1, num_classes, len(sources))) % num_classes
        return images, sources, targets, "digits to other digits"
    names = context.model(kind).class_names
    source, target = (names.index(name) for name in settings.pair)
    arrays = context.real(kind).arrays
    rows = np.flatnonzero(arrays["test_labels"] == source)[: settings.images]
    same = np.full((2, len(rows)), [[source], [target]])
    return arrays["test_images"][rows], *same, "{} to {}".format(*settings.pair)


def translate(context, kind, folder):
    """Translates by every method; with prompts where the model has them.

    Returns:
        dict of `rows` (method, strength, scale: of the guidance, right: share of the target's
        class by the classifier, source: share of the source's class, layout: see `layout`), with
        the sources and `NEW` for comparison; `text`, `images`, `examples`.
    """
    settings, model, scorer = context.settings, context.model(kind), context.scorer(kind)
    images, sources, targets, text = task(context, kind)
    results = {("sources", None, None): images}
    for scale in settings.guidance:
        results[DDIB, None, scale] = editing.translate(
            model,
            images,
            source=sources,
            target=targets,
            num_steps=settings.translation_steps,
            guidance_scale=scale,
        )
    same = {"num_steps": settings.num_steps, "seed": settings.seed, "labels": targets}
    for scale in settings.guidance:
        for strength in settings.strengths:
            results[IMG2IMG, strength, scale] = editing.img2img(
                model, images, strength=strength, guidance_scale=scale, **same
            )
    results[NEW, None, 1.0] = model.generate(len(images), guidance_scale=1.0, **same)
    rows = []
    for (method, strength, scale), translated in results.items():
        classes = scorer.classes(translated)
        rows.append({
            "method": method, "strength": strength, "scale": scale,
            "right": float(np.mean(classes == targets)),
            "source": float(np.mean(classes == sources)), "layout": layout(translated, images),
        })  # fmt: skip
    last = settings.guidance[-1]
    ways = [way for way in results if way[0] == DDIB or (way[0] == IMG2IMG and way[2] == last)]
    columns = [images, *(results[way] for way in ways)]
    names = model.class_names
    shown = [
        (f"to {names[targets[i]]}", [column[i] for column in columns])
        for i in range(min(SHOWN, len(images)))
    ]
    titles = ["source", *(_name(*way).replace(", ", "\n") for way in ways)]
    kept = examples.keep(folder, f"translation_{kind}", shown, titles)
    return {"rows": rows, "text": text, "images": len(images), "examples": kept}


def _name(method, strength, scale):
    parts = [method if strength is None else f"{method} {strength:g}"]
    return ", ".join(parts if scale is None else [*parts, f"guidance {scale:g}"])


# The page -------------------------------------------------------------------------------------


def claims(result):
    """Returns the claims, decided."""
    return [_best_of_both(each) for each in result.values()]


def _best_of_both(result):
    """The claim that DDIB translates, and no strength of img2img is as good in class and layout."""
    methods = (DDIB, IMG2IMG, NEW)
    rows = {name: [r for r in result["rows"] if r["method"] == name] for name in methods}
    least = ENOUGH * max(row["right"] for row in rows[NEW])
    own = max(rows[DDIB], key=lambda row: row["right"])
    enough = [row for row in rows[IMG2IMG] if row["right"] >= own["right"]]
    nearest = max(enough or rows[IMG2IMG], key=lambda row: row["layout" if enough else "right"])
    shown = [
        f"{_name_of(row)}: class {row['right']:.0%}, layout {row['layout']:.2f}"
        for row in (own, nearest)
    ]
    return Claim(
        f"{result['text']}: DDIB gives the target's class at least {ENOUGH:g} times as often as "
        "new images do, and no measured strength of img2img gives it as often and keeps as much of "
        "the layout",
        "; ".join([*shown, f"least class {least:.0%}"]),
        own["right"] >= least and all(row["layout"] < own["layout"] for row in enough),
    )


def _name_of(row):
    return _name(row["method"], row["strength"], row["scale"])


def section(result):
    """Returns the part of the page."""
    rows = [
        [f"{result[kind]['text']} ({result[kind]['images']})",
         _name_of(row), f"{row['right']:.0%}", f"{row['source']:.0%}", f"{row['layout']:.2f}"]
        for kind in result
        for row in result[kind]["rows"]
    ]  # fmt: skip
    header = ["task (images)", "method", "target's class", "source's class", "layout"]
    return "\n\n".join([
        table(header, rows),
        "![Class of the target against the layout of the source](translation.png)",
        *(f"![{result[kind]['text'].capitalize()}](translation_{kind}.png)" for kind in result),
    ])  # fmt: skip


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    return examples.figures_of("translation", result, _curves, stages)


def _curves(result):
    panels = []
    for kind in result:
        curves = examples.curves(
            result[kind]["rows"],
            lambda row: _name(row["method"], None, row["scale"]),
            "layout",
            "right",
        )
        panels.append({"curves": curves, "xlabel": "layout of the source (correlation)",
                       "ylabel": "share of the target's class", "markers": True,
                       "title": result[kind]["text"]})  # fmt: skip
    return plots.line_figure(*panels, width=4.8, height=3.6)
