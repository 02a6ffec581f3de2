"""The figures of the study."""

import numpy as np

from keras_diffusion.plotting import images as pictures
from studies import figures
from studies.mnist_benchmark import NAMES

WAYS = {
    "compiled": "one compiled loop",
    "calls": "a compiled call for each step",
    "plain": "Keras operations, one by one",
}
FRAME_SECONDS = 0.8  # of the GIF
EVOLVING = 16  # pictures of each in it: early ones are noise, which takes much space


def draw(results, kept, folder):
    """Writes all figures; those of pictures only where the pictures are kept.

    Args:
        results: of `measure.measure`.
        kept: `kept.Kept`.
        folder: of the PNGs.
    """
    figures.save(_losses(results["trainings"]), folder / "losses.png")
    figures.save(_distances(results), folder / "distances.png")
    figures.save(_loops(results), folder / "steps.png")
    final = [kept.array(f"{name}-final", "pictures.npy") for name in NAMES]
    if all(images is not None for images in final):
        for count, columns in ((32, 8), (100, 10)):
            sets = [[images[:count] for images in final]]
            figure = figures.grids(sets, [""], list(NAMES), columns=columns, inches=4.0)
            figures.save(figure, folder / f"samples{count}.png")
    parts = range(1, results["plan"]["parts"] + 1)
    stages = [[kept.array(f"{name}-part{i}", "pictures.npy") for name in NAMES] for i in parts]
    if all(images is not None for row in stages for images in row):
        frames = [_side_by_side([images[:EVOLVING] for images in row]) for row in stages]
        figures.save_gif(frames, folder / "evolving.gif", FRAME_SECONDS)


def _losses(trainings):
    figure, [places] = figures.sheet(columns=2)
    for axes, name in zip(places, NAMES, strict=True):
        rows = trainings[name]["rows"]
        minutes = [row["seconds"] / 60 for row in rows]
        shown = {
            "training": (minutes, [row["loss"] for row in rows]),
            "validation (averaged weights)": (minutes, [row["val_loss"] for row in rows]),
        }
        label = f"mean squared error of {trainings[name]['prediction_type']}"
        figures.lines(axes, shown, xlabel="minutes of training", ylabel=label, title=name, log=True)
    return figure


def _distances(results):
    figure, [[axes]] = figures.sheet(width=7.0, height=4.2)
    plan = results["plan"]
    minutes = [plan["minutes"] * i / plan["parts"] for i in range(1, plan["parts"] + 1)]
    shown = {
        name: (minutes, [score["distance"] for score in results["scores"][name]["curve"]])
        for name in NAMES
    }
    figures.lines(
        axes, shown, xlabel="minutes of training", ylabel="Frechet distance to real digits",
        log=True, markers=True,
    )  # fmt: skip
    figures.level(axes, results["floor"]["mean"], "real digits (floor)")
    return figure


def _loops(results):
    figure, [[axes]] = figures.sheet(width=7.0, height=4.2)
    shown = {
        WAYS[way]: ([int(steps) for steps in seconds], list(seconds.values()))
        for way, seconds in results["loops"].items()
    }
    label = f"seconds for {results['plan']['loop_pictures']} pictures"
    figures.lines(axes, shown, xlabel="steps of DDIM", ylabel=label, log=True, markers=True)
    axes.set_xscale("log")
    return figure


def _side_by_side(sets):
    """Grids of both configurations, uint8 (H, W), with a gap between."""
    left, right = (np.asarray(pictures.grid(images, 8)) for images in sets)
    gap = np.full((len(left), left.shape[1] // 12), 255, "uint8")
    return np.concatenate([left, gap, right], axis=1)
