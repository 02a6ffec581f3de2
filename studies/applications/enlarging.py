"""Enlarging small images, beside bicubic interpolation."""

import numpy as np
from PIL import Image

from keras_diffusion.diffusion import operators
from keras_diffusion.evaluation import restoration
from keras_diffusion.sampling import editing
from studies.applications import examples
from studies.report import Claim, distance, lower_distance, number, table

TITLE = "Enlarged flowers are closer to real ones than by interpolation"
FACTORS = (4, 2)
FAR = 2.0  # "far better": a distance that is so many times smaller
CONSISTENT = 2  # grey levels
SHOWN = 3  # images for each factor


def measure(context):
    """Returns {"rows": [...], "baseline", "examples"}, see `enlarge`."""
    return context.stages.run("enlarging", lambda folder: enlarge(context, folder))


def reduced(images, factor):
    """Returns uint8 images of 1 / factor of the size, each pixel the mean of a block."""
    small = operators.downscale(factor).apply(images.astype("float32"))
    return np.rint(np.asarray(small)).astype("uint8")


def bicubic(images, factor):
    """Returns uint8 images of `factor` times the size."""
    size = images.shape[2] * factor, images.shape[1] * factor
    enlarged = [
        np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BICUBIC)) for i in images
    ]
    return np.stack(enlarged)


def enlarge(context, folder):
    """Reduces held-out flowers and enlarges them again, without prompts.

    Returns:
        dict of `rows`: for each factor and method psnr, ssim, distance and its standard error (of
        features, see `scoring.Scorer`) and `changed` (largest difference from what was given, in
        grey levels, reduced again); `baseline`, the distance of as many real images, as
        `scores.distance_baseline`; `examples`.
    """
    settings, model = context.settings, context.model("flowers")
    images, _ = context.held_out("flowers", settings.images)
    scorer, side = context.scorer("flowers"), images.shape[1]
    rows, shown = [], []
    for factor in FACTORS:
        small = reduced(images, factor)
        results = {
            "nearest pixel": small.repeat(factor, axis=1).repeat(factor, axis=2),
            "bicubic": bicubic(small, factor),
            "MMPS": editing.restore(
                model,
                small,
                operators.downscale(factor),
                num_steps=settings.num_steps,
                cg_steps=settings.cg_steps,
                seed=settings.seed,
            ),
        }
        size = f"{side // factor} to {side}"
        for method, enlarged in results.items():
            similarity = restoration.compare(enlarged, images)
            similarity = {name: float(values.mean()) for name, values in similarity.items()}
            score = scorer.score(enlarged)
            score = {key: score[key] for key in ("distance", "error")}
            changed = np.abs(reduced(enlarged, factor).astype(int) - small).max()
            rows.append({"size": size, "method": method, **similarity, **score,
                         "changed": int(changed)})  # fmt: skip
        columns = [*results.values(), images]
        shown += [(size, [column[i] for column in columns]) for i in range(SHOWN)]
    kept = examples.keep(folder, "enlarging", shown, ["given", "bicubic", "MMPS", "truth"])
    baseline = scorer.baseline(len(images))
    return {"rows": rows, "baseline": baseline, "images": len(images), "examples": kept}


# The page -------------------------------------------------------------------------------------


def claims(result):
    """Returns the claims, decided."""
    rows = {(row["size"], row["method"]): row for row in result["rows"]}
    found = []
    for size in dict.fromkeys(row["size"] for row in result["rows"]):
        own, other = rows[size, "MMPS"], rows[size, "bicubic"]
        found.append(
            Claim(
                f"flowers, {size}: the distance to real flowers is far smaller than by bicubic "
                f"interpolation (by a factor of {FAR:g})",
                f"{distance(own)}, bicubic {distance(other)}; as many real flowers "
                f"{number(result['baseline']['mean'])}",
                own["distance"] * FAR < other["distance"],
            )
        )
        text = f"flowers, {size}: that distance is smaller than if each pixel becomes a square, too"
        scores = {name: rows[size, name] for name in ("MMPS", "nearest pixel")}
        found.append(lower_distance(text, scores))
    most = max(row["changed"] for row in result["rows"] if row["method"] == "MMPS")
    found.append(
        Claim(
            f"reduced again, a result differs from what was given by at most {CONSISTENT} of 255",
            f"at most {most}",
            most <= CONSISTENT,
        )
    )
    return found


def section(result):
    """Returns the part of the page."""
    rows = [
        [row["size"], row["method"], f"{row['psnr']:.1f} dB", f"{row['ssim']:.3f}", distance(row),
         row["changed"]]
        for row in result["rows"]
    ]  # fmt: skip
    base = result["baseline"]
    rows.append(["", f"{base['size']} real, held out", "", "",
                 f"{number(base['mean'])} ± {number(base['std'], 2)}", ""])  # fmt: skip
    header = ["pixels", "enlarged by", "PSNR", "SSIM", "distance", "change when reduced again"]
    figure = "![Flowers, enlarged by interpolation and by a model](enlarging.png)"
    return f"{table(header, rows)}\n\n{figure}"


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    return examples.figure(result["examples"], "enlarging", stages, width=1.4)
