"""The figures of this study."""

from keras_diffusion.plotting import figures
from keras_diffusion.training import autoencoder_stage
from studies import runs
from studies.figures import copy_png, level_row_titles, save_all
from studies.latents import KINDS
from studies.latents.measure import IMAGES
from studies.latents.report import best

PER_SCALE = 3  # images of each class in the comparison of scales
RECONSTRUCTIONS = "reconstructions.png"  # of the autoencoder's training


def plot(results, stages, folder):
    """Writes losses, guidance, classes, scales and reconstructions, as PNG."""
    save_all(folder, {
        "losses": lambda: _losses(results),
        "guidance": lambda: _guidance(results),
        "classes": lambda: _classes(results, _images(stages)),
        "scales": lambda: _scales(results, _images(stages)),
    })  # fmt: skip
    codec = runs.folder("latents", stages) / autoencoder_stage.FOLDER
    copy_png(codec / RECONSTRUCTIONS, folder / RECONSTRUCTIONS)


def _images(stages):
    return {kind: stages.array(f"{kind}-scores", IMAGES) for kind in KINDS}


def _losses(results):
    panels = []
    for kind in KINDS:
        curve = results[kind]["curve"]
        epochs = range(1, len(curve) + 1)
        labels = {"loss": "training", "val_loss": "validation"}
        curves = {label: (epochs, [row[name] for row in curve]) for name, label in labels.items()}
        panels.append({"curves": curves, "xlabel": "epochs", "ylabel": "mean squared error of v",
                       "title": kind})  # fmt: skip
    return figures.line_figure(*panels)


def _guidance(results):
    def panel(name, label, real):
        curves = {}
        for kind in KINDS:
            scores = results[kind]["scores"]
            curves[kind] = [row["guidance_scale"] for row in scores], [row[name] for row in scores]
        return {"curves": curves, "xlabel": "guidance scale", "ylabel": label,
                "reference": (real, "real, held out"), "markers": True}  # fmt: skip

    pixels = results["pixels"]
    figure = figures.line_figure(
        panel("accuracy", "share of the requested class", pixels["classifier"]),
        panel("fid", "FID, classifier features", pixels["floor"]["fid"]),
    )
    for axes in figure.axes:
        axes.set_ylim(bottom=0)
    return figure


def _classes(results, images):
    """A row for each class, at the guidance scale of the lowest FID, with its accuracy."""
    rows = {kind: best(results[kind]["scores"]) for kind in KINDS}
    chosen = [images[kind][results[kind]["scores"].index(row)] for kind, row in rows.items()]
    sets = list(zip(*chosen, strict=True))
    names = results["pixels"]["class_names"] or range(len(sets))
    titles = [
        f"{name}\n" + ", ".join(_share(row["by_class"][label]) for row in rows.values())
        for label, name in zip(range(len(sets)), names, strict=False)
    ]
    columns = [f"{kind}, guidance {row['guidance_scale']:g}" for kind, row in rows.items()]
    figure = figures.image_table(sets, columns, titles, columns=len(chosen[0][0]), width=4.0)
    return level_row_titles(figure)


def _share(value):
    return "-" if value is None else f"{value:.0%}"


def _scales(results, images):
    """Some images of each class, from the same noise at every guidance scale."""
    titles = [f"guidance {row['guidance_scale']:g}" for row in results["pixels"]["scores"]]
    sets = [
        [each[:, :PER_SCALE].reshape(-1, *each.shape[2:]) for each in images[kind]]
        for kind in KINDS
    ]
    return figures.image_table(sets, titles, list(KINDS), columns=PER_SCALE, width=1.4)
