"""The figures of this study."""

import numpy as np

from keras_diffusion.plotting import figures
from studies.figures import BASELINE, DISTANCE, save_all
from studies.noise_schedules import NUM_TIMESTEPS, forward

STEP = f"step of {NUM_TIMESTEPS}"
MIN_P = 1e-12  # smaller p-values are plotted there


def plot(results, stages, folder):
    """Writes all figures; those of images only if the images are cached."""
    plan = results["plan"]
    names = plan["schedules"]
    save_all(folder, {
        "schedules": lambda: _schedules(names),
        "normality": lambda: _normality(results["normality"], plan),
        "losses": lambda: _losses(results["trainings"], plan),
        "distances": lambda: _distances(results, plan),
        "grids": lambda: _grids(stages, plan),
        "forward": lambda: _forward(stages.array("forward", "frames.npy"), names),
        "backward": lambda: _backward(stages, names),
        "final": lambda: _final(stages, plan),
    })  # fmt: skip


def _schedules(names):
    steps, curves = range(1, NUM_TIMESTEPS + 1), forward.curves(names)
    labels = {
        "alpha_bar": "alpha_bar: variance of the signal",
        "beta": "beta: variance added in a step",
    }
    panels = [
        # alpha_bar is at least 1e-5: beta is 0 there, which a logarithmic axis cannot show.
        {"curves": {name: (steps, np.where(curves[name][key] > 0, curves[name][key], np.nan))
                    for name in names},
         "xlabel": STEP, "ylabel": label, "log": "y" if key == "beta" else ""}
        for key, label in labels.items()
    ]  # fmt: skip
    return figures.line_figure(*panels)


def _normality(normality, plan):
    steps = forward.tested_steps(plan["test_every"])
    titles = {
        "p": "1000 pixels of many digits, as defined",
        "study_p": "784 pixels of one digit, as in the study's code",
    }
    panels = [
        {"curves": {name: (steps, np.maximum(normality[name][key], MIN_P))
                    for name in plan["schedules"]},
         "xlabel": STEP, "ylabel": "p-value", "title": title, "log": "y",
         "reference": (0.05, "p = 0.05")}
        for key, title in titles.items()
    ]  # fmt: skip
    figure = figures.line_figure(*panels)
    for axes in figure.axes:
        for line in axes.lines:
            line.set_linewidth(0.8)
    return figure


def _epochs(plan, every):
    """Epochs after each round (every = 1), or after each part (every = rounds)."""
    count = plan["parts"] * plan["rounds"]
    return [plan["epochs"] * done / count for done in range(every, count + 1, every)]


def _losses(trainings, plan):
    titles = {"loss": "training", "val_loss": "validation"}
    panels = [
        {"curves": {name: (_epochs(plan, 1), trainings[name][key]) for name in plan["schedules"]},
         "xlabel": "epochs", "ylabel": "mean squared error of eps", "title": title, "log": "y"}
        for key, title in titles.items()
    ]  # fmt: skip
    return figures.line_figure(*panels, sharey=True)


def _distances(results, plan):
    epochs = _epochs(plan, plan["rounds"])
    curves = {
        name: (epochs, [score["distance"] for score in results["scores"][name]["curve"]])
        for name in plan["schedules"]
    }
    panel = {"curves": curves, "xlabel": "epochs", "ylabel": DISTANCE, "log": "y", "markers": True,
             "reference": (results["floors"]["curve"]["mean"], BASELINE)}  # fmt: skip
    return figures.line_figure(panel, width=7.0, height=4.2)


def _grids(stages, plan):
    names, parts = plan["schedules"], plan["shown"]
    rows = [
        [stages.array(f"{name}-part{part}", "pictures.npy")[:16] for part in parts]
        for name in names
    ]
    titles = [f"{plan['epochs'] * part / plan['parts']:.3g} epochs" for part in parts]
    return figures.image_table(rows, titles, names)


def _forward(frames, names):
    """A row for each schedule, a column for each stage of one digit."""
    return figures.image_table(frames, _step_titles(frames[0]), names, width=1.5)


def _backward(stages, names):
    """A row for each schedule, a column for each stage of four digits."""
    rows = [stages.array(f"{name}-final", "frames.npy") for name in names]
    return figures.image_table(rows, _step_titles(rows[0])[::-1], names, width=1.5)


def _step_titles(frames):
    last = len(frames) - 1
    return [f"step {NUM_TIMESTEPS * i // last}" for i in range(last + 1)]


def _final(stages, plan):
    rows = [
        [stages.array(f"{name}-final", file)[:36] for name in plan["schedules"]]
        for file in ("chain.npy", "pictures.npy")
    ]
    titles = [f"chain of {plan['chain_steps']} steps", f"{plan['curve_steps']} steps of dpmpp_2m"]
    return figures.image_table(rows, plan["schedules"], titles, width=2.6)
