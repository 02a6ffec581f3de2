"""What the study says, from what was measured."""

import numpy as np

from keras_diffusion.diffusion.schedules import SCHEDULES, rates
from studies.noise_schedules import NUM_TIMESTEPS, PUBLISHED, PUBLISHED_STEP
from studies.page import Claim, lower, number, picture, table

NEAR = 20  # steps that a published step may be missed by
FAR = 200  # steps that are "far earlier"
ENOUGH = 2  # times as many pictures as features: of fewer a covariance says little
NOISIER = 2.0  # times as much in the frame: "noisy"
OTHERS = PUBLISHED[1:]
WAYS = {"chain": "in the study's chain", "final": "by our sampler"}


def claims(results):
    """Returns the study's claims, decided."""
    names = results["plan"]["schedules"]
    missing = [name for name in PUBLISHED if name not in names]
    if missing:
        return [Claim("all of them", f"not trained: {', '.join(missing)}", None)]
    scores, losses = results["scores"], results["trainings"]
    return [
        *_normality_claims(results["normality"]),
        *(_best(scores, kind, way, results["classifier"]) for kind, way in WAYS.items()),
        *(_noisy(scores, kind, way, results["real_frame"]) for kind, way in WAYS.items()),
        _lower_loss({name: losses[name]["final_val_loss"] for name in PUBLISHED}),
    ]


def _normality_claims(found):
    median = {name: _median(found[name]["study_firsts"]) for name in PUBLISHED}
    first = {name: found[name]["first"] for name in PUBLISHED}
    tests = found["cosine"]["study_firsts"]
    spread = f"{_step(min(map(_late, tests)))} - {_step(max(map(_late, tests)))}"
    return [
        Claim(
            f"with cosine p > 0.05 comes at step {PUBLISHED_STEP} of {NUM_TIMESTEPS} (within "
            f"{NEAR}), by the study's own test",
            f"step {_step(median['cosine'])} (median of {len(tests)} tests, {spread})",
            abs(median["cosine"] - PUBLISHED_STEP) <= NEAR,
        ),
        Claim(
            f"with the other three far earlier ({FAR} steps), by the same test",
            _steps({name: median[name] for name in OTHERS}),
            all(median["cosine"] - median[name] >= FAR for name in OTHERS),
        ),
        Claim(
            "the same for the forward process as it is defined, 1000 pixels in a test",
            _steps(first),
            all(_late(first["cosine"]) - _late(first[name]) >= FAR for name in OTHERS),
        ),
    ]


def _late(step):
    """A step to compare; one that never came is after the last."""
    return NUM_TIMESTEPS + 1 if step is None else step


def _step(step):
    return number(step, 4) if _late(step) <= NUM_TIMESTEPS else "never"


def _steps(found):
    return ", ".join(f"{name} {_step(step)}" for name, step in found.items())


