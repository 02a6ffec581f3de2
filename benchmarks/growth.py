"""How the cost of ours grows: with image size, batch, sampling steps and parameters.

Along each axis the rest stays at BASE. A straight line through the logarithms gives the exponent:
1 is in proportion, 0 is no growth at all.
"""

import math
import os
import statistics
import time

from benchmarks import runs

BASE = {"size": 32, "batch": 16, "steps": 10, "widths": (32, 64, 128)}
AXES = {
    "size": (16, 32, 64, 128),
    "batch": (1, 4, 16, 64, 256),
    "steps": (1, 3, 10, 30, 100, 300, 1000),
    "parameters": (1, 2, 4, 8, 16),  # times those of the smallest
}
TINY_AXES = {"size": (8, 16), "batch": (1, 2), "steps": (1, 2), "parameters": (1, 2)}
TINY_BASE = {"size": 8, "batch": 2, "steps": 2, "widths": (16, 16)}
# Parameters grow with the square of all widths; in multiples of 16, the width of a norm's group.
SMALLEST_WIDTHS, SMALLEST_EMBEDDING = (32, 64, 128), 256
TITLES = {
    "size": "image side, pixels",
    "batch": "batch, images",
    "steps": "sampling steps",
    "parameters": "parameters",
}
LINES = {"training": "training step", "sampling": "sampling"}
REPEATS, LEAST_SECONDS = 3, 1.0  # each point is the median of at least this many
GIVEN_UP = 15 * 60  # seconds


def run(options):
    """Measures along the four axes, a process for each, and draws the figure."""
    found = {"base": dict(TINY_BASE if options.tiny else BASE), "axes": {}}
    for axis in AXES:
        print(f"  {axis}", flush=True)
        result = runs.in_fresh_process("growth.along", GIVEN_UP, axis=axis, tiny=options.tiny)
        found["axes"][axis] = result["points"]
    found["exponents"] = {
        axis: {line: exponent(points, line) for line in LINES if line in points[0]}
        for axis, points in found["axes"].items()
    }
    figure = options.images / "growth.png"
    runs.in_fresh_process(
        "growth.draw", axes=found["axes"], exponents=found["exponents"], path=str(figure)
    )
    found["figure"] = os.path.relpath(figure, options.results.parent)
    return found


def along(axis, tiny=False):
    """Measures all points of an axis; in a fresh process."""
    base = TINY_BASE if tiny else BASE
    points, parameters, model = [], None, None
    for value in (TINY_AXES if tiny else AXES)[axis]:
        if axis in ("size", "parameters") or model is None:
            model = _model(**_network_options(axis, value, base, tiny))
        parameters = model.network.count_params()
        point = {"value": parameters if axis == "parameters" else value}
        batch = value if axis == "batch" else base["batch"]
        if axis != "steps":
            point["training"] = _training_step(model, batch, tiny)
        steps = value if axis == "steps" else base["steps"]
        warm = axis == "steps" and points != []  # one graph serves any number of steps
        point["sampling"] = _seconds(lambda n=batch, s=steps, m=model: m.generate(
            n, num_steps=s, batch_size=n), tiny, warm)  # fmt: skip
        points.append(point)
    return {"points": points, "parameters": parameters}


def _network_options(axis, value, base, tiny):
    options = {"size": base["size"], "widths": base["widths"]}
    if axis == "size":
        options["size"] = value
    if axis == "parameters":
        smallest = base["widths"] if tiny else SMALLEST_WIDTHS
        *widths, embedding = (
            16 * round(width * math.sqrt(value) / 16) for width in (*smallest, SMALLEST_EMBEDDING)
        )
        options.update(widths=tuple(widths), embedding_width=embedding)
    return options


def _model(size, **network):
    import keras

    from keras_diffusion import DiffusionModel, networks
    from keras_diffusion.runtime import precision

    keras.config.set_dtype_policy(precision.policy("auto")[0])
    model = DiffusionModel(networks.unet((size, size, 3), **network))
    model.compile(optimizer=keras.optimizers.AdamW(1e-3, global_clipnorm=1.0))
    return model


def _training_step(model, batch, tiny):
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch, *model.image_shape), dtype="uint8")
    return _seconds(lambda: model.train_on_batch(images), tiny)


def _seconds(call, tiny, warm=False):
    """Median of the seconds that a call takes, after one that is not counted unless `warm`."""
    if not warm:
        call()
    least = 0.0 if tiny else LEAST_SECONDS
    began, taken = time.monotonic(), []
    while len(taken) < REPEATS or (time.monotonic() - began < least and len(taken) < 50):
        start = time.monotonic()
        call()
        taken.append(time.monotonic() - start)
        if taken[-1] > 10 * LEAST_SECONDS:
            break  # one of these is exact enough
    return statistics.median(taken)


def exponent(points, line):
    """Returns the slope of the line through log seconds against log value, by least squares."""
    x = [math.log(point["value"]) for point in points]
    y = [math.log(point[line]) for point in points]
    return statistics.linear_regression(x, y).slope


def draw(axes, exponents, path):
    """Writes the figure: four panels, both scales logarithmic; in a fresh process."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from keras_diffusion.runtime.files import whole_file

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for panel, (axis, points) in zip(panels.flat, axes.items(), strict=True):
        values = [point["value"] for point in points]
        for (line, slope), style in zip(exponents[axis].items(), ("o-", "s--"), strict=False):
            label = f"{LINES[line]}, exponent {slope:.2f}"
            panel.loglog(values, [point[line] for point in points], style, label=label)
        millions = axis == "parameters"
        labels = [f"{value / 1e6:.1f} M" if millions else str(value) for value in values]
        panel.set_xticks(values, labels)
        panel.xaxis.minorticks_off()
        panel.set_xlabel(TITLES[axis])
        panel.set_ylabel("seconds")
        panel.grid(alpha=0.3)
        panel.legend()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with whole_file(path) as part:
        figure.savefig(part, dpi=100)
    return {}


def report(found):
    """Returns the table of exponents and the figure."""
    base = found["base"]
    rows = []
    for axis, points in found["axes"].items():
        slopes = found["exponents"][axis]
        ends = [points[0], points[-1]]
        rows.append(
            [TITLES[axis], " - ".join(f"{point['value']:,}" for point in ends)]
            + [_cell(ends, slopes, line) for line in LINES]
        )
    widths = "-".join(map(str, base["widths"]))
    text = (
        f"Ours alone. What is not varied: {base['size']}x{base['size']}x3, batches of "
        f"{base['batch']}, widths {widths}, {base['steps']} sampling steps. Seconds at both ends, "
        "and the exponent of a straight line through all points (1: in proportion)."
    )
    header = ["", "from - to", *(f"seconds of {line}, exponent" for line in LINES.values())]
    figure = f"![Cost against size, batch, steps and parameters]({found['figure']})"
    return "\n\n".join(["## How cost grows", text, runs.table(header, rows), figure])


def _cell(ends, slopes, line):
    if line not in slopes:
        return "-"
    seconds = " - ".join(runs.figure(point[line]) for point in ends)
    return f"{seconds}, **{slopes[line]:.2f}**"
