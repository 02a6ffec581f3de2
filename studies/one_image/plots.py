"""The figures of this study."""

import functools

import numpy as np

from keras_diffusion.plotting import figures
from keras_diffusion.training import single_image
from studies import runs
from studies.figures import save_all
from studies.one_image import CLEAR, IDENTIFIABLE
from studies.one_image.measure import IMAGES


def plot(results, stages, folder):
    """Writes quality, forward, backward, reconstruction, variations and wide, as PNG."""
    last = results["trainings"][-1]

    @functools.cache
    def images():
        return np.load(runs.folder(last["stage"], stages) / IMAGES)

    save_all(folder, {
        "quality": lambda: _quality(results["trainings"]),
        "forward": lambda: _forward(images()["forward"][:, 0]),
        "backward": lambda: _backward(images()["backward"][:, :2]),
        "reconstruction": lambda: _reconstruction(images(), last["table"]),
        "variations": lambda: _variations(images()["variations"]),
        "wide": lambda: _table([images()["wide"]], _numbered(images()["wide"]), width=3.0),
    })  # fmt: skip


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


def _forward(frames):
    return _table([frames], [f"t = {t:g}" for t in np.linspace(0, 1, len(frames))], width=1.8)


def _backward(frames):
    titles = [f"{100 * i // (len(frames) - 1)}% of the steps" for i in range(len(frames))]
    return _table(frames.swapaxes(0, 1), titles, ["noise 1", "noise 2"], width=1.6)


def _reconstruction(images, scores):
    rows = [[images["picture"], *images["noised"]], [None, *images["reconstructed"]]]
    titles = ["the image", *(f"t = {t:g}" for t in single_image.LEVELS)]
    names = ["noised", "reconstructed"]
    notes = [[None, *(single_image.note(row, name) for row in scores)] for name in names]
    return _table(rows, titles, names, notes, width=1.8)


def _variations(images):
    names = [f"from t = {t:g}" for t in single_image.VARIED]
    return _table(images, _numbered(images[0]), names, width=1.3)


def _numbered(images):
    return [f"noise {i + 1}" for i in range(len(images))]


def _table(rows, *titles, width):
    """A table of images; `width` is that of a 2:3 image in inches, others get the same area."""
    height, length = rows[0][0].shape[:2]
    return figures.image_table(rows, *titles, width=width * (length / height / 1.5) ** 0.5)
