"""The figures of the study."""

import numpy as np

from studies import figures
from studies.noise_schedules import NUM_TIMESTEPS, forward

STEP = f"step of {NUM_TIMESTEPS}"
LOWEST_P = 1e-12  # what is below is drawn there


def draw(results, kept, folder):
    """Writes all figures; those of pictures only where the pictures are kept.

    Args:
        results: of `measure.measure`.
        kept: `kept.Kept`.
        folder: of the PNGs.
    """
    plan = results["plan"]
    names = plan["schedules"]
    curves = {
        "schedules": _schedules(names),
        "normality": _normality(results["normality"], plan),
        "losses": _losses(results["trainings"], plan),
        "distances": _distances(results, plan),
    }
    pictures = {
        "grids": _grids(kept, plan),
        "forward": _process(kept, names, forward_order=True),
        "backward": _process(kept, names, forward_order=False),
        "final": _final(kept, plan),
    }
    for name, figure in {**curves, **pictures}.items():
        if figure is not None:
            figures.save(figure, folder / f"{name}.png")


def _schedules(names):
    figure, [[left, right]] = figures.sheet(columns=2)
    steps, curves = range(1, NUM_TIMESTEPS + 1), forward.curves(names)
    for axes, key, ylabel in (
        (left, "alpha_bar", "alpha_bar: share of the signal's variance left"),
        (right, "beta", "beta: variance added in a step"),
    ):
        # alpha_bar is held at 1e-5 from below: beta is 0 there, which no logarithm shows.
        values = {name: np.array(curves[name][key]) for name in names}
        shown = {name: (steps, np.where(y > 0, y, np.nan)) for name, y in values.items()}
        figures.lines(axes, shown, xlabel=STEP, ylabel=ylabel, log=key == "beta")
    right.set_ylim(top=1)
    return figure


def _normality(found, plan):
    figure, [places] = figures.sheet(columns=2)
    steps, names = forward.tested(plan["test_every"]), plan["schedules"]
    for axes, key, title in (
        (places[0], "p", "1000 pixels of many digits, as defined"),
        (places[1], "study_p", "784 pixels of one digit, as in the study's code"),
    ):
        shown = {name: (steps, np.maximum(found[name][key], LOWEST_P)) for name in names}
        figures.lines(axes, shown, xlabel=STEP, ylabel="p-value", title=title, log=True)
        for line in axes.lines:
            line.set_linewidth(0.8)
        figures.level(axes, 0.05, "p = 0.05")
    return figure


def _epochs(plan, every):
    """Epochs after each round (every = 1), or after each part (every = rounds)."""
    count = plan["parts"] * plan["rounds"]
    return [plan["epochs"] * done / count for done in range(every, count + 1, every)]


def _losses(trainings, plan):
    figure, [places] = figures.sheet(columns=2)
    epochs = _epochs(plan, 1)
    for axes, key, title in (
        (places[0], "loss", "training"),
        (places[1], "val_loss", "validation"),
    ):
        shown = {name: (epochs, trainings[name][key]) for name in plan["schedules"]}
        label = "mean squared error of eps"
        figures.lines(axes, shown, xlabel="epochs", ylabel=label, title=title, log=True)
    low, high = (f(p.get_ylim()[i] for p in places) for i, f in ((0, min), (1, max)))
    for axes in places:
        axes.set_ylim(low, high)
    return figure


def _distances(results, plan):
    figure, [[axes]] = figures.sheet(width=7.0, height=4.2)
    epochs, scores = _epochs(plan, plan["rounds"]), results["scores"]
    shown = {
        name: (epochs, [score["distance"] for score in scores[name]["curve"]])
        for name in plan["schedules"]
    }
    label = "Frechet distance to real digits"
    figures.lines(axes, shown, xlabel="epochs", ylabel=label, log=True, markers=True)
    figures.level(axes, results["floors"]["curve"]["mean"], "real digits (floor)")
    return figure


def _arrays(kept, stages, file):
    """The arrays of some stages, or None if one is not there."""
    found = [kept.array(name, file) for name in stages]
    return None if any(array is None for array in found) else found


def _grids(kept, plan):
    rows = []
    for name in plan["schedules"]:
        found = _arrays(kept, [f"{name}-part{part}" for part in plan["shown"]], "pictures.npy")
        if found is None:
            return None
        rows.append([images[:16] for images in found])
    after = [plan["epochs"] * part / plan["parts"] for part in plan["shown"]]
    titles = [f"{epochs:.3g} epochs" for epochs in after]
    return figures.grids(rows, plan["schedules"], titles)


def _process(kept, names, forward_order):
    """Rows of schedules, columns of steps; forward one digit, backward four at a time."""
    if forward_order:
        found = kept.array("forward", "frames.npy")
        rows = None if found is None else [[image[None] for image in row] for row in found]
    else:
        found = _arrays(kept, [f"{name}-final" for name in names], "frames.npy")
        rows = found and [list(frames) for frames in found]
    if rows is None:
        return None
    last = len(rows[0]) - 1
    steps = [NUM_TIMESTEPS * i // last for i in range(last + 1)]
    titles = [f"step {step}" for step in (steps if forward_order else steps[::-1])]
    return figures.grids(rows, names, titles, inches=1.5)


def _final(kept, plan):
    stages = [f"{name}-final" for name in plan["schedules"]]
    chain, ours = (_arrays(kept, stages, file) for file in ("chain.npy", "pictures.npy"))
    if chain is None or ours is None:
        return None
    rows = [[images[:36] for images in row] for row in (chain, ours)]
    titles = [f"chain of {plan['chain_steps']} steps", f"{plan['curve_steps']} steps of dpmpp_2m"]
    return figures.grids(rows, titles, plan["schedules"], inches=2.6)
