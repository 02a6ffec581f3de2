"""Claims and page of this study."""

from keras_diffusion.evaluation.scores import SURE
from studies.mnist_benchmark import NAMES, PUBLISHED_SECONDS
from studies.report import Claim, distance, lower_distance, number, table

SLOWER = 1.05  # times as long: slower by more than chance
EVEN = 1.25  # times as long per step, at most: the time is proportional to the steps


def claims(results):
    """Returns the claims, decided."""
    final = {name: results["scores"][name]["final"] for name in reversed(NAMES)}
    seconds = {name: results["trainings"][name]["sample_seconds"] for name in reversed(NAMES)}
    return [
        lower_distance(
            "after equal minutes, digits of our default are closer to real digits, each sampled "
            "with its own defaults",
            final,
        ),
        _sooner(results),
        Claim(
            "our default generates an image faster, each sampled with its own defaults",
            ", ".join(f"{name} {number(each)} s" for name, each in seconds.items()),
            seconds["default"] < seconds["published"],
        ),
        *_loop_claims(results["loops"]),
    ]


def part_minutes(plan):
    """Returns the minutes of training at the end of each part."""
    return [plan["minutes"] * part / plan["parts"] for part in range(1, plan["parts"] + 1)]


def _sooner(results):
    """When our default was first as good as the published configuration at its best."""
    scores, plan = results["scores"], results["plan"]
    best = min(score["distance"] for score in scores["published"]["curve"])
    curve = zip(part_minutes(plan), scores["default"]["curve"], strict=True)
    reached = next((minutes for minutes, score in curve if score["distance"] <= best), None)
    when = f"after {number(reached)} of {number(plan['minutes'])} minutes" if reached else "never"
    return Claim(
        "our default needs at most half of the time to be as good as the published configuration "
        "at its best",
        f"{when} (both in {plan['curve_steps']} steps of dpmpp_2m)",
        reached is not None and reached <= plan["minutes"] / 2,
    )


def _loop_claims(loops):
    steps = sorted(int(count) for count in loops["compiled"])
    most, some = steps[-1], steps[len(steps) // 2]
    each = {count: loops["compiled"][str(count)] / count for count in (some, most)}
    claims = [
        Claim(
            f"the time of the compiled loop is proportional to the steps (a step of {most} takes "
            f"at most {EVEN:g} times as long as one of {some})",
            f"{_ms(each[most])} and {_ms(each[some])} per step",
            each[most] <= EVEN * each[some],
        )
    ]
    for name, what in (("calls", "a compiled call"), ("plain", "plain Keras operations")):
        count = max(int(count) for count in loops[name])
        compiled, other = (loops[key][str(count)] / count for key in ("compiled", name))
        claims.append(
            Claim(
                f"{what} for each step is slower than the compiled loop, by more than "
                f"{SLOWER - 1:.0%}",
                f"{_ms(other)} and {_ms(compiled)} per step, {count} steps",
                other > SLOWER * compiled,
            )
        )
    return claims


def _ms(seconds):
    return f"{number(1000 * seconds)} ms"


def values(results):
    """Returns the values of the page, see `report.write`."""
    header = ["configuration", "parameters", "epochs", "seconds per epoch", "sampling",
              "seconds per image", "validation loss", "distance", "confident"]  # fmt: skip
    rows = [
        _row(name, results["trainings"][name], results["scores"][name]["final"]) for name in NAMES
    ]
    rows.append(["real digits (baseline)", *[""] * 6, number(results["floor"]["mean"]), ""])
    return {
        "configurations": table(header, rows),
        "sure": SURE,
        "published": PUBLISHED_SECONDS,
        "steps": _loop_table(results["loops"]),
    }


def _row(name, training, final):
    sampling = training["drawing"]
    text = f"{sampling['num_steps']} steps of {sampling['sampler']}"
    if training["labels"]:
        text += f", guidance {sampling['guidance_scale']:g}"
    return [
        name,
        f"{training['parameters'] / 1e6:.2f} M",
        number(training["epochs"]),
        number(training["epoch_seconds"]),
        text,
        number(training["sample_seconds"]),
        number(training["rows"][-1]["val_loss"]),
        distance(final),
        f"{final['sure']:.0%}",
    ]


def _loop_table(loops):
    header = ["steps", "compiled loop, s", "a call per step, s", "Keras operations, s",
              "compiled, per step"]  # fmt: skip
    rows = [
        [steps, *(number(loops[name].get(steps)) for name in loops), _ms(seconds / int(steps))]
        for steps, seconds in loops["compiled"].items()
    ]
    return table(header, rows)
