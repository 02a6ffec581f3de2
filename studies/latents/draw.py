"""The figures of this study."""

import shutil

from keras_diffusion.runtime.files import whole_file
from keras_diffusion.training import autoencoder_stage
from studies import figures, runs
from studies.latents import KINDS
from studies.latents.measure import PICTURES
from studies.latents.report import best

OF_A_SCALE = 3  # pictures of each class, beside those of other scales
RECONSTRUCTIONS = "reconstructions.png"  # as stage one of the run has drawn it


def draw(results, kept, folder):
    """Writes losses, guidance, classes, scales and reconstructions, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    figures.save(_losses(results), folder / "losses.png")
    figures.save(_guidance(results), folder / "guidance.png")
    drawn = {kind: kept.array(f"{kind}-scores", PICTURES) for kind in KINDS}
    if all(images is not None for images in drawn.values()):  # else the figures stay as they are
        figures.save(_classes(results, drawn), folder / "classes.png")
        figures.save(_scales(results, drawn), folder / "scales.png")
    made = runs.folder("latents", kept) / autoencoder_stage.FOLDER / RECONSTRUCTIONS
    if made.exists():
        with whole_file(folder / RECONSTRUCTIONS) as part:
            shutil.copyfile(made, part)


def _losses(results):
    figure, [places] = figures.sheet(columns=2)
    for axes, kind in zip(places, KINDS, strict=True):
        curve = results[kind]["curve"]
        epochs = range(1, len(curve) + 1)
        shown = {
            label: (epochs, [row[name] for row in curve])
            for label, name in (("training", "loss"), ("validation", "val_loss"))
        }
        figures.lines(axes, shown, xlabel="epochs", ylabel="mean squared error of v", title=kind)
    return figure


def _guidance(results):
    figure, [places] = figures.sheet(columns=2)
    floor = results["pixels"]["floor"]
    for axes, name, label, real in (
        (places[0], "accuracy", "share of the class asked for", results["pixels"]["classifier"]),
        (places[1], "fid", "FID, by the classifier's features", floor["fid"]),
    ):
        shown = {}
        for kind in KINDS:
            scores = results[kind]["scores"]
            shown[kind] = [row["guidance_scale"] for row in scores], [row[name] for row in scores]
        figures.lines(axes, shown, xlabel="guidance scale", ylabel=label, markers=True)
        axes.set_ylim(bottom=0)
        figures.level(axes, real, "real, held out")
    return figure


def _classes(results, drawn):
    """A row for each class, at the guidance scale that scores best; its share of right ones."""
    rows = [best(results[kind]["scores"]) for kind in KINDS]
    chosen = [
        images[results[kind]["scores"].index(row)]
        for (kind, images), row in zip(drawn.items(), rows, strict=True)
    ]
    sets = list(zip(*chosen, strict=True))
    names = results["pixels"]["class_names"]
    titles = [
        f"{names[label] if names else label}\n"
        + ", ".join(_share(row["by_class"][label]) for row in rows)
        for label in range(len(sets))
    ]
    columns = [
        f"{kind}, guidance {row['guidance_scale']:g}" for kind, row in zip(KINDS, rows, strict=True)
    ]
    figure = figures.grids(sets, titles, columns, columns=len(chosen[0][0]), inches=4.0)
    for axes in figure.axes[:: len(KINDS)]:
        axes.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _share(value):
    return "-" if value is None else f"{value:.0%}"


def _scales(results, drawn):
    """The same noise at every guidance scale: a row for each class, some pictures of each."""
    scales = [row["guidance_scale"] for row in results["pixels"]["scores"]]
    sets = [
        [images[:, :OF_A_SCALE].reshape(-1, *images.shape[2:]) for images in drawn[kind]]
        for kind in KINDS
    ]
    titles = [f"guidance {scale:g}" for scale in scales]
    return figures.grids(sets, list(KINDS), titles, columns=OF_A_SCALE, inches=1.4)
