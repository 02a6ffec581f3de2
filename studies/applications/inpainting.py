"""Filling what is masked, beside fills that need no model; is the fill the right digit?"""

import time

import numpy as np

from keras_diffusion.diffusion import operators
from keras_diffusion.evaluation import classifier
from keras_diffusion.sampling import editing
from studies.applications import examples, fills
from studies.applications.context import KINDS
from studies.report import Claim, table

TITLE = "What is masked is filled better than without a model"
GOAL = 0.9  # of the share of right digits among samples of the posterior
CG_STEPS = (1, 3, 5)
SHOWN = 2  # images for each mask
SHOWN_DIGITS = 5
HALF = "lower half"
METHODS = {"replace": "replacement", "repaint": "RePaint", "mmps": "MMPS"}  # of `restore`


def measure(context):
    """Returns dict of `digits`, `flowers` (see `fill`), `recognised` and `cg` (see below)."""
    run = context.stages.run
    results = {
        kind: run(f"inpainting-{kind}", lambda folder, kind=kind: fill(context, kind, folder))
        for kind in KINDS
    }
    results["recognised"] = run("inpainting-recognised", lambda folder: recognise(context, folder))
    results["cg"] = run("inpainting-cg", lambda folder: compare_cg_steps(context))
    results["models"] = {kind: context.facts(kind) for kind in KINDS}
    return results


def fill(context, kind, folder):
    """Fills held-out images by all masks, without labels and prompts.

    Returns:
        dict of `rows` (mask, method, psnr and ssim of missing pixels), `changed` (largest change of
        a known pixel, in grey levels) and `examples`.
    """
    settings, model = context.settings, context.model(kind)
    images, _ = context.held_out(kind, settings.images)
    rows, shown, changed = [], [], 0
    for mask, known in fills.masks(images.shape[1:], len(images), settings.seed).items():
        results = {
            "nearest pixel": fills.nearest(images, known),
            "harmonic": fills.harmonic(images, known),
            "MMPS": _restore(model, images, known, settings),
        }
        for method, filled in results.items():
            scores = {"psnr": fills.psnr(filled, images, known)}
            scores["ssim"] = fills.ssim(filled, images, known)
            rows.append({"mask": mask, "method": method, **scores})
        difference = np.abs(results["MMPS"].astype(int) - images)[known]
        changed = max(changed, int(difference.max()))
        columns = [images, examples.masked(images, known), *results.values()]
        shown += [(mask, [column[i] for column in columns]) for i in range(SHOWN)]
    titles = ["truth", "given", *results]
    kept = examples.keep(folder, f"inpainting_{kind}", shown, titles)
    return {"rows": rows, "changed": changed, "images": len(images), "examples": kept}


def _restore(model, images, known, settings, **options):
    """Returns filled images; what is missing is 0 in what the model gets."""
    return editing.restore(
        model,
        images * known[..., None],
        operators.mask(known),
        **{
            "num_steps": settings.num_steps,
            "cg_steps": settings.cg_steps,
            "seed": settings.seed,
            **options,
        },
    )


def recognise(context, folder):
    """Fills lower halves of digits; a classifier of whole digits says which digits they are.

    Returns:
        dict of `right` ({method: share of the true class}), `ideal` (mean probability of the true
        class by a classifier of upper halves, of the same digits: the share of right digits among
        samples of the posterior), `ideal_all` (of all held-out digits), `images`, `examples`.
    """
    settings, model = context.settings, context.model("digits")
    images, labels = context.held_out("digits", settings.images)
    known = fills.masks(images.shape[1:], len(images), settings.seed)[HALF]
    results = {"harmonic": fills.harmonic(images, known)}
    for method, name in METHODS.items():
        results[name] = _restore(model, images, known, settings, method=method)
    scorer = context.scorer("digits")
    right = {name: _share(scorer, each, labels) for name, each in results.items()}
    right["truth"] = _share(scorer, images, labels)
    columns = [images, examples.masked(images, known), *results.values()]
    shown = [("", [column[i] for column in columns]) for i in range(SHOWN_DIGITS)]
    kept = examples.keep(folder, "recognised", shown, ["truth", "given", *results])
    return {"right": right, **_ideal(context), "images": len(images), "examples": kept}


def _share(scorer, images, labels):
    return float(np.mean(scorer.classes(images) == labels))


