"""The figures of this study."""

from keras_diffusion.plotting import figures
from keras_diffusion.training import single_image
from studies import runs
from studies.figures import copy_png, save_all
from studies.one_image import CLEAR, IDENTIFIABLE

COPIED = {  # name here: name in the folder of the last run
    **{name: name for name in ("forward", "backward", "reconstruction", "variations")},
    "wide": "other_size",
}


def plot(results, stages, folder):
    """Writes quality.png, and copies the other figures from the last run if it is there."""
    trainings = results["trainings"]
    save_all(folder, {"quality": lambda: _quality(trainings)})
    for name, source in COPIED.items():
        run_dir = runs.folder(trainings[-1]["stage"], stages)
        copy_png(run_dir / f"{source}.png", folder / f"{name}.png")


def _quality(trainings):
    def panel(name, label, reference):
        curves = {
            f"training of {training['curve'][-1]['minutes']:.1f} minutes": (
                [point["minutes"] for point in training["curve"]],
                [point[name] for point in training["curve"]],
            )
            for training in trainings
        }
        return {"curves": curves, "xlabel": "minutes of training", "ylabel": label,
                "reference": reference, "markers": True}  # fmt: skip

    figure = figures.line_figure(
        panel("psnr", "PSNR (dB)", (IDENTIFIABLE, f"identifiable: {IDENTIFIABLE:g} dB")),
        panel("ssim", "SSIM (1: equal)", (CLEAR, f"clear: {CLEAR:g}")),
        width=4.8, height=3.4,
    )  # fmt: skip
    for axes in figure.axes:
        axes.set_xlim(left=0)
    figure.suptitle(f"Reconstruction of the image from t = {single_image.WATCHED:g}", fontsize=10)
    return figure
