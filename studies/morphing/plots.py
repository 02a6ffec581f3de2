"""The figures of this study."""

import numpy as np

from keras_diffusion.plotting import figures
from studies.figures import BASELINE, DISTANCE, image_rows, level_row_titles, save_all
from studies.morphing import limits, restoration
from studies.morphing.data import GARMENTS
from studies.morphing.sampling import Method

MAX_PARTS = 5  # columns of grids.png


def plot(results, stages, folder):
    """Writes all figures; those of images only if the images are cached."""
    best, restored = results["morphing"], results["restored"]
    save_all(folder, {
        "losses": lambda: _losses(results),
        "right": lambda: _right(restored),
        "limits": lambda: _limits(results["limits"]),
        "shares": lambda: _shares(results["limits"]),
        "grids": lambda: _grids(results, stages),
        "ways": lambda: _methods(results["ways"][best], f"{best}-ways", stages),
        "restored": lambda: _restored(restored, stages),
        "ten": lambda: _ten(restored[best], f"{best}-restored", stages),
        "starts": lambda: _starts(results["limits"], stages),
    })  # fmt: skip


def _losses(results):
    plan, trainings = results["plan"], results["trainings"]
    ends, epochs = plan["ends"], range(1, plan["epochs"] + 1)
    shared = {"xlabel": f"epochs of {plan['epoch_images']:,} images", "log": "y"}
    losses = {name: (epochs, training["loss"]) for name, training in trainings.items()}
    distances = {
        name: (ends, [score["distance"] for score in training["scores"]])
        for name, training in trainings.items()
    }
    figure = figures.line_figure(
        {"curves": losses, "ylabel": "squared error of x0", "title": "loss", **shared},
        {"curves": distances, "ylabel": DISTANCE, "markers": True, **shared,
         "reference": (results["classifier"]["floor"], BASELINE)},
    )  # fmt: skip
    for index, training in enumerate(trainings.values()):
        figure.axes[0].plot(ends, training["val_loss"], "o", ms=4, color=f"C{index}")
    return figure


def _grids(results, stages):
    ends, names = results["plan"]["ends"], list(results["trainings"])
    count = min(len(ends), MAX_PARTS)
    parts = sorted({round(part) for part in np.linspace(1, len(ends), count)})
    rows = [
        [stages.array(f"{name}-part{part}", "pictures.npy")[:25] for part in parts]
        for name in names
    ]
    return figures.image_table(rows, [f"{ends[part - 1]} epochs" for part in parts], names)


def _methods(rows, stage, stages):
    sets = [stages.array(stage, "starts.npy"), *stages.array(stage, "pictures.npy")]
    return image_rows(sets, ["garments", *(str(Method.of(row)) for row in rows)])


def _restored(restored, stages):
    rows, titles = [], []
    for name in restored:
        rows += [row[:, 0] for row in stages.array(f"{name}-restored", "restored.npy")]
        titles += [f"{name}: mixed", *restoration.WAYS]
    times = [f"t = {t:g}" for t in restoration.TIMES]
    return level_row_titles(figures.image_table(rows, times, titles, width=0.85))


def _right(restored):
    figure, axes = figures.subplots(columns=len(restored), rows=2, height=3.2)
    labels = {"right": "accuracy of the classifier", "off": "RMS error, grey levels"}
    for column, (name, result) in enumerate(restored.items()):
        for place, (key, label) in zip(axes[:, column], labels.items(), strict=True):
            curves = {way: (restoration.TIMES, each[key]) for way, each in result["ways"].items()}
            title = name if key == "right" else None
            figures.plot_lines(place, curves, xlabel="t", ylabel=label, title=title, markers=True)
        axes[0, column].set_ylim(0, 1.05)
    return figure


def _ten(result, stage, stages):
    hard = restoration.hard_time(result)
    restored = stages.array(stage, "restored.npy")[:, hard]
    titles = ["digit", f"mixed, t = {restoration.TIMES[hard]:g}", *restoration.WAYS]
    return image_rows([stages.array(stage, "digits.npy"), *restored], titles)


def _limits(result):
    rows, total = result["sets"]["sizes"], result["sets"]["images"]
    labels = {"garments chosen": "drawn", "different digits": "different"}
    sizes = [row["garments"] for row in rows]
    sets = {label: (sizes, [row[key] for row in rows]) for label, key in labels.items()}
    rows = result["noise"]
    shares = {
        "different images": [row["different"] / row["images"] for row in rows],
        "same digit as without noise": [row["same_digit"] for row in rows],
        "classifier is confident": [row["sure"] for row in rows],
    }
    strengths = [row["strength"] for row in rows]
    figure = figures.line_figure(
        {"curves": sets, "title": "the size of the set", "xlabel": "garments in the set",
         "ylabel": f"of {total:,} choices", "log": "xy", "markers": True},
        {"curves": {label: (strengths, values) for label, values in shares.items()},
         "title": "noise on the starting points", "ylabel": "share", "log": "x", "markers": True,
         "xlabel": "standard deviation of the noise (garments in [-1, 1])"},
    )  # fmt: skip
    figure.axes[1].set_ylim(0, 1.05)
    return figure


def _shares(result):
    figure, [[bars, table]] = figures.subplots(columns=2, height=4.2)
    kinds = {"garments": result["sets"]["shares"]}
    kinds |= {f"averages of {each['averaged']}": each["shares"] for each in result["averages"]}
    kinds |= {"samples of the mixture": result["mixture"]["mixture"]["shares"]}
    width = 0.8 / len(kinds)
    for index, (name, shares) in enumerate(kinds.items()):
        places = np.arange(len(shares)) + (index - (len(kinds) - 1) / 2) * width
        bars.bar(places, shares, width, label=name)
    bars.set(xlabel="digit, by the classifier", ylabel="share", xticks=range(len(shares)))
    bars.axhline(1 / len(shares), color="black", ls="--", lw=1, label="equal shares")
    bars.legend(fontsize=8)
    counts = np.array(result["sets"]["table"], float)
    counts /= np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = table.imshow(counts, cmap="viridis", vmin=0)
    table.set(xlabel="digit, by the classifier", xticks=range(counts.shape[1]),
              yticks=range(len(GARMENTS)), yticklabels=GARMENTS)  # fmt: skip
    figure.colorbar(shown, ax=table, label="share of the garments of a kind")
    return figure


def _starts(result, stages):
    strengths = [each["strength"] for each in result["noise"]][-3::2]
    kinds = {f"noise {strength:g}": f"noise{strength:g}" for strength in strengths}
    kinds |= {f"averages of {of}": f"averages{of}" for of in limits.AVERAGED[::2]}
    kinds |= {"samples of the mixture": "mixture"}
    sets, titles = [], []
    for title, stage in kinds.items():
        for file, text in (("starts", title), ("pictures", "digits")):
            sets.append(stages.array(f"limits-{stage}", f"{file}.npy"))
            titles.append(text)
    return image_rows(sets, titles)
