"""Claims and page of this study."""

from keras_diffusion.evaluation.scores import SURE
from studies.morphing import limits, restoration
from studies.morphing.sampling import GRIDS, Method
from studies.report import Claim, distance, lower_distance, number, table

CONFIDENT, UNEVEN = 0.75, 0.25  # "garments give digits": the classifier is confident for at least
# this share, and at most this share would have to be another digit; it may be confident for the
# mean of all digits too
RIGHT, UNTIL = 0.9, 0.8  # accuracy of restored digits, and the t up to which it is required
NEARER = 0.98  # of the error: less is "more faithful"
HARMLESS = 0.05  # by how much the share of confident classifications may fall
OWN = 0.9  # share of the garments of a set that give a digit of their own
BIASED = 0.05  # share of images that would have to be another digit, more than for garments


def claims(results):
    """Returns the claims, decided."""
    morphing, noise = results["morphing"], results["noise"]
    rows, best = results["ways"][morphing], results["best"]
    starts = results["limits"]
    return [
        _gives_digits(starts["sets"], results["classifier"]),
        lower_distance(
            "with the same U-Net, garments give better digits than Gaussian noise: it was the "
            "morphing",
            {"garments": best[morphing], "noise": best[noise]},
        ),
        lower_distance(
            "the cosine schedule is better than the linear one",
            {name: best[f"morphing-{name}"] for name in ("cosine", "linear")},
        ),
        lower_distance(
            "holding the known garment is better than estimating it again",
            {update: _best_of(rows, update=update) for update in ("held", "re-estimated")},
        ),
        lower_distance(
            "equal steps in t are better than equal steps in logSNR",
            {title: _best_of(rows, grid=grid) for grid, title in GRIDS.items()},
        ),
        lower_distance(
            f"{best[morphing]['num_steps']} steps are better than one",
            {"steps": best[morphing], "one": _best_of(rows, num_steps=1)},
        ),
        *_restoration_claims(results["restored"][morphing]),
        _own_digits(starts["sets"]["sizes"]),
        _noise_helps(starts["noise"], starts["sets"]["sure"]),
        _averages_are_biased(starts["averages"][-1], starts["sets"]),
        lower_distance(
            "starting points sampled from a mixture of Gaussians are no worse than garments",
            {"samples": starts["mixture"]["mixture"], "garments": starts["sets"]},
            equal=True,
        ),
    ]


def _best_of(rows, **wanted):
    """The row of the lowest distance with these values; a single step only if requested."""
    matching = [
        row
        for row in rows
        if all(row[name] == value for name, value in wanted.items())
        and (row["num_steps"] > 1 or "num_steps" in wanted)
    ]
    return min(matching, key=lambda row: row["distance"])


def _gives_digits(score, real):
    return Claim(
        f"garments give digits of all kinds (the classifier is confident for {CONFIDENT:.0%}, and "
        f"at most {UNEVEN:.0%} would have to be another digit)",
        f"confident for {score['sure']:.0%} (for {real['sure']:.0%} of real digits), "
        f"{score['off']:.0%} would have to be another digit; distance {distance(score)}",
        score["sure"] >= CONFIDENT and score["off"] <= UNEVEN,
    )


def _restoration_claims(restored):
    until = {way: restoration.right_until(restored, way, RIGHT) for way in restoration.BLIND}
    hard = restoration.hard_time(restored)
    direct, iterative = (restored["ways"][way]["off"][hard] for way in restoration.BLIND)
    ratio = iterative / direct
    return [
        Claim(
            f"{RIGHT:.0%} of restored digits are right up to t = {UNTIL:g}",
            "up to " + ", ".join(f"{t:g} ({way})" for way, t in until.items()),
            max(until.values()) >= UNTIL,
        ),
        Claim(
            "iterative restoration is more faithful than one prediction",
            f"error at t = {restoration.TIMES[hard]:g}: {number(iterative)} grey levels, direct "
            f"{number(direct)}",
            None if NEARER < ratio < 1 / NEARER else ratio < 1,
        ),
    ]


def _own_digits(sizes):
    shown = ", ".join(f"{row['different']} of {row['drawn']}" for row in sizes)
    return Claim(
        f"every garment gives a digit of its own (at least {OWN:.0%} of the chosen garments, in "
        "sets of all sizes; more than one per garment is impossible)",
        f"different: {shown} chosen garments",
        all(row["different"] >= OWN * row["drawn"] for row in sizes),
    )


