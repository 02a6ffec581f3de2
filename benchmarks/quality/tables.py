"""What the section makes of its scores: the fewest steps that do, the goal, the tables."""

import statistics

from benchmarks import runs, subjects
from benchmarks.quality.plans import FEW, MANY

# MNIST: the peer's distance over ours, at least. Flowers: ours above the floor over the peer's
# above it, at most; there the floor is a good part of every distance.
GOALS = {"mnist": 30, "flowers": 0.5}
SETTINGS = {
    "mnist": " Settings are its defaults, but for AdamW and the learning rate of 4e-4 that a "
    "published MNIST run took.",
}
COMPARABLE = 2.0  # sets whose distance is within this factor of the most steps' vary alike


def goal(task, rows, floor):
    """Holds the first row, ours, against the first of a peer.

    Returns:
        dict of `what`, `value`, `goal`, `most` (whether the goal is an upper end), `met`, and
        both ratios, raw and above the floor.
    """
    ours, peer = (
        row["score"]["distance"] for row in (rows[0], next(row for row in rows if _is_peer(row)))
    )
    above = [max(0.0, distance - floor["mean"]) for distance in (ours, peer)]
    found = {
        "peer_over_ours": peer / ours,
        "ours_over_peer_above_floor": above[0] / above[1] if above[1] else None,
    }
    most = task == "flowers"
    value = found["ours_over_peer_above_floor" if most else "peer_over_ours"]
    what = (
        "our distance above the floor, as a share of the peer's"
        if most
        else "the peer's distance as a multiple of ours"
    )
    if ours < floor["mean"]:
        what += " (ours is below the floor, as copies of training pictures may be)"
    met = value is not None and runs.verdict(value, GOALS[task], most) == "met"
    return {"what": what, "value": value, "goal": GOALS[task], "most": most, "met": met, **found}


def _is_peer(row):
    return "accuracy" not in row["score"]  # it has no labels to be right about


def curve(sets):
    """Scores against steps.

    Args:
        sets: list of dicts of sampler, num_steps, seed and score, in the order of the seeds.

    Returns:
        list of dicts of sampler, num_steps, distances (one for each seed), sure, accuracy (means).
    """
    groups = {}
    for each in sets:
        groups.setdefault((each["sampler"], each["num_steps"]), []).append(each["score"])
    return [
        {
            "sampler": sampler,
            "num_steps": num_steps,
            "distances": [score["distance"] for score in found],
            "sure": statistics.fmean(score["sure"] for score in found),
            "accuracy": statistics.fmean(score["accuracy"] for score in found),
        }
        for (sampler, num_steps), found in groups.items()
    ]


def fewest_steps(figures):
    """The fewest steps that are no worse than the most steps of DDIM.

    Sets of the same seed begin with the same noise, so they are held against each other seed by
    seed. "No worse" is: the differences are on average not above zero by more than their average
    varies by chance (their standard deviation, pooled over all sets of about that distance, over
    the root of their number; with a single seed, that of the floor's subsets).

    Args:
        figures: dict of `curve`, as of that function, and `curve_floor`, of
            `scores.distance_floor`.

    Returns:
        dict of `fewest` (int, or None: no number of steps is enough), its `distance`, `noise`
        (what is allowed), `reference` (of the most steps: sampler, num_steps, distance), `floor`.
    """
    most = max(_points(figures, MANY), key=lambda point: point["num_steps"])
    few = _points(figures, FEW)
    noise = _noise(few, most, figures["curve_floor"])
    good = [p for p in few if statistics.fmean(_differences(p, most)) <= noise]
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
        "floor": figures["curve_floor"]["mean"],
    }


def _points(figures, sampler):
    return [point for point in figures["curve"] if point["sampler"] == sampler]


def _differences(point, other):
    pairs = zip(point["distances"], other["distances"], strict=True)
    return [distance - others for distance, others in pairs]


def _noise(points, most, floor):
    """How much the mean over the seeds of the difference of two such sets varies."""
    seeds = len(most["distances"])
    alike = COMPARABLE * statistics.fmean(most["distances"])
    variances = [
        statistics.variance(_differences(point, most))
        for point in points
        if seeds > 1 and statistics.fmean(point["distances"]) <= alike
    ]
    return (statistics.fmean(variances) / seeds) ** 0.5 if variances else floor["std"]


def caption(row):
    """A row of the table in two short lines, for the picture."""
    return (
        f"{row['subject']} ({_variant(row)}), {row['num_steps']} steps of {row['sampler']}\n"
        f"distance {runs.figure(row['score']['distance'])}, "
        f"the classifier is sure of {row['score']['sure']:.0%}"
    )


