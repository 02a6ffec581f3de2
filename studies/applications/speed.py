"""How many images per second each edit takes, by the number of steps."""

import time

from keras_diffusion.diffusion import operators
from keras_diffusion.plotting import figures as plots
from keras_diffusion.sampling import editing
from keras_diffusion.sampling.anomaly import anomaly_map
from studies.applications import fills
from studies.applications.context import KINDS
from studies.report import Claim, number, table

TITLE = "The time of an edit is proportional to its steps"
NEAR = 0.25  # of proportional


def measure(context):
    """Returns {kind: {"rows": [...], "batch"}}, see `time_edits`."""
    return {
        kind: context.stages.run(
            f"speed-{kind}", lambda folder, kind=kind: time_edits(context, kind)
        )
        for kind in KINDS
    }


def edits(model, images, labels, seed):
    """Returns {name: function of a number of steps} that edit a batch of images."""
    known = fills.masks(images.shape[1:], len(images), seed)["centre box"]
    small = operators.downscale(2).apply(images.astype("float32") / 255)
    size = {"batch_size": len(images)}

    def inpaint(cg_steps):
        return lambda steps: editing.restore(
            model, images, operators.mask(known), cg_steps=cg_steps, num_steps=steps, **size
        )

    return {
        "generate": lambda steps: model.generate(len(images), num_steps=steps, **size),
        "img2img": lambda steps: editing.img2img(model, images, num_steps=steps, **size),
        "fill, 1 CG step": inpaint(1),
        "fill, 3 CG steps": inpaint(3),
        "fill, RePaint": lambda steps: editing.restore(
            model, images, operators.mask(known), method="repaint", num_steps=steps, **size
        ),
        "enlarge, 3 CG steps": lambda steps: editing.restore(
            model, small, operators.downscale(2), num_steps=steps, **size
        ),
        "invert, heun": lambda steps: editing.invert(model, images, num_steps=steps, **size),
        "translate, heun": lambda steps: editing.translate(
            model, images, source=labels, target=labels, num_steps=steps, **size
        ),
        "anomaly map by inversion, ddim": lambda steps: anomaly_map(
            model, images, noise="inversion", num_steps=steps, **size
        ),
    }


def time_edits(context, kind):
    """Times one batch of held-out images after a shorter call, which traces the graph.

    Returns:
        dict of `rows` (edit, and seconds for each number of steps) and `batch`, its size.
    """
    settings, model = context.settings, context.model(kind)
    images, labels = context.held_out(kind, settings.speed_batch)
    rows = []
    for name, edit in edits(model, images, labels, settings.seed).items():
        edit(1)
        seconds = []
        for steps in settings.speed_steps:
            start = time.monotonic()
            edit(steps)
            seconds.append(time.monotonic() - start)
        rows.append({"edit": name, "seconds": seconds})
    return {"rows": rows, "steps": settings.speed_steps, "batch": len(images)}


# The page -------------------------------------------------------------------------------------


def claims(result):
    """Returns the claims, decided."""
    return [_proportional(kind, result[kind]) for kind in result]


def _proportional(kind, result):
    first, last = result["steps"][0], result["steps"][-1]
    growth = {row["edit"]: row["seconds"][-1] / row["seconds"][0] for row in result["rows"]}
    low, high = min(growth, key=growth.get), max(growth, key=growth.get)
    expected = last / first
    return Claim(
        f"{kind}: {last} steps take {expected:g} times as long as {first}, give or take {NEAR:.0%}",
        f"{number(growth[low])} times ({low}) to {number(growth[high])} times ({high})",
        expected * (1 - NEAR) <= growth[low] and growth[high] <= expected * (1 + NEAR),
    )


def section(result):
    """Returns the part of the page."""
    rows = [
        [kind, row["edit"], *(number(result[kind]["batch"] / each) for each in row["seconds"])]
        for kind in result
        for row in result[kind]["rows"]
    ]
    any_kind = next(iter(result.values()))
    header = ["images", "edit", *(f"{steps} steps" for steps in any_kind["steps"])]
    return "\n\n".join([
        f"Images per second, in batches of {any_kind['batch']}, after the graph was traced:",
        table(header, rows),
        "![Seconds for each image](speed.png)",
    ])  # fmt: skip


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    return {"speed": lambda: _curves(result)}


def _curves(result):
    panels = []
    for kind, each in result.items():
        curves = {
            row["edit"]: (each["steps"], [value / each["batch"] for value in row["seconds"]])
            for row in each["rows"]
        }
        panels.append({"curves": curves, "xlabel": "steps", "ylabel": "seconds per image",
                       "title": kind, "log": "xy", "markers": True})  # fmt: skip
    figure = plots.line_figure(*panels, width=4.4, height=4.2)
    for axes in figure.axes:
        axes.get_legend().remove()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
