"""Claims and page of this study."""

import numpy as np

from keras_diffusion.diffusion.schedules import SCHEDULES, rates
from keras_diffusion.evaluation.scores import SURE
from studies.noise_schedules import NUM_TIMESTEPS, PUBLISHED, PUBLISHED_STEP
from studies.report import Claim, distance, lower_distance, number, numbers, table

NEAR = 20  # steps that a published step may be missed by
FAR = 200  # steps that are "much earlier"
ENOUGH = 2  # times as many images as features; a covariance of fewer is unreliable
NOISIER = 2.0  # times as much in the border: "noisy"
FIRST_STEPS = 10  # of the chain, for the growth of the signal rate
OTHERS = PUBLISHED[1:]
SAMPLING = {"chain": "in the study's chain", "final": "with our sampler"}


def claims(results):
    """Returns the claims, decided."""
    names = results["plan"]["schedules"]
    missing = [name for name in PUBLISHED if name not in names]
    if missing:
        return [Claim("all claims", f"not trained: {', '.join(missing)}", None)]
    scores, trainings = results["scores"], results["trainings"]
    losses = {name: trainings[name]["final_val_loss"] for name in PUBLISHED}
    return [
        *_normality_claims(results["normality"]),
        *(_cosine_is_best(scores, kind, results["classifier"]) for kind in SAMPLING),
        *(_noisy_backgrounds(scores, kind, results["real_frame"]) for kind in SAMPLING),
        Claim(
            "although their loss is lower than that of cosine",
            f"validation: {numbers(losses)}",
            max(losses["constant"], losses["inverse_linear"]) < losses["cosine"],
        ),
    ]


def _normality_claims(normality):
    tests = {name: sorted(map(_late, normality[name]["study_firsts"])) for name in PUBLISHED}
    median = {name: firsts[len(firsts) // 2] for name, firsts in tests.items()}
    first = {name: normality[name]["first"] for name in PUBLISHED}
    cosine = tests["cosine"]
    return [
        Claim(
            f"with cosine p > 0.05 is first reached at step {PUBLISHED_STEP} of {NUM_TIMESTEPS} "
            f"(within {NEAR}), in the study's own test",
            f"step {_step(median['cosine'])} (median of {len(cosine)} tests, "
            f"{_step(cosine[0])} - {_step(cosine[-1])})",
            abs(median["cosine"] - PUBLISHED_STEP) <= NEAR,
        ),
        Claim(
            f"with the other three much earlier ({FAR} steps), in the same test",
            _steps({name: median[name] for name in OTHERS}),
            all(median["cosine"] - median[name] >= FAR for name in OTHERS),
        ),
        Claim(
            "the same for the forward process as defined, with 1000 pixels in a test",
            _steps(first),
            all(_late(first["cosine"]) - _late(first[name]) >= FAR for name in OTHERS),
        ),
    ]


def _late(step):
    """A step for comparison; None, never reached, is after the last."""
    return NUM_TIMESTEPS + 1 if step is None else step


def _step(step):
    return number(step, 4) if _late(step) <= NUM_TIMESTEPS else "never"


def _steps(steps):
    return ", ".join(f"{name} {_step(step)}" for name, step in steps.items())


def _cosine_is_best(scores, kind, classifier):
    """Cosine against the best of the others."""
    score = {name: scores[name][kind] for name in PUBLISHED}
    rivals = sorted(OTHERS, key=lambda name: score[name]["distance"])
    count, features = score["cosine"]["images"], classifier["feature_width"]
    few = count < ENOUGH * features
    return lower_distance(
        f"cosine gives the best digits, {SAMPLING[kind]}",
        {name: score[name] for name in ("cosine", *rivals)},
        reason=f"{count} images are too few for {features} features" if few else None,
    )


def _noisy_backgrounds(scores, kind, real):
    border = {name: scores[name][kind]["frame"] for name in PUBLISHED}
    clean = max(border["cosine"], border["linear"])
    noisy = min(border["constant"], border["inverse_linear"])
    return Claim(
        f"constant and inverse linear leave noisy backgrounds, {SAMPLING[kind]} (more than "
        f"{NOISIER:g} times as noisy as cosine and linear)",
        f"{numbers(border)} grey levels of 255; real digits {number(real)}",
        noisy > NOISIER * clean,
    )


def values(results):
    """Returns the values of the page, see `report.write`."""
    plan, first = results["plan"], results["scores"][results["plan"]["schedules"][0]]
    seconds = [training["seconds"] for training in results["trainings"].values()]
    return {
        "schedules": _schedule_table(results),
        "counts": {
            "curve": first["curve"][0]["images"],
            **{kind: first[kind]["images"] for kind in SAMPLING},
        },
        "sure": SURE,
        "steps": _step_table(plan["schedules"], results["normality"]),
        "epoch_seconds": sum(seconds) / len(seconds) / plan["epochs"],
        "growth": numbers(_growth(plan["schedules"])),
    }


def _schedule_table(results):
    plan, scores = results["plan"], results["scores"]
    kinds, border = ("final", "chain"), number(results["real_frame"])
    rows = [
        [
            name,
            number(results["trainings"][name]["final_val_loss"]),
            *(distance(scores[name][kind]) for kind in kinds),
            *(number(scores[name][kind]["frame"]) for kind in kinds),
            f"{scores[name]['final']['sure']:.0%}",
        ]
        for name in plan["schedules"]
    ]
    real = [number(results["floors"][kind]["mean"]) for kind in kinds]
    rows.append(["real digits (baseline)", "", *real, border, border, ""])
    ours, chain = f"{plan['curve_steps']} steps of dpmpp_2m", f"chain of {plan['chain_steps']}"
    header = ["schedule", "validation loss", f"distance, {ours}", f"distance, {chain}",
              f"border, {ours}", f"border, {chain}", "confident"]  # fmt: skip
    return table(header, rows)


def _step_table(names, normality):
    sizes = list(normality[names[0]]["by_size"])
    rows = [
        [
            name,
            _step(normality[name]["first"]),
            *(_step(normality[name]["by_size"][size]) for size in sizes),
            ", ".join(map(_step, normality[name]["study_firsts"])),
        ]
        for name in names
    ]
    header = ["schedule", "1000 pixels, every step"]
    header += [f"{int(size):,} pixels" for size in sizes]
    return table([*header, "the study's test"], rows)


def _growth(schedules):
    """By which factor the signal rate grows in the first steps of the reverse process."""
    times = np.array([1.0, 1.0 - FIRST_STEPS / NUM_TIMESTEPS], "float32")
    signal = {name: np.array(rates(SCHEDULES[name], times)[0]) for name in schedules}
    return {name: last / first for name, (first, last) in signal.items()}
