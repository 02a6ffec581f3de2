"""Claims and page of this study."""

from keras_diffusion.training.single_image import WATCHED, WIDER
from studies.one_image import CLEAR, IDENTIFIABLE, MINUTES
from studies.report import Claim, number, table

LATE = 1.05  # times the minutes: an epoch that has begun is completed and measured


def claims(results):
    """Returns the claims, decided."""
    trainings = results["trainings"]
    last = trainings[-1]
    gains = [
        row["reconstructed_psnr"] - blur["psnr"]
        for row, blur in zip(last["table"], results["blur"], strict=True)
    ]
    from_noise = last["from_noise"]
    return [
        _within(trainings, MINUTES[0], "psnr", IDENTIFIABLE, "identifiable", "dB PSNR"),
        _within(trainings, MINUTES[1], "ssim", CLEAR, "clear", "SSIM"),
        _longer_is_better(trainings),
        Claim(
            "the model has learned the image: its reconstruction is better than the best Gaussian "
            "blur of the noised image at every level",
            _range(gains),
            min(gains) > 0,
        ),
        Claim(
            "samples from noise alone are new images, not the image again (all below "
            f"{IDENTIFIABLE:g} dB PSNR to it)",
            f"{number(min(from_noise))} to {number(max(from_noise))} dB",
            max(from_noise) < IDENTIFIABLE,
        ),
    ]


def _within(trainings, minutes, score, minimum, word, unit):
    points = [point for training in trainings for point in training["curve"]]
    early = [point for point in points if point["minutes"] <= LATE * minutes]
    text = (
        f"the image is {word} within {minutes:g} minutes: reconstructed from t = {WATCHED:g} "
        f"with at least {minimum:g} {unit}"
    )
    if not early:
        first = min(point["minutes"] for point in points)
        return Claim(text, f"first measured after {first:.1f} minutes", None)
    best = max(early, key=lambda point: point[score])
    measured = f"{number(best[score])} after {best['minutes']:.1f} minutes"
    reached = [point["minutes"] for point in points if point[score] >= minimum]
    if reached and best[score] < minimum:
        measured += f"; reached after {min(reached):.1f}"
    return Claim(text, measured, best[score] >= minimum)


def _longer_is_better(trainings):
    text = "a longer training reconstructs better from every level"
    if len(trainings) == 1:
        return Claim(text, "there was one training", None)
    pairs = zip(trainings[0]["table"], trainings[-1]["table"], strict=True)
    gains = [after["reconstructed_psnr"] - before["reconstructed_psnr"] for before, after in pairs]
    return Claim(text, _range(gains), min(gains) > 0)


def _range(gains):
    return f"{min(gains):+.1f} to {max(gains):+.1f} dB"


def values(results):
    """Returns the values of the page, see `report.write`."""
    last = results["trainings"][-1]
    lengths = [
        f"{training['crops']:,} crops in {training['curve'][-1]['minutes']:.1f} minutes "
        f"({len(training['curve'])} epochs)"
        for training in results["trainings"]
    ]
    return {
        **{name: "x".join(map(str, last[name])) for name in ("size", "crop_size")},
        "lengths": "; ".join(lengths),
        "levels": _level_table(results),
        "wider": WIDER,
    }


def _level_table(results):
    trainings = results["trainings"]
    header = ["noised", "best blur"]
    header += [f"after {each['curve'][-1]['minutes']:.1f} min" for each in trainings]
    rows = []
    for level, blur in enumerate(results["blur"]):
        scores = [each["table"][level] for each in trainings]
        cells = [(scores[-1]["noised_psnr"], scores[-1]["noised_ssim"])]
        cells += [(blur["psnr"], blur["ssim"])]
        cells += [(row["reconstructed_psnr"], row["reconstructed_ssim"]) for row in scores]
        rows.append([f"{blur['t']:g}", *(f"{psnr:.1f} dB, {ssim:.2f}" for psnr, ssim in cells)])
    return table(["t", *(f"{name}: PSNR, SSIM" for name in header)], rows)
