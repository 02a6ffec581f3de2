"""Sampling: pictures per second, time per network call, and whether memory stays flat.

64 digits and 64 flowers by each, with the steps its users take; the networks are those of the
training section, untrained: what weights they hold takes no time. Ours is drawn from a SavedModel,
in the fewest steps that the quality section found to be no worse than 250 steps of our own DDIM.
"""

import statistics
import time

from benchmarks import machine, runs, subjects, training
from benchmarks.quality import plans, tables

# (subject, variant, steps of its users, steps that are measured): what was measured on fewer
# steps is scaled up, as the time of one step does not depend on how many there are.
DDP, DIFFUSERS, KERAS_DDIM = 250, 1000, 20
CONTENDERS = {
    "mnist": (
        ("ours", "default", None, None),
        ("ours", "float32", None, None),
        ("ddp", "float32", DDP, 50),
        ("ddp", "bfloat16 autocast", DDP, 50),
        ("ddp", "bfloat16 autocast, channels last", DDP, 50),
        ("ddp", "bfloat16 autocast, compiled", DDP, 50),
        ("diffusers_unet", "float32", DIFFUSERS, 50),
        ("diffusers_unet", "bfloat16 autocast", DIFFUSERS, 50),
        ("diffusers_unet", "bfloat16 autocast, compiled", DIFFUSERS, 50),
    ),
    "flowers": (
        ("ours", "default", None, None),
        ("keras_ddim", "float32", KERAS_DDIM, KERAS_DDIM),
        ("keras_ddim", "mixed_bfloat16", KERAS_DDIM, KERAS_DDIM),
        ("ddp", "float32", DDP, 10),
        ("ddp", "bfloat16 autocast", DDP, 10),
        ("ddp", "bfloat16 autocast, channels last", DDP, 10),
        ("diffusers_unet", "float32", DIFFUSERS, 10),
        ("diffusers_unet", "bfloat16 autocast", DIFFUSERS, 10),
    ),
}
GOALS = {(task, "ddp", "float32"): {"images": 60, "call": 3} for task in CONTENDERS}
PRESET_STEPS = 20  # of ours, until quality is measured
CALLS = 5
GIVEN_UP = 20 * 60  # seconds
FLAT_COUNTS, FLAT_STEPS = (640, 10_000), 2
FLAT_GROWTH = 1.05  # of memory, that still counts as flat


def drawing(task, name, variant, measured_steps, tiny=False):
    """Times one sampling and a few network calls of a subject; in a fresh process."""
    num = 4 if tiny else subjects.SAMPLE_BATCH
    subject = subjects.make(name, task, variant, tiny)
    subject.sample(num, 2, seed=0)  # traces or compiles, claims memory
    began = time.monotonic()
    subject.sample(num, measured_steps, seed=1)
    seconds = time.monotonic() - began
    subject.call(num)
    calls = []
    for _ in range(CALLS):
        began = time.monotonic()
        subject.call(num)
        calls.append(time.monotonic() - began)
    return {
        "num": num,
        "seconds": seconds,
        "seconds_per_call": statistics.median(calls),
        "parameters": subject.parameters,
        "flops": subject.flops,
        "precision": getattr(subject, "precision", None),
    }


def flat_memory(counts, num_steps, tiny=False):
    """Draws few and then many digits with ours, in batches; in a fresh process."""
    subject = subjects.make("ours", "mnist", "default", tiny)
    subject.sample(subjects.SAMPLE_BATCH, num_steps, seed=0)
    machine.forget_peak()  # exporting and loading all samplers takes more than drawing
    peaks = []
    for count in counts:
        drawn = subject.sample(count, num_steps, seed=0)
        peaks.append({"images": count, "peak_mib": machine.peak_mib(),
                      "result_mib": drawn.nbytes / 2**20})  # fmt: skip
        del drawn
    return {"peaks": peaks, "num_steps": num_steps}


def run(options):
    """Measures all contenders of both tasks in turns, then the memory of many pictures."""
    found = {"tiny": options.tiny, "quality": {}}
    counts = (64, 192) if options.tiny else FLAT_COUNTS
    found["flat"] = runs.in_fresh_process(
        "sampling.flat_memory", counts=counts, num_steps=FLAT_STEPS, tiny=options.tiny
    )
    for task, contenders in CONTENDERS.items():
        found["quality"][task] = _quality(task, options)
        fewest = (found["quality"][task] or {}).get("fewest")
        if options.tiny:
            contenders = [c for c in contenders if c[1] in ("default", "float32")]
        rows = [_row(contender, fewest, options.tiny) for contender in contenders]

        def measure(row, task=task):
            return runs.in_fresh_process(
                "sampling.drawing", GIVEN_UP, task=task, name=row["subject"],
                variant=row["variant"], measured_steps=row["measured"], tiny=options.tiny,
            )  # fmt: skip

        results = runs.in_turns(measure, rows, options.rounds, _title)
        found[task] = [{**row, **result} for row, result in zip(rows, results, strict=True)]
    return found


