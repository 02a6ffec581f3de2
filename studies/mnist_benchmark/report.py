"""What the study says, from what was measured."""

from keras_diffusion.evaluation.scores import SURE
from studies.mnist_benchmark import NAMES, PUBLISHED_SECONDS
from studies.page import Claim, lower, number, picture, table

SLOWER = 1.05  # times as long: slower by more than chance
EVEN = 1.25  # times as much a step, at most: time grows with the steps alone


def claims(results):
    """Returns the study's claims, decided."""
    scores, trainings = results["scores"], results["trainings"]
    seconds = {name: trainings[name]["sample_seconds"] for name in NAMES}
    return [
        _closer(scores["default"]["final"], scores["published"]["final"]),
        _sooner(results),
        Claim(
            "our default draws a picture faster, with what each is drawn with",
            " against ".join(f"{number(seconds[name])} s" for name in reversed(NAMES)),
            seconds["default"] < seconds["published"],
        ),
        *_loop_claims(results["loops"]),
    ]


def _closer(ours, theirs):
    return lower(
        "after equal minutes our default's digits are closer to real ones, each as it is drawn",
        {"default": ours, "published": theirs},
    )


def _sooner(results):
    """When our default was first as good as the published configuration at the end."""
    scores, plan = results["scores"], results["plan"]
    best = min(score["distance"] for score in scores["published"]["curve"])
    minutes = [plan["minutes"] * i / plan["parts"] for i in range(1, plan["parts"] + 1)]
    curve = zip(minutes, scores["default"]["curve"], strict=True)
    reached = next((at for at, score in curve if score["distance"] <= best), None)
    at = (
        "never" if reached is None else f"at {number(reached)} of {number(plan['minutes'])} minutes"
    )
    return Claim(
        "our default is as good as the published configuration ever gets in half of the time",
        f"{at} (both in {plan['curve_steps']} steps of dpmpp_2m)",
        reached is not None and reached <= plan["minutes"] / 2,
    )


def _loop_claims(loops):
    steps = [int(count) for count in loops["compiled"]]
    most, some = max(steps), sorted(steps)[len(steps) // 2]
    each = {count: loops["compiled"][str(count)] / count for count in (some, most)}
    claims = [
        Claim(
            f"the time of the compiled loop grows with the steps alone (a step of {most} costs "
            f"at most {EVEN:g} times one of {some})",
            f"{_ms(each[most])} against {_ms(each[some])} a step",
            each[most] <= EVEN * each[some],
        )
    ]
    for way, what in (("calls", "calling a compiled step"), ("plain", "running Keras operations")):
        count = max(int(count) for count in loops[way])
        compiled, other = (loops[name][str(count)] / count for name in ("compiled", way))
        claims.append(
            Claim(
                f"{what} once for each step is slower than the compiled loop, by more than "
                f"{SLOWER - 1:.0%}",
                f"{_ms(other)} against {_ms(compiled)} a step, {count} steps",
                other > SLOWER * compiled,
            )
        )
    return claims


def _ms(seconds):
    return f"{number(1000 * seconds)} ms"


def report(results):
    """Returns the page's parts."""
    plan, trainings, scores = results["plan"], results["trainings"], results["scores"]
    rows = [_row(name, trainings[name], scores[name]) for name in NAMES]
    floor = results["floor"]
    rows.append(["real digits (floor)", *[""] * 6, number(floor["mean"]), ""])
    quoted = PUBLISHED_SECONDS
    return [
        "## After the training",
        table(
            ["configuration", "parameters", "epochs", "seconds per epoch", "drawn in",
             "seconds per sample", "validation loss", "distance", "sure"],
            rows,
        ),
        f"{number(plan['minutes'])} minutes of training each, validation and pictures not counted, "
        f"in {plan['precision']}. Distance: Frechet's, of {plan['pictures']} pictures "
        "(classes that are asked for come in the shares of the training data), in the features of "
        "a classifier of digits (right about "
        f"{results['classifier']['test_accuracy']:.1%} of held-out ones), with what other pictures "
        "would change in it. Sure: pictures that the classifier gives one class above "
        f"{SURE:.0%}. The losses are of other targets at other noise levels: they do not compare. "
        "Each was trained once: what another seed would change is not known. Seconds per sample "
        f"are of {plan['timed_pictures']} at once. Published, of the original in PyTorch on "
        "another machine: "
        f"{number(quoted['epoch'])} s per epoch, {number(quoted['sample'])} s per sample.",
        picture("losses.png", f"Loss, {plan['rounds_per_epoch']} times an epoch"),
        picture("distances.png", f"Distance against minutes of training, both in "
                f"{plan['curve_steps']} steps of dpmpp_2m"),
        "## Pictures",
        picture("samples32.png", "The first 32, each as it is drawn; none left out"),
        picture("samples100.png", "The first 100"),
        picture("evolving.gif", f"The same noise after each of {plan['parts']} parts of the "
                "training: published left, default right"),
        "The same digits and the losses are in TensorBoard, where it was run: "
        "`tensorboard --logdir runs/studies/mnist_benchmark`.",
        "## What a step costs",
        _loop_table(results),
        picture("steps.png", "Seconds against steps"),
    ]  # fmt: skip


def _row(name, training, scores):
    drawing, final = training["drawing"], scores["final"]
    drawn = f"{drawing['num_steps']} steps of {drawing['sampler']}"
    if training["labels"]:
        drawn += f", guided {drawing['guidance_scale']:g}"
    return [
        name,
        f"{training['parameters'] / 1e6:.2f} M",
        number(training["epochs"]),
        number(training["epoch_seconds"]),
        drawn,
        number(training["sample_seconds"]),
        number(training["rows"][-1]["val_loss"]),
        f"{number(final['distance'])} ± {number(final['error'], 2)}",
        f"{final['sure']:.0%}",
    ]


def _loop_table(results):
    loops, count = results["loops"], results["plan"]["loop_pictures"]
    rows = [
        [steps, *(number(loops[way].get(steps)) for way in loops),
         _ms(seconds / int(steps))]
        for steps, seconds in loops["compiled"].items()
    ]  # fmt: skip
    header = ["steps", "compiled loop, s", "a call for each step, s", "Keras operations, s",
              "compiled, a step"]  # fmt: skip
    text = f"DDIM with the published network, {count} pictures at once, after tracing."
    return f"{text}\n\n{table(header, rows)}"
