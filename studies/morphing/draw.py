"""The figures of the study."""

import numpy as np

from studies import figures
from studies.morphing import limits, restoration
from studies.morphing.pictures import GARMENTS
from studies.morphing.report import way_title

MOST_PARTS = 5  # columns of grids.png
LETTER = 0.075  # inches that a letter of a row's title takes


def draw(results, kept, folder):
    """Writes all figures; those of pictures only where the pictures are kept.

    Args:
        results: of `measure.measure`.
        kept: `kept.Kept`.
        folder: of the PNGs.
    """
    best = results["morphing"]
    made = {
        "losses": _losses(results),
        "right": _right(results["restored"]),
        "limits": _limits(results["limits"]),
        "shares": _shares(results["limits"]),
        "grids": _grids(results, kept),
        "ways": _ways(results["ways"][best], best, kept),
        "restored": _restored(results["restored"], kept),
        "ten": _ten(results["restored"][best], best, kept),
        "starts": _starts(results["limits"], kept),
    }
    for name, figure in made.items():
        if figure is not None:
            figures.save(figure, folder / f"{name}.png")


def _losses(results):
    plan, trainings = results["plan"], results["trainings"]
    figure, [[loss, distance]] = figures.sheet(columns=2)
    ends = plan["ends"]
    epochs = range(1, plan["epochs"] + 1)
    curves = {name: (epochs, training["loss"]) for name, training in trainings.items()}
    figures.lines(
        loss, curves, xlabel=_epoch(plan), ylabel="squared error of x0", title="loss", log=True
    )
    for line, training in zip(loss.lines, list(trainings.values()), strict=True):
        loss.plot(ends, training["val_loss"], "o", ms=4, color=line.get_color())
    for formatter in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        formatter("{x:g}")
    loss.tick_params(which="minor", labelsize=7)  # a decade has eight of them
    curves = {
        name: (ends, [score["distance"] for score in training["scores"]])
        for name, training in trainings.items()
    }
    label = "Frechet distance to real digits"
    figures.lines(distance, curves, xlabel=_epoch(plan), ylabel=label, log=True, markers=True)
    figures.level(distance, results["classifier"]["floor"], "real digits (floor)")
    return figure


def _epoch(plan):
    return f"epochs of {plan['epoch_images']:,} images"


def _grids(results, kept):
    ends = results["plan"]["ends"]
    count = len(ends)
    shown = sorted({round(part) for part in np.linspace(1, count, min(count, MOST_PARTS))})
    rows = []
    for name in results["trainings"]:
        row = [kept.array(f"{name}-part{part}", "pictures.npy") for part in shown]
        if any(images is None for images in row):
            return None
        rows.append([images[:25] for images in row])
    titles = [f"{ends[part - 1]} epochs" for part in shown]
    return figures.grids(rows, list(results["trainings"]), titles)


def _ways(ways, training, kept):
    starts, drawn = (
        kept.array(f"{training}-ways", f"{file}.npy") for file in ("starts", "pictures")
    )
    if starts is None or drawn is None:
        return None
    return _rows([starts, *drawn], ["garments", *map(way_title, ways)])


def _rows(sets, titles):
    """Rows of pictures with their titles on the left, level."""
    shown = [[images] for images in sets]
    return _level(figures.grids(shown, titles, [""], columns=len(sets[0]), inches=8.0))


def _level(figure):
    """Turns the titles of rows level; the figure is as much lower as they make pictures smaller."""
    for axes in figure.axes:
        axes.set_anchor("W")  # else room is left for the title as if pictures began further right
        axes.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=9)
    width, height = figure.get_size_inches()
    titles = LETTER * max(len(axes.get_ylabel()) for axes in figure.axes)
    figure.set_figheight(height * (1 - titles / width))
    return figure


def _restored(restored, kept):
    rows, titles = [], []
    for name in restored:
        found = kept.array(f"{name}-restored", "restored.npy")
        if found is None:
            return None
        rows += [[images[:1] for images in row] for row in found]
        titles += [f"{name}: mixed", *restoration.WAYS]
    times = [f"t = {t:g}" for t in restoration.TIMES]
    return _level(figures.grids(rows, titles, times, inches=0.85))


