"""Report of a quality section: the fewest sufficient steps, the goal, and the tables."""

import statistics

from benchmarks import formats, subjects
from benchmarks.quality.plan import FEW, MANY

# MNIST: the peer's distance over ours, at least. Flowers: our distance above the baseline over the
# peer's, at most; there the baseline is a large part of every distance.
GOALS = {"mnist": 30, "flowers": 0.5}
NOTES = {
    "mnist": "Its settings are the defaults, except for AdamW and the learning rate 4e-4 of a "
    "published MNIST run."
}
# Of a row: what is kept in the results.
FIELDS = ("subject", "variant", "averaged", "parameters", "images_seen", "sampler", "num_steps",
          "score")  # fmt: skip
COMPARABLE = 2.0  # sets within this factor of the distance of the most steps vary alike


def goal(result):
    """Returns a sentence: our first row compared with the first row of the peer."""
    task, baseline = result["task"], result["baseline"]["mean"]
    ours, peer = (row["score"]["distance"] for row in (result["rows"][0], _peer(result)))
    at_most = task == "flowers"
    if at_most:
        name = "our distance above the baseline, as a share of the peer's, at most"
        value = max(0.0, ours - baseline) / (peer - baseline) if peer > baseline else None
    else:
        name, value = "the peer's distance as a multiple of ours, at least", peer / ours
    if ours < baseline:
        name += " (ours is below the baseline, as copies of training images may be)"
    measured = f"measured {formats.number(value)}"
    verdict = formats.verdict(measured, value, GOALS[task], at_most) or f"{measured}: missed"
    return f"Goal: {name} {GOALS[task]:g}; {verdict}."


def _peer(result):
    return next(row for row in result["rows"] if row["subject"] != "ours")


def curve(sets):
    """Groups scored sets by sampler and steps.

    Args:
        sets: list of dicts of sampler, num_steps and score, in the order of the seeds.

    Returns:
        list of dicts of sampler, num_steps, distances (one per seed), confident, accuracy (means).
    """
    groups = {}
    for each in sets:
        groups.setdefault((each["sampler"], each["num_steps"]), []).append(each["score"])
    return [
        {
            "sampler": sampler,
            "num_steps": num_steps,
            "distances": [score["distance"] for score in scores],
            "confident": statistics.fmean(score["confident"] for score in scores),
            "accuracy": statistics.fmean(score["accuracy"] for score in scores),
        }
        for (sampler, num_steps), scores in groups.items()
    ]


def fewest_steps(result):
    """Finds the fewest steps that are no worse than the most steps of DDIM.

    Sets of the same seed start from the same noise, so they are compared seed by seed. "No worse"
    means that the mean difference is not above zero by more than its standard error: the standard
    deviation, pooled over all sets of similar distance, over the root of the number of seeds; of a
    single seed, the standard deviation of the baseline.

    Args:
        result: dict with `curve`, as of that function, and `curve_baseline`.

    Returns:
        dict: `fewest` (int, or None: no number of steps is enough), its `distance`, `noise` (the
        tolerance), `reference` (most steps: sampler, num_steps, distance), `baseline`.
    """
    few, many = (
        [point for point in result["curve"] if point["sampler"] == sampler]
        for sampler in (FEW, MANY)
    )
    most = max(many, key=lambda point: point["num_steps"])
    noise = _noise(few, most, result["curve_baseline"])
    good = [point for point in few if statistics.fmean(_differences(point, most)) <= noise]
    best = min(good, key=lambda point: point["num_steps"], default=None)
    return {
        "fewest": best and best["num_steps"],
        "distance": best and statistics.fmean(best["distances"]),
        "noise": noise,
        "reference": {
            "sampler": MANY,
            "num_steps": most["num_steps"],
            "distance": statistics.fmean(most["distances"]),
        },
        "baseline": result["curve_baseline"]["mean"],
    }


def _differences(point, other):
    pairs = zip(point["distances"], other["distances"], strict=True)
    return [distance - others for distance, others in pairs]


def _noise(points, most, baseline):
    """Returns the standard error of the mean difference of two comparable sets."""
    seeds = len(most["distances"])
    limit = COMPARABLE * statistics.fmean(most["distances"])
    variances = [
        statistics.variance(_differences(point, most))
        for point in points
        if seeds > 1 and statistics.fmean(point["distances"]) <= limit
    ]
    return (statistics.fmean(variances) / seeds) ** 0.5 if variances else baseline["std"]


