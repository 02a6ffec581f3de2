"""What this study says, from its results."""

from keras_diffusion.training.single_image import WATCHED, WIDER
from studies import page
from studies.one_image import CLEAR, IDENTIFIABLE, MINUTES

LATE = 1.05  # times the minutes: an epoch that has begun is ended and measured


def claims(results):
    """Returns the claims and whether they hold."""
    trainings = results["trainings"]
    return [
        _within(trainings, MINUTES[0], "psnr", IDENTIFIABLE, "identifiable", "dB PSNR"),
        _within(trainings, MINUTES[1], "ssim", CLEAR, "clear", "SSIM"),
        _longer_is_better(trainings),
        _beats_blur(results),
        _new(trainings[-1]),
    ]


def _within(trainings, minutes, score, least, word, unit):
    points = [point for training in trainings for point in training["curve"]]
    early = [point for point in points if point["minutes"] <= LATE * minutes]
    text = (
        f"the picture is {word} within {minutes:g} minutes: reconstructed from t = {WATCHED:g} "
        f"with at least {least:g} {unit}"
    )
    if not early:
        first = min(point["minutes"] for point in points)
        return page.Claim(text, f"first measured after {first:.1f} minutes", None)
    best = max(early, key=lambda point: point[score])
    measured = f"{page.number(best[score])} after {best['minutes']:.1f} minutes"
    reached = [point["minutes"] for point in points if point[score] >= least]
    if reached and best[score] < least:
        measured += f"; reached after {min(reached):.1f}"
    return page.Claim(text, measured, best[score] >= least)


def _longer_is_better(trainings):
    text = "a longer training reconstructs better from every level"
    if len(trainings) == 1:
        return page.Claim(text, "there was one training", None)
    pairs = zip(trainings[0]["table"], trainings[-1]["table"], strict=True)
    gains = [after["reconstructed_psnr"] - before["reconstructed_psnr"] for before, after in pairs]
    return page.Claim(text, f"{_signed(min(gains))} to {_signed(max(gains))} dB", min(gains) > 0)


def _beats_blur(results):
    pairs = list(zip(results["trainings"][-1]["table"], results["blur"], strict=True))
    gains = [row["reconstructed_psnr"] - blur["psnr"] for row, blur in pairs]
    return page.Claim(
        "it knows the picture: better than the best Gaussian blur of the noised picture at every "
        "level",
        f"{_signed(min(gains))} to {_signed(max(gains))} dB",
        min(gains) > 0,
    )


def _new(training):
    nearest = max(training["from_noise"])
    return page.Claim(
        "from noise alone come new pictures, not the picture again "
        f"(all below {IDENTIFIABLE:g} dB PSNR to it)",
        f"{page.number(min(training['from_noise']))} to {page.number(nearest)} dB",
        nearest < IDENTIFIABLE,
    )


def _signed(value):
    return f"{value:+.1f}"


def report(results):
    """Returns table and figures, as markdown."""
    last = results["trainings"][-1]
    height, width = last["size"]
    crop = "x".join(map(str, last["crop_size"]))
    return [
        "## From how much noise it comes back",
        f"The picture, reduced to {height}x{width}, learned from random crops of {crop}: "
        + "; ".join(map(_length, results["trainings"]))
        + ". The blur is the best of all Gaussian ones, chosen with the picture at hand.",
        _table(results),
        page.picture("reconstruction.png", "Noised to t, and reconstructed (last training)"),
        page.picture("quality.png", "Quality of the reconstruction against minutes of training"),
        "## The two processes",
        page.picture("forward.png", "The forward process: the picture becomes noise"),
        page.picture("backward.png", "The reverse process, from noise alone"),
        "## New pictures",
        page.picture("variations.png", "Drawn anew from the picture at t; t = 1 is noise alone"),
        page.picture("wide.png", f"From noise, {WIDER:g} times as wide as the picture"),
    ]


def _length(training):
    curve = training["curve"]
    return (
        f"{training['crops']:,} crops in {curve[-1]['minutes']:.1f} minutes ({len(curve)} epochs)"
    )


def _table(results):
    trainings = results["trainings"]
    header = ["t", "noised", "best blur"]
    header += [f"after {each['curve'][-1]['minutes']:.1f} min" for each in trainings]
    rows = []
    for level, blur in enumerate(results["blur"]):
        noised = trainings[-1]["table"][level]
        cells = [(noised["noised_psnr"], noised["noised_ssim"]), (blur["psnr"], blur["ssim"])]
        for each in trainings:
            row = each["table"][level]
            cells.append((row["reconstructed_psnr"], row["reconstructed_ssim"]))
        rows.append([f"{blur['t']:g}", *(f"{p:.1f} dB, {s:.2f}" for p, s in cells)])
    return page.table([header[0], *(f"{name}: PSNR, SSIM" for name in header[1:])], rows)
