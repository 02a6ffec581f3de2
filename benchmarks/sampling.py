"""Sampling: images per second and time per network call.

Each subject samples 64 digits and 64 flowers with the number of steps that its users take, from the
untrained networks of the training section: the values of the weights take no time. Ours samples
from a SavedModel, with the fewest steps that the quality section found to be no worse than 250
steps of our own DDIM.
"""

import statistics
import time

from benchmarks import formats, machine, runs, subjects
from benchmarks.quality import tables

VARIANTS = {
    "mnist": {
        "ours": ("default", "float32"),
        "ddp": subjects.TORCH_VARIANTS,
        "diffusers_unet": (
            "float32", "float32, channels last", "bfloat16 autocast", "bfloat16 autocast, compiled"
        ),
    },
    "flowers": {
        "ours": ("default",),
        "keras_ddim": ("float32", "mixed_bfloat16"),
        "ddp": (
            "float32", "float32, channels last", "bfloat16 autocast",
            "bfloat16 autocast, channels last",
        ),
        "diffusers_unet": ("float32", "float32, channels last", "bfloat16 autocast"),
    },
}  # fmt: skip
STEPS = {"keras_ddim": 20, "ddp": 250, "diffusers_unet": 1000}  # of their users
# Of the torch subjects; scaled up, as the time of one step does not depend on their number.
MEASURED_STEPS = {"mnist": 50, "flowers": 10}
GOAL_SUBJECT = ("ddp", "float32")
IMAGES_GOAL, CALL_GOAL = 60, 3  # the least speed-ups over it
PRESET_STEPS = 20  # of ours, until quality is measured
LEAST_MINUTES = 20  # of training in a quality section; shorter ones are trials
CALLS = 5
TIMEOUT = 20 * 60  # seconds


def measure(task, subject, variant, steps, measured_steps, tiny=False):
    """Times one sampling and a few network calls of a subject; runs in a fresh process."""
    num = 4 if tiny else subjects.SAMPLE_BATCH
    sampled = subjects.make(subject, task, variant, tiny)
    sampled.sample(num, 2, seed=0)  # traces or compiles, allocates memory
    began = time.monotonic()
    sampled.sample(num, measured_steps, seed=1)
    seconds = time.monotonic() - began
    sampled.call(num)
    calls = []
    for _ in range(CALLS):
        began = time.monotonic()
        sampled.call(num)
        calls.append(time.monotonic() - began)
    return {
        "images_per_second": num / (seconds * steps / measured_steps),
        "seconds_per_call": statistics.median(calls),
        **sampled.facts(),
    }


def run(options):
    """Measures all subjects of both tasks in turns."""
    result = {"tiny": options.tiny, "quality": {}}
    for task in VARIANTS:
        fewest = result["quality"][task] = _fewest_steps(task, options)
        rows = _rows(task, (fewest and fewest["fewest"]) or PRESET_STEPS, options.tiny)
        result[task] = runs.in_fresh_turns("sampling.measure", rows, options, TIMEOUT, task=task)
    return result


def _rows(task, our_steps, tiny):
    """Returns what is measured of a task, with the numbers of steps."""
    rows = subjects.rows(VARIANTS[task], tiny)
    for row in rows:
        row["steps"] = STEPS.get(row["subject"], our_steps)
        is_torch = row["subject"] in ("ddp", "diffusers_unet")
        row["measured_steps"] = 2 if tiny else MEASURED_STEPS[task] if is_torch else row["steps"]
    return rows


def _fewest_steps(task, options):
    """Returns `tables.fewest_steps` of the quality section; None without one, or after a trial.

    If it did not run on this kind of processor, that of another kind answers: it is about steps.
    """
    records = options.records(f"quality_{task}")
    record = records.get(machine.kind()) or next(iter(records.values()), None)
    if record is None or record["result"]["minutes"] < LEAST_MINUTES:
        return None
    return tables.fewest_steps(record["result"])


def report(result):
    """Returns the tables."""
    parts = []
    for task, title in subjects.DATASET_TITLES.items():
        intro = (
            f"Ours takes {result[task][0]['steps']} steps of dpmpp_2m: "
            f"{_reason(result['quality'][task])}. Marked *: measured with fewer steps and scaled."
        )
        parts += [f"## Sampling, {title}, 64 at once", intro, _table(result[task])]
    return "\n\n".join(parts)


def _reason(fewest):
    """Returns why ours takes its number of steps."""
    if not fewest or not fewest["fewest"]:
        return "those of the preset, as the quality section has not found that fewer are enough"
    distance, noise, baseline = (
        formats.number(fewest[x]) for x in ("distance", "noise", "baseline")
    )
    reference = fewest["reference"]
    return (
        f"the fewest with which the trained preset has a distance ({distance}) no worse than the "
        f"{formats.number(reference['distance'])} of {reference['num_steps']} steps of "
        f"{reference['sampler']} (± {noise}; real images: {baseline}), without guidance; timed "
        "with the network of the training section"
    )


def _table(rows):
    header = ["", "variant", "parameters", "GFLOP", "steps", "images/s", "spread", "ratio",
              "ms per call", "ratio", "goal"]  # fmt: skip
    our_rate = formats.median_of(rows[0], "images_per_second")
    our_call = formats.median_of(rows[0], "seconds_per_call")

    def names(row):
        scaled = " *" * (row["steps"] != row["measured_steps"])
        return [*subjects.cells(row), f"{row['steps']}{scaled}"]

    def figures(row):
        rates = formats.summary_of(row, "images_per_second")
        call = formats.median_of(row, "seconds_per_call")
        faster = formats.ratio(our_rate, rates["median"])
        faster_call = formats.ratio(call, our_call)
        cells = [*formats.median_and_spread(rates), formats.times(faster)]
        cells += [formats.number(1000 * call), formats.times(faster_call)]
        if (row["subject"], row["variant"]) == GOAL_SUBJECT:
            images = formats.verdict(f"{IMAGES_GOAL}x", faster, IMAGES_GOAL)
            calls = formats.verdict(f"per call {CALL_GOAL}x", faster_call, CALL_GOAL)
            cells.append(f"{images}; {calls}")
        return cells

    return formats.measured_table(header, rows, names, figures)
