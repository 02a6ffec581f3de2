"""The figures of this study."""

import numpy as np
from PIL import Image

from keras_diffusion.plotting import figures
from keras_diffusion.plotting.images import grid, save_gif
from studies.figures import BASELINE, DISTANCE, MAX_BYTES, save_all
from studies.mnist_benchmark import NAMES
from studies.mnist_benchmark.report import part_minutes

LOOPS = {
    "compiled": "one compiled loop",
    "calls": "a compiled call per step",
    "plain": "plain Keras operations",
}
FRAME = 800  # milliseconds of a frame of the GIF; the last one is shown three times as long
GIF_IMAGES = 16  # of each configuration; early ones are noise, which needs much space


def plot(results, stages, folder):
    """Writes all figures; those of images only if the images are cached."""
    save_all(folder, {
        "losses": lambda: _losses(results["trainings"]),
        "distances": lambda: _distances(results),
        "steps": lambda: _loops(results),
        "samples32": lambda: _samples(stages, 32, 8),
        "samples100": lambda: _samples(stages, 100, 10),
        "evolving": lambda: _write_evolution(results["plan"]["parts"], stages, folder),
    })  # fmt: skip


def _losses(trainings):
    panels = []
    for name in NAMES:
        rows = trainings[name]["rows"]
        minutes = [row["seconds"] / 60 for row in rows]
        labels = {"loss": "training", "val_loss": "validation (EMA weights)"}
        panels.append({
            "curves": {label: (minutes, [row[key] for row in rows])
                       for key, label in labels.items()},
            "xlabel": "minutes of training", "title": name, "log": "y",
            "ylabel": f"mean squared error of {trainings[name]['prediction_type']}",
        })  # fmt: skip
    return figures.line_figure(*panels)


def _distances(results):
    curves = {
        name: (part_minutes(results["plan"]), [score["distance"] for score in scores["curve"]])
        for name, scores in results["scores"].items()
    }
    panel = {"curves": curves, "xlabel": "minutes of training", "ylabel": DISTANCE,
             "reference": (results["floor"]["mean"], BASELINE), "log": "y",
             "markers": True}  # fmt: skip
    return figures.line_figure(panel, width=7.0, height=4.2)


def _loops(results):
    curves = {
        LOOPS[name]: ([int(steps) for steps in seconds], list(seconds.values()))
        for name, seconds in results["loops"].items()
    }
    panel = {"curves": curves, "xlabel": "DDIM steps", "log": "xy", "markers": True,
             "ylabel": f"seconds for {results['plan']['loop_pictures']} images"}  # fmt: skip
    return figures.line_figure(panel, width=7.0, height=4.2)


def _samples(stages, count, columns):
    images = [stages.array(f"{name}-final", "pictures.npy")[:count] for name in NAMES]
    return figures.image_table([images], list(NAMES), columns=columns, width=4.0)


def _write_evolution(num_parts, stages, folder):
    """Writes a GIF with one frame per part: the samples of both configurations side by side."""
    frames = []
    for part in range(1, num_parts + 1):
        left, right = (
            np.asarray(grid(stages.array(f"{name}-part{part}", "pictures.npy")[:GIF_IMAGES], 8))
            for name in NAMES
        )
        gap = np.full((len(left), left.shape[1] // 12), 255, "uint8")
        frames.append(Image.fromarray(np.concatenate([left, gap, right], axis=1)))
    durations = [FRAME] * (num_parts - 1) + [3 * FRAME]
    save_gif(folder / "evolving.gif", frames, durations, MAX_BYTES)
