"""Claims and page of this study."""

from studies.latents import FIRST_EPOCHS, KINDS, MIN_PSNR
from studies.report import Claim, number, table

RECOGNISED = 0.5  # share of a class's images that the classifier assigns to it
ERRORS = 2.0  # standard errors: smaller differences are attributed to chance


def claims(results):
    """Returns the claims, decided."""
    pixels, latents = (results[kind] for kind in KINDS)
    codec = latents["codec"]
    return [
        Claim(
            f"held-out images are reconstructed from their latents with at least {MIN_PSNR:g} dB "
            "PSNR",
            f"{codec['psnr']:.1f} dB, SSIM {codec['ssim']:.3f}",
            codec["psnr"] >= MIN_PSNR,
        ),
        *(_losses_fall(kind, results[kind]["curve"]) for kind in KINDS),
        *(_guidance_helps(kind, results[kind]["scores"]) for kind in KINDS),
        *(_recognised(kind, best(results[kind]["scores"])) for kind in KINDS),
        _faster("training in latents processes more images per minute", "images",
                images_per_minute(pixels), images_per_minute(latents)),
        _faster("sampling in latents generates more images per second", "images",
                1 / _seconds(pixels), 1 / _seconds(latents)),
        _better(pixels, latents),
    ]  # fmt: skip


def best(scores):
    """Returns the row of the guidance scale with the lowest FID."""
    return min(scores, key=lambda row: row["fid"])


def images_per_minute(result):
    """Returns the speed of the diffusion model's training, without the autoencoder's."""
    codec = result["codec"]["minutes"] if result["codec"] else 0.0
    return result["images"] / (result["minutes"] - codec)


def _seconds(result):
    """Seconds per guided image, at the largest scale."""
    return result["scores"][-1]["seconds_per_image"]


def _losses_fall(kind, curve):
    text = f"with {kind} both losses fall in each of the first {FIRST_EPOCHS} epochs"
    first = curve[:FIRST_EPOCHS]
    shown = "; ".join(
        f"{label} {number(first[0][name])} to {number(first[-1][name])}"
        for label, name in (("training", "loss"), ("validation", "val_loss"))
    )
    if len(first) < FIRST_EPOCHS:
        return Claim(text, f"{shown}, in {len(first)} epochs", None)
    pairs = list(zip(first, first[1:], strict=False))
    falls = all(after[name] < row[name] for row, after in pairs for name in row)
    return Claim(text, shown, falls)


def _guidance_helps(kind, scores):
    """Beyond chance: the standard error of a share p of n images is sqrt(p (1 - p) / n)."""
    low, high = scores[0], scores[-1]
    shares = [row["accuracy"] for row in (low, high)]
    error = sum(p * (1 - p) / low["num_images"] for p in shares) ** 0.5
    gain = shares[1] - shares[0]
    return Claim(
        f"with {kind}, guidance {high['guidance_scale']:g} generates the requested class more "
        f"often than {low['guidance_scale']:g}",
        f"{shares[1]:.1%} and {shares[0]:.1%}; by chance up to {ERRORS * error:.1%}",
        None if abs(gain) <= ERRORS * error else gain > 0,
    )


def _recognised(kind, row):
    shares = [share for share in row["by_class"] if share is not None]
    count = sum(share > RECOGNISED for share in shares)
    return Claim(
        f"with {kind}, most classes are recognisable: the classifier assigns more than "
        f"{RECOGNISED:.0%} of their images to them",
        f"{count} of {len(shares)} classes at guidance {row['guidance_scale']:g}",
        count > len(shares) / 2,
    )


def _faster(text, unit, pixels, latents):
    measured = f"{number(latents)} {unit} with latents, {number(pixels)} with pixels"
    return Claim(text, f"{measured}: {number(latents / pixels)} times", latents > pixels)


def _better(pixels, latents):
    """Decided if FID differs by more than between two sets of images, and KID does not disagree."""
    ours, theirs = (best(result["scores"]) for result in (latents, pixels))
    chance = ERRORS * 2**0.5 * pixels["floor"].get("fid_std", 0.0)
    gain, kid_gain = (theirs[name] - ours[name] for name in ("fid", "kid"))
    decided = abs(gain) > chance and gain * kid_gain > 0
    return Claim(
        "after equal minutes latents give better images than pixels (FID and KID, each at its "
        "guidance scale of the lowest FID)",
        f"FID {number(ours['fid'])} and {number(theirs['fid'])}, by chance up to "
        f"{number(chance)}; KID {number(ours['kid'])} and {number(theirs['kid'])}",
        gain > 0 if decided else None,
    )


def values(results):
    """Returns the values of the page, see `report.write`."""
    return {
        "num_images": results["pixels"]["scores"][0]["num_images"],
        "scores": _scores(results),
        "trainings": _trainings(results),
    }


def _scores(results):
    rows = [
        [kind, f"{score['guidance_scale']:g}", *_cells(score),
         number(1000 * score["seconds_per_image"])]
        for kind in KINDS
        for score in results[kind]["scores"]
    ]  # fmt: skip
    real = {**results["pixels"]["floor"], "accuracy": results["pixels"]["classifier"]}
    rows.append(["real, held out", "", *_cells(real), ""])
    header = ["", "guidance", "FID", "KID", "precision", "recall", "accuracy", "ms per image"]
    return table(header, rows)


def _cells(score):
    return [
        number(score["fid"]),
        f"{number(score['kid'])} ± {number(score['kid_error'], 1)}",
        f"{score['precision']:.3f}",
        f"{score['recall']:.3f}",
        f"{score['accuracy']:.1%}",
    ]


def _trainings(results):
    rows = []
    for kind in KINDS:
        result, pace = results[kind], images_per_minute(results[kind])
        codec = f"{result['codec']['minutes']:.1f}" if result["codec"] else "-"
        rows.append([kind, f"{result['minutes']:.1f}", codec, f"{result['images']:,}",
                     number(pace), number(60_000 / pace)])  # fmt: skip
    header = ["", "minutes", "autoencoder's minutes", "training images", "images per minute",
              "ms per image"]  # fmt: skip
    return table(header, rows)