def _noise_helps(rows, sure):
    harmless = [row for row in rows if row["sure"] >= sure - HARMLESS]
    most = max(harmless, key=lambda row: row["different"], default=None)
    measured = "confident for fewer images at every strength"
    if most:
        measured = (
            f"{most['different']} different of {most['images']} with noise of "
            f"{most['strength']:g}, from {most['of']} garments"
        )
    return Claim(
        "noise on garments gives more digits (twice as many as garments) and does no harm",
        measured,
        bool(most) and most["different"] >= 2 * most["of"],
    )


def _averages_are_biased(averages, sets):
    shares = averages["shares"]
    digit = shares.index(max(shares))
    return Claim(
        f"averages of {averages['averaged']} garments favour some digits",
        f"{averages['off']:.0%} would have to be another digit, {sets['off']:.0%} for single "
        f"garments; the most frequent digit is {digit}, {shares[digit]:.0%}",
        averages["off"] > sets["off"] + BIASED,
    )


def values(results):
    """Returns the values of the page, see `report.write`."""
    training = results["trainings"][results["morphing"]]
    rates = [
        f"{restored['signal_rates'][-1]:.1%} ({name})"
        for name, restored in results["restored"].items()
    ]
    return {
        "training_table": _training_table(results),
        "parameters": training["parameters"] / 1e6,
        "images": training["images"],
        "sure": SURE,
        "method_table": _method_table(results),
        "restoration_table": _restoration_table(results["restored"]),
        "method": Method.of(results["best"][results["morphing"]]),
        "alike": limits.ALIKE,
        "limit_table": _limit_table(results["limits"]),
        "mixture": results["limits"]["mixture"],
        "widths": ", ".join(map(str, results["plan"]["widths"])),
        "signal_rates": ", ".join(rates),
    }


def _training_table(results):
    rows = [
        [
            name,
            number(training["val_loss"][-1]),
            *(number(score["distance"]) for score in training["scores"]),
            f"{training['scores'][-1]['sure']:.0%}",
            f"{training['seconds'] / 60:.1f}",
        ]
        for name, training in results["trainings"].items()
    ]
    after = [f"after {epochs} epochs" for epochs in results["plan"]["ends"]]
    return table(["training", "validation loss", *after, "confident", "minutes"], rows)


def _method_table(results):
    names = list(results["trainings"])
    cells = {
        name: {Method.of(row): _distance_and_confidence(row) for row in results["ways"][name]}
        for name in names
    }
    rows = [
        [method, *(cells[name].get(method, "-") for name in names)]
        for method in cells[results["morphing"]]
    ]
    best = [results["best"][name] for name in names]
    rows.append(["the best", *map(Method.of, best)])
    rows.append(["the same, scored again", *map(_distance_and_confidence, best)])
    return table(["distance (confident)", *names], rows)


def _distance_and_confidence(row):
    return f"{distance(row)} ({row['sure']:.0%})"


def _restoration_table(results):
    rows = []
    for name, restored in results.items():
        hard = restoration.hard_time(restored)
        for way in (restoration.MIXED, *restoration.WAYS):
            until = (restoration.right_until(restored, way, share) for share in (RIGHT, 0.5))
            scores = restored["ways"][way]
            rows.append([name, way, *(f"{t:g}" for t in until), f"{restoration.TIMES[hard]:g}",
                         f"{scores['right'][hard]:.0%}", number(scores["off"][hard])])  # fmt: skip
    header = ["training", "restored", f"{RIGHT:.0%} right up to t", "half right up to t", "at t",
              "right", "error"]  # fmt: skip
    return table(header, rows)


def _limit_table(starts):
    kinds = {"garments": starts["sets"]}
    kinds |= {f"averages of {each['averaged']}": each for each in starts["averages"]}
    kinds |= {
        f"garments with noise of {each['strength']:g} ({each['of']} garments)": each
        for each in starts["noise"][2::2]
    }
    kinds |= {"garments projected on their principal components": starts["mixture"]["projected"]}
    kinds |= {"samples of the mixture": starts["mixture"]["mixture"]}
    rows = [
        [name, f"{each['different']} of {each['images']}", distance(each), f"{each['sure']:.0%}",
         f"{each['off']:.0%}"]
        for name, each in kinds.items()
    ]  # fmt: skip
    return table(["starting points", "different", "distance", "confident", "off"], rows)
