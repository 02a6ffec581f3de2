"""Training: images per second and the most memory held, beside the peers.

MNIST with networks of equal size in batches of 128, and Flowers at 64x64 with the widths of the
keras.io example in batches of 64. Everyone trains as its users do (see `subjects`), on the same
images in memory.
"""

import statistics
import time

from benchmarks import data, machine, runs, subjects

VARIANTS = {
    "mnist": (
        ("ours", "default"),
        ("ours", "float32"),
        ("ddp", "float32"),
        ("ddp", "bfloat16 autocast"),
        ("ddp", "bfloat16 autocast, channels last"),
        ("ddp", "bfloat16 autocast, compiled"),
        ("diffusers_unet", "float32"),
        ("diffusers_unet", "bfloat16 autocast"),
        ("diffusers_unet", "bfloat16 autocast, channels last"),
        ("diffusers_unet", "bfloat16 autocast, compiled"),
    ),
    "flowers": (
        ("ours", "default"),
        ("ours", "float32"),
        ("ours", "deeper"),
        ("keras_ddim", "float32"),
        ("keras_ddim", "mixed_bfloat16"),
    ),
}
# How many times faster ours is to be than (subject, variant); None: than its fastest variant.
GOALS = {
    "mnist": {
        ("ddp", "float32"): 5,
        ("ddp", None): 3,
        ("diffusers_unet", None): 3,
    },
    "flowers": {("keras_ddim", "float32"): 3},
}
HEADINGS = {
    "mnist": "Training, MNIST 28x28, batch {}",
    "flowers": "Training, Oxford Flowers 64x64, batch {}",
}
WARM_UP = 3  # steps: graphs are traced, memory is claimed
LEAST_STEPS, LEAST_SECONDS = 5, 10.0
GIVEN_UP = 15 * 60  # seconds; compiling may never end
# The most memory held until the network is made, until the clock starts, and from then on.
WHEN = {"made": "libraries, network", "first": "until step 3", "later": "later"}


class Clock:
    """Stops a training when enough of it was timed.

    Args:
        warm_up: steps that are not timed.
        least_steps, least_seconds: how much is timed; both.

    Attributes:
        warm_up: as given.
        rate: steps per second, once it has stopped.
    """

    def __init__(self, warm_up, least_steps, least_seconds):
        self.warm_up = warm_up
        self._least_steps, self._least_seconds = least_steps, least_seconds
        self._began = None
        self.rate = None

    def __call__(self, step):
        now = time.monotonic()
        if step == self.warm_up:
            self._began = now
        timed = step - self.warm_up
        if timed < self._least_steps or now - self._began < self._least_seconds:
            return False
        self.rate = timed / max(now - self._began, 1e-6)
        return True


def clock_of(tiny):
    """Returns the `Clock` of a measurement."""
    return Clock(1, 1, 0.0) if tiny else Clock(WARM_UP, LEAST_STEPS, LEAST_SECONDS)


def rate(task, name, variant, cache, tiny=False):
    """Trains a subject for a while; in a fresh process."""
    subject = subjects.make(name, task, variant, tiny)
    clock = clock_of(tiny)
    batch_size = _batch_size(task, tiny)
    memory = {"made": machine.peak_mib()}
    images, _ = data.load(task, "train", tiny, cache)

    def should_stop(step):
        if step == clock.warm_up:
            memory["first"] = machine.peak_mib()
            machine.forget_peak()
        return clock(step)

    subject.train(images, batch_size, should_stop)
    memory["later"] = machine.peak_mib()
    return {
        "images_per_second": batch_size * clock.rate,
        "memory": memory,
        "peak_mib": max(memory.values()),
        "parameters": subject.parameters,
        "flops": subject.flops,
        "precision": getattr(subject, "precision", None),
    }


def run(options):
    """Measures all variants of both tasks in turns."""
    found = {"tiny": options.tiny}
    for task, variants in VARIANTS.items():
        variants = _first_of_each(variants) if options.tiny else variants
        data.ensure(task, options.data_dir, options.tiny, options.cache)

        def measure(contender, task=task):
            name, variant = contender
            return runs.in_fresh_process(
                "training.rate", GIVEN_UP, task=task, name=name, variant=variant,
                cache=str(options.cache), tiny=options.tiny,
            )  # fmt: skip

        results = runs.in_turns(measure, list(variants), options.rounds, title=", ".join)
        found[task] = [
            {"subject": name, "variant": variant, **result}
            for (name, variant), result in zip(variants, results, strict=True)
        ]
    return found


