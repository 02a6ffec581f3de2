"""The figures of this study."""

import numpy as np

from keras_diffusion.training import single_image
from studies import figures, runs
from studies.one_image import CLEAR, IDENTIFIABLE
from studies.one_image.measure import PICTURES


def draw(results, kept, folder):
    """Writes quality, forward, backward, reconstruction, variations and wide, as PNG."""
    last = results["trainings"][-1]
    _quality(results["trainings"], folder / "quality.png")
    pictures = runs.folder(last["stage"], kept) / PICTURES
    if pictures.exists():  # else the figures of before stay as they are
        drawn = np.load(pictures)
        _strips(drawn, folder)
        _reconstruction(drawn, last["table"], folder / "reconstruction.png")
        _new_pictures(drawn, folder)


def _strips(drawn, folder):
    forward, backward = drawn["forward"][:, 0], drawn["backward"][:, :2]
    times = [f"t = {t:g}" for t in np.linspace(0, 1, len(forward))]
    _table([forward], [""], times, 1.8, folder / "forward.png")
    steps = [f"{100 * i // (len(backward) - 1)}% of the steps" for i in range(len(backward))]
    _table(backward.swapaxes(0, 1), ["noise 1", "noise 2"], steps, 1.6, folder / "backward.png")


def _new_pictures(drawn, folder):
    names = [f"from t = {t:g}" for t in single_image.VARIED]
    columns = [f"noise {number + 1}" for number in range(single_image.VARIATIONS)]
    _table(drawn["variations"], names, columns, 1.3, folder / "variations.png")
    wide = drawn["wide"]
    _table([wide], [""], [f"noise {i + 1}" for i in range(len(wide))], 3.0, folder / "wide.png")


def _reconstruction(drawn, table, path):
    rows = [[drawn["picture"], *drawn["noised"]], [None, *drawn["reconstructed"]]]
    titles = ["the picture", *(f"t = {t:g}" for t in single_image.LEVELS)]
    names = ["noised", "reconstructed"]
    notes = [[None, *(single_image.note(scores, name) for scores in table)] for name in names]
    _table(rows, names, titles, 1.8, path, notes)


def _table(rows, names, titles, inches, path, notes=None):
    """Draws pictures in a table; `inches` is the width of one of 2:3, others have its area."""
    height, width = rows[0][0].shape[:2]
    inches *= (width / height / 1.5) ** 0.5
    sets = [[None if image is None else image[None] for image in row] for row in rows]
    figure = figures.grids(sets, names, titles, inches=inches)
    for axes, note in zip(figure.axes, np.ravel(notes) if notes else (), strict=False):
        axes.set_xlabel(note or "", fontsize=8)
    figures.save(figure, path)


def _quality(trainings, path):
    figure, [[left, right]] = figures.sheet(columns=2, width=4.8, height=3.4)
    for axes, name, label in ((left, "psnr", "PSNR (dB)"), (right, "ssim", "SSIM (1: equal)")):
        curves = {
            f"a training of {training['curve'][-1]['minutes']:.1f} minutes": (
                [point["minutes"] for point in training["curve"]],
                [point[name] for point in training["curve"]],
            )
            for training in trainings
        }
        figures.lines(axes, curves, xlabel="minutes of training", ylabel=label, markers=True)
        axes.set_xlim(left=0)
    figures.level(left, IDENTIFIABLE, f"identifiable: {IDENTIFIABLE:g} dB")
    figures.level(right, CLEAR, f"clear: {CLEAR:g}")
    figure.suptitle(f"The picture, reconstructed from t = {single_image.WATCHED:g}", fontsize=10)
    figures.save(figure, path)