def report(figures):
    """Returns the section as markdown."""
    task, floor, eyes = figures["task"], figures["floor"], figures["extractor"]
    peer = next(row["subject"] for row in figures["rows"] if _is_peer(row))
    title = subjects.DATASET_TITLES[task]
    floor_row = [
        f"{floor['size']} held-out real pictures (the floor)", "", "", "", "",
        f"{runs.figure(floor['mean'])} ({runs.figure(floor['min'])} - "
        f"{runs.figure(floor['max'])} in {floor['subsets']} draws)", "", "", "", "",
    ]  # fmt: skip
    header = ["subject", "variant", "parameters", "images seen", "drawn in", "distance",
              "above the floor", "sure", "classes off", "right class"]  # fmt: skip
    rows = [_cells(row, floor) for row in figures["rows"]]
    return "\n\n".join(
        [
            f"## Quality after {figures['minutes']:g} minutes of training: {title}",
            f"{figures['num']} pictures of each, if no other number stands with it: of fewer, a "
            "distance is a little larger. The distance is Frechet's, between the features "
            f"of a small classifier ({eyes['feature_width']} wide, trained on the training split; "
            f"right about {eyes['test_accuracy']:.1%} of held-out pictures) of these pictures and "
            f"of all {eyes['train_images']:,} training pictures. Sure: share of pictures with a "
            "class above 90%, which it may be of nonsense too. Classes off: how many pictures "
            "would have to be of another class for the shares to be those of the training "
            "pictures. Right class: share that the classifier takes for the class that "
            f"was asked for; {peer} draws without classes.",
            f"Each was trained once, one after the other. The minutes of {peer} begin after its "
            "first step; ours hold all that `train.py` does, with tracing, validation, previews "
            f"and checkpoints. What is judged is the average of the weights, as users of {peer} "
            "draw; last weights are those without it."
            f"{SETTINGS.get(task, '')}",
            runs.table(header, [*rows, floor_row]),
            *_length(figures, peer),
            _goal_line(figures["goal"]),
            f"![Ours and {peer}](../docs/images/{figures['picture']})",
            _steps_text(figures),
        ]
    )


def _length(figures, peer):
    """What is to be said if the peer was not trained by the clock."""
    if not figures["peer_images"]:
        return []
    minutes = figures["minutes"]
    return [
        f"The machine was shared meanwhile: {peer} was trained for as many images as it sees in "
        f"{minutes:g} minutes of an idle one, and ours for {minutes:g} minutes by the clock."
    ]


def _variant(row):
    return row["variant"] + ("" if row["averaged"] else ", last weights")


def _cells(row, floor):
    score = row["score"]
    fewer = score["num_images"] != floor["size"]  # the floor of these is another
    drawn = f"{row['num_steps']} steps of {row['sampler']}"
    return [
        row["subject"],
        _variant(row),
        f"{row['parameters'] / 1e6:.2f} M",
        f"{row['images_seen']:,}",
        f"{drawn}, {score['num_images']} pictures" if fewer else drawn,
        runs.figure(score["distance"]),
        "-" if fewer else runs.figure(score["distance"] - floor["mean"]),
        f"{score['sure']:.1%}",
        f"{score['class_distance']:.1%}",
        f"{score['accuracy']:.1%}" if "accuracy" in score else "-",
    ]


def _goal_line(found):
    value = "not known" if found["value"] is None else runs.figure(found["value"])
    end = "at most" if found["most"] else "at least"
    verdict = "met" if found["met"] else "missed"
    return f"Goal: {found['what']}, {end} {found['goal']:g}. Measured: {value}; **{verdict}**."


def _steps_text(figures):
    """The curve over steps, and what comes of it."""
    found = fewest_steps(figures)
    reference, fewest = found["reference"], found["fewest"]
    rows = [
        [
            f"{point['num_steps']} of {point['sampler']}",
            runs.figure(statistics.fmean(point["distances"])),
            f"{runs.figure(min(point['distances']))} - {runs.figure(max(point['distances']))}",
            f"{point['sure']:.1%}",
            f"{point['accuracy']:.1%}",
        ]
        for point in figures["curve"]
    ]
    which = f"{reference['num_steps']} steps of {reference['sampler']}"
    answer = (
        f"**{fewest} steps of {FEW}** are the fewest that are no worse than {which}"
        if fewest
        else f"No number of steps that was tried is as good as {which}"
    )
    seeds = figures["seeds"]
    times = f"{seeds} times each, with other noise" if seeds > 1 else "once each"
    return (
        f"Our preset, {figures['curve_num']} pictures drawn in more and fewer steps without "
        f"guidance, {times}. {answer}: seed by seed and on average not above "
        f"its {runs.figure(reference['distance'])} by more than {runs.figure(found['noise'])}, by "
        "which such a difference varies by chance. As many real pictures score "
        f"{runs.figure(found['floor'])}.\n\n"
        + runs.table(["steps", "distance", "spread", "sure", "right class"], rows)
    )