def _first_of_each(variants):
    """One variant of each subject, as its users run it: enough to see that all works."""
    first = {}
    for name, variant in variants:
        first.setdefault(name, variant)
    return list(first.items())


def images_per_second(found, task, name="ours", variant="default"):
    """Returns the median of a measured variant, or None; `found` is what `run` returned."""
    for row in (found or {}).get(task, ()):
        if (row["subject"], row["variant"]) == (name, variant) and "runs" in row:
            return runs.summary(r["images_per_second"] for r in row["runs"])["median"]
    return None


def report(found):
    """Returns the tables of speed and of memory."""
    parts = []
    for task, heading in HEADINGS.items():
        heading = heading.format(_batch_size(task, found["tiny"]))
        parts.append(f"## {heading}\n\n{_speed_table(found, task)}")
    for task in HEADINGS:
        heading = f"## Memory of these trainings, {subjects.DATASET_TITLES[task]}"
        parts.append(f"{heading}\n\nMost resident memory of the whole process in MiB, all "
                     f"libraries and images included.\n\n{_memory_table(found, task)}")  # fmt: skip
    return "\n\n".join(parts)


def _speed_table(found, task):
    ours = images_per_second(found, task)
    goals = _goals(found, task)
    rows = []
    for row in found[task]:
        cells = name_cells(row)
        if "failed" in row:
            rows.append([*cells, "-", row["failed"], "-", ""])
            continue
        numbers = runs.summary(r["images_per_second"] for r in row["runs"])
        ratio = ours / numbers["median"] if ours else None
        goal = goals.get((row["subject"], row["variant"]))
        said = f"{goal}x: {runs.verdict(ratio, goal)}" if goal and ratio else ""
        rows.append([*cells, f"**{runs.figure(numbers['median'])}**", runs.spread(numbers),
                     runs.times(ratio), said])  # fmt: skip
    header = ["", "variant", "parameters", "GFLOP", "images/s", "spread", "ratio", "goal"]
    return runs.table(header, rows)


def _memory_table(found, task):
    medians = {
        (row["subject"], row["variant"]): runs.summary(r["peak_mib"] for r in row["runs"])
        for row in found[task]
        if "runs" in row
    }
    ours = medians.get(("ours", "default"), {}).get("median")
    rows = []
    for row in found[task]:
        numbers = medians.get((row["subject"], row["variant"]))
        if numbers is None:
            continue  # the table of speed says why
        said = ""
        if ours and row["subject"] != "ours":
            said = f"no more than it: {runs.verdict(ours, numbers['median'], most=True)}"
        ratio = numbers["median"] / ours if ours else None
        cells = [*name_cells(row), *_memory_by_time(row)]
        rows.append([*cells, f"**{runs.figure(numbers['median'])}**", runs.spread(numbers),
                     runs.times(ratio), said])  # fmt: skip
    header = ["", "variant", "parameters", "GFLOP", *WHEN.values(), "most", "spread", "ratio"]
    header += ["goal"]
    return runs.table(header, rows)


def _memory_by_time(row):
    """Cells: the medians of the times in WHEN; figures of earlier versions have none."""
    memories = [run["memory"] for run in row["runs"] if "memory" in run]
    if not memories:
        return ["-"] * len(WHEN)
    return [runs.figure(statistics.median(memory[when] for memory in memories)) for when in WHEN]


def _goals(found, task):
    """{(subject, variant): factor}, None resolved to the fastest variant."""
    goals = {}
    for (name, variant), factor in GOALS[task].items():
        rates = {
            row["variant"]: images_per_second(found, task, name, row["variant"])
            for row in found[task]
            if row["subject"] == name and "runs" in row
        }
        if variant is None and rates:
            variant = max(rates, key=rates.get)
        goals[name, variant] = max(factor, goals.get((name, variant), 0))
    return goals


def name_cells(row):
    """Subject, variant, parameters and GFLOP of one image forward, as the tables show them."""
    first = row.get("runs", [{}])[0]
    variant = row["variant"]
    if variant in ("default", "deeper") and first.get("precision"):
        note = "default" if variant == "default" else "two blocks a level"
        variant = f"{first['precision']} ({note})"
    parameters, flops = first.get("parameters"), first.get("flops")  # earlier versions had none
    return [
        subjects.TITLES[row["subject"]],
        variant,
        f"{parameters / 1e6:.2f} M" if parameters else "-",
        f"{flops / 1e9:.2f}" if flops else "-",
    ]


def _batch_size(task, tiny):
    return 16 if tiny else subjects.BATCH_SIZES[task]