def caption(row):
    """Returns a row of the table as two short lines, for the figure."""
    return (
        f"{subjects.TITLES[row['subject']]} ({_variant(row)}), {row['num_steps']} steps of "
        f"{row['sampler']}\ndistance {formats.number(row['score']['distance'])}, "
        f"classifier confident about {row['score']['confident']:.0%}"
    )


def _variant(row):
    return row["variant"] + ("" if row["averaged"] else ", last weights")


def report(result):
    """Returns the section as Markdown."""
    task, extractor = result["task"], result["extractor"]
    peer, title = subjects.TITLES[_peer(result)["subject"]], subjects.DATASET_TITLES[task]
    return "\n\n".join(
        [
            f"## Quality after {result['minutes']:g} minutes of training: {title}",
            f"{result['num']} samples per row, if no other number is given: with fewer samples, a "
            "distance is slightly larger. The distance is the Frechet distance between the "
            f"features of a small classifier ({extractor['feature_width']} wide, trained on the "
            f"training split, accuracy {extractor['test_accuracy']:.1%} on held-out images) of "
            f"the samples and of all {extractor['train_images']:,} training images. Confident: "
            "share of samples with a class probability above 90%, which nonsense may have too. "
            "Class distance: total variation between the class shares of samples and training "
            "images. Accuracy: share of samples that the classifier assigns to the requested "
            f"class; {peer} samples without classes.",
            "Each was trained once, one after the other. The minutes start after the first step; "
            "ours include validation, previews and checkpoints, as `train.py` makes them. "
            f"Samples of {peer} come from its averaged weights, as its "
            f"users sample, and from its last weights. {NOTES.get(task, '')}".strip(),
            _table(result),
            goal(result),
            f"![Samples of keras_diffusion and {peer}](../docs/images/{result['figure']})",
            *_steps(result),
        ]
    )


def _table(result):
    baseline, rows = result["baseline"], []
    for row in result["rows"]:
        score, steps = row["score"], f"{row['num_steps']} steps of {row['sampler']}"
        above = formats.number(score["distance"] - baseline["mean"])
        if score["num_images"] != baseline["size"]:  # they have another baseline
            steps, above = f"{steps}, {score['num_images']} images", "-"
        rows.append([
            subjects.TITLES[row["subject"]],
            _variant(row),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['images_seen']:,}",
            steps,
            formats.number(score["distance"]),
            above,
            f"{score['confident']:.1%}",
            f"{score['class_distance']:.1%}",
            f"{score['accuracy']:.1%}" if "accuracy" in score else "-",
        ])  # fmt: skip
    low, high = formats.number(baseline["min"]), formats.number(baseline["max"])
    distance = (
        f"{formats.number(baseline['mean'])} ({low} - {high} in {baseline['subsets']} subsets)"
    )
    name = f"{baseline['size']} held-out real images (the baseline)"
    rows.append([name, *[""] * 4, distance, *[""] * 4])
    header = ["", "variant", "parameters", "images seen", "sampling", "distance",
              "above the baseline", "confident", "class distance", "accuracy"]  # fmt: skip
    return formats.table(header, rows)


def _steps(result):
    """Returns the curve over steps, as a paragraph and a table."""
    fewest, number = fewest_steps(result), formats.number
    reference = fewest["reference"]
    most = f"{reference['num_steps']} steps of {reference['sampler']}"
    seeds = result["seeds"]
    answer = f"No number of steps that was tried is as good as {most}"
    if count := fewest["fewest"]:
        answer = f"**{count} steps of {FEW}** are the fewest that are no worse than {most}"
    text = (
        f"Our preset, {result['curve_num']} images sampled with more and fewer steps without "
        f"guidance, {f'for {seeds} seeds' if seeds > 1 else 'for one seed'}. {answer}: seed by "
        f"seed and on average not above its {number(reference['distance'])} by more than "
        f"{number(fewest['noise'])}, the noise of such a difference. As many real images "
        f"have a distance of {number(fewest['baseline'])}."
    )
    rows = [
        [
            f"{point['num_steps']} of {point['sampler']}",
            number(statistics.fmean(point["distances"])),
            f"{number(min(point['distances']))} - {number(max(point['distances']))}",
            f"{point['confident']:.1%}",
            f"{point['accuracy']:.1%}",
        ]
        for point in result["curve"]
    ]
    return text, formats.table(["steps", "distance", "spread", "confident", "accuracy"], rows)
