"""What this study says, from its results."""

from studies.latents import FIRST_EPOCHS, KINDS, LEAST_PSNR
from studies.page import Claim, number, picture, table

TOLD = 0.5  # share of a class's pictures that the classifier takes for it: it can be told
ERRORS = 2.0  # standard errors, that chance may make of a difference


def claims(results):
    """Returns the claims and whether they hold."""
    pixels, latents = (results[kind] for kind in KINDS)
    codec = latents["codec"]
    return [
        Claim(
            f"held-out images come back from their latents with at least {LEAST_PSNR:g} dB PSNR",
            f"{codec['psnr']:.1f} dB, SSIM {codec['ssim']:.3f}",
            codec["psnr"] >= LEAST_PSNR,
        ),
        *(_falls(kind, results[kind]["curve"]) for kind in KINDS),
        *(_guided(kind, results[kind]["scores"]) for kind in KINDS),
        *(_told(kind, best(results[kind]["scores"])) for kind in KINDS),
        _more("on latents more images are seen in a minute of training", "images",
              images_per_minute(pixels), images_per_minute(latents)),
        _more("on latents more pictures are drawn in a second", "pictures",
              1 / _seconds(pixels), 1 / _seconds(latents)),
        _better(pixels, latents),
    ]  # fmt: skip


def best(scores):
    """Returns the row of the guidance scale with the lowest FID."""
    return min(scores, key=lambda row: row["fid"])


def images_per_minute(found):
    """Returns the pace of the diffusion model alone, without the autoencoder's training."""
    spent = found["codec"]["minutes"] if found["codec"] else 0.0
    return found["images"] / (found["minutes"] - spent)


def _seconds(found):
    """Seconds for each guided picture, at the largest scale."""
    return found["scores"][-1]["seconds_per_image"]


def _falls(kind, curve):
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


def _guided(kind, scores):
    """Beyond chance: the standard error of a share p of n pictures is sqrt(p (1 - p) / n)."""
    low, high = scores[0], scores[-1]
    shares = [row["accuracy"] for row in (low, high)]
    error = sum(p * (1 - p) / low["num_images"] for p in shares) ** 0.5
    gain = shares[1] - shares[0]
    return Claim(
        f"with {kind}, guidance {high['guidance_scale']:g} draws the class asked for more often "
        f"than {low['guidance_scale']:g}",
        f"{shares[1]:.1%} against {shares[0]:.1%}, {ERRORS * error:.1%} is chance",
        None if abs(gain) <= ERRORS * error else gain > 0,
    )


def _told(kind, row):
    known = [share for share in row["by_class"] if share is not None]
    told = sum(share > TOLD for share in known)
    return Claim(
        f"with {kind}, most classes can be told: more than {TOLD:.0%} of their pictures are taken "
        "for them",
        f"{told} of {len(known)} classes at guidance {row['guidance_scale']:g}",
        told > len(known) / 2,
    )


def _more(text, unit, pixels, latents):
    measured = f"{number(latents)} {unit} against {number(pixels)}"
    return Claim(text, f"{measured}, {number(latents / pixels)} times", latents > pixels)


def _better(pixels, latents):
    """Beyond what another set of pictures may change in both FIDs, and unless KID contradicts."""
    ours, theirs = (best(found["scores"]) for found in (latents, pixels))
    chance = ERRORS * 2**0.5 * pixels["floor"].get("fid_std", 0.0)
    gain, of_kid = (theirs[name] - ours[name] for name in ("fid", "kid"))
    decided = abs(gain) > chance and gain * of_kid > 0
    return Claim(
        "after equal minutes latents draw better pictures than pixels (FID and KID, each at its "
        "guidance scale of the lowest FID)",
        f"FID {number(ours['fid'])} against {number(theirs['fid'])}, {number(chance)} is chance; "
        f"KID {number(ours['kid'])} against {number(theirs['kid'])}",
        gain > 0 if decided else None,
    )


def report(results):
    """Returns tables and figures, as markdown."""
    first = results["pixels"]
    shown = f"{first['scores'][0]['num_images']} pictures at each scale"
    return [
        "## After equal minutes",
        _scores(results),
        f"{shown}, in {first['num_steps']} steps of {first['sampler']}, with the average weights. "
        "FID, KID, precision and recall are those of `evaluate.py`, by the features of a "
        f"classifier that is right about {first['classifier']:.1%} of the held-out images; right "
        "class is what it takes for the class that was asked for. The last row is what as many "
        "real, held-out images score.",
        picture("guidance.png", "What guidance does"),
        picture("classes.png", "Classes, each model at its best scale; beneath the name, how often "
                "pixels and latents were taken for it"),
        picture("scales.png", "The same noise at every guidance scale"),
        "## The trainings",
        _trainings(results),
        "Seconds are those of the whole training: with validation, previews and checkpoints, and "
        "for latents with the encoding of all images. `python benchmarks/bench.py --only latents` "
        "measures steps alone.",
        picture("losses.png", "Losses; those of pixels and of latents cannot be compared"),
        picture("reconstructions.png", "Held-out images, and what comes back from their latents"),
    ]  # fmt: skip


def _scores(results):
    rows = []
    for kind in KINDS:
        for score in results[kind]["scores"]:
            rows.append([kind, f"{score['guidance_scale']:g}", *_cells(score)])
            rows[-1].append(number(1000 * score["seconds_per_image"]))
    floor = {**results["pixels"]["floor"], "accuracy": results["pixels"]["classifier"]}
    rows.append(["real, held out", "", *_cells(floor), ""])
    header = ["", "guidance", "FID", "KID", "precision", "recall", "right class", "ms per picture"]
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
        found = results[kind]
        spent = f"{found['codec']['minutes']:.1f}" if found["codec"] else "-"
        pace = images_per_minute(found)
        rows.append([kind, f"{found['minutes']:.1f}", spent, f"{found['images']:,}",
                     number(pace), number(60_000 / pace)])  # fmt: skip
    header = ["", "minutes", "of these the autoencoder", "images seen", "images per minute",
              "ms per image"]  # fmt: skip
    return table(header, rows)