def _quality(task, options):
    """What the quality section found of steps, or None if it was not run for its full time.

    Returns:
        dict as of `tables.fewest_steps`.
    """
    quality = options.earlier(f"quality_{task}")
    if quality is None or quality["minutes"] != plans.MINUTES[task]:
        return None
    return tables.fewest_steps(quality)


def _row(contender, fewest, tiny):
    name, variant, steps, measured = contender
    steps = steps or fewest or PRESET_STEPS
    measured = 2 if tiny else measured or steps
    return {"subject": name, "variant": variant, "steps": steps, "measured": measured}


def _title(row):
    return f"{row['subject']}, {row['variant']}, {row['measured']} steps"


def report(found):
    """Returns the tables of speed, and what many pictures do to memory."""
    parts = []
    for task, title in subjects.DATASET_TITLES.items():
        parts += [f"## Sampling, {title}, 64 at once", _intro(found, task), _table(found, task)]
    return "\n\n".join([*parts, _flat(found["flat"])])


def _intro(found, task):
    quality = found["quality"][task]
    fewest = (quality or {}).get("fewest")
    scaled = [row for row in found[task] if row["measured"] != row["steps"]]
    also = " Marked *: measured on fewer steps and scaled." if scaled else ""
    return f"Ours draws in {fewest or PRESET_STEPS} steps of dpmpp_2m: {_why(quality)}.{also}"


def _why(quality):
    if quality is None:
        return "the preset's; the section on quality, which finds the fewest, is still to be run"
    most, figure = quality["reference"], runs.figure
    least = (
        f"the {figure(most['distance'])} of {most['num_steps']} steps of {most['sampler']} "
        f"(± {figure(quality['noise'])}; real pictures {figure(quality['floor'])})"
    )
    if quality["fewest"] is None:
        return f"the preset's; no number of steps that was tried scores as well as {least}"
    return (
        f"the fewest with which the preset, trained for the section on quality, scores no worse "
        f"({figure(quality['distance'])}) than {least}, without guidance; the network that is "
        "timed is that of the section on training"
    )


def _images_per_second(row):
    return [r["num"] / (r["seconds"] * row["steps"] / row["measured"]) for r in row["runs"]]


def rate(row):
    """Returns the median of a row's images per second, or None if it failed."""
    return runs.summary(_images_per_second(row))["median"] if "runs" in row else None


def _table(found, task):
    measured = [row for row in found[task] if "runs" in row]
    ours = next((row for row in measured if row["subject"] == "ours"), None)
    if ours:
        our_rate = rate(ours)
        our_call = _per_call(ours)["median"]
    rows = []
    for row in found[task]:
        cells = training.name_cells(row)
        if "failed" in row or not ours:
            rows.append([*cells, "-", "-", row.get("failed", "-"), "-", "-", "-", ""])
            continue
        rates, call = runs.summary(_images_per_second(row)), _per_call(row)
        faster, per_call = our_rate / rates["median"], call["median"] / our_call
        said = _said(GOALS.get((task, row["subject"], row["variant"])), faster, per_call)
        steps = f"{row['steps']}{'' if row['measured'] == row['steps'] else ' *'}"
        rows.append([*cells, steps, f"**{runs.figure(rates['median'])}**", runs.spread(rates),
                     runs.times(faster), f"{runs.figure(1000 * call['median'])}",
                     runs.times(per_call), said])  # fmt: skip
    header = ["", "variant", "parameters", "GFLOP", "steps", "images/s", "spread", "ratio",
              "ms per call", "ratio", "goal"]  # fmt: skip
    return runs.table(header, rows)


def _said(goals, faster, per_call):
    """Whether the goals for a row are met, in words."""
    if not goals:
        return ""
    images, call = goals["images"], goals["call"]
    return (
        f"{images}x: {runs.verdict(faster, images)}; "
        f"per call {call}x: {runs.verdict(per_call, call)}"
    )


def _per_call(row):
    return runs.summary(r["seconds_per_call"] for r in row["runs"])


def _flat(flat):
    """A paragraph: the most memory held after few and after many pictures."""
    few, many = flat["peaks"]
    growth = (many["peak_mib"] - many["result_mib"]) / (few["peak_mib"] - few["result_mib"])
    said = "flat" if growth <= FLAT_GROWTH else "not flat"
    return (
        f"**Many pictures**: the most memory held was {runs.figure(few['peak_mib'])} MiB after "
        f"{few['images']:,} digits and {runs.figure(many['peak_mib'])} MiB after "
        f"{many['images']:,} ({runs.figure(many['result_mib'])} MiB of these are the pictures "
        f"themselves), {flat['num_steps']} steps each: {said}."
    )
