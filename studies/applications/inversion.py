"""Images into noise and back: how exactly do they return?"""

from keras_diffusion.plotting import figures as plots
from keras_diffusion.sampling import editing
from studies.applications import examples, fills
from studies.applications.context import KINDS
from studies.report import Claim, table

TITLE = "Inverted images return"
GOAL, AT = 35.0, 50  # dB of the round trip, at so many steps
DEFAULT = "heun"  # the sampler of `invert` and `from_noise`
CONDITIONS = ("no label", "true label")
SHOWN = 3  # images of each kind


def measure(context):
    """Returns {kind: {"rows": [...], "examples"}}, see `invert`."""
    return {
        kind: context.stages.run(
            f"inversion-{kind}", lambda folder, kind=kind: invert(context, kind, folder)
        )
        for kind in KINDS
    }


def invert(context, kind, folder):
    """Inverts held-out images and samples from their noise.

    Returns:
        dict of `rows`: condition, sampler, steps, psnr and `std` (of the noise, 1 if it is
        normal); `examples` of the last sampler and condition.
    """
    settings, model = context.settings, context.model(kind)
    images, labels = context.held_out(kind, settings.inverted)
    rows, columns = [], []
    for condition in CONDITIONS:
        options = {"labels": labels} if condition == "true label" else {}
        for sampler in editing.DETERMINISTIC:
            columns = []
            for steps in settings.inversion_steps:
                same = {"sampler": sampler, "num_steps": steps, **options}
                noise = editing.invert(model, images, **same)
                back = editing.from_noise(model, noise, **same)
                columns.append(back)
                row = {"condition": condition, "sampler": sampler, "steps": steps}
                rows.append({**row, "psnr": fills.psnr(back, images), "std": float(noise.std())})
    noisy = (noise.clip(-2, 2) * 63.75 + 127.5).astype("uint8")
    shown = [("", [column[i] for column in (images, noisy, *columns)]) for i in range(SHOWN)]
    titles = ["image", "noise", *(f"{steps} steps" for steps in settings.inversion_steps)]
    kept = examples.keep(folder, f"inversion_{kind}", shown, titles)
    return {"rows": rows, "images": len(images), "examples": kept}


# The page -------------------------------------------------------------------------------------


def claims(result):
    """Returns the claims, decided."""
    return [_returns(kind, result[kind]["rows"]) for kind in result]


def _returns(kind, rows):
    text = (
        f"{kind}: images return with at least {GOAL:g} dB after {AT} steps of {DEFAULT}, the "
        "default sampler, up and down"
    )
    measured = {
        (row["sampler"], row["condition"]): row["psnr"] for row in rows if row["steps"] == AT
    }
    own = [psnr for (sampler, _), psnr in measured.items() if sampler == DEFAULT]
    if not own:
        return Claim(text, f"{AT} steps were not measured", None)
    shown = "; ".join(f"{', '.join(name)}: {psnr:.1f} dB" for name, psnr in measured.items())
    return Claim(text, shown, min(own) >= GOAL)


def section(result):
    """Returns the part of the page."""
    parts = []
    for kind in result:
        rows = result[kind]["rows"]
        steps = list(dict.fromkeys(row["steps"] for row in rows))
        cells = {(r["condition"], r["sampler"], r["steps"]): f"{r['psnr']:.1f} dB" for r in rows}
        ways = dict.fromkeys((row["condition"], row["sampler"]) for row in rows)
        lines = [[kind, *way, *(cells[(*way, count)] for count in steps)] for way in ways]
        parts += [
            table(["images", "condition", "sampler", *(f"{n} steps" for n in steps)], lines),
            f"![{kind.capitalize()}, inverted to noise and sampled again with more and more steps]"
            f"(inversion_{kind}.png)",
        ]
    return "\n\n".join([*parts, "![PSNR of the round trip by steps](inversion.png)"])


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    return examples.figures_of("inversion", result, _curves, stages)


def _curves(result):
    panels = []
    for kind in result:
        curves = examples.curves(
            result[kind]["rows"], "{0[sampler]}, {0[condition]}".format, "steps", "psnr"
        )
        panels.append({"curves": curves, "xlabel": "steps up, and down", "ylabel": "PSNR (dB)",
                       "title": kind, "markers": True, "log": "x",
                       "reference": (GOAL, f"{GOAL:g} dB")})  # fmt: skip
    return plots.line_figure(*panels, width=4.8, height=3.4)
