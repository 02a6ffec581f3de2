"""Anomaly maps with a truth for each pixel: digits with a pasted stroke."""

import numpy as np
from PIL import Image, ImageDraw
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from keras_diffusion.evaluation.memorisation import nearest
from keras_diffusion.plotting import anomalies
from keras_diffusion.sampling.anomaly import anomaly_map
from studies.applications import examples
from studies.report import Claim, table

TITLE = "Anomaly maps show where a stroke was pasted into a digit"
NORMAL = 400  # training digits that errors are compared with
COMPONENTS = 32  # of PCA
VISIBLE = 64  # grey levels by which a pixel of a stroke differs
SHOWN = 5
MODEL, DEFAULT = "model, {}", "gaussian"


def measure(context):
    """Returns the result of `find`."""
    return context.stages.run("texture", lambda folder: find(context, folder))


def with_strokes(images, seed):
    """Returns (images with a pasted stroke each, bool (N, H, W) where it is visible).

    A stroke is a straight line of a third of the side, as bright as a digit.

    Args:
        images: uint8 (N, H, W, 1).
        seed: of places and directions.
    """
    rng = np.random.default_rng(seed)
    side = images.shape[1]
    marked = []
    for image in images:
        middle, angle = rng.uniform(0.2 * side, 0.8 * side, 2), rng.uniform(0, np.pi)
        reach = side / 6 * np.array([np.cos(angle), np.sin(angle)])
        line = Image.fromarray(image[..., 0])
        ends = [*(middle - reach), *(middle + reach)]
        ImageDraw.Draw(line).line(ends, fill=230, width=max(1, side // 14))
        marked.append(np.maximum(image[..., 0], np.asarray(line)))
    marked = np.stack(marked)[..., None]
    return marked, (marked.astype(int) - images)[..., 0] > VISIBLE


def find(context, folder):
    """Maps of held-out digits with strokes, by the model of digits and without one.

    Returns:
        dict of `rows`: method, pixels (area under the ROC curve over all pixels: does a pixel of a
        stroke have a higher value than another?) and images (is the mean of a map higher for a
        digit with a stroke than for the same digit without?); `images`, `examples`.
    """
    settings, model = context.settings, context.model("digits")
    images, _ = context.held_out("digits", settings.strokes)
    marked, truth = with_strokes(images, settings.seed)
    training = context.real("digits").arrays["train_images"]
    rows = np.random.default_rng(settings.seed).permutation(len(training))
    normal = training[rows[:NORMAL]]
    both = np.concatenate([marked, images])
    maps = {"brightness": both[..., 0] / 255, **_baselines(both, training)}
    options = {"normal": normal, "num_draws": settings.draws, "smoothing": 0.5}
    options.update(num_steps=settings.num_steps, seed=settings.seed)
    for method in settings.methods:
        maps[MODEL.format(method)], _ = anomaly_map(model, both, noise=method, **options)
    kinds = np.repeat([True, False], len(images))
    results = [
        {
            "method": name,
            "pixels": float(roc_auc_score(truth.ravel(), each[: len(truth)].ravel())),
            "images": float(roc_auc_score(kinds, each.mean((1, 2)))),
        }
        for name, each in maps.items()
    ]
    columns = [images, marked]
    columns += [anomalies.heat(each, anomalies.limits(each)) for each in maps.values()]
    shown = [("", [_coloured(column[i]) for column in columns]) for i in range(SHOWN)]
    titles = ["digit", "given", *(name.replace(", ", "\n") for name in maps)]
    kept = examples.keep(folder, "texture", shown, titles)
    return {"rows": results, "images": len(images), "examples": kept}


def _coloured(image):
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _baselines(images, training):
    """Returns {name: map}, differences from images like those of the training."""
    flat, seen = (each.reshape(len(each), -1) / 255 for each in (images, training))
    pca = PCA(min(COMPONENTS, *seen.shape), random_state=0).fit(seen)
    closest = nearest(images, training).matches(training).reshape(flat.shape) / 255
    similar = {"PCA": pca.inverse_transform(pca.transform(flat)), "nearest neighbour": closest}
    size = images.shape[:3]
    return {name: np.abs(flat - each).reshape(size) for name, each in similar.items()}


# The page -------------------------------------------------------------------------------------


def claims(result):
    """Returns the claims, decided."""
    pixels = {row["method"]: row["pixels"] for row in result["rows"]}
    own = pixels[MODEL.format(DEFAULT)]
    others = {name: area for name, area in pixels.items() if not name.startswith(MODEL.format(""))}
    best, baseline = (max(each, key=each.get) for each in (pixels, others))
    return [
        Claim(
            f"pixels of strokes that were pasted into digits are found better with {DEFAULT} "
            "noise, the default, than without a model",
            f"area under the ROC curve of pixels: {own:.3f}, {baseline} {others[baseline]:.3f}; "
            f"the highest of all is that of {best}, {pixels[best]:.3f}",
            own > others[baseline],
        )
    ]


def section(result):
    """Returns the part of the page."""
    rows = [[r["method"], f"{r['pixels']:.3f}", f"{r['images']:.3f}"] for r in result["rows"]]
    return "\n\n".join([
        table(["map", "AUROC of pixels", "AUROC of images"], rows),
        f"{result['images']} held-out digits with a stroke; for images, beside the same digits "
        "without one.",
        "![Digits, the same with a pasted stroke, and maps of them](texture.png)",
    ])  # fmt: skip


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    return examples.figure(result["examples"], "texture", stages)
