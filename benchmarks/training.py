"""Training: images per second and peak memory, beside other libraries.

MNIST with networks of equal size in batches of 128, and Flowers at 64x64 with the widths of the
keras.io example in batches of 64. Every library trains as its users do (see `subjects`), on the
same images in memory.
"""

import statistics
import time

from benchmarks import data, formats, machine, runs, subjects

VARIANTS = {
    "mnist": {
        "ours": ("default", "float32"),
        "ddp": subjects.TORCH_VARIANTS,
        "diffusers_unet": subjects.TORCH_VARIANTS,
    },
    "flowers": {
        "ours": ("default", "float32", "deeper"),
        "keras_ddim": ("float32", "mixed_bfloat16"),
    },
}
# The least speed-up over (subject, variant); None: over its fastest variant. The first where ours
# computes in bfloat16, the second on plain processors.
GOALS = {
    "mnist": {("ddp", "float32"): 5, ("ddp", None): 3, ("diffusers_unet", None): 3},
    "flowers": {("keras_ddim", "float32"): 3},
}
PLAIN_GOALS = {
    "mnist": {("ddp", None): 4, ("diffusers_unet", None): 2},
    "flowers": {("keras_ddim", None): 2.5},
}
WARM_UP = 3  # steps: graphs are traced, memory is allocated
MIN_STEPS, MIN_SECONDS = 5, 10.0
TIMEOUT = 15 * 60  # seconds; compiling may never end
# Peak memory until the network is built, until the end of the warm-up, and after it.
PHASES = {"setup": "libraries, network", "first_steps": "until step 3", "later": "later"}


class Clock:
    """Times a training and decides when to stop it.

    Args:
        warm_up: steps before the clock starts.
        min_steps, min_seconds: at least this much is timed.

    Attributes:
        steps: int, all steps so far.
        seconds: float, since the end of the warm-up.
    """

    def __init__(self, warm_up, min_steps, min_seconds):
        self.warm_up = warm_up
        self.steps, self.seconds = 0, 0.0
        self._min_steps, self._min_seconds = min_steps, min_seconds
        self._began = None

    def __call__(self, step):
        """Called after each step, from 1; returns True to stop the training."""
        now = time.monotonic()
        if step == self.warm_up:
            self._began = now
        if step < self.warm_up:
            return False
        self.steps, self.seconds = step, now - self._began
        return step - self.warm_up >= self._min_steps and self.seconds >= self._min_seconds

    @property
    def progress(self):
        """float, share of `min_seconds` that has passed, in [0, 1]."""
        return min(1.0, self.seconds / self._min_seconds)

    @property
    def rate(self):
        """float, timed steps per second."""
        return (self.steps - self.warm_up) / max(self.seconds, 1e-6)


def make_clock(tiny):
    """Returns the `Clock` of a measurement."""
    return Clock(1, 1, 0.0) if tiny else Clock(WARM_UP, MIN_STEPS, MIN_SECONDS)


def measure(task, subject, variant, cache, tiny=False):
    """Trains a subject for a while; runs in a fresh process."""
    trained = subjects.make(subject, task, variant, tiny)
    clock = make_clock(tiny)
    batch_size = subjects.batch_size(task, tiny)
    memory = {"setup": machine.peak_mib()}
    images, _ = data.load(task, "train", tiny, cache)

    def should_stop(step):
        if step == clock.warm_up:
            memory["first_steps"] = machine.peak_mib()
            machine.reset_peak()
        return clock(step)

    trained.train(images, batch_size, should_stop)
    memory["later"] = machine.peak_mib()
    return {
        "images_per_second": batch_size * clock.rate,
        "memory": memory,
        "peak_mib": max(memory.values()),
        **trained.facts(),
    }


def run(options):
    """Measures all variants of both tasks in turns, or the first of each library if tiny."""
    result = {"tiny": options.tiny}
    for task, libraries in VARIANTS.items():
        data.ensure(task, options)
        rows = subjects.rows(libraries, options.tiny)
        shared = {"task": task, "cache": str(options.cache)}
        result[task] = runs.in_fresh_turns("training.measure", rows, options, TIMEOUT, **shared)
    return result


def median_of_ours(result, task, figure="images_per_second"):
    """Returns the median of a figure of our default variant, the first row; None if it failed."""
    return formats.median_of(result[task][0], figure)


def report(result):
    """Returns the tables of speed and of memory."""
    parts = []
    for task, title in subjects.DATASET_TITLES.items():
        batch_size = subjects.batch_size(task, result["tiny"])
        parts += [f"## Training, {title}, batch {batch_size}", _speed_table(result, task)]
    for task, title in subjects.DATASET_TITLES.items():
        parts += [
            f"## Memory of these trainings, {title}",
            "Peak resident memory of the whole process in MiB, with all libraries and images.",
            _memory_table(result, task),
        ]
    return "\n\n".join(parts)


def _speed_table(result, task):
    header = ["", "variant", "parameters", "GFLOP", "images/s", "spread", "ratio", "goal"]
    ours = median_of_ours(result, task)
    is_plain = result[task][0].get("runs", [{}])[0].get("precision") == "float32"
    goals = (PLAIN_GOALS if is_plain else GOALS)[task]
    medians = {
        (row["subject"], row["variant"]): formats.median_of(row, "images_per_second") or 0
        for row in result[task]
    }

    def figures(row):
        subject, variant = row["subject"], row["variant"]
        fastest = max(rate for (name, _), rate in medians.items() if name == subject)
        goal = goals.get((subject, variant))
        if medians[subject, variant] == fastest:
            goal = max(goal or 0, goals.get((subject, None), 0)) or None
        speed_up = formats.ratio(ours, medians[subject, variant])
        cells = formats.median_and_spread(formats.summary_of(row, "images_per_second"))
        return [*cells, formats.times(speed_up), formats.verdict(f"{goal}x", speed_up, goal)]

    return formats.measured_table(header, result[task], subjects.cells, figures)


def _memory_table(result, task):
    header = ["", "variant", "parameters", "GFLOP", *PHASES.values(), "peak", "spread", "ratio",
              "goal"]  # fmt: skip
    ours = median_of_ours(result, task, "peak_mib")

    def figures(row):
        peaks = formats.summary_of(row, "peak_mib")
        phases = [
            statistics.median(run["memory"][phase] for run in row["runs"]) for phase in PHASES
        ]
        factor = formats.ratio(peaks["median"], ours)
        goal = None if row["subject"] == "ours" else 1
        cells = [*map(formats.number, phases), *formats.median_and_spread(peaks)]
        return [*cells, formats.times(factor), formats.verdict("ours at most this", factor, goal)]

    measured = [row for row in result[task] if "runs" in row]  # the table of speed has the others
    return formats.measured_table(header, measured, subjects.cells, figures)
