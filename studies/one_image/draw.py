"""The figures of this study."""

import numpy as np

from keras_diffusion import one_image
from studies import figures
from studies.one_image import CLEAR, IDENTIFIABLE
from studies.one_image.measure import PICTURES


def draw(results, kept, folder):
    """Writes forward, backward, reconstruction, quality, variations and wide, as PNG."""
    last = results["trainings"][-1]
    _quality(results["trainings"], folder / "quality.png")
    arrays = kept.array(last["stage"], f"run/{PICTURES}")
    if arrays is None:
        return
    times = [f"t = {t:g}" for t in np.linspace(0, 1, len(arrays["forward"]))]
    strip = figures.grids(
        [_alone(arrays["forward"][:, 0])], [""], times, inches=_inches(arrays, 1.8)
    )
    figures.save(strip, folder / "forward.png")
    way = arrays["backward"][:, :2]
    steps = [f"{100 * i // (len(way) - 1)}% of the steps" for i in range(len(way))]
    rows = [_alone(way[:, number]) for number in range(way.shape[1])]
    names = [f"noise {number + 1}" for number in range(len(rows))]
    figures.save(
        figures.grids(rows, names, steps, inches=_inches(arrays, 1.6)), folder / "backward.png"
    )
    _reconstruction(arrays, last["table"], folder / "reconstruction.png")
    rows = [_alone(row) for row in arrays["variations"]]
    names = [f"from t = {t:g}" for t in one_image.VARIED]
    columns = [f"noise {number + 1}" for number in range(one_image.VARIATIONS)]
    figures.save(
        figures.grids(rows, names, columns, inches=_inches(arrays, 1.3)), folder / "variations.png"
    )
    figures.save(
        figures.grids([_alone(wide)], [""], [""] * len(wide), inches=4), folder / "wide.png"
    )


def _inches(arrays, width):
    """Width of pictures in a figure: that of the flower (2:3) or less, for an equal area."""
    high, wide = arrays["picture"].shape[:2]
    return width * (wide / high / 1.5) ** 0.5


def _alone(images):
    """uint8 (N, H, W, C) -> N sets of one picture."""
    return list(images[:, None])


def _reconstruction(arrays, table, path):
    rows = [[arrays["picture"][None], *_alone(arrays["noised"])]]
    rows.append([None, *_alone(arrays["reconstructed"])])
    titles = ["the picture", *(f"t = {t:g}" for t in one_image.LEVELS)]
    figure = figures.grids(rows, ["noised", "reconstructed"], titles, inches=_inches(arrays, 1.8))
    places = np.reshape(figure.axes, (2, -1))
    for name, row in zip(("noised", "reconstructed"), places, strict=True):
        for scores, axes in zip(table, row[1:], strict=True):
            axes.set_xlabel(one_image.note(scores, name), fontsize=8)
    figures.save(figure, path)


def _quality(trainings, path):
    figure, [[left, right]] = figures.sheet(columns=2, width=4.8, height=3.4)
    for axes, name, label in ((left, "psnr", "PSNR (dB)"), (right, "ssim", "SSIM (1: equal)")):
        curves = {
            f"a training of {training['curve'][-1]['minutes']:.0f} minutes": (
                [point["minutes"] for point in training["curve"]],
                [point[name] for point in training["curve"]],
            )
            for training in trainings
        }
        figures.lines(axes, curves, xlabel="minutes of training", ylabel=label, markers=True)
        axes.set_xlim(left=0)
    figures.level(left, IDENTIFIABLE, f"identifiable: {IDENTIFIABLE:g} dB")
    figures.level(right, CLEAR, f"clear: {CLEAR:g}")
    figure.suptitle("The picture, reconstructed from t = 0.5", fontsize=10)
    figures.save(figure, path)