def _median(steps):
    return sorted(map(_late, steps))[len(steps) // 2]


def _listed(values):
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def _best(scores, kind, way, classifier):
    """Cosine's distance is lowest, by more than chance."""
    found = {name: scores[name][kind] for name in PUBLISHED}
    rivals = sorted(OTHERS, key=lambda name: found[name]["distance"])
    count, features = found["cosine"]["images"], classifier["feature_width"]
    few = count < ENOUGH * features
    return lower(
        f"cosine draws the best digits, {way}",
        {name: found[name] for name in ("cosine", *rivals)},
        reason=f"{count} pictures are too few for {features} features" if few else None,
    )


def _noisy(scores, kind, way, real):
    shown = {name: scores[name][kind]["frame"] for name in PUBLISHED}
    clean = max(shown["cosine"], shown["linear"])
    noisy = min(shown["constant"], shown["inverse_linear"])
    return Claim(
        f"constant and inverse linear leave noisy backgrounds, {way} (more than "
        f"{NOISIER:g} times what cosine and linear leave)",
        f"{_listed(shown)} grey levels of 255; real digits {number(real)}",
        noisy > NOISIER * clean,
    )


def _lower_loss(losses):
    worst = max(losses["constant"], losses["inverse_linear"])
    return Claim(
        "although their loss is lower than cosine's",
        f"validation: {_listed(losses)}",
        worst < losses["cosine"],
    )


def report(results):
    """Returns the page's parts."""
    return [*_training(results), *_forward(results), *_pictures(results), *_how(results)]


def _training(results):
    plan, floors = results["plan"], results["floors"]
    rows = []
    for name in plan["schedules"]:
        training, score = results["trainings"][name], results["scores"][name]
        rows.append(
            [
                name,
                number(training["final_val_loss"]),
                *(f"{_off(score[kind])}" for kind in ("final", "chain")),
                *(number(score[kind]["frame"]) for kind in ("final", "chain")),
                f"{score['final']['sure']:.0%}",
            ]
        )
    real = [number(floors[kind]["mean"]) for kind in ("final", "chain")]
    noise = number(results["real_frame"])
    rows.append(["real digits (floor)", "", *real, noise, noise, ""])
    ours, chain = f"{plan['curve_steps']} steps of dpmpp_2m", f"chain of {plan['chain_steps']}"
    header = ["schedule", "validation loss", f"distance, {ours}", f"distance, {chain}",
              f"frame, {ours}", f"frame, {chain}", "sure"]  # fmt: skip
    counts = [results["scores"][plan["schedules"][0]][kind]["images"] for kind in WAYS]
    return [
        "## After the training",
        table(header, rows),
        f"Each schedule was trained for {number(plan['epochs'])} epochs ({plan['steps']:,} steps "
        f"of {plan['batch_size']} images). Distance: Frechet's, of {counts[1]} pictures by our "
        f"sampler and of {counts[0]} by the study's chain, in the features of a classifier of "
        f"digits (right about {results['classifier']['test_accuracy']:.1%} of held-out ones), with "
        "what other pictures would change in it. Frame: root mean square of the grey levels "
        "in the outer two pixels, which digits leave black. Sure: pictures that the classifier "
        "gives one class above 90%, by our sampler.",
        picture("losses.png", "Loss after each round; of each schedule over its own noise levels"),
        picture("distances.png", f"Distance on the way, {ours}, "
                f"{results['scores'][plan['schedules'][0]]['curve'][0]['images']} pictures"),
    ]  # fmt: skip


def _off(score):
    return f"{number(score['distance'])} ± {number(score['error'], 2)}"


def _forward(results):
    names, found = results["plan"]["schedules"], results["normality"]
    sizes = list(found[names[0]]["by_size"])
    rows = [
        [
            name,
            _step(found[name]["first"]),
            *(_step(found[name]["by_size"][size]) for size in sizes),
            ", ".join(_step(step) for step in found[name]["study_firsts"]),
        ]
        for name in names
    ]
    sized = [f"{int(size):,} pixels" for size in sizes]
    return [
        "## The forward process",
        picture("schedules.png", "What is left of the images, and what each step adds"),
        picture("forward.png", "One digit every 200 steps"),
        "## When is it noise?",
        "First step whose p-value is above 0.05 (Kolmogorov-Smirnov, against a standard "
        f"Gaussian): of the median of {results['plan']['tests']} tests at each step with 1000 "
        "pixels, then with other numbers of pixels at every tenth step, and of each test as the "
        "study made it.",
        table(["schedule", "1000 pixels, every step", *sized, "the study's test"], rows),
        picture("normality.png", "p-values of x_t; below 1e-12 they are drawn there"),
        "The step is not a property of a schedule alone: the more pixels are tested, the later it "
        "comes. The study's public code tests 784 pixels of a single digit in [-0.5, 0.5], and "
        "adds noise at a rate of 1 - sqrt(alpha_bar) there where the forward process has "
        "sqrt(1 - alpha_bar).",
    ]


def _pictures(results):
    plan = results["plan"]
    return [
        "## Pictures",
        picture("grids.png", f"The same noise on the way, {plan['curve_steps']} steps of dpmpp_2m"),
        picture("final.png", "At the end: drawn as the study drew, and by our default sampler"),
        picture("backward.png", "Four digits on their way back in the study's chain"),
    ]


def _growth(schedules, steps=10):
    """How many times the signal is larger after the first steps of the way back, for each."""
    times = np.array([1.0, 1.0 - steps / NUM_TIMESTEPS], "float32")
    signal = {name: np.array(rates(SCHEDULES[name], times)[0]) for name in schedules}
    return _listed({name: last / first for name, (first, last) in signal.items()})


def _how(results):
    plan = results["plan"]
    seconds = [each["seconds"] for each in results["trainings"].values()]
    per_epoch = sum(seconds) / len(seconds) / plan["epochs"]
    return [
        "## The settings",
        "- The network is the study's: 7x7 convolutions of 16, 32, 32 and 16 channels, layer norm "
        f"over the image, gelu, a last 3x3 convolution; Adam {plan['learning_rate']:g}, batches of "
        f"{plan['batch_size']}, eps-prediction, plain squared error, no averaging of weights, "
        f"{plan['precision']}. An epoch of {plan['train_images']:,} images took "
        f"{number(per_epoch)} s, validation on the way included.\n"
        "- Every schedule had the same first weights, images and noise, and was trained once: what "
        "another seed would change is not known.\n"
        f"- The study's chain: {plan['chain_steps']} steps uniform in t, variance beta, x0 not "
        "clipped: what the network gets wrong in its first steps grows as the signal rate does, in "
        f"ten of {NUM_TIMESTEPS} steps {_growth(plan['schedules'])} times, and a short training "
        "can lose the picture there. Our sampler: uniform in logSNR, x0 clipped to the range of "
        "pixels.\n"
        "- Otherwise than in the study: pixels are in [-1, 1], not in [-0.5, 0.5], where the same "
        "noise is twice as visible; t is continuous; the network is told logSNR, not t, as waves "
        "of fixed frequencies and dense layers that are learned; distances are by a classifier of "
        "digits, not by Inception.",
    ]