def _right(restored):
    figure, places = figures.sheet(columns=len(restored), rows=2, height=3.2)
    for (name, found), (right, off) in zip(restored.items(), places.T, strict=True):
        curves = {way: (restoration.TIMES, each["right"]) for way, each in found["ways"].items()}
        figures.lines(
            right, curves, xlabel="t", ylabel="share taken for the right digit", title=name,
            markers=True,
        )  # fmt: skip
        right.set_ylim(0, 1.05)
        curves = {way: (restoration.TIMES, each["off"]) for way, each in found["ways"].items()}
        figures.lines(off, curves, xlabel="t", ylabel="error (rms, grey levels)", markers=True)
    return figure


def _ten(found, training, kept):
    digits, restored = (
        kept.array(f"{training}-restored", f"{file}.npy") for file in ("digits", "restored")
    )
    if digits is None or restored is None:
        return None
    place = restoration.hard_time(found)
    titles = ["digit", f"mixed, t = {restoration.TIMES[place]:g}", *restoration.WAYS]
    return _rows([digits, *restored[:, place]], titles)


def _limits(found):
    figure, [[sets, noise]] = figures.sheet(columns=2)
    sizes = [each["garments"] for each in found["sets"]["sizes"]]
    curves = {
        "garments drawn": (sizes, [each["drawn"] for each in found["sets"]["sizes"]]),
        "different digits": (sizes, [each["different"] for each in found["sets"]["sizes"]]),
    }
    draws = found["sets"]["images"]
    figures.lines(sets, curves, xlabel="garments in the set", ylabel=f"of {draws:,} draws",
                  title="the size of the set", log=True, markers=True)  # fmt: skip
    sets.set_xscale("log")
    strengths = [each["strength"] for each in found["noise"]]
    curves = {
        "different, of all draws": [each["different"] / each["images"] for each in found["noise"]],
        "same digit as without noise": [each["same_digit"] for each in found["noise"]],
        "classifier is sure": [each["sure"] for each in found["noise"]],
    }
    curves = {name: (strengths, values) for name, values in curves.items()}
    figures.lines(noise, curves, xlabel="standard deviation of the noise (garments in [-1, 1])",
                  ylabel="share", title="noise on the starting points", markers=True)  # fmt: skip
    noise.set(xscale="log", ylim=(0, 1.05))
    return figure


def _shares(found):
    figure, [[bars, table]] = figures.sheet(columns=2, height=4.2)
    kinds = {"garments": found["sets"]["shares"]}
    kinds |= {f"averages of {each['averaged']}": each["shares"] for each in found["averages"]}
    kinds |= {"made up by the mixture": found["mixture"]["mixture"]["shares"]}
    width = 0.8 / len(kinds)
    for number, (name, shares) in enumerate(kinds.items()):
        places = np.arange(len(shares)) + (number - (len(kinds) - 1) / 2) * width
        bars.bar(places, shares, width, label=name)
    bars.set(xlabel="digit, by the classifier", ylabel="share", xticks=range(len(shares)))
    figures.level(bars, 1 / len(shares), "equal shares")
    counts = np.array(found["sets"]["table"], float)
    counts /= np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = table.imshow(counts, cmap="viridis", vmin=0)
    table.set(xlabel="digit, by the classifier", xticks=range(counts.shape[1]),
              yticks=range(len(GARMENTS)))  # fmt: skip
    table.set_yticklabels(GARMENTS)
    figure.colorbar(drawn, ax=table, label="share of the garments of a kind")
    return figure


def _starts(found, kept):
    strengths = [each["strength"] for each in found["noise"]]
    stages = {f"noise {s:g}": f"noise{s:g}" for s in strengths[-3::2]}
    stages |= {
        f"averages of {of}": f"averages{of}" for of in (limits.AVERAGED[0], limits.AVERAGED[-1])
    }
    stages |= {"made up": "mixture"}
    rows, titles = [], []
    for title, stage in stages.items():
        for file, what in (("starts", title), ("pictures", "digits")):
            rows.append(kept.array(f"limits-{stage}", f"{file}.npy"))
            titles.append(what)
    return None if any(row is None for row in rows) else _rows(rows, titles)