def _ideal(context):
    arrays = dict(context.real("digits").arrays)
    for split in ("train", "test"):
        upper = arrays[f"{split}_images"].copy()
        upper[:, upper.shape[1] // 2 :] = 0
        arrays[f"{split}_images"] = upper
    size = len(arrays["train_images"])
    settings = classifier.settings_for(arrays["train_images"].shape[1:], size)
    settings = classifier.TINY if "digits" in context.settings.stand_ins else settings
    model = classifier.train(arrays, settings, context.stages.log)
    labels = arrays["test_labels"]
    _, probabilities = classifier.predict(model, arrays["test_images"])
    true = probabilities[np.arange(len(labels)), labels]
    rows = np.random.default_rng(context.settings.seed).permutation(len(labels))
    return {
        "ideal": float(true[rows[: context.settings.images]].mean()),
        "ideal_all": float(true.mean()),
    }


def compare_cg_steps(context):
    """Returns {"rows": [...]}: share of right digits, psnr and seconds by CG steps."""
    settings, model = context.settings, context.model("digits")
    images, labels = context.held_out("digits", settings.cg_images)
    known = fills.masks(images.shape[1:], len(images), settings.seed)[HALF]
    rows = []
    for cg_steps in CG_STEPS:
        _restore(model, images[:2], known[:2], settings, cg_steps=cg_steps, num_steps=1)  # traces
        start = time.monotonic()
        filled = _restore(model, images, known, settings, cg_steps=cg_steps)
        seconds = time.monotonic() - start
        right = _share(context.scorer("digits"), filled, labels)
        psnr = fills.psnr(filled, images, known)
        rows.append({"cg_steps": cg_steps, "right": right, "psnr": psnr, "seconds": seconds})
    return {"rows": rows, "images": len(images)}


# The page -------------------------------------------------------------------------------------


def claims(result):
    """Returns the claims, decided."""
    changed = {kind: result[kind]["changed"] for kind in KINDS}
    recognised = result["recognised"]
    share, ideal = recognised["right"]["MMPS"], recognised["ideal"]
    return [
        Claim(
            "known pixels come back exactly",
            ", ".join(f"{kind}: largest change {most}" for kind, most in changed.items()),
            not any(changed.values()),
        ),
        *(_nearer(kind, result[kind]["rows"]) for kind in KINDS),
        Claim(
            f"digits whose lower half is filled are right {GOAL:g} times as often as samples of "
            "the posterior would be, or more",
            f"{share:.1%} of {recognised['images']}, ideal {ideal:.1%}: {share / ideal:.2f} of it; "
            f"harmonic {recognised['right']['harmonic']:.1%}",
            share >= GOAL * ideal,
        ),
    ]


def _nearer(kind, rows):
    """The claim that the fills of a model have the highest SSIM by every mask."""
    by_mask = {}
    for row in rows:
        by_mask.setdefault(row["mask"], {})[row["method"]] = row["ssim"]
    shown, wins = [], []
    for mask, scores in by_mask.items():
        best = max((name for name in scores if name != "MMPS"), key=scores.get)
        shown.append(f"{mask}: {scores['MMPS']:.3f}, {best} {scores[best]:.3f}")
        wins.append(scores["MMPS"] > scores[best])
    text = f"{kind}: a fill is more similar to the truth (SSIM) than fills without a model"
    return Claim(f"{text}, by every mask", "; ".join(shown), all(wins))


def section(result):
    """Returns the part of the page."""
    rows = [
        [kind, row["mask"], row["method"], f"{row['psnr']:.1f} dB", f"{row['ssim']:.3f}"]
        for kind in KINDS
        for row in result[kind]["rows"]
    ]
    recognised = result["recognised"]
    right = [[name, f"{share:.1%}"] for name, share in recognised["right"].items()]
    right.append(["ideal: samples of the posterior", f"{recognised['ideal']:.1%}"])
    right.append(["the same, all held-out digits", f"{recognised['ideal_all']:.1%}"])
    cg = [
        [row["cg_steps"], f"{row['right']:.0%}", f"{row['psnr']:.1f} dB", f"{row['seconds']:.1f} s"]
        for row in result["cg"]["rows"]
    ]
    return "\n\n".join([
        _models(result["models"]),
        table(["images", "mask", "fill", "PSNR", "SSIM"], rows),
        "![Digits: missing pixels filled without a model and with one](inpainting_digits.png)",
        "![Flowers: missing pixels filled without a model and with one](inpainting_flowers.png)",
        f"Lower halves of {recognised['images']} digits, filled without labels:",
        table(["fill", "recognised as the true digit"], right),
        "![Lower halves of digits, filled by several methods](recognised.png)",
        f"MMPS on {result['cg']['images']} digits:",
        table(["CG steps", "right", "PSNR", "time"], cg),
    ])  # fmt: skip


def _models(models):
    """Returns a line about the models."""
    parts = []
    for kind, facts in models.items():
        training = ", ".join(f"{k} {v}" for k, v in facts["training"].items() if v is not None)
        parts.append(f"{kind}: `{facts['name']}` ({training})")
    return f"Models: {'; '.join(parts)}."


def figures(result, stages):
    """Returns {name: function that returns a figure}."""
    stage_of = {kind: f"inpainting-{kind}" for kind in KINDS}
    stage_of["recognised"] = "inpainting-recognised"
    found = {}
    for name, stage in stage_of.items():
        found.update(examples.figure(result[name]["examples"], stage, stages))
    return found
